"""Works the alarms by the clock; what becomes of one is logged, told, and kept for a restart."""

from collections.abc import Callable, Collection, Sequence

import structlog

from gateway.alarms.config import AlarmsConfig
from gateway.alarms.engine import Engine
from gateway.core.alarm import Command, Condition, Transition
from gateway.core.clock import Clock
from gateway.core.texts import Texts
from gateway.pipeline.running import SILENT
from gateway.store.log import Log

_events = structlog.get_logger()


class Annunciator:
    """The alarm engine of a gateway at work.

    Attributes:
        engine: Every alarm.
        listeners: Who hears of each transition, in this order.
    """

    def __init__(self, engine: Engine, log: Log, clock: Clock) -> None:
        self.engine = engine
        self.listeners: list[Callable[[Transition], None]] = []
        self._log = log
        self._clock = clock
        self._reported: list[Condition] = []

    def restore(self) -> None:
        """Take up the alarms as the log kept them."""
        saved = self._log.state_get("alarms", "engine")
        if saved is not None:
            self.engine.restore(saved, **self._now())

    def report(self, condition: Condition) -> None:
        """Take a condition that a source or the log reports; judged with the next tick."""
        self._reported.append(condition)

    def reported(self) -> list[Condition]:
        """What was reported since this was asked last."""
        reported, self._reported = self._reported, []
        return reported

    def update(self, conditions: Sequence[Condition]) -> None:
        """Take what reporters say now."""
        if conditions:
            self._record(self.engine.update(conditions, **self._now()))

    def tick(self) -> None:
        """Let time pass: delays, shelves, re-alarms."""
        self._record(self.engine.tick(**self._now()))

    def command(self, command: Command) -> list[Transition]:
        """Do what a person asks of an alarm. Raises Refused where it makes no sense."""
        done = self.engine.command(command, **self._now())
        self._record(done)
        return done

    def silence(self, asset: str, *, holds: bool) -> None:
        """Suppress by design, while it stands, what means nothing of a machine that stands."""
        patterns = [f"{asset}/{alarm}" for alarm in SILENT]
        reason = f"{asset}/stopped"
        self._record(self.engine.suppress_while(reason, patterns, holds=holds, **self._now()))

    def reconfigure(self, alarms: AlarmsConfig, texts: Texts) -> None:
        """Go by another configuration; each alarm stands as it stood, and was worded."""
        self.engine.texts = texts
        self._record(self.engine.reconfigure(alarms, **self._now()))

    def retire(
        self,
        assets: Collection[str],
        unjudged: Collection[str],
        limits: Collection[tuple[str, str]],
    ) -> None:
        """End the alarms that nobody reports any more. See `Engine.retire`."""
        self._record(self.engine.retire(assets, unjudged, limits, **self._now()))

    def standing(self) -> set[tuple[str, str]]:
        """(asset, alarm) of every alarm that is not plainly normal."""
        active = self.engine.active(self._clock.mono_ns())
        return {(alarm.asset, alarm.alarm) for alarm in active}

    def _now(self) -> dict[str, int]:
        return {"mono_ns": self._clock.mono_ns(), "wall_ns": self._clock.wall_ns()}

    def _record(self, transitions: Sequence[Transition]) -> None:
        if not transitions:
            return
        for transition in transitions:
            self._log.append(transition)
            for listener in self.listeners:
                listener(transition)
            _events.info(
                "alarm",
                asset=transition.asset,
                alarm=transition.alarm,
                state=transition.state,
                event_=transition.event,
                severity=round(transition.severity, 3),
                text=transition.text,
            )
        self._log.state_put("alarms", "engine", self.engine.dump())
