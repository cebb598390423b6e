"""Puts the console together, and serves it inside the gateway's task group."""

import asyncio
import contextlib
import errno
import logging
from collections.abc import Iterator
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import anyio.to_thread
import structlog
import uvicorn
from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from fastapi.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from starlette.exceptions import HTTPException as StarletteHTTPException
from typing_extensions import override

from gateway.console import api, pages
from gateway.console.config import ConsoleConfig
from gateway.console.exposition import exposition
from gateway.console.guard import Guard, require
from gateway.console.live import Hub
from gateway.console.plant import Plant
from gateway.console.reach import plant_of, texts_of
from gateway.console.render import Pages
from gateway.console.shield import LOOPBACK, Shield
from gateway.console.topics import Topics
from gateway.console.vault import Role, Vault
from gateway.core.errors import ConfigError, StoreError
from gateway.core.texts import Phrase

SEEN_INTERVAL_S = 60.0
FOREVER = "public, max-age=31536000, immutable"
STATIC = {
    "console.css": "text/css",
    "plotly.css": "text/css",
    "console.js": "text/javascript",
    "charts.js": "text/javascript",
    "theme.js": "text/javascript",
    "wire.js": "text/javascript",
    "icon.svg": "image/svg+xml",
}


class Console:
    """The console of one gateway.

    Make it, keep `serve()` running in a task, and close the group to end it. `setup_url` is worth
    a line in the log: it is how the first person gets in.
    """

    def __init__(self, config: ConsoleConfig, plant: Plant, data_dir: Path) -> None:
        self.config = config
        self.port = config.port
        self._vault = Vault(data_dir)
        self._guard = Guard(config, self._vault)
        self._hub = Hub(config.live_interval_s, config.browsers_max)
        self.app = build(config, plant, self._guard, self._hub)
        self._log = structlog.get_logger()
        self.started = asyncio.Event()

    @property
    def url(self) -> str:
        """Where it is to be found, once it has started."""
        scheme = "https" if self.config.tls_certificate else "http"
        host = self.config.host
        if host in ("0.0.0.0", "::"):  # noqa: S104
            host = "localhost"
        return f"{scheme}://{f'[{host}]' if ':' in host else host}:{self.port}"

    @property
    def setup_url(self) -> str:
        """The one-time link for the first person; "" once there is one."""
        secret = "" if self._vault.users() else self._guard.setup_secret
        return f"{self.url}/setup?key={secret}" if secret else ""

    async def serve(self) -> None:
        """Serve until cancelled.

        Raises:
            ConfigError: Address, port or TLS files will not do.
        """
        fault: ConfigError | None = None
        try:
            server = _Server(self._uvicorn())
            async with asyncio.TaskGroup() as tasks:
                hub = tasks.create_task(self._hub.run(), name="console:live")
                seen = tasks.create_task(self._write_seen(), name="console:sessions")
                listen = tasks.create_task(self._listen(server), name="console:http")
                try:
                    up = tasks.create_task(server.up.wait(), name="console:up")
                    await asyncio.wait({up, listen}, return_when=asyncio.FIRST_COMPLETED)
                    up.cancel()
                    if server.started:
                        self.port = server.servers[0].sockets[0].getsockname()[1]
                        self.started.set()
                        self._log.info("console.up", url=self.url)
                        if self.config.in_clear:
                            self._log.warning("console.in_clear", host=self.config.host)
                        if self.setup_url:
                            self._log.warning("console.set_up", url=self.setup_url)
                    await asyncio.shield(listen)
                finally:
                    self._hub.stop()
                    server.should_exit = True
                    if not listen.done():
                        await listen
                    hub.cancel()
                    seen.cancel()
        except* ConfigError as group:
            fault = next(e for e in group.exceptions if isinstance(e, ConfigError))
        finally:
            self._vault.write_seen(
                idle_s=self.config.session_idle_s, max_s=self.config.session_max_s
            )
            self._vault.close()
        if fault is not None:
            raise fault

    async def _listen(self, server: "_Server") -> None:
        # What uvicorn would print of it is said below, with the setting and what to do.
        logging.getLogger("uvicorn.error").addFilter(_not_of_the_system)
        try:
            await server.serve()
        except SystemExit as end:
            # uvicorn ends the process where it cannot listen; here it is the operator's to mend.
            raise _unheard(self.config, end.__context__) from None

    async def _write_seen(self) -> None:
        while True:
            await asyncio.sleep(SEEN_INTERVAL_S)
            await anyio.to_thread.run_sync(
                lambda: self._vault.write_seen(
                    idle_s=self.config.session_idle_s, max_s=self.config.session_max_s
                )
            )

    def _uvicorn(self) -> uvicorn.Config:
        config = self.config
        proxies = config.trusted_proxies
        made = uvicorn.Config(
            self.app,
            host=config.host,
            port=config.port,
            loop="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=bool(proxies),
            forwarded_allow_ips=proxies or "",
            timeout_keep_alive=30,
            timeout_graceful_shutdown=2,
            limit_concurrency=config.browsers_max + 200,
            h11_max_incomplete_event_size=32_768,
            ssl_certfile=config.tls_certificate,
            ssl_keyfile=config.tls_key,
        )
        try:
            made.load()
        except OSError as error:
            raise ConfigError(f"console.tls_certificate: cannot be used ({error})") from error
        return made


def _not_of_the_system(record: logging.LogRecord) -> bool:
    return not isinstance(record.msg, OSError)


def _unheard(config: ConsoleConfig, cause: BaseException | None) -> ConfigError:
    """Why the console cannot listen, by which setting, and what to do."""
    number = cause.errno if isinstance(cause, OSError) else None
    if number == errno.EADDRINUSE:
        return ConfigError(
            f"console.port: must be free on {config.host}, {config.port} is in use; end what uses "
            f"it (`ss -ltnp 'sport = {config.port}'` names it) or set another port"
        )
    if number == errno.EACCES:
        return ConfigError(
            f"console.port: must be one that this user may open, was {config.port}; set 1024 or "
            "above, or grant CAP_NET_BIND_SERVICE"
        )
    return ConfigError(
        f"console.host: must be an address of this machine, was {config.host} ({cause}); "
        "0.0.0.0 is all of them"
    )


class _Server(uvicorn.Server):
    """uvicorn without its own signal handlers: the gateway ends it. Tells when it listens."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.up = asyncio.Event()

    @override
    async def startup(self, sockets: list[Any] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self.up.set()

    @override
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


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
    app.add_exception_handler(pages.Door, pages.door)
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
