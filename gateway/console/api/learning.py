"""REST: where the learning of machines stands, and what an engineer decides."""

from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Request, Response
from pydantic import Field, TypeAdapter

from gateway.console.api.answer import Body, Engineer, Name, Out, Viewer
from gateway.console.guard import Actor
from gateway.console.reach import carry_out, plant_of
from gateway.console.views import Ask, LearningView

router = APIRouter()


class AssetBody(Body):
    asset: Annotated[Name, Field(min_length=1)]


_LEARNING = Out(TypeAdapter(Sequence[LearningView]))


@router.get("/learning", response_model=list[LearningView])
async def learning(request: Request, _: Viewer) -> Response:
    """Every machine that is learned here: its stage, what is missing, what may be asked."""
    return _LEARNING(plant_of(request).learning())


async def _teach(request: Request, actor: Actor, ask: Ask, asset: str) -> Response:
    teaching = plant_of(request).teach(asset, ask, actor.name)
    await carry_out(request, actor, ask.replace("_", " "), asset, teaching)
    return Response(status_code=204)


@router.post("/learning/promote", status_code=204)
async def promote(request: Request, actor: Engineer, body: AssetBody) -> Response:
    """Let a machine's candidate judge."""
    return await _teach(request, actor, "promote", body.asset)


@router.post("/learning/roll-back", status_code=204)
async def roll_back(request: Request, actor: Engineer, body: AssetBody) -> Response:
    """Go back to the model before this one."""
    return await _teach(request, actor, "roll_back", body.asset)


@router.post("/learning/baseline", status_code=204)
async def baseline(request: Request, actor: Engineer, body: AssetBody) -> Response:
    """It is healthy as it runs now: learn it anew, while the present model judges on."""
    return await _teach(request, actor, "rebaseline", body.asset)
