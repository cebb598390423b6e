"""One asset that is being learned: where it stands, kept in the log, and what its bundles said."""

from collections.abc import Sequence
from dataclasses import replace

import structlog

from gateway.core.clock import Clock
from gateway.core.errors import DataError
from gateway.core.signals import Signal
from gateway.core.texts import Phrase
from gateway.learning.progress import Event, Progress
from gateway.learning.trial import Seen
from gateway.pipeline.config import AssetConfig, LearnConfig
from gateway.store.log import Log
from models.record import RUNNING

_events = structlog.get_logger()


class Pupil:
    """Taken up where the log left it.

    Attributes:
        config: The asset's, as it is now configured.
        learn: Its policy.
        signals: What it is learned by, with their numbers.
        running: Number of the signal that tells when it runs; None where nothing tells.
        progress: Where it stands.
        candidate, active: What the bundle in shadow, and the one that judges, have said.
    """

    def __init__(self, asset: str, log: Log, clock: Clock) -> None:
        self.candidate, self.active = Seen(), Seen()
        self._asset, self._log, self._clock = asset, log, clock
        self.progress = self._restored()

    def configure(
        self, config: AssetConfig, learn: LearnConfig, signals: Sequence[tuple[int, Signal]]
    ) -> None:
        """Take on a configuration; what its bundles have said is kept, whoever changes places."""
        rule = next((n for n, s in signals if config.running and s.name == RUNNING), None)
        self.config, self.learn, self.running = config, learn, rule
        self.signals = tuple((number, signal) for number, signal in signals if number != rule)

    @property
    def judged_by(self) -> tuple[str, str]:
        """The bundles that are to judge and to watch; "" for none."""
        return self.progress.bundle, self.progress.candidate

    @property
    def sent_back(self) -> Event:
        """What becomes of a candidate that is not good enough."""
        return Event.DISCARDED if self.progress.correcting else Event.BROKEN

    def step(self, event: Event, reason: Phrase | None = None, *, candidate: str = "") -> bool:
        """Move on; False where the event makes no sense. `candidate` names a new bundle's file."""
        before = self.progress
        moved = before.step(event, self._clock.wall_ns(), reason)
        if moved is before:
            return False
        if candidate:
            moved, self.candidate = replace(moved, candidate=candidate), Seen()
        if moved.bundle != before.bundle:
            self.active = Seen()
        self.progress = moved
        why = str(reason or event)
        _events.info("learn.stage", asset=self._asset, stage=moved.stage, why=why)
        self.keep()
        return True

    def keep(self) -> None:
        """Let the log have where it stands."""
        self._log.state_put("learn", self._asset, self.progress.dump())

    def _restored(self) -> Progress:
        """A training that the last process did not finish is begun again."""
        data = self._log.state_get("learn", self._asset)
        try:
            return Progress() if data is None else Progress.load(data)
        except DataError as error:
            _events.error("learn.forgotten", asset=self._asset, error=str(error))
            return Progress()
