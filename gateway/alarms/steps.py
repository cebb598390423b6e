"""Moves one alarm by the tables of `states`, and does what each move asks for: note, call, time."""

import heapq
from collections.abc import Callable, Mapping
from enum import IntEnum

from gateway.alarms.config import AlarmsConfig
from gateway.alarms.record import Record
from gateway.alarms.states import DELAY, LIFE, SHELF, Delay, Event, Life, Output, Raw, Shelf
from gateway.alarms.states import ShelfEvent as On
from gateway.core.alarm import Condition, Transition
from gateway.core.refusal import Refused
from gateway.core.texts import Phrase

ACTIVE = (Life.ACTIVE_UNACKED, Life.ACTIVE_ACKED)

Key = tuple[str, str]


class _Timer(IntEnum):
    DELAY = 0
    SHELF = 1
    REALARM = 2


class Steps:
    """What may happen to a record, one at a time, at the moment that `begin` names.

    Attributes:
        out: The transitions since `begin`, in order.
        mono_ns, wall_ns: The moment.
        revision: Counts the moments: while it stays the same, nothing has changed.
        on_activity: Told of a record that became active, or ceased to be.
    """

    def __init__(self, config: AlarmsConfig, records: Mapping[Key, Record]) -> None:
        self.config = config
        self.out: list[Transition] = []
        self.mono_ns = 0
        self.wall_ns = 0
        self.revision = 0
        self.on_activity: Callable[[Record], None] = lambda _record: None
        self._records = records
        self._timers: list[tuple[int, int, int, Key]] = []

    def begin(self, mono_ns: int, wall_ns: int) -> None:
        """A new moment."""
        self.mono_ns, self.wall_ns, self.out = mono_ns, wall_ns, []
        self.revision += 1

    # The condition below

    def delay(self, record: Record, raw: Raw, condition: Condition) -> None:
        """Take what the reporter says into the delay before the alarm."""
        before = record.delay
        record.delay = DELAY[before, raw]
        if record.delay is before or record.delay not in (Delay.RISING, Delay.FALLING):
            return
        default = self.config.delays[condition.cause]
        rising = record.delay is Delay.RISING
        asked_s = condition.on_delay_s if rising else condition.off_delay_s
        wait_s = asked_s if asked_s is not None else default.on_s if rising else default.off_s
        record.delay_due_mono_ns = self.mono_ns + round(wait_s * 1e9)
        if wait_s <= 0:
            self._delay_over(record)
        else:
            self._arm(record, record.delay_due_mono_ns, _Timer.DELAY)

    def _delay_over(self, record: Record) -> None:
        before = record.delay
        record.delay = DELAY[before, Raw.ELAPSED]
        if record.delay is before:
            return
        if record.delay is Delay.ON:
            self.step(record, Event.ACTIVE)
            return
        if record.latched:
            self.step(record, Event.GONE_LATCHED)
        elif record.covered or not record.announced or not self.config.acknowledge:
            self.step(record, Event.GONE_QUIET)
        else:
            self.step(record, Event.GONE)
        self.shelve(record, On.RETURNED)

    # Life, shelf and cover

    def step(self, record: Record, event: Event, who: str = "", note: str = "") -> None:
        """Go through the table of lives."""
        before = record.life
        record.life, output = LIFE[before, event]
        if Output.BEGIN in output:
            record.occurrence += 1
            record.active_since_ns = self.wall_ns
            record.active_mono_ns = self.mono_ns
            record.acked_by = record.confirmed_by = record.note = ""
            record.verdict = None
            record.announced = False
            record.activations_mono_ns.append(self.mono_ns)
            while len(record.activations_mono_ns) > self.config.chattering_count:
                record.activations_mono_ns.popleft()
        elif Output.END in output:
            record.active_since_ns = 0
        if Output.ANNOUNCE in output:
            record.announced |= not record.covered
            self._announced(record)
            record.acked_by = ""
        record.realarm_due_mono_ns = 0
        if record.life is Life.ACTIVE_ACKED:
            self.arm_realarm(record)
        if Output.RECORD in output:
            self.note(record, event, who, note)
        if (before in ACTIVE) != (record.life in ACTIVE):
            self.on_activity(record)

    def shelve(
        self, record: Record, event: On, who: str = "", note: str = "", wait_s: float = 0
    ) -> None:
        """Go through the table of shelves. Raises `Refused` where a person asks for nonsense."""
        shelf = SHELF[record.shelf, event]
        if shelf is None:
            name = f"{record.asset}/{record.alarm}"
            raise Refused(Phrase("refused.not_shelved", alarm=name))
        if shelf is record.shelf and event in (On.EXPIRED, On.RETURNED):
            return
        record.shelf = shelf
        if shelf is Shelf.UNSHELVED:
            record.shelved_by, record.shelved_until_ns, record.shelf_due_mono_ns = "", 0, 0
        else:
            wait_ns = round(wait_s * 1e9)
            record.shelved_by = who
            record.shelved_until_ns = self.wall_ns + wait_ns
            record.shelf_due_mono_ns = self.mono_ns + wait_ns
            self._arm(record, record.shelf_due_mono_ns, _Timer.SHELF)
        self.note(record, event, who, note)
        self.uncovered(record)

    def suppress(self, record: Record, reason: str, *, holds: bool, quiet: bool = False) -> None:
        """Suppress by design while a reason holds; `quiet` leaves no trace, as after a restart."""
        before = record.state
        if holds:
            record.suppressed_by.add(reason)
        else:
            record.suppressed_by.discard(reason)
        if record.state != before and not quiet:
            self.note(record, "suppress" if holds else "unsuppress", note=reason)
            self.uncovered(record)

    def uncovered(self, record: Record) -> None:
        """Something that kept it quiet may have gone: then people are called now."""
        if not record.covered and record.life is Life.ACTIVE_UNACKED:
            record.announced = True
            self._announced(record)

    def note(self, record: Record, event: str, who: str = "", note: str = "") -> None:
        """A transition for the log."""
        record.changed_ns = self.wall_ns
        self.out.append(record.transition(event, self.wall_ns, who, note))

    def _announced(self, record: Record) -> None:
        record.announced_severity = record.severity
        record.announced_priority = record.priority

    # Time

    def arm_realarm(self, record: Record) -> None:
        """Call again if it is still active after `realarm_s`."""
        if self.config.realarm_s > 0:
            record.realarm_due_mono_ns = self.mono_ns + round(self.config.realarm_s * 1e9)
            self._arm(record, record.realarm_due_mono_ns, _Timer.REALARM)

    def resume_shelf(self, record: Record, left_ns: int) -> None:
        """Go on with a shelf after a restart."""
        record.shelf_due_mono_ns = self.mono_ns + left_ns
        self._arm(record, record.shelf_due_mono_ns, _Timer.SHELF)

    def run_timers(self) -> None:
        """Do what is due."""
        while self._timers and self._timers[0][0] <= self.mono_ns:
            due, _, timer, key = heapq.heappop(self._timers)
            record = self._records.get(key)
            if record is None:
                continue
            # A timer that was called off or set anew finds another time in the record.
            if timer is _Timer.DELAY and record.delay_due_mono_ns == due:
                self._delay_over(record)
            elif timer is _Timer.SHELF and record.shelf_due_mono_ns == due:
                self.shelve(record, On.EXPIRED)
            elif timer is _Timer.REALARM and record.realarm_due_mono_ns == due:
                record.realarm_due_mono_ns = 0
                self.step(record, Event.REALARM)

    def _arm(self, record: Record, due_mono_ns: int, timer: _Timer) -> None:
        # More urgent alarms first among those due at once: a high-high then suppresses its high
        # before anyone is called for both.
        heapq.heappush(self._timers, (due_mono_ns, -record.priority, timer, record.key))
