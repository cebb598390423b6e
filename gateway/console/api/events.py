"""REST: what happens to machines, told by people and by maintenance systems."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from pydantic import AwareDatetime, Field, TypeAdapter

from gateway.console.api.answer import Body, Name, Note, Operator, Out, Viewer
from gateway.console.reach import carry_out, plant_of
from gateway.core.event import Entry, Event, EventLog

EVENTS_MAX = 500
NAMED_MAX = 10
"""Events that the audit trail names one by one."""
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


class GoneBody(EventBody):
    """One event that did not happen, by its time to the microsecond."""

    at: Annotated[AwareDatetime, Field(ge=EPOCH, lt=LATEST)]


class EventsBody(Body):
    """What happened; and logs of which now all is known, so that what was not told did not happen.

    All of it is taken, or nothing.
    """

    events: list[EventBody] = Field(default=[], max_length=EVENTS_MAX)
    whole: list[LogBody] = Field(default=[], max_length=EVENTS_MAX)
    note: Note = ""


class TakeBackBody(Body):
    """What did not happen. All of it is taken back, or nothing."""

    events: list[GoneBody] = Field(min_length=1, max_length=EVENTS_MAX)
    note: Note = ""


class EventsResult(Body):
    """How many of them were not known before."""

    new: int


_EVENTS = Out(TypeAdapter(Sequence[Entry]))
_LOGS = Out(TypeAdapter(Sequence[EventLog]))


@router.get("/events", response_model=list[Entry])
async def events(
    request: Request,
    _: Viewer,
    asset: Name = "",
    limit: Annotated[int, Query(ge=1, le=10_000)] = 100,
    taken_back: bool = False,
) -> Response:
    """What happened to a machine, or to all, newest first; what was taken back only if asked."""
    return _EVENTS(plant_of(request).events(asset, limit, taken_back=taken_back))


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
    target = ", ".join([*_named(told), *sorted({f"{e.asset}/{e.log}" for e in body.whole})])
    action = f"tell {len(told)} events" + (", all there are" if whole else "")
    work = plant_of(request).tell(told, whole, actor.name)
    return EventsResult(new=await carry_out(request, actor, action, target, work, body.note))


@router.post("/events/take-back", status_code=204)
async def take_back(request: Request, actor: Operator, body: TakeBackBody) -> Response:
    """Say what did not happen. 409 where one of it is not known."""
    gone = [event.event(event.at) for event in body.events]
    action, target = f"take back {len(gone)} events", ", ".join(_named(gone))
    work = plant_of(request).take_back(gone, actor.name)
    await carry_out(request, actor, action, target, work, body.note)
    return Response(status_code=204)


def _named(events: Sequence[Event]) -> list[str]:
    """Each event where they are few; else the logs that they are of."""
    if len(events) > NAMED_MAX:
        return sorted({f"{e.asset}/{e.log}" for e in events})
    at = (EPOCH + timedelta(microseconds=e.t_ns // 1000) for e in events)
    return [f"{e.asset}/{e.log} {e.code} {when}" for e, when in zip(events, at, strict=True)]
