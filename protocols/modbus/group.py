"""The signals that are polled at one rate: their plan, their sweep, and the columns they fill."""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from gateway.core.batch import BAD, Batch, make_batch
from gateway.core.source import SourceContext
from protocols.modbus.counter import Counters
from protocols.modbus.decode import Decoder, Image
from protocols.modbus.plan import Limits, Request, Span, bisect, make_request, plan
from protocols.modbus.schedule import Slots
from protocols.modbus.settings import Settings
from protocols.modbus.signal import ModbusSignal

REFUSED_IN_A_ROW_MAX = 8
"""So many signals of one block refused and none answered: the rest is taken as refused."""

TURN_NS = 50_000_000
"""Units whose turns in a sweep are nearer than this share one: to wake up for each of them costs
more than to ask it."""

QUARANTINE_NS_MAX = 6 * 3600 * 10**9


@dataclass(slots=True, eq=False)
class Search:
    """The hunt for the illegal address in a block that was refused."""

    block: Request
    open: int = 1
    good: list[Request] = field(default_factory=list)
    culprits: list[int] = field(default_factory=list)
    aborted: bool = False


@dataclass(slots=True, eq=False)
class Job:
    """One request of the sweep under way."""

    group: "Group"
    request: Request
    search: Search | None = None
    due_ns: int = 0
    """Not to be sent before (monotonic); 0 for at once."""
    decoy: bool = False
    """What is under way is a decoy, sent first to bring the line into step."""
    retrial: bool = False
    """It asks for one quarantined row, to see whether it is there by now."""
    damaged: int = 0
    silent: int = 0


@dataclass(slots=True)
class Quarantine:
    """A row that its unit refuses."""

    reason: str
    pause_ns: int
    retry_ns: int


