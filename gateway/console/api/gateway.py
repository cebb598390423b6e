"""REST: the gateway itself: what leaves it, its settings, its channels, its health, its trail."""

import base64
from typing import Annotated, Any

import anyio.to_thread
from fastapi import APIRouter, Query, Request, Response
from pydantic import Field, TypeAdapter

from gateway.console.api.answer import Body, Engineer, Name, Operator, Out, Viewer
from gateway.console.reach import carry_out, guard_of, plant_of
from gateway.console.trail import AuditEntry
from gateway.console.views import EgressView, Health

router = APIRouter()


class ChannelBody(Body):
    channel: Annotated[Name, Field(min_length=1)]


class PayloadBody(Body):
    """One message that has left the plant, or would; `body` where it is text, always `base64`."""

    t_ns: int
    to: str
    sent: bool
    note: str
    bytes: int
    body: str
    base64: str


_PAYLOADS = Out(TypeAdapter(list[PayloadBody]))
_EGRESS = Out(TypeAdapter(EgressView | None))
_HEALTH = Out(TypeAdapter(Health))
_AUDIT = Out(TypeAdapter(list[AuditEntry]))
_ANY = Out(TypeAdapter(dict[str, Any]))


@router.get("/outgoing", response_model=list[PayloadBody])
async def outgoing(
    request: Request, _: Viewer, limit: Annotated[int, Query(ge=1, le=500)] = 50
) -> Response:
    """The last payloads that left the plant, or would, to the byte."""
    payloads = await plant_of(request).outgoing(limit)
    body = [
        PayloadBody.model_construct(
            t_ns=p.t_ns,
            to=p.to,
            sent=p.sent,
            note=p.note,
            bytes=len(p.body),
            body=p.body.decode("utf-8", "replace"),
            base64=base64.b64encode(p.body).decode(),
        )
        for p in payloads
    ]
    return _PAYLOADS(body)


@router.get("/outgoing/balance", response_model=EgressView | None)
async def balance(request: Request, _: Viewer) -> Response:
    """Bytes that left and bytes that stayed; null where the cloud is switched off."""
    return _EGRESS(plant_of(request).egress())


@router.get("/settings", response_model=dict[str, Any])
async def settings(request: Request, _: Engineer) -> Response:
    """The configuration in use; secrets are references."""
    return _ANY(dict(plant_of(request).settings()))


@router.get("/channels")
async def channels(request: Request, _: Operator) -> list[str]:
    """Names of the notification channels."""
    return list(plant_of(request).channels())


@router.post("/channels/test", status_code=204)
async def test_channel(request: Request, actor: Engineer, body: ChannelBody) -> Response:
    """Send a test message."""
    testing = plant_of(request).test_channel(body.channel, actor.name)
    await carry_out(request, actor, "test channel", body.channel, testing)
    return Response(status_code=204)


@router.get("/health", response_model=Health)
async def health(request: Request, _: Viewer) -> Response:
    """Whether the gateway works, and how it stands."""
    return _HEALTH(plant_of(request).health())


@router.get("/audit", response_model=list[AuditEntry])
async def audit(
    request: Request, _: Engineer, limit: Annotated[int, Query(ge=1, le=5000)] = 200
) -> Response:
    """Who did what, newest first."""
    trail = guard_of(request).vault.trail
    return _AUDIT(await anyio.to_thread.run_sync(trail.newest, limit))
