"""REST: models, let in and taken back."""

from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Request, Response
from pydantic import Field, TypeAdapter

from gateway.console.api.answer import Body, Engineer, Name, Out, Viewer
from gateway.console.guard import Actor
from gateway.console.reach import carry_out, plant_of
from gateway.console.views import BundleView

router = APIRouter()


class BundleBody(Body):
    bundle: Annotated[Name, Field(min_length=1)]


_BUNDLES = Out(TypeAdapter(Sequence[BundleView]))


@router.get("/bundles", response_model=list[BundleView])
async def bundles(request: Request, _: Viewer) -> Response:
    """Every model."""
    return _BUNDLES(plant_of(request).bundles())


async def _bundle(request: Request, actor: Actor, action: str, bundle: str) -> Response:
    plant = plant_of(request)
    act = plant.promote if action == "promote" else plant.roll_back
    await carry_out(request, actor, action, bundle, act(bundle, actor.name))
    return Response(status_code=204)


@router.post("/bundles/promote", status_code=204)
async def promote(request: Request, actor: Engineer, body: BundleBody) -> Response:
    """Let a candidate judge."""
    return await _bundle(request, actor, "promote", body.bundle)


@router.post("/bundles/roll-back", status_code=204)
async def roll_back(request: Request, actor: Engineer, body: BundleBody) -> Response:
    """Go back to the model before this one."""
    return await _bundle(request, actor, "roll back", body.bundle)