class Group:
    """One polling rate of a source.

    A sweep asks for every block once. Rows get a time and a quality as replies come; `flush` turns
    the rows that came since the last flush into a batch.
    """

    def __init__(
        self,
        config: Settings,
        context: SourceContext,
        signals: Sequence[ModbusSignal],
        slots: Slots,
        quarantined: Mapping[str, Quarantine],
    ) -> None:
        self.slots = slots
        self.signals = tuple(signals)
        self.queue: deque[Job] = deque()
        self.urgent: deque[Job] = deque()
        """What is asked again, or to find a culprit: before the queue, widest blocks first."""
        self.under_way = 0
        self.quarantined: dict[int, Quarantine] = {}
        self._source = config.id
        self._spread_ns = round(config.spread * slots.period_ns)
        self._errors = context.meter.errors
        units = [config.unit_of(s) for s in signals]
        tuning = {unit: config.tuning(unit) for unit in set(units)}
        limits = {u: Limits(t.registers_max, t.bits_max, t.max_gap) for u, t in tuning.items()}
        self._limits: Callable[[int], Limits] = limits.__getitem__
        self._spans = [
            Span(row, units[row], (place := s.place()).table, place.start, s.registers())
            for row, s in enumerate(signals)
        ]
        if quarantined:
            for row, signal in enumerate(self.signals):
                if (before := quarantined.get(config.identity(signal))) is not None:
                    self.quarantined[row] = before
        holes = {
            (span.unit, span.table, address)
            for span in (self._spans[row] for row in self.quarantined)
            for address in range(span.start, span.end)
        }
        readable = [span for span in self._spans if span.row not in self.quarantined]
        self.plan: list[Request] = plan(readable, self._limits, holes)
        self._image = Image(self._spans, self._limits)
        self._decoder = Decoder(self.signals, self._spans, self._image)
        self.counters = Counters(self.signals, config.identity)
        n = len(self.signals)
        self._number = np.array([context.signals.intern(s.key()) for s in signals], dtype=np.int32)
        self._t_ns = np.zeros(n, dtype=np.int64)
        self._fresh = np.zeros(n, dtype=np.bool_)
        self._bad = np.zeros(n, dtype=np.bool_)
        self._fresh_since_ns = 0
        self._received_ns = 0

    @property
    def sweeping(self) -> bool:
        """True from a slot until its last block is settled."""
        return bool(self.queue or self.urgent) or self.under_way > 0

    @property
    def due_ns(self) -> int | None:
        """When the next job may be sent (monotonic); None where there is none."""
        if self.urgent:
            return 0
        return self.queue[0].due_ns if self.queue else None

    def peek(self) -> Job:
        """The next job."""
        return self.urgent[0] if self.urgent else self.queue[0]

    def pop(self) -> Job:
        """Take the next job."""
        return self.urgent.popleft() if self.urgent else self.queue.popleft()

    def prefer(self, unit: int) -> bool:
        """Let a job of this unit come next. False where there is none."""
        job = next((job for job in self.queue if job.request.unit == unit), None)
        if job is None:
            return False
        self.queue.remove(job)
        self.urgent.appendleft(job)
        return True

    @property
    def deadline_ns(self) -> int:
        """When the sweep should have ended; the group with the nearest one goes first."""
        return self.slots.next_ns

    def begin(self, now_ns: int, wall_ns: int) -> None:
        """Start the sweep of the slot that is due, unless the last one is still under way."""
        missed = self.slots.missed
        if self.sweeping:
            self.slots.take(now_ns)
            self.slots.missed += 1
        else:
            slot_ns = self.slots.take(now_ns)
            units = {request.unit: 0 for request in self.plan}
            step_ns = self._spread_ns // max(1, len(units))
            together = max(1, TURN_NS // max(1, step_ns))
            due_ns = {
                unit: slot_ns + i // together * together * step_ns for i, unit in enumerate(units)
            }
            self.queue.extend(Job(self, r, due_ns=due_ns[r.unit]) for r in self.plan)
            if self.quarantined:
                self._begin_quarantined(now_ns, wall_ns)
        if self.slots.missed > missed:
            self._errors["slot_missed"] += self.slots.missed - missed

    def _begin_quarantined(self, now_ns: int, wall_ns: int) -> None:
        self.mark_bad(np.array(list(self.quarantined), dtype=np.int32), now_ns, wall_ns)
        self.queue.extend(
            Job(self, make_request([self._spans[row]]), retrial=True)
            for row, quarantine in self.quarantined.items()
            if now_ns >= quarantine.retry_ns
        )

    def mark_bad(self, rows: NDArray[np.int32], now_ns: int, wall_ns: int) -> None:
        """These rows could not be read."""
        self._mark(rows, now_ns, wall_ns, bad=True)

    def store(self, request: Request, payload: bytes, now_ns: int, wall_ns: int) -> None:
        """These rows were read."""
        self._image.store(request, payload)
        self._mark(request.rows, now_ns, wall_ns, bad=False)

    def _mark(self, rows: NDArray[np.int32], now_ns: int, wall_ns: int, *, bad: bool) -> None:
        if not self._fresh_since_ns:
            self._fresh_since_ns = now_ns
        self._t_ns[rows] = wall_ns
        self._fresh[rows] = True
        self._bad[rows] = bad
        self._received_ns = wall_ns

    def flush(self, now_ns: int, wait_ns: int) -> Batch | None:
        """The rows that came since the last flush, once a turn ended or `wait_ns` passed."""
        if not self._fresh_since_ns:
            return None
        asking = self.under_way > 0 or ((due_ns := self.due_ns) is not None and due_ns <= now_ns)
        if asking and wait_ns and now_ns < self._fresh_since_ns + wait_ns:
            return None
        self._fresh_since_ns = 0
        rows = None if self._fresh.all() else np.flatnonzero(self._fresh)
        at = slice(None) if rows is None else rows
        self._fresh[:] = False
        value, quality, faults = self._decoder.raw(rows)
        bad = self._bad[at]
        for name, which in faults.items():
            # Rows that could not be read show what they held before.
            self._errors[name] += int(np.count_nonzero(~bad[which]))
        quality[bad] = BAD
        for name, count in self.counters.accumulate(value, quality != BAD, rows).items():
            self._errors[name] += count
        value = self._decoder.scaled(value, rows)
        number, t_ns = self._number[at], self._t_ns[at].copy()
        if np.count_nonzero(t_ns[1:] < t_ns[:-1]):
            order = np.argsort(t_ns, kind="stable")
            number, t_ns, value, quality = number[order], t_ns[order], value[order], quality[order]
        return make_batch(self._source, number, t_ns, value, quality, self._received_ns)

    def flush_at_ns(self, wait_ns: int) -> int | None:
        """When `flush` will have something although the sweep goes on."""
        return self._fresh_since_ns + wait_ns if self._fresh_since_ns else None

    def split(self, job: Job, *, whole_table: bool) -> bool:
        """A block was refused: queue its parts. False where it need not be searched any further.

        Args:
            whole_table: The refusal is of the table, not of an address. One signal asked for alone
                is to confirm it; then the rest is taken as refused.
        """
        search = job.search or Search(job.request)
        halves = bisect(job.request, at=1 if whole_table else None)
        enough = 1 if whole_table else REFUSED_IN_A_ROW_MAX
        if halves is None or (len(search.culprits) >= enough and not search.good):
            return False
        search.open += 1
        self.urgent.extend(Job(self, half, search) for half in halves)
        return True

    def settle(self, job: Job, *, good: bool, culprits: Sequence[int] = ()) -> None:
        """A job ended. When it was the last of a search, the plan learns from it."""
        search = job.search
        if search is None:
            return
        search.open -= 1
        search.culprits.extend(culprits)
        if good:
            search.good.append(job.request)
        elif not culprits:
            search.aborted = True
        if search.open or search.block not in self.plan:
            return
        if search.culprits:
            # With the culprit known, the rest may be read in fewer requests than the search took.
            # Should one of these be refused as well, its own search finds no culprit and its
            # pieces stay as they are.
            spans = [span for span in search.block.spans if span.row not in search.culprits]
            culprits_at = [self._spans[row] for row in search.culprits]
            holes = {(s.unit, s.table, a) for s in culprits_at for a in range(s.start, s.end)}
            pieces = plan(spans, self._limits, holes)
        elif search.aborted:
            return
        else:
            pieces = search.good
        at = self.plan.index(search.block)
        self.plan[at : at + 1] = sorted(pieces, key=lambda r: r.start)

    def quarantine(self, row: int, reason: str, now_ns: int, pause_ns: int) -> None:
        """Read this row no more but rarely; the pause doubles each time."""
        before = self.quarantined.get(row)
        if before is not None:
            pause_ns = min(2 * before.pause_ns, QUARANTINE_NS_MAX)
        else:
            self._drop(row)
        self.quarantined[row] = Quarantine(reason, pause_ns, now_ns + pause_ns)

    def release(self, row: int) -> None:
        """The row can be read again."""
        del self.quarantined[row]
        self.plan.append(make_request([self._spans[row]]))
        self.plan.sort(key=lambda r: (r.unit, r.table.value, r.start))

    def _drop(self, row: int) -> None:
        """Take a row that was asked for alone out of the plan; a search does so by itself."""
        self.plan = [r for r in self.plan if not (len(r.spans) == 1 and r.spans[0].row == row)]
