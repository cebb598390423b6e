"""The REST interface: everything that the pages do, for programs and for the pages themselves."""

from typing import Any

from fastapi import APIRouter

from gateway.console.api import (
    alarms,
    assets,
    bundles,
    events,
    gateway,
    history,
    learning,
    people,
    sources,
)

PROBLEM: dict[int | str, dict[str, Any]] = {
    400: {"description": "Not understood."},
    401: {"description": "Sign in first."},
    403: {"description": "Not allowed."},
    409: {"description": "Makes no sense now; the text says why."},
    413: {"description": "Too large."},
}

router = APIRouter(prefix="/api/v1", responses=PROBLEM)
for part in (people, assets, alarms, history, sources, bundles, learning, events, gateway):
    router.include_router(part.router)
