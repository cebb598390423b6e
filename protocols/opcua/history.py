"""Fills the gap that an outage left from the server's own history, each sample once."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC
from typing import Any, cast

import numpy as np
from asyncua import ua
from numpy.typing import NDArray

from gateway.core.batch import make_batch
from gateway.core.errors import PeerError, StoreError
from gateway.core.source import SourceContext
from protocols.opcua.intake import Intake
from protocols.opcua.items import Item, in_chunks
from protocols.opcua.link import Link, code_name
from protocols.opcua.losses import NONE_KEPT, Losses, no_use
from protocols.opcua.outbox import Outbox
from protocols.opcua.resume import Resume, Span
from protocols.opcua.settings import Settings
from protocols.opcua.slow import read_slow
from protocols.opcua.status import quality_of

VALUES_MAX = 10_000
"""Of one node in one answer; the server gives a continuation point for more."""
NODES_MAX = 50
"""In one request, whatever the server allows: every answer is held in memory at once."""
ASKED_MAX = 2
"""Times that a history is asked which knows nothing of a gap, not even its end: it may lag."""
_Code = ua.StatusCodes
NO_HISTORY = frozenset(
    (
        _Code.BadHistoryOperationUnsupported,
        _Code.BadHistoryOperationInvalid,
        _Code.BadNotSupported,
        _Code.BadServiceUnsupported,
        _Code.BadNoData,
    )
)
"""Answers of a node that has no history; most have none."""
STAMP_NS = 1_000
"""Stamps nearer than this are one stamp: history is decoded by the library, to microseconds."""
_NOTHING: NDArray[np.int64] = np.zeros(0, dtype=np.int64)


@dataclass(slots=True, eq=False)
class Gap:
    """What is missing of one signal: after `start_ns` and before `end_ns`, UTC.

    The start moves on with each page that was read, so that what breaks off goes on from there;
    `whole` is where it was first, and `last_ns` the time of the last sample passed on. `held` are
    the times in it that the log holds already, in order; `known` counts what the server told of
    it; `reason` says why nothing can be had.
    """

    item: Item
    number: int
    whole: Span
    start_ns: int
    end_ns: int
    held: NDArray[np.int64] = field(default_factory=lambda: _NOTHING)
    known: int = 0
    last_ns: int = 0
    reason: str = ""


class GapFiller:
    """Knows per signal where the last session ended, and asks for what came after.

    What cannot be had is counted and told: a loss that nobody sees is the worst kind.
    """

    def __init__(
        self,
        config: Settings,
        context: SourceContext,
        link: Link,
        outbox: Outbox,
        intake: Intake,
        resume: Resume,
    ) -> None:
        self._config = config
        self._context = context
        self._link = link
        self._outbox = outbox
        self._intake = intake
        self._resume = resume
        self._away_since_ns = resume.heard_ns
        self._losses = Losses(context, intake, away_since_ns=resume.heard_ns)
        self._cut: set[str] = set()
        self._open: list[Gap] = []

    def resumed(self, name: str) -> tuple[int, float]:
        """UTC ns and value of the last sample of the session before; 0 and NaN for none."""
        mark = self._resume.marks.get(name)
        return (mark.t_ns, mark.value) if mark else (0, float("nan"))

    def remember(self, items: Iterable[Item], left: Sequence[tuple[int, int]]) -> None:
        """Write where each signal stands, what is missing of it, what the server still holds."""
        resume, columns = self._resume, self._intake.columns
        self._open_gaps(items)
        for gap in self._open:
            rest = Span(gap.start_ns, gap.end_ns, gap.whole.doubtful)
            resume.add_gap(gap.item.name, rest)
            self._passed_on(gap)
        # What the reader never took is as good as never received.
        unread, unread_past = self._outbox.unread(history=False), self._outbox.unread(history=True)
        for item in items:
            number = int(columns.number[item.handle])
            if number in unread_past:
                first_ns, last_ns = unread_past[number]
                resume.add_gap(item.name, Span(first_ns - 1, last_ns + 1, doubtful=False))
            if number in unread:
                resume.marks[item.name] = resume.mark(unread[number][0] - 1)
            elif columns.newest_ns[item.handle]:
                resume.marks[item.name] = resume.mark(int(columns.newest_ns[item.handle]))
        resume.subscriptions, resume.handles = list(left), [""] * columns.n
        for item in items:
            resume.handles[item.handle] = item.name
        resume.heard_ns = self._intake.heard_ns or resume.heard_ns
        resume.keep()

    async def fill(
        self, items: Mapping[str, Item], per_call: int, harvested: asyncio.Event
    ) -> None:
        """Ask for each signal's gaps until none is open; the last ends at its first sample here.

        A signal that is silent at first, or refused, has its turn when it speaks.
        """
        resume = self._resume
        try:
            async with asyncio.timeout(self._config.timeout_s):
                await harvested.wait()
        except TimeoutError:
            pass  # What an old subscription still says is compared with what came.
        while resume.marks or resume.gaps or resume.passed:
            waiting = [item for name, item in items.items() if name in resume.marks and item.node]
            await self._intake.first_samples(waiting, timeout_s=self._config.timeout_s)
            self._open_gaps(items.values())
            await self._read_all(self._take_gaps(items), per_call)
            await self._settle()
            resume.keep()
            await asyncio.sleep(self._config.timeout_s)

    def _open_gaps(self, items: Iterable[Item]) -> None:
        """From each mark to the first sample that came after it."""
        oldest_ns = self._context.clock.wall_ns() - round(self._config.history_span_s_max * 1e9)
        first_ns = self._intake.columns.first_ns
        cut: list[tuple[Item, int]] = []
        for item in items:
            end_ns = int(first_ns[item.handle])
            mark = self._resume.marks.get(item.name)
            if mark is None or end_ns == 0:
                continue
            del self._resume.marks[item.name]
            start_ns = max(mark.from_ns, oldest_ns)
            # A value that has not changed since has no gap behind it.
            if end_ns == mark.t_ns:
                continue
            if end_ns > start_ns:
                self._resume.add_gap(item.name, Span(start_ns, end_ns, mark.doubtful))
            if 0 < self._away_since_ns < oldest_ns:
                cut.append((item, end_ns))
        if cut and not no_use(self._config):
            self._losses.count(cut, "it is longer than history_span_s_max")
            self._cut |= {item.name for item, _ in cut}

    def _take_gaps(self, items: Mapping[str, Item]) -> list[Gap]:
        """The gaps of those signals that can be asked for now."""
        ready = [item for name, item in items.items() if name in self._resume.gaps and item.node]
        return [
            Gap(
                item,
                self._context.signals.intern(item.signal.key()),
                span,
                span.start_ns,
                span.end_ns,
            )
            for item in ready
            for span in self._resume.take_gaps(item.name)
        ]

    async def _read_all(self, gaps: list[Gap], per_call: int) -> None:
        if not gaps:
            return
        self._open = gaps
        refused = no_use(self._config)
        filled = 0

        async def read(chunk: Sequence[Gap]) -> None:
            nonlocal filled
            await self._ask_log(chunk)
            filled += await self._read(chunk)
            for gap in chunk:
                self._passed_on(gap)
            done = set(chunk)
            self._open = [gap for gap in self._open if gap not in done]

        for _ in range(ASKED_MAX):
            if refused:
                break
            try:
                await in_chunks(self._open, min(per_call, NODES_MAX), read)
            except PeerError as error:
                refused = NONE_KEPT if error.code in NO_HISTORY else str(error)
            self._open = [gap for gap in gaps if not gap.known and not gap.reason]
            if not self._open:
                break
            await asyncio.sleep(self._config.timeout_s)
        self._open = []
        if filled:
            self._context.log.info("history.filled", samples=filled)
        for gap in gaps:
            if not gap.known:
                gap.reason = gap.reason or refused or NONE_KEPT
        lost = [gap for gap in gaps if gap.reason and gap.item.name not in self._cut]
        if lost:
            self._losses.count([(gap.item, gap.end_ns) for gap in lost], lost[0].reason)

    def _passed_on(self, gap: Gap) -> None:
        if gap.last_ns:
            self._resume.passed.append((gap.item.name, gap.whole, gap.last_ns))

    async def _settle(self) -> None:
        """Forget what was passed on and is in the log by now."""
        passed = self._resume.passed
        if not passed:
            return
        table, keys = self._context.signals, self._keys()
        numbers = {name: table.intern(keys[name]) for name, _, _ in passed if name in keys}
        times = [last_ns for _, _, last_ns in passed]
        try:
            held = await self._context.logged.samples(
                list(numbers.values()), min(times), max(times) + 1
            )
        except StoreError:
            return  # It cannot be read at present; asked again in a while.
        logged = set(zip(held[0].tolist(), held[1].tolist(), strict=True))
        self._resume.passed = [
            entry
            for entry in passed
            if entry[0] in numbers and (numbers[entry[0]], entry[2]) not in logged
        ]

    def _keys(self) -> dict[str, Any]:
        return {str(signal.key()): signal.key() for signal in self._config.signals}

    async def _ask_log(self, gaps: Sequence[Gap]) -> None:
        """What the log holds of the gaps that another process may have filled in part."""
        doubtful = [gap for gap in gaps if gap.whole.doubtful]
        if not doubtful:
            return
        numbers = [gap.number for gap in doubtful]
        start_ns = min(gap.start_ns for gap in doubtful) - STAMP_NS
        end_ns = max(gap.end_ns for gap in doubtful) + STAMP_NS
        while True:
            try:
                signal, t_ns, _ = await self._context.logged.samples(numbers, start_ns, end_ns)
            except StoreError:
                await asyncio.sleep(self._config.timeout_s)
                continue
            break
        for gap in doubtful:
            gap.held = np.sort(t_ns[signal == gap.number])

    async def _read(self, gaps: Sequence[Gap]) -> int:
        """Read the gaps' samples, page by page, into the outbox; give how many there were."""
        details = ua.ReadRawModifiedDetails()
        # The library's defaults ask for what was changed afterwards, and for the ends.
        details.IsReadModified = details.ReturnBounds = cast("ua.Boolean", False)
        details.StartTime = _datetime(min(gap.start_ns for gap in gaps))
        # Past the end: a history that knows the end knows the gap, even if nothing was in it.
        details.EndTime = _datetime(max(gap.end_ns for gap in gaps) + 1_000_000_000)
        details.NumValuesPerNode = ua.UInt32(VALUES_MAX)
        rest = [(gap, b"") for gap in gaps]
        filled = 0
        while rest:
            await self._outbox.space()
            request = ua.HistoryReadRequest()
            request.Parameters.HistoryReadDetails = details
            request.Parameters.TimestampsToReturn = ua.TimestampsToReturn.Both
            request.Parameters.ReleaseContinuationPoints = cast("ua.Boolean", False)
            request.Parameters.NodesToRead = [
                ua.HistoryReadValueId(NodeId=gap.item.node, ContinuationPoint=point or None)
                for gap, point in rest
            ]
            answer = await self._link.call(request, ua.HistoryReadResponse)
            more = []
            for (gap, _), result in zip(rest, answer.Results, strict=True):
                code = result.StatusCode.value
                if not result.StatusCode.is_good():
                    if code not in NO_HISTORY:
                        self._context.meter.errors[code_name(code)] += 1
                        gap.reason = code_name(code)
                    continue
                data = result.HistoryData
                values = data.DataValues if isinstance(data, ua.HistoryData) else []
                gap.known += len(values or [])
                filled += self._put(gap, values or [])
                if result.ContinuationPoint:
                    more.append((gap, bytes(result.ContinuationPoint)))
            rest = more
        return filled

    def _put(self, gap: Gap, data: Sequence[Any]) -> int:
        """Pass on the samples strictly inside the gap: its ends were delivered already."""
        item, received_ns = gap.item, self._context.clock.wall_ns()
        records = [(item.handle, d) for d in data]
        values, _, _ = read_slow(records, {item.handle: item}, self._intake.structures)
        t_ns = self._intake.stamp(values, received_ns)
        inside = (t_ns > gap.start_ns + STAMP_NS) & (t_ns < gap.end_ns - STAMP_NS)
        rows = np.flatnonzero(inside & ~_among(t_ns, gap.held))
        rows = rows[np.argsort(t_ns[rows], kind="stable")]
        self._outbox.put(
            make_batch(
                self._config.id,
                np.full(len(rows), gap.number, dtype=np.int32),
                t_ns[rows],
                values.value[rows] * item.signal.scale + item.signal.offset,
                quality_of(values.status[rows]),
                received_ns,
                history=True,
            )
        )
        if len(rows):
            gap.start_ns = gap.last_ns = int(t_ns[rows[-1]])
        return len(rows)


def _among(t_ns: NDArray[np.int64], held: NDArray[np.int64]) -> NDArray[np.bool_]:
    """bool[n], whether each time is one of those held, as near as stamps can be told apart."""
    at = np.searchsorted(held, t_ns - STAMP_NS, side="right")
    found = np.zeros(len(t_ns), dtype=np.bool_)
    inside = at < len(held)
    found[inside] = held[at[inside]] < t_ns[inside] + STAMP_NS
    return found


def _datetime(t_ns: int) -> ua.DateTime:
    return ua.DateTime.fromtimestamp(t_ns / 1e9, UTC)
