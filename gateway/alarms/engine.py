"""Every alarm of the gateway: takes conditions, time and commands, gives transitions."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence

from gateway.alarms.commands import obey
from gateway.alarms.config import AlarmsConfig
from gateway.alarms.feedback import OF_THE_MACHINE
from gateway.alarms.record import Record, bounded_severity, dump, load
from gateway.alarms.states import Delay, Event, Life, Raw, Shelf
from gateway.alarms.steps import ACTIVE, Key, Steps
from gateway.alarms.suppress import Suppression, pattern
from gateway.core.alarm import AlarmView, Cause, Command, Condition, Transition
from gateway.core.refusal import Refused
from gateway.core.texts import Phrase, Texts, english

OF_MODELS = (Cause.ANOMALY, Cause.FAILURE, Cause.RUL)
CHATTER_MEMORY_NS = 3600 * 10**9
"""How long an alarm stays marked as chattering after its last activation."""


class Engine:
    """Every alarm of the gateway. Synchronous, single-threaded; time comes in as arguments.

    `mono_ns` measures delays and shelves; `wall_ns` only stamps. What is returned is to be
    appended to the log in the same commit as `dump()`, so that neither is ahead after a crash.

    Attributes:
        texts: The language in which alarms are written down, and told.
    """

    def __init__(self, config: AlarmsConfig, texts: Texts | None = None) -> None:
        self.texts = texts or english()
        self.alarms_dropped = 0
        """Conditions of new alarms that found `alarms_max` alarms in use."""
        self._records: dict[Key, Record] = {}
        self._first_out: dict[str, Key] = {}
        self._in_alarm: defaultdict[str, set[Key]] = defaultdict(set)
        self._steps = Steps(config, self._records)
        self._steps.on_activity = self._follow
        self._suppression = Suppression(config, self._records, self._steps)
        self._latched = [pattern(p) for p in config.latched]
        self._active: tuple[int, list[AlarmView]] = (-1, [])

    @property
    def config(self) -> AlarmsConfig:
        """What it goes by."""
        return self._steps.config

    def reconfigure(self, config: AlarmsConfig, *, mono_ns: int, wall_ns: int) -> list[Transition]:
        """Go over to another configuration; every alarm stays as it stands.

        Running delays and shelves keep the time that they were given.
        """
        self._steps.begin(mono_ns, wall_ns)
        self._steps.config = config
        self._latched = [pattern(p) for p in config.latched]
        for record in self._records.values():
            if record.life is Life.ACTIVE_ACKED:
                record.realarm_due_mono_ns = 0
                self._steps.arm_realarm(record)
        self._suppression.reconfigure(config)
        return self._steps.out

    def retire(
        self,
        assets: Collection[str],
        unjudged: Collection[str],
        alarms: Collection[Key],
        *,
        mono_ns: int,
        wall_ns: int,
    ) -> list[Transition]:
        """End what nobody reports any more: all of assets that are no more, what models said of
        those that none judges any more, and single alarms.

        What was taken out of the configuration would else stand for ever.
        """
        self._steps.begin(mono_ns, wall_ns)
        for record in list(self._records.values()):
            by_model = record.asset in unjudged and record.cause in OF_MODELS
            if by_model or record.asset in assets or record.key in alarms:
                over = Condition(
                    record.asset,
                    record.alarm,
                    record.cause,
                    active=False,
                    t_ns=wall_ns,
                    severity=0.0,
                    off_delay_s=0.0,
                )
                self._report(record, over)
        return self._steps.out

    def update(
        self, conditions: Iterable[Condition], *, mono_ns: int, wall_ns: int
    ) -> list[Transition]:
        """Take what reporters say now. An inactive condition that never alarmed leaves no trace."""
        self._steps.begin(mono_ns, wall_ns)
        for condition in conditions:
            record = self._records.get((condition.asset, condition.alarm))
            if record is None:
                if not condition.active:
                    continue
                record = self._create(condition)
                if record is None:
                    continue
            self._report(record, condition)
        self._steps.run_timers()
        return self._steps.out

    def tick(self, *, mono_ns: int, wall_ns: int) -> list[Transition]:
        """Let time pass: delays, shelves, re-alarms. Cheap when nothing is due."""
        self._steps.begin(mono_ns, wall_ns)
        self._steps.run_timers()
        return self._steps.out

    def suppress_while(
        self, reason: str, patterns: Sequence[str], *, holds: bool, mono_ns: int, wall_ns: int
    ) -> list[Transition]:
        """Suppress by design whatever matches, while a reason holds (`press-1/stopped`).

        Free of cost, and of transitions, where it is said again and nothing changed.
        """
        self._steps.begin(mono_ns, wall_ns)
        self._suppression.set(reason, patterns, holds=holds)
        return self._steps.out

    def command(self, command: Command, *, mono_ns: int, wall_ns: int) -> list[Transition]:
        """Do what a person asks.

        Raises:
            Refused: It makes no sense now; nothing has changed. The text says why.
        """
        self._steps.begin(mono_ns, wall_ns)
        name = f"{command.asset}/{command.alarm}"
        if not command.who:
            raise Refused(Phrase("refused.nobody", alarm=name))
        record = self._records.get((command.asset, command.alarm))
        if record is None:
            raise Refused(Phrase("refused.no_alarm", alarm=name))
        obey(self._steps, record, command)
        return self._steps.out

    def active(self, mono_ns: int) -> list[AlarmView]:
        """Every alarm that is not plainly normal, most urgent first; not to be changed."""
        revision, views = self._active
        if revision == self._steps.revision:
            return views  # Whoever draws a page asks several times for the same.
        views = [self._view(r, mono_ns) for r in self._records.values() if not self._normal(r)]
        views.sort(
            key=lambda v: (v.state not in ACTIVE, -v.priority, -v.active_since_ns, v.asset, v.alarm)
        )
        self._active = self._steps.revision, views
        return views

    def ails(self, asset: str) -> bool:
        """Whether an alarm on the machine itself stands, rather than on its data or the gateway."""
        keys = self._in_alarm.get(asset, ())
        return any(self._records[key].cause in OF_THE_MACHINE for key in keys)

    def stands(self, asset: str, alarm: str) -> bool:
        """Whether an alarm is active, whoever put it aside."""
        record = self._records.get((asset, alarm))
        return record is not None and record.life in ACTIVE

    def find(self, asset: str, alarm: str, mono_ns: int) -> AlarmView | None:
        """One alarm, whatever its state; None if it never alarmed."""
        record = self._records.get((asset, alarm))
        return None if record is None else self._view(record, mono_ns)

    def dump(self) -> bytes:
        """All that must outlive the process."""
        return dump(list(self._records.values()))

    def restore(self, data: bytes, *, mono_ns: int, wall_ns: int) -> None:
        """Take up where `dump` left off. Active alarms stay as they are until a reporter speaks.

        Raises:
            DataError: The bytes are not a dump that this version reads; nothing has changed.
        """
        records = load(data)
        self._steps.begin(mono_ns, wall_ns)
        for record in records:
            self._records[record.key] = record
            if record.shelf is not Shelf.UNSHELVED:
                # The wall clock may have stepped meanwhile: never longer than the longest shelf.
                left_ns = min(
                    max(record.shelved_until_ns - wall_ns, 0),
                    round(self.config.shelve_s_max * 1e9),
                )
                self._steps.resume_shelf(record, left_ns)
            if record.life in ACTIVE:
                record.active_mono_ns = mono_ns - max(wall_ns - record.active_since_ns, 0)
                if record.life is Life.ACTIVE_ACKED:
                    self._steps.arm_realarm(record)
        for record in sorted(records, key=lambda r: r.active_since_ns):
            self._follow(record, quiet=True)

    def _create(self, condition: Condition) -> Record | None:
        if len(self._records) >= self.config.alarms_max:
            idle = min(
                (r for r in self._records.values() if r.idle),
                key=lambda r: r.changed_ns,
                default=None,
            )
            if idle is None:
                self.alarms_dropped += 1
                return None
            del self._records[idle.key]
        record = Record(condition.asset, condition.alarm, condition.cause)
        self._records[record.key] = record
        self._suppression.created(record)
        return record

    def _report(self, record: Record, condition: Condition) -> None:
        record.reported = True
        record.known = condition.active is not None
        holds = condition.active
        if (
            holds is False
            and condition.cause is Cause.ANOMALY
            and record.delay in (Delay.ON, Delay.FALLING)
            and bounded_severity(condition.severity) > self.config.clear_below
        ):
            holds = True
            record.severity = bounded_severity(condition.severity)
        elif holds:
            record.take(condition, self.texts)
        record.latched = condition.latched or any(
            p.fullmatch(f"{record.asset}/{record.alarm}") for p in self._latched
        )
        raw = Raw.UNKNOWN if holds is None else Raw.HOLDS if holds else Raw.GONE
        before = record.delay
        self._steps.delay(record, raw, condition)
        steady = record.delay is before is Delay.ON
        if steady and record.life in ACTIVE and self._is_worse(record):
            self._steps.step(record, Event.WORSE)

    def _is_worse(self, record: Record) -> bool:
        return (
            record.priority > record.announced_priority
            or record.severity >= self.config.worse_factor * record.announced_severity
        )

    def _follow(self, record: Record, *, quiet: bool = False) -> None:
        """Keep up what hangs on an alarm being active: first-out, and children suppressed by it."""
        group = self._in_alarm[record.asset]
        if record.life in ACTIVE:
            if not group:
                self._first_out[record.asset] = record.key
            group.add(record.key)
        else:
            group.discard(record.key)
            if not group:
                del self._in_alarm[record.asset]
                self._first_out.pop(record.asset, None)
        self._suppression.follow(record, quiet=quiet)

    def _normal(self, record: Record) -> bool:
        return record.state == Life.NORMAL

    def _view(self, record: Record, mono_ns: int) -> AlarmView:
        times = record.activations_mono_ns
        chattering = (
            len(times) == self.config.chattering_count
            and times[-1] - times[0] <= self.config.chattering_s * 1e9
            and mono_ns - times[-1] <= CHATTER_MEMORY_NS
        )
        stale = (
            record.life in ACTIVE and mono_ns - record.active_mono_ns > self.config.stale_s * 1e9
        )
        first_out = self._first_out.get(record.asset) == record.key
        return record.view(first_out=first_out, chattering=chattering, stale=stale)
