"""REST: the links, and what crosses their wires."""

from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter, HTTPException, Request, Response
from pydantic import Field, TypeAdapter

from gateway.console.api.answer import Body, Engineer, Name, Out, Viewer
from gateway.console.reach import note_down, plant_of
from gateway.core.meter import SourceMeter
from gateway.core.tap import OPEN_S_MAX, Tap
from gateway.core.texts import Phrase

router = APIRouter()

NO_SOURCE: dict[int | str, dict[str, Any]] = {404: {"description": "No such source."}}


class FrameBody(Body):
    """What crossed the wire at once; `hex` holds the first 2,048 of its `size` bytes."""

    t_ns: int
    sent: bool
    size: int
    note: str
    hex: str


class WireBody(Body):
    """The last frames, oldest first, and for how long more will be kept."""

    source: str
    open_s: float
    frames_dropped: int
    frames: list[FrameBody]


class OpenBody(Body):
    """For how long the wire is to be watched."""

    seconds: float = Field(default=300, gt=0, le=OPEN_S_MAX, allow_inf_nan=False)


_SOURCES = Out(TypeAdapter(Sequence[SourceMeter]))


def _tap(request: Request, source: str) -> Tap:
    tap = plant_of(request).tap(source)
    if tap is None:
        raise HTTPException(404, Phrase("error.source"))
    return tap


def _wire(source: str, tap: Tap) -> WireBody:
    return WireBody(
        source=source,
        open_s=tap.left_s(),
        frames_dropped=tap.frames_dropped,
        frames=[
            FrameBody(t_ns=f.t_ns, sent=f.sent, size=f.size, note=f.note, hex=f.data.hex(" "))
            for f in tap.frames()
        ],
    )


@router.get("/sources", response_model=list[SourceMeter])
async def sources(request: Request, _: Viewer) -> Response:
    """The counters of every source."""
    return _SOURCES(plant_of(request).sources())


@router.get("/sources/{source}/wire", responses=NO_SOURCE)
async def wire(request: Request, _: Engineer, source: Name) -> WireBody:
    """The last bytes on a source's wire, both ways, without what signs us in."""
    return _wire(source, _tap(request, source))


@router.post("/sources/{source}/wire", responses=NO_SOURCE)
async def watch_wire(request: Request, actor: Engineer, source: Name, body: OpenBody) -> WireBody:
    """Keep what crosses the wire from now on, for a while. It costs nothing until this is asked."""
    tap = _tap(request, source)
    plant_of(request).open_tap(source, body.seconds)
    await note_down(request, actor, "watch wire", source, f"{body.seconds:g} s")
    return _wire(source, tap)


@router.delete("/sources/{source}/wire", status_code=204, responses=NO_SOURCE)
async def leave_wire(request: Request, actor: Engineer, source: Name) -> Response:
    """Keep no more, and forget what was kept."""
    _tap(request, source).stop()
    await note_down(request, actor, "leave wire", source)
    return Response(status_code=204)
