"""Serves the console inside the gateway's task group, and says why where it cannot."""

import asyncio
import contextlib
import errno
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio.to_thread
import structlog
import uvicorn
from typing_extensions import override

from gateway.console.app import build
from gateway.console.config import ConsoleConfig
from gateway.console.guard import Guard
from gateway.console.live import Hub
from gateway.console.plant import Plant
from gateway.console.vault import Vault
from gateway.core.errors import ConfigError

SEEN_INTERVAL_S = 60.0


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
            self._vault.sessions.write_seen(
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
                lambda: self._vault.sessions.write_seen(
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
