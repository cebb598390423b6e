"""REST: what happens to machines, told by people and by maintenance systems."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from pydantic import AwareDatetime, Field, TypeAdapter

from gateway.console.api.answer import Body, Name, Note, Operator, Out, Viewer
from gateway.console.reach import carry_out, plant_of
from gateway.core.event import Event, EventLog

EVENTS_MAX = 500
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LATEST = datetime(2200, 1, 1, tzinfo=UTC)
"""Nanoseconds end in 2262."""

router = APIRouter()

Some = Annotated[Name, Field(min_length=1)]


class LogBody(Body):
    """One event log of one machine."""

    asset: Some
    log: Some


class EventBody(LogBody):
    """One event; without `at` it happens now."""

    code: Some
    at: Annotated[AwareDatetime, Field(ge=EPOCH, lt=LATEST)] | None = None

    def event(self, now: datetime) -> Event:
        micros = ((self.at or now) - EPOCH) // timedelta(microseconds=1)
        return Event(self.asset, self.log, self.code, micros * 1000)


class EventsBody(Body):
    """What happened; and logs of which now all is known, so that what was not told did not happen.

    All of it is taken, or nothing.
    """

    events: list[EventBody] = Field(default=[], max_length=EVENTS_MAX)
    whole: list[LogBody] = Field(default=[], max_length=EVENTS_MAX)
    note: Note = ""


class EventsResult(Body):
    """How many of them were not known before."""

    new: int


_EVENTS = Out(TypeAdapter(Sequence[Event]))
_LOGS = Out(TypeAdapter(Sequence[EventLog]))


@router.get("/events", response_model=list[Event])
async def events(
    request: Request,
    _: Viewer,
    asset: Name = "",
    limit: Annotated[int, Query(ge=1, le=10_000)] = 100,
) -> Response:
    """What happened to a machine, or to all, newest first."""
    return _EVENTS(plant_of(request).events(asset, limit))


@router.get("/events/logs", response_model=list[EventLog])
async def event_logs(request: Request, _: Viewer) -> Response:
    """Every event log of every machine, its codes, and from when on it is complete."""
    return _LOGS(plant_of(request).event_logs())


@router.post("/events")
async def tell(request: Request, actor: Operator, body: EventsBody) -> EventsResult:
    """Tell what happened. 409 where a machine has no such log, or the log no such code."""
    now = datetime.now(UTC)
    told = [event.event(now) for event in body.events]
    whole = [(each.asset, each.log) for each in body.whole]
    target = ", ".join(sorted({f"{e.asset}/{e.log}" for e in (*body.events, *body.whole)}))
    action = f"tell {len(told)} events" + (", all there are" if whole else "")
    work = plant_of(request).tell(told, whole)
    return EventsResult(new=await carry_out(request, actor, action, target, work, body.note))
