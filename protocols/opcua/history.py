"""Reads the samples that are missing from the server's own history, page by page."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC
from typing import Any, cast

import numpy as np
from asyncua import ua
from numpy.typing import NDArray

from gateway.core.batch import make_batch
from gateway.core.source import SourceContext
from protocols.opcua.intake import Intake
from protocols.opcua.items import Item
from protocols.opcua.link import Link, code_name
from protocols.opcua.outbox import Outbox
from protocols.opcua.resume import Span
from protocols.opcua.slow import read_slow
from protocols.opcua.status import quality_of

VALUES_MAX = 10_000
"""Of one node in one answer; the server gives a continuation point for more."""
NODES_MAX = 50
"""In one request, whatever the server allows: every answer is held in memory at once."""
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


class History:
    """The history of one server, read into the outbox."""

    def __init__(
        self, source: str, context: SourceContext, link: Link, outbox: Outbox, intake: Intake
    ) -> None:
        self._source = source
        self._context = context
        self._link = link
        self._outbox = outbox
        self._intake = intake

    async def read(self, gaps: Sequence[Gap]) -> int:
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
                self._source,
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
