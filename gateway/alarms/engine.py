"""Turns conditions, time and people's commands into transitions, by the tables of `states`."""

import heapq
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from enum import IntEnum

from gateway.alarms.config import AlarmsConfig
from gateway.alarms.feedback import OF_THE_MACHINE
from gateway.alarms.record import Record, bounded_severity, dump, load
from gateway.alarms.states import (
    DELAY,
    LIFE,
    SHELF,
    Delay,
    Event,
    Life,
    Output,
    Raw,
    Shelf,
    ShelfEvent,
)
from gateway.core.alarm import AlarmView, Cause, Command, Condition, Transition, Verb
from gateway.core.errors import Refused

ACTIVE = (Life.ACTIVE_UNACKED, Life.ACTIVE_ACKED)
CHATTER_MEMORY_NS = 3600 * 10**9
"""How long an alarm stays marked as chattering after its last activation."""

Key = tuple[str, str]


class _Timer(IntEnum):
    DELAY = 0
    SHELF = 1
    REALARM = 2


def pattern(text: str) -> re.Pattern[str]:
    """`asset/alarm` with `*` for any text; a lone `*` is everything."""
    return re.compile(re.escape(text).replace(r"\*", ".*"), re.DOTALL)


def outer_limit(alarm: str) -> str:
    """The alarm that makes this one pointless: `x.high_high` for `x.high`; "" for none."""
    return f"{alarm}_{alarm.rsplit('.', 1)[1]}" if alarm.endswith((".high", ".low")) else ""


