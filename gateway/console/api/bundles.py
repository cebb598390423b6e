"""REST: which models there are."""

from collections.abc import Sequence

from fastapi import APIRouter, Request, Response
from pydantic import TypeAdapter

from gateway.console.api.answer import Out, Viewer
from gateway.console.reach import plant_of
from gateway.console.views import BundleView

router = APIRouter()


_BUNDLES = Out(TypeAdapter(Sequence[BundleView]))


@router.get("/bundles", response_model=list[BundleView])
async def bundles(request: Request, _: Viewer) -> Response:
    """Every model."""
    return _BUNDLES(plant_of(request).bundles())
