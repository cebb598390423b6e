"""Fills the gap that an outage left from the server's own history, each sample once."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC
from typing import Any, cast

import numpy as np
from asyncua import ua

from gateway.core.batch import make_batch
from gateway.core.errors import PeerError
from gateway.core.source import SourceContext
from protocols.opcua.intake import Intake
from protocols.opcua.items import Item, in_chunks
from protocols.opcua.link import Link, code_name
from protocols.opcua.outbox import Outbox
from protocols.opcua.settings import Config
from protocols.opcua.slow import read_slow
from protocols.opcua.status import quality_of

VALUES_MAX = 10_000
"""Of one node in one answer; the server gives a continuation point for more."""
NODES_MAX = 50
"""In one request, whatever the server allows: every answer is held in memory at once."""
GAPS_MAX = 20
"""Of one signal, waiting to be filled; the oldest is given up first."""
_Code = ua.StatusCodes
NO_HISTORY = frozenset(
    (
        _Code.BadHistoryOperationUnsupported,
        _Code.BadHistoryOperationInvalid,
        _Code.BadNotSupported,
        _Code.BadNoData,
    )
)
"""Answers of a node that has no history; most have none."""
MARKS_NAME = "resume.json"
STAMP_NS = 1_000
"""Stamps nearer than this are one stamp: history is decoded by the library, to microseconds."""


@dataclass(slots=True, eq=False)
class Gap:
    """What is missing of one signal: after `start_ns` and before `end_ns`, UTC.

    The start moves on with each page that was read, so that what breaks off goes on from there.
    """

    item: Item
    start_ns: int
    end_ns: int


class GapFiller:
    """Knows per signal where the last session ended, and asks for what came after.

    The marks live in the source's data folder between sessions, so that a restart of the gateway
    is an outage like any other. They are taken away while a session runs: after a crash they would
    be old, and filling from them would log samples twice.
    """

    def __init__(
        self, config: Config, context: SourceContext, link: Link, outbox: Outbox, intake: Intake
    ) -> None:
        self._config = config
        self._context = context
        self._link = link
        self._outbox = outbox
        self._intake = intake
        self._path = context.data_dir / MARKS_NAME
        self._marks: dict[str, int] = {}
        self._gaps: dict[str, list[tuple[int, int]]] = {}
        self._open: list[Gap] = []

    def recall(self) -> None:
        """Read where the session before ended, and which gaps it left open."""
        try:
            kept = json.loads(self._path.read_text())
            self._marks = {str(name): int(t_ns) for name, t_ns in kept["marks"].items()}
            self._gaps = {
                str(name): [(int(a), int(b)) for a, b in gaps]
                for name, gaps in kept["gaps"].items()
            }
        except FileNotFoundError:
            return
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            self._context.log.warning("history.marks", error=str(error))
        self._path.unlink(missing_ok=True)

    def remember(self, items: Iterable[Item]) -> None:
        """Write where each signal stands, and what is still missing of it."""
        if not self._config.history:
            return
        self._open_gaps(items)
        for gap in self._open:
            self._gaps.setdefault(gap.item.name, []).append((gap.start_ns, gap.end_ns))
        newest_ns = self._intake.columns.newest_ns
        # What the reader never took is as good as never received.
        unread, unread_past = self._outbox.unread(history=False), self._outbox.unread(history=True)
        for item in items:
            number = int(self._intake.columns.number[item.handle])
            if number in unread_past:
                first_ns, last_ns = unread_past[number]
                self._gaps.setdefault(item.name, []).append((first_ns - 1, last_ns + 1))
            if number in unread:
                self._marks[item.name] = unread[number][0] - 1
            elif newest_ns[item.handle]:
                self._marks[item.name] = int(newest_ns[item.handle])
        if not self._marks:
            return
        part = self._path.with_suffix(".part")
        try:
            self._context.data_dir.mkdir(parents=True, exist_ok=True)
            part.write_text(json.dumps({"marks": self._marks, "gaps": self._gaps}))
            part.replace(self._path)
        except OSError as error:
            self._context.log.warning("history.marks", error=str(error))

    def resumed_ns(self, name: str) -> int:
        """UTC ns of the last sample of the session before; 0 for none."""
        return self._marks.get(name, 0)

    async def fill(self, items: Mapping[str, Item], per_call: int) -> None:
        """Ask once for each signal's gaps; the last ends at its first sample of this session."""
        if not self._config.history or not (self._marks or self._gaps):
            return
        waiting = [item for name, item in items.items() if name in self._marks and item.node]
        await self._intake.first_samples(waiting, timeout_s=self._config.timeout_s)
        self._open_gaps(items.values())
        gaps = [
            Gap(items[name], start_ns, end_ns)
            for name, open_gaps in self._gaps.items()
            if name in items
            for start_ns, end_ns in open_gaps
        ]
        gaps = [gap for gap in gaps if gap.item.node is not None]
        self._gaps.clear()
        self._open = gaps
        filled = 0

        async def read(chunk: Sequence[Gap]) -> None:
            nonlocal filled
            filled += await self._read(chunk)
            done = set(chunk)
            self._open = [gap for gap in self._open if gap not in done]

        try:
            await in_chunks(gaps, min(per_call, NODES_MAX), read)
        except PeerError as error:
            self._context.log.info("history.none", reason=str(error))
        self._open = []
        if filled:
            self._context.log.info("history.filled", samples=filled)

    def _open_gaps(self, items: Iterable[Item]) -> None:
        """From each mark to the first sample that came after it."""
        oldest_ns = self._context.clock.wall_ns() - round(self._config.history_span_s_max * 1e9)
        first_ns = self._intake.columns.first_ns
        for item in items:
            end_ns = int(first_ns[item.handle])
            mark_ns = self._marks.get(item.name)
            if mark_ns is None or end_ns == 0:
                continue
            del self._marks[item.name]
            start_ns = max(mark_ns, oldest_ns)
            if end_ns > start_ns:
                gaps = self._gaps.setdefault(item.name, [])
                gaps.append((start_ns, end_ns))
                del gaps[:-GAPS_MAX]

    async def _read(self, gaps: Sequence[Gap]) -> int:
        """Read the gaps' samples, page by page, into the outbox; give how many there were."""
        details = ua.ReadRawModifiedDetails()
        # The library's defaults ask for what was changed afterwards, and for the ends.
        details.IsReadModified = details.ReturnBounds = cast("ua.Boolean", False)
        details.StartTime = _datetime(min(gap.start_ns for gap in gaps))
        details.EndTime = _datetime(max(gap.end_ns for gap in gaps))
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
                    continue
                data = result.HistoryData
                values = data.DataValues if isinstance(data, ua.HistoryData) else []
                filled += self._put(gap, values or [])
                if result.ContinuationPoint:
                    more.append((gap, bytes(result.ContinuationPoint)))
            rest = more
        return filled

    def _put(self, gap: Gap, data: Sequence[Any]) -> int:
        """Pass on the samples strictly inside the gap: its ends were delivered already."""
        item, received_ns = gap.item, self._context.clock.wall_ns()
        values, _, _ = read_slow([(item.handle, d) for d in data], {item.handle: item})
        t_ns = self._intake.stamp(values, received_ns)
        inside = np.flatnonzero((t_ns > gap.start_ns + STAMP_NS) & (t_ns < gap.end_ns - STAMP_NS))
        rows = inside[np.argsort(t_ns[inside], kind="stable")]
        number = self._context.signals.intern(item.signal.key())
        self._outbox.put(
            make_batch(
                self._config.id,
                np.full(len(rows), number, dtype=np.int32),
                t_ns[rows],
                values.value[rows] * item.signal.scale + item.signal.offset,
                quality_of(values.status[rows]),
                received_ns,
                history=True,
            )
        )
        if len(rows):
            gap.start_ns = int(t_ns[rows[-1]])
        return len(rows)


def _datetime(t_ns: int) -> ua.DateTime:
    return ua.DateTime.fromtimestamp(t_ns / 1e9, UTC)