class Engine:
    """Every alarm of the gateway. Synchronous, single-threaded; time comes in as arguments.

    `mono_ns` measures delays and shelves; `wall_ns` only stamps. What is returned is to be
    appended to the log in the same commit as `dump()`, so that neither is ahead after a crash.
    """

    def __init__(self, config: AlarmsConfig) -> None:
        self.config = config
        self.alarms_dropped = 0
        """Conditions of new alarms that found `alarms_max` alarms in use."""
        self._records: dict[Key, Record] = {}
        self._timers: list[tuple[int, int, int, Key]] = []
        self._reasons: dict[str, list[re.Pattern[str]]] = {}
        self._first_out: dict[str, Key] = {}
        self._in_alarm: defaultdict[str, set[Key]] = defaultdict(set)
        self._latched = [pattern(p) for p in config.latched]
        self._rules = [(pattern(r.while_active), r.suppress) for r in config.suppress]
        self._mono_ns = 0
        self._wall_ns = 0
        self._out: list[Transition] = []

    def update(
        self, conditions: Iterable[Condition], *, mono_ns: int, wall_ns: int
    ) -> list[Transition]:
        """Take what reporters say now. An inactive condition that never alarmed leaves no trace."""
        self._begin(mono_ns, wall_ns)
        for condition in conditions:
            record = self._records.get((condition.asset, condition.alarm))
            if record is None:
                if not condition.active:
                    continue
                record = self._create(condition)
                if record is None:
                    continue
            self._report(record, condition)
        self._run_timers()
        return self._out

    def tick(self, *, mono_ns: int, wall_ns: int) -> list[Transition]:
        """Let time pass: delays, shelves, re-alarms. Cheap when nothing is due."""
        self._begin(mono_ns, wall_ns)
        self._run_timers()
        return self._out

    def next_due_ns(self) -> int | None:
        """Monotonic ns of the next timer; None when none runs."""
        return self._timers[0][0] if self._timers else None

    def suppress_while(
        self, reason: str, patterns: Sequence[str], *, holds: bool, mono_ns: int, wall_ns: int
    ) -> list[Transition]:
        """Suppress by design whatever matches, while a reason holds (`press-1 is stopped`)."""
        self._begin(mono_ns, wall_ns)
        self._set_reason(reason, patterns, holds=holds)
        return self._out

    def command(self, command: Command, *, mono_ns: int, wall_ns: int) -> list[Transition]:
        """Do what a person asks.

        Raises:
            Refused: It makes no sense now; nothing has changed. The text says why.
        """
        self._begin(mono_ns, wall_ns)
        name = f"{command.asset}/{command.alarm}"
        if not command.who:
            raise Refused(f"{name}: a command needs a name behind it")
        record = self._records.get((command.asset, command.alarm))
        if record is None:
            raise Refused(f"{name}: there is no such alarm")
        self._check_episode(record, command)
        match command.verb:
            case Verb.ACK | Verb.CONFIRM | Verb.RESET:
                self._act(record, command)
            case Verb.SHELVE | Verb.SHELVE_ONCE | Verb.UNSHELVE:
                self._shelve(record, command)
            case Verb.SUPPRESS | Verb.UNSUPPRESS:
                self._suppress(record, command)
            case Verb.OUT_OF_SERVICE | Verb.IN_SERVICE:
                self._serve(record, command)
            case Verb.FEEDBACK:
                self._judge(record, command)
        if command.note:
            record.note = command.note
        return self._out

    def active(self, mono_ns: int) -> list[AlarmView]:
        """Every alarm that is not plainly normal, most urgent first."""
        views = [self._view(r, mono_ns) for r in self._records.values() if not self._normal(r)]
        views.sort(
            key=lambda v: (v.state not in ACTIVE, -v.priority, -v.active_since_ns, v.asset, v.alarm)
        )
        return views

    def ails(self, asset: str) -> bool:
        """Whether an alarm on the machine itself stands, rather than on its data or the gateway."""
        keys = self._in_alarm.get(asset, ())
        return any(self._records[key].cause in OF_THE_MACHINE for key in keys)

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
        self._begin(mono_ns, wall_ns)
        for record in records:
            self._records[record.key] = record
            if record.shelf is not Shelf.UNSHELVED:
                # The wall clock may have stepped meanwhile: never longer than the longest shelf.
                left_ns = min(
                    max(record.shelved_until_ns - wall_ns, 0),
                    round(self.config.shelve_s_max * 1e9),
                )
                record.shelf_due_mono_ns = mono_ns + left_ns
                self._arm(record, record.shelf_due_mono_ns, _Timer.SHELF)
            if record.life in ACTIVE:
                record.active_mono_ns = mono_ns - max(wall_ns - record.active_since_ns, 0)
                if record.life is Life.ACTIVE_ACKED:
                    self._arm_realarm(record)
        for record in sorted(records, key=lambda r: r.active_since_ns):
            self._follow(record, quiet=True)

    # Conditions and time

    def _begin(self, mono_ns: int, wall_ns: int) -> None:
        self._mono_ns, self._wall_ns, self._out = mono_ns, wall_ns, []

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
        name = f"{record.asset}/{record.alarm}"
        record.suppressed_by.update(
            reason
            for reason, patterns in self._reasons.items()
            if any(p.fullmatch(name) for p in patterns)
        )
        outer = self._records.get((record.asset, outer_limit(record.alarm)))
        if outer is not None and outer.life in ACTIVE:
            record.suppressed_by.add(f"{outer.asset}/{outer.alarm}")
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
            record.take(condition)
        record.latched = condition.latched or any(
            p.fullmatch(f"{record.asset}/{record.alarm}") for p in self._latched
        )
        raw = Raw.UNKNOWN if holds is None else Raw.HOLDS if holds else Raw.GONE
        before = record.delay
        record.delay = DELAY[before, raw]
        if record.delay is not before:
            if record.delay in (Delay.RISING, Delay.FALLING):
                default = self.config.delays[condition.cause]
                rising = record.delay is Delay.RISING
                asked_s = condition.on_delay_s if rising else condition.off_delay_s
                wait_s = (
                    asked_s if asked_s is not None else default.on_s if rising else default.off_s
                )
                record.delay_due_mono_ns = self._mono_ns + round(wait_s * 1e9)
                if wait_s <= 0:
                    self._delay_over(record)
                else:
                    self._arm(record, record.delay_due_mono_ns, _Timer.DELAY)
        elif record.delay is Delay.ON and record.life in ACTIVE and self._is_worse(record):
            self._step(record, Event.WORSE)

    def _is_worse(self, record: Record) -> bool:
        return (
            record.priority > record.announced_priority
            or record.severity >= self.config.worse_factor * record.announced_severity
        )

    def _delay_over(self, record: Record) -> None:
        before = record.delay
        record.delay = DELAY[before, Raw.ELAPSED]
        if record.delay is before:
            return
        if record.delay is Delay.ON:
            self._step(record, Event.ACTIVE)
            return
        if record.latched:
            self._step(record, Event.GONE_LATCHED)
        elif record.covered or not record.announced or not self.config.acknowledge:
            self._step(record, Event.GONE_QUIET)
        else:
            self._step(record, Event.GONE)
        self._move_shelf(record, ShelfEvent.RETURNED)

    def _arm(self, record: Record, due_mono_ns: int, timer: _Timer) -> None:
        # More urgent alarms first among those due at once: a high-high then suppresses its high
        # before anyone is called for both.
        heapq.heappush(self._timers, (due_mono_ns, -record.priority, timer, record.key))

    def _arm_realarm(self, record: Record) -> None:
        if self.config.realarm_s > 0:
            record.realarm_due_mono_ns = self._mono_ns + round(self.config.realarm_s * 1e9)
            self._arm(record, record.realarm_due_mono_ns, _Timer.REALARM)

    def _run_timers(self) -> None:
        while self._timers and self._timers[0][0] <= self._mono_ns:
            due, _, timer, key = heapq.heappop(self._timers)
            record = self._records.get(key)
            if record is None:
                continue
            # A timer that was called off or set anew finds another time in the record.
            if timer is _Timer.DELAY and record.delay_due_mono_ns == due:
                self._delay_over(record)
            elif timer is _Timer.SHELF and record.shelf_due_mono_ns == due:
                self._move_shelf(record, ShelfEvent.EXPIRED)
            elif timer is _Timer.REALARM and record.realarm_due_mono_ns == due:
                record.realarm_due_mono_ns = 0
                self._step(record, Event.REALARM)

    # The tables at work

    def _step(self, record: Record, event: Event, who: str = "", note: str = "") -> None:
        before = record.life
        record.life, output = LIFE[before, event]
        if Output.BEGIN in output:
            record.occurrence += 1
            record.active_since_ns = self._wall_ns
            record.active_mono_ns = self._mono_ns
            record.acked_by = record.confirmed_by = record.note = ""
            record.verdict = None
            record.announced = False
            record.activations_mono_ns.append(self._mono_ns)
            while len(record.activations_mono_ns) > self.config.chattering_count:
                record.activations_mono_ns.popleft()
        elif Output.END in output:
            record.active_since_ns = 0
        if Output.ANNOUNCE in output:
            record.announced |= not record.covered
            record.announced_severity = record.severity
            record.announced_priority = record.priority
            record.acked_by = ""
        record.realarm_due_mono_ns = 0
        if record.life is Life.ACTIVE_ACKED:
            self._arm_realarm(record)
        if Output.RECORD in output:
            self._record(record, event, who, note)
        if (before in ACTIVE) != (record.life in ACTIVE):
            self._follow(record)

    def _record(self, record: Record, event: str, who: str = "", note: str = "") -> None:
        record.changed_ns = self._wall_ns
        self._out.append(record.transition(event, self._wall_ns, who, note))

    def _follow(self, record: Record, *, quiet: bool = False) -> None:
        """Keep up what hangs on an alarm being active: first-out, and children suppressed by it."""
        active = record.life in ACTIVE
        group = self._in_alarm[record.asset]
        if active:
            if not group:
                self._first_out[record.asset] = record.key
            group.add(record.key)
        else:
            group.discard(record.key)
            if not group:
                del self._in_alarm[record.asset]
                self._first_out.pop(record.asset, None)
        name = f"{record.asset}/{record.alarm}"
        inner = record.alarm.removesuffix("_high").removesuffix("_low")
        if record.alarm.endswith((".high_high", ".low_low")):
            child = self._records.get((record.asset, inner))
            if child is not None:
                self._set_suppressed(child, name, holds=active, quiet=quiet)
        for rule, patterns in self._rules:
            if rule.fullmatch(name):
                filled = [p.replace("{asset}", record.asset) for p in patterns]
                self._set_reason(name, filled, holds=active, but=record.key, quiet=quiet)

    def _set_reason(
        self,
        reason: str,
        patterns: Sequence[str],
        *,
        holds: bool,
        but: Key | None = None,
        quiet: bool = False,
    ) -> None:
        if holds:
            self._reasons[reason] = [pattern(p) for p in patterns]
        else:
            self._reasons.pop(reason, None)
        compiled = [pattern(p) for p in patterns]
        for record in list(self._records.values()):
            name = f"{record.asset}/{record.alarm}"
            if record.key != but and any(p.fullmatch(name) for p in compiled):
                self._set_suppressed(record, reason, holds=holds, quiet=quiet)

    def _set_suppressed(
        self, record: Record, reason: str, *, holds: bool, quiet: bool = False
    ) -> None:
        before = record.state
        if holds:
            record.suppressed_by.add(reason)
        else:
            record.suppressed_by.discard(reason)
        if record.state != before and not quiet:
            self._record(record, "suppress" if holds else "unsuppress", note=reason)
            self._uncovered(record)

    def _uncovered(self, record: Record) -> None:
        if not record.covered and record.life is Life.ACTIVE_UNACKED:
            record.announced = True
            record.announced_severity = record.severity
            record.announced_priority = record.priority

    # What people do

    def _check_episode(self, record: Record, command: Command) -> None:
        name = f"{command.asset}/{command.alarm}"
        if command.occurrence < 0 or command.occurrence > record.occurrence:
            raise Refused(f"{name}: has no episode {command.occurrence}")
        past = command.occurrence not in (0, record.occurrence)
        if past and command.verb is not Verb.FEEDBACK:
            raise Refused(
                f"{name}: episode {command.occurrence} is over, it is now at episode "
                f"{record.occurrence}; look at it again"
            )

    def _act(self, record: Record, command: Command) -> None:
        event = Event(command.verb)
        if event is Event.RESET and record.life in ACTIVE and not record.reported:
            # Its reporter has not spoken since the start (removed from the configuration): a
            # person may end it, for nobody else will.
            record.delay = Delay.OFF
            self._step(record, Event.GONE_QUIET, command.who, command.note)
            return
        if Output.REFUSE in LIFE[record.life, event].output:
            raise Refused(f"{command.asset}/{command.alarm}: {_WHY_NOT[event, record.life]}")
        if event is Event.ACK:
            record.acked_by = command.who
        elif event is Event.CONFIRM:
            record.confirmed_by = command.who
        self._step(record, event, command.who, command.note)

    def _shelve(self, record: Record, command: Command) -> None:
        name = f"{command.asset}/{command.alarm}"
        event = ShelfEvent(command.verb)
        if event is ShelfEvent.SHELVE and not 0 < command.duration_s <= self.config.shelve_s_max:
            raise Refused(
                f"{name}: duration_s must be above 0 and at most {self.config.shelve_s_max:g}, "
                f"was {command.duration_s:g}"
            )
        if event is ShelfEvent.SHELVE_ONCE and record.delay is Delay.OFF:
            raise Refused(
                f"{name}: is not active, so there is no return to wait for; shelve it for a time"
            )
        wait_s = command.duration_s if event is ShelfEvent.SHELVE else self.config.shelve_s_max
        self._move_shelf(record, event, command.who, command.note, wait_s)

    def _move_shelf(
        self, record: Record, event: ShelfEvent, who: str = "", note: str = "", wait_s: float = 0
    ) -> None:
        shelf = SHELF[record.shelf, event]
        if shelf is None:
            raise Refused(f"{record.asset}/{record.alarm}: is not shelved")
        if shelf is record.shelf and event in (ShelfEvent.EXPIRED, ShelfEvent.RETURNED):
            return
        record.shelf = shelf
        if shelf is Shelf.UNSHELVED:
            record.shelved_by, record.shelved_until_ns, record.shelf_due_mono_ns = "", 0, 0
        else:
            wait_ns = round(wait_s * 1e9)
            record.shelved_by = who
            record.shelved_until_ns = self._wall_ns + wait_ns
            record.shelf_due_mono_ns = self._mono_ns + wait_ns
            self._arm(record, record.shelf_due_mono_ns, _Timer.SHELF)
        self._record(record, event, who, note)
        self._uncovered(record)

    def _suppress(self, record: Record, command: Command) -> None:
        reason = f"user:{command.who}"
        if command.verb is Verb.SUPPRESS:
            record.suppressed_by.add(reason)
        else:
            by_people = {r for r in record.suppressed_by if r.startswith("user:")}
            if not by_people:
                raise Refused(f"{command.asset}/{command.alarm}: nobody suppressed it by hand")
            record.suppressed_by -= by_people
        self._record(record, command.verb, command.who, command.note)
        self._uncovered(record)

    def _serve(self, record: Record, command: Command) -> None:
        name = f"{command.asset}/{command.alarm}"
        out = command.verb is Verb.OUT_OF_SERVICE
        if out == bool(record.out_of_service_by):
            raise Refused(f"{name}: is {'already' if out else 'not'} out of service")
        record.out_of_service_by = command.who if out else ""
        self._record(record, command.verb, command.who, command.note)
        self._uncovered(record)

    def _judge(self, record: Record, command: Command) -> None:
        name = f"{command.asset}/{command.alarm}"
        if command.verdict is None:
            raise Refused(f"{name}: feedback needs a verdict: real, false or known")
        if record.occurrence == 0:
            raise Refused(f"{name}: has never alarmed, so there is nothing to judge")
        if command.occurrence in (0, record.occurrence):
            record.verdict = command.verdict
        transition = record.transition(
            f"feedback.{command.verdict}", self._wall_ns, command.who, command.note
        )
        record.changed_ns = self._wall_ns
        if command.occurrence:
            transition = replace(transition, occurrence=command.occurrence)
        self._out.append(transition)

    # Views

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


_WHY_NOT = {
    **{(Event.ACK, life): "is acknowledged already" for life in Life},
    (Event.ACK, Life.NORMAL): "is normal, there is nothing to acknowledge",
    **{(Event.CONFIRM, life): "must be acknowledged first" for life in Life},
    (Event.CONFIRM, Life.NORMAL): "is normal, there is nothing to confirm",
    **{(Event.RESET, life): "is not latched, so there is nothing to reset" for life in Life},
    (Event.RESET, Life.LATCHED_UNACKED): "must be acknowledged before it is reset",
}
