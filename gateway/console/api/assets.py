"""REST: machines, their signals and their curves."""

import time
from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, HTTPException, Query, Request, Response
from pydantic import TypeAdapter

from gateway.console.api.answer import SPAN_S_MAX, Body, Name, Out, Viewer
from gateway.console.reach import plant_of
from gateway.console.views import AssetDetail, AssetView
from gateway.core.texts import Phrase

router = APIRouter()


class SeriesBody(Body):
    """A curve; `null` is a gap. Times are UTC milliseconds."""

    name: str
    unit: str
    t_ms: list[float]
    value: list[float | None]
    low: list[float | None]
    high: list[float | None]


_ASSETS = Out(TypeAdapter(Sequence[AssetView]))
_ASSET = Out(TypeAdapter(AssetDetail))
_SERIES = Out(TypeAdapter(list[SeriesBody]))


@router.get("/assets", response_model=list[AssetView])
async def assets(request: Request, _: Viewer) -> Response:
    """Every asset."""
    return _ASSETS(plant_of(request).assets())


@router.get(
    "/asset", response_model=AssetDetail, responses={404: {"description": "No such asset."}}
)
async def asset(request: Request, _: Viewer, id: Name) -> Response:  # noqa: A002
    """One asset, with its signals."""
    detail = plant_of(request).asset(id)
    if detail is None:
        raise HTTPException(404, Phrase("error.machine"))
    return _ASSET(detail)


@router.get(
    "/series", response_model=list[SeriesBody], responses={404: {"description": "No such asset."}}
)
async def series(
    request: Request,
    _: Viewer,
    asset: Name,
    signal: Annotated[list[Name], Query(min_length=1, max_length=50)],
    end_ms: Annotated[int, Query(ge=0, le=2**43, description="0: now")] = 0,
    span_s: Annotated[float, Query(gt=0, le=SPAN_S_MAX)] = 3600,
    points: Annotated[int, Query(ge=2, le=5000)] = 600,
) -> Response:
    """Curves of signals; `@severity` (score / limit), `@score`, `@limit`, `@rul` and
    `@failure:MODE` are of its models.
    """
    plant = plant_of(request)
    if plant.asset(asset) is None:
        raise HTTPException(404, Phrase("error.machine"))
    end_ns = end_ms * 1_000_000 or time.time_ns()
    curves = await plant.series(
        asset, signal, start_ns=end_ns - round(span_s * 1e9), end_ns=end_ns, points_max=points
    )
    body = [
        SeriesBody.model_construct(
            name=c.name,
            unit=c.unit,
            t_ms=(c.t_ns // 1_000_000).tolist(),
            value=c.value.tolist(),
            low=c.low.tolist(),
            high=c.high.tolist(),
        )
        for c in curves
    ]
    return _SERIES(body)
