"""The console as an ASGI application: its routes, its files, and what a fault looks like."""

from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path

from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from fastapi.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from starlette.exceptions import HTTPException as StarletteHTTPException

from gateway.console import api, door, pages
from gateway.console.config import ConsoleConfig
from gateway.console.exposition import exposition
from gateway.console.guard import Guard, require
from gateway.console.live import Hub
from gateway.console.plant import Plant
from gateway.console.reach import plant_of, texts_of
from gateway.console.render import Pages
from gateway.console.shield import LOOPBACK, Shield
from gateway.console.topics import Topics
from gateway.console.vault import Role
from gateway.core.errors import StoreError
from gateway.core.texts import Phrase

FOREVER = "public, max-age=31536000, immutable"
STATIC = {
    "console.css": "text/css",
    "plotly.css": "text/css",
    "console.js": "text/javascript",
    "charts.js": "text/javascript",
    "first.js": "text/javascript",
    "wire.js": "text/javascript",
    "icon.svg": "image/svg+xml",
}


def build(config: ConsoleConfig, plant: Plant, guard: Guard, hub: Hub) -> FastAPI:
    """The ASGI application."""
    app = FastAPI(
        title="Forewarn",
        version="1",
        description="The gateway's REST interface. Sign in, or send `Authorization: Bearer fw_…`.",
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
    )
    app.state.plant = plant
    app.state.guard = guard
    app.state.hub = hub
    app.state.pages = Pages(config.texts)
    app.state.topics = Topics(plant, app.state.pages)
    plotly = _plotly()
    app.state.plotly = f"/static/plotly.min.js?v={plotly.stat().st_size}"
    app.include_router(api.router)
    app.include_router(pages.router)
    app.include_router(door.router)
    app.add_exception_handler(pages.Door, door.to_the_door)
    app.add_exception_handler(StarletteHTTPException, _refuse)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(StoreError, _broken)
    _add_machine_routes(app, plotly)
    hosts = tuple(config.hosts) or (LOOPBACK if config.loopback else ())
    https = config.tls_certificate is not None
    app.add_middleware(Shield, hosts=hosts, https=https)
    return app


def _add_machine_routes(app: FastAPI, plotly: Path) -> None:
    @app.get("/healthz", response_class=PlainTextResponse)
    async def healthz() -> str:
        """Whether the process answers."""
        return "ok"

    @app.get(
        "/readyz",
        response_class=PlainTextResponse,
        responses={503: {"description": "Not ready; the text says why."}},
    )
    async def readyz(request: Request) -> Response:
        """Whether the gateway does its work."""
        health = plant_of(request).health()
        text = "ready" if health.ready else "\n".join(health.reasons) or "not ready"
        return PlainTextResponse(text, 200 if health.ready else 503)

    viewer = require(Role.VIEWER)

    @app.get("/metrics", include_in_schema=False)
    async def metrics(request: Request) -> Response:
        """Counters for Prometheus; with a token, or from this machine."""
        peer = request.client.host if request.client else ""
        if not (peer in ("127.0.0.1", "::1") and not request.headers.get("x-forwarded-for")):
            await viewer(request)
        text = exposition(plant_of(request), app.state.hub)
        return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")

    @app.get("/openapi.json", include_in_schema=False)
    async def openapi(request: Request) -> JSONResponse:
        """The REST interface, described."""
        await viewer(request)
        return JSONResponse(
            get_openapi(
                title=app.title, version=app.version, description=app.description, routes=app.routes
            )
        )

    @app.get("/static/{name}", include_in_schema=False)
    async def static(name: str) -> Response:
        """Our own few files, and the chart library; by a list, so that no path leads elsewhere."""
        headers = {"cache-control": FOREVER}
        if name == "plotly.min.js":
            return FileResponse(plotly, media_type="text/javascript", headers=headers)
        media_type = STATIC.get(name)
        if media_type is None:
            raise HTTPException(404, Phrase("error.file"))
        data = (files("gateway.console") / "static" / name).read_bytes()
        return Response(data, media_type=media_type, headers=headers)


def _plotly() -> Path:
    """The chart library that the plotly wheel carries; the package itself is never imported."""
    spec = find_spec("plotly")
    assert spec is not None, "plotly is a dependency"
    assert spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0]) / "package_data" / "plotly.min.js"


def _wants_page(request: Request) -> bool:
    path = request.url.path
    return not path.startswith(
        ("/api/", "/live", "/static/")
    ) and "text/html" in request.headers.get("accept", "")


async def _refuse(request: Request, error: Exception) -> Response:
    assert isinstance(error, StarletteHTTPException)
    detail: object = error.detail
    texts, general = texts_of(request), f"error.{error.status_code}"
    words = texts(general) if texts.has(general) else str(detail)
    said = texts.say(detail) if isinstance(detail, Phrase) else words
    if _wants_page(request):
        page = await pages.render(
            request,
            "error.html",
            error.status_code,
            actor=None,
            code=error.status_code,
            detail=said if said != words else "",
        )
        page.headers.update(error.headers or {})
        return page
    return JSONResponse({"detail": said}, error.status_code, error.headers)


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    # The input is not echoed: it may be a password, or larger than anybody wants to read.
    faults = [{"where": list(map(str, e["loc"])), "rule": e["msg"]} for e in error.errors()[:20]]
    if _wants_page(request):
        return await pages.render(request, "error.html", 422, actor=None, code=422, detail="")
    return JSONResponse({"detail": faults}, 422)


async def _broken(request: Request, error: Exception) -> Response:
    return JSONResponse({"detail": texts_of(request)("error.store", fault=str(error))}, 503)
