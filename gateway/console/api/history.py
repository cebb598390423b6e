"""REST: what happened to alarms, by the page and as a spreadsheet."""

import csv
import io
import time
from dataclasses import dataclass
from typing import Annotated

import anyio.to_thread
from fastapi import APIRouter, Query, Request, Response

from gateway.console.api.answer import SPAN_S_MAX, Name, Viewer
from gateway.console.reach import plant_of
from gateway.core.alarm import Transition

HISTORY_MAX = 10_000
EXPORT_ROWS_MAX = 100_000

router = APIRouter()


@dataclass(frozen=True, slots=True)
class HistoryRow:
    """One transition and its number in the log."""

    number: int
    transition: Transition


def _span(end_ms: int, span_s: float) -> tuple[int, int]:
    # One second on: a transition that is being written now is stamped a moment ahead.
    end_ns = end_ms * 1_000_000 or time.time_ns() + 10**9
    return end_ns - round(span_s * 1e9), end_ns


@router.get("/alarms/history", response_model=list[HistoryRow])
async def history(
    request: Request,
    _: Viewer,
    asset: Name = "",
    end_ms: Annotated[int, Query(ge=0, le=2**43, description="0: now")] = 0,
    span_s: Annotated[float, Query(gt=0, le=SPAN_S_MAX)] = 86_400,
    limit: Annotated[int, Query(ge=1, le=HISTORY_MAX)] = 200,
    before: Annotated[int, Query(ge=0, le=2**62)] = 0,
) -> Response:
    """What happened, newest first; page on with the last row's `number` as `before`."""
    start_ns, end_ns = _span(end_ms, span_s)
    body = await plant_of(request).history_json(
        start_ns=start_ns, end_ns=end_ns, asset=asset, limit=limit, before=before
    )
    return Response(body, media_type="application/json")


@router.get(
    "/alarms/export",
    response_class=Response,
    responses={200: {"content": {"text/csv": {"schema": {"type": "string"}}}}},
)
async def export(
    request: Request,
    _: Viewer,
    asset: Name = "",
    end_ms: Annotated[int, Query(ge=0, le=2**43)] = 0,
    span_s: Annotated[float, Query(gt=0, le=SPAN_S_MAX)] = 30 * 86_400,
) -> Response:
    """The same as CSV, oldest first, for a spreadsheet; at most 100,000 rows, the newest."""
    rows: list[tuple[int, Transition]] = []
    before = 0
    start_ns, end_ns = _span(end_ms, span_s)
    while len(rows) < EXPORT_ROWS_MAX:
        page = await plant_of(request).history(
            start_ns=start_ns, end_ns=end_ns, asset=asset, limit=HISTORY_MAX, before=before
        )
        rows += page
        if len(page) < HISTORY_MAX:
            break
        before = page[-1][0]
    body = await anyio.to_thread.run_sync(_csv, rows)
    name = {"content-disposition": 'attachment; filename="alarms.csv"'}
    return Response(body, media_type="text/csv; charset=utf-8", headers=name)


def _csv(rows: list[tuple[int, Transition]]) -> bytes:
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(
        [
            "number",
            "time_utc",
            "asset",
            "alarm",
            "cause",
            "episode",
            "event",
            "state",
            "priority",
            "severity",
            "text",
            "who",
            "note",
        ]
    )
    for number, t in reversed(rows):
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(t.t_ns // 10**9))
        cells = (t.asset, t.alarm, t.cause, t.occurrence, t.event, t.state, int(t.priority))
        texts = (f"{t.severity:.3f}", t.text, t.who, t.note)
        writer.writerow([number, f"{stamp}Z", *map(plain_cell, (*cells, *texts))])
    return out.getvalue().encode("utf-8", "replace")


def plain_cell(value: object) -> str:
    """A cell that no spreadsheet takes for a formula."""
    text = str(value)
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text
