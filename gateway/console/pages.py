"""The pages: each takes what it shows from memory and renders it beside the event loop."""

import json
import time
from collections.abc import Callable
from typing import Annotated, Any

import anyio.to_thread
from fastapi import APIRouter, HTTPException, Query, Request
from fastapi.responses import HTMLResponse, Response

from gateway.console.guard import Actor
from gateway.console.live import LiveStream
from gateway.console.reach import guard_of, plant_of
from gateway.console.render import Pages
from gateway.console.topics import (
    EVENTS_SHOWN,
    ROWS_MAX,
    Topics,
    badges,
    first_of_several,
    key_of,
    pulse,
    summary,
)
from gateway.console.vault import Role
from gateway.core.texts import Phrase

router = APIRouter(include_in_schema=False)

Key = Annotated[str, Query(max_length=300)]


class Door(Exception):
    """Nobody is signed in: go to the door."""

    def __init__(self, back: str) -> None:
        super().__init__("sign in first")
        self.back = back


def pages_of(request: Request) -> Pages:
    """The renderer of this console."""
    pages: Pages = request.app.state.pages
    return pages


def actor_of(request: Request, role: Role = Role.VIEWER) -> Actor:
    """Who asks for the page.

    Raises:
        Door: Nobody is signed in.
        HTTPException: Who is may not.
    """
    actor = guard_of(request).actor(request)
    if actor is None:
        query = f"?{request.url.query}" if request.url.query else ""
        raise Door(request.url.path + query)
    if actor.role < role:
        raise HTTPException(403, Phrase("error.role", role=Phrase(f"role.{role.word}")))
    return actor


async def render(request: Request, template: str, status: int = 200, **values: Any) -> Response:
    """A page, rendered in a worker thread."""
    pages = pages_of(request)
    html = await anyio.to_thread.run_sync(lambda: pages.page(template, **values))
    return HTMLResponse(html, status)


async def _page(request: Request, actor: Actor, template: str, **values: Any) -> Response:
    counts = badges(plant_of(request).alarms())
    return await render(request, template, actor=actor, badges=counts, **values)


@router.get("/")
async def overview(request: Request, wall: bool = False) -> Response:
    """Every machine a tile."""
    actor, plant = actor_of(request), plant_of(request)
    assets = plant.assets()
    return await _page(
        request,
        actor,
        "plant.html",
        assets=assets,
        summary=summary(assets, plant.shown()),
        pulse=pulse(plant.sources()),
        wall=wall,
    )


@router.get("/asset")
async def asset(request: Request, id: Key) -> Response:  # noqa: A002
    """One machine."""
    actor, plant = actor_of(request), plant_of(request)
    detail = plant.asset(id)
    if detail is None:
        raise HTTPException(404, Phrase("error.machine"))
    mine = first_of_several([v for v in plant.alarms() if v.asset == id])
    return await _page(
        request,
        actor,
        "asset.html",
        d=detail,
        alarms=mine,
        logs=[log for log in plant.event_logs() if log.asset == id],
        events=plant.events(id, EVENTS_SHOWN, taken_back=True),
        plotly=request.app.state.plotly,
    )


@router.get("/alarms")
async def alarms(request: Request) -> Response:
    """What is wrong now."""
    actor, plant = actor_of(request), plant_of(request)
    shown = first_of_several(plant.shown())
    rows = [(s, key_of(s)) for s in shown[:ROWS_MAX]]
    figures = summary(plant.assets(), shown)
    return await _page(request, actor, "alarms.html", rows=rows, summary=figures, tab="now")


@router.get("/alarms/history")
async def history(
    request: Request,
    asset: Key = "",
    days: Annotated[int, Query(ge=1, le=366)] = 1,
    before: Annotated[int, Query(ge=0, le=2**62)] = 0,
) -> Response:
    """What happened."""
    actor, plant = actor_of(request), plant_of(request)
    limit = 200
    end_ns = time.time_ns() + 10**9
    rows = await plant.history(
        start_ns=end_ns - days * 86_400 * 10**9,
        end_ns=end_ns,
        asset=asset,
        limit=limit,
        before=before,
    )
    names = [v.id for v in plant.assets()]
    return await _page(
        request,
        actor,
        "history.html",
        rows=rows,
        more=len(rows) == limit,
        asset=asset,
        assets=names,
        days=days,
        tab="history",
    )


@router.get("/alarms/figures")
async def figures(request: Request) -> Response:
    """How well the alarms serve."""
    actor = actor_of(request)
    kpis = await plant_of(request).kpis()
    return await _page(request, actor, "figures.html", k=kpis, tab="figures")


@router.get("/sources")
async def sources(request: Request) -> Response:
    """Every link."""
    actor = actor_of(request)
    return await _page(request, actor, "sources.html", sources=plant_of(request).sources())


@router.get("/models")
async def models(request: Request) -> Response:
    """Every bundle."""
    actor = actor_of(request)
    plant = plant_of(request)
    return await _page(
        request, actor, "models.html", bundles=plant.bundles(), learning=plant.learning()
    )


@router.get("/outgoing")
async def outgoing(request: Request) -> Response:
    """What left the plant."""
    actor = actor_of(request)
    payloads = [(p, readable(p.body)) for p in await plant_of(request).outgoing(50)]
    balance = plant_of(request).egress()
    return await _page(request, actor, "outgoing.html", payloads=payloads, balance=balance)


def readable(body: bytes) -> str:
    """A payload to the byte where it is text, as hex where it is not."""
    try:
        return body.decode()
    except UnicodeDecodeError:
        return body.hex(" ")


@router.get("/settings")
async def settings(request: Request) -> Response:
    """The configuration in use, people, tokens and the audit trail."""
    actor, plant = actor_of(request, Role.ENGINEER), plant_of(request)
    vault = guard_of(request).vault
    config = json.dumps(plant.settings(), indent=2, ensure_ascii=False, default=str)
    return await _page(
        request,
        actor,
        "settings.html",
        config=config,
        h=plant.health(),
        channels=plant.channels(),
        users=vault.users(),
        tokens=vault.tokens(),
        audit=await anyio.to_thread.run_sync(vault.trail.newest, 100),
    )


@router.get("/live")
async def live(request: Request, topic: Key) -> Response:
    """The stream behind a page."""
    guard, hub = guard_of(request), request.app.state.hub
    actor = guard.actor(request, touch=False)
    if actor is None:
        raise HTTPException(401, Phrase("error.sign_in"))
    topics: Topics = request.app.state.topics
    snapshot = topics.find(topic)
    if snapshot is None:
        raise HTTPException(404, Phrase("error.topic"))
    if hub.full:
        raise HTTPException(503, Phrase("error.503"))
    allowed: Callable[[], bool] = lambda: guard.actor(request, touch=False) is not None  # noqa: E731
    return LiveStream(hub, topic, snapshot, allowed)
