"""Real servers for tests, each in a folder and on ports of its own, and a proxy to cut their links.

Where a server is not installed its tests are skipped with the reason; where CI is "true" that is a
failure instead, because there it hides what was not tested.
"""

import asyncio
import contextlib
import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from .eventually import eventually_blocking


def require(program: str) -> str:
    """The path of a program; without it the test is skipped, or fails where CI is "true"."""
    found = shutil.which(program)
    if found is None:
        reason = f"{program} is not installed (tests/install_servers.sh)"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return found


def tool(name: str) -> str:
    """The path of one of the tools of `tests/tools.txt`; skips or fails as `require` does."""
    found = Path(__file__).resolve().parents[1] / "build" / "tools" / "bin" / name
    return require(str(found))


_next = itertools.count(os.getpid() * 509)


def free_port() -> int:
    """A port that is free, and that nobody else is given before its server takes it.

    The kernel lends from 32,768 on, to any connection; another process of tests begins elsewhere.
    """
    while True:
        port = 10_000 + next(_next) % 22_000
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


class Server:
    """A server process that can be stopped, killed, frozen and started again on the same data."""

    def __init__(self, command: list[str], url: str, ready: str, log: Path) -> None:
        self._command = command
        self._ready = ready
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None
        self.url = url

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log)
        eventually_blocking(self._answers, timeout_s=30)

    def stop(self) -> None:
        """End it in order; kill it where it does not end."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGCONT)
        self._process.terminate()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def freeze(self) -> None:
        """Hold it: connections stay open and nothing answers."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self._log.read_text()[-2000:]
        try:
            with urllib.request.urlopen(self.url + self._ready, timeout=2):
                return True
        except (urllib.error.URLError, OSError):
            return False


class Influxd(Server):
    """InfluxDB 1.6 of Debian."""

    def query(self, statement: str, db: str = "forewarn") -> list[dict[str, Any]]:
        """The series of one InfluxQL statement, times in ns."""
        fields = urllib.parse.urlencode({"q": statement, "db": db, "epoch": "ns"})
        request = urllib.request.Request(f"{self.url}/query", data=fields.encode())
        with urllib.request.urlopen(request, timeout=30) as reply:
            (result,) = json.load(reply)["results"]
        assert "error" not in result, result
        series: list[dict[str, Any]] = result.get("series", [])
        return series

    def write(self, line: str, db: str = "forewarn") -> None:
        """Write one line, as some other program would."""
        urllib.request.urlopen(f"{self.url}/write?db={db}", data=line.encode()).close()

    def count(self, field: str = "value", measurement: str = "signal", db: str = "forewarn") -> int:
        """How many points have this field."""
        found = self.query(f'SELECT count("{field}") FROM "{measurement}"', db)
        return int(found[0]["values"][0][1]) if found else 0

    def values(self, measurement: str = "signal", field: str = "value") -> list[float]:
        """Every value of a field, in the order of time."""
        found = self.query(f'SELECT "{field}" FROM "{measurement}"')
        return [row[1] for row in found[0]["values"]] if found else []


@contextmanager
def influxd(
    folder: Path, *, auth: bool = False, body_bytes_max: int = 25_000_000
) -> Iterator[Influxd]:
    """A running influxd; the database `forewarn` is not made."""
    program = require("influxd")
    folder.mkdir(parents=True, exist_ok=True)
    port, rpc = free_port(), free_port()
    config = folder / "influxd.conf"
    config.write_text(
        f"""reporting-disabled = true
bind-address = "127.0.0.1:{rpc}"
[meta]
  dir = "{folder}/meta"
  logging-enabled = false
[data]
  dir = "{folder}/data"
  wal-dir = "{folder}/wal"
  query-log-enabled = false
[coordinator]
[http]
  bind-address = "127.0.0.1:{port}"
  log-enabled = false
  auth-enabled = {str(auth).lower()}
  max-body-size = {body_bytes_max}
[monitor]
  store-enabled = false
[subscriber]
  enabled = false
"""
    )
    url = f"http://127.0.0.1:{port}"
    server = Influxd([program, "run", "-config", str(config)], url, "/ping", folder / "log")
    server.start()
    try:
        yield server
    finally:
        server.stop()


class Victoria(Server):
    """VictoriaMetrics of Debian."""

    def values(self, metric: str) -> list[float]:
        """Every value of a metric of today, in the order of time, series by series."""
        urllib.request.urlopen(f"{self.url}/internal/force_flush", timeout=10).close()
        url = f"{self.url}/api/v1/export?match[]={metric}&start=-1d"
        with urllib.request.urlopen(url, timeout=10) as reply:
            rows = [json.loads(line) for line in reply.read().splitlines()]
        return [value for row in rows for value in row["values"]]


@contextmanager
def victoria(folder: Path) -> Iterator[Victoria]:
    """A running VictoriaMetrics, which takes `/api/v2/write`."""
    program = require("victoria-metrics")
    folder.mkdir(parents=True, exist_ok=True)
    address = f"127.0.0.1:{free_port()}"
    command = [
        program,
        f"-storageDataPath={folder}/data",
        f"-httpListenAddr={address}",
        "-retentionPeriod=100y",
        "-search.latencyOffset=0",
        "-loggerLevel=ERROR",
    ]
    server = Victoria(command, f"http://{address}", "/health", folder / "log")
    server.start()
    try:
        yield server
    finally:
        server.stop()


class Proxy:
    """Stands between us and a server, and loses what it is told to lose.

    Attributes:
        drop_answers: Requests pass, their answers do not: the link is cut instead.
        refuse: New links are cut at once.
        requests: Links that were cut after their request had passed.
    """

    def __init__(self, target: str) -> None:
        self._target = urllib.parse.urlsplit(target)
        self.drop_answers = False
        self.refuse = False
        self.cut = 0
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.refuse:
            writer.transport.abort()
            return
        there_reader, there_writer = await asyncio.open_connection(
            self._target.hostname, self._target.port
        )
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._copy(reader, there_writer))
                tasks.create_task(self._answers(there_reader, writer))
        finally:
            writer.transport.abort()
            there_writer.transport.abort()

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()
            writer.close()
        except OSError:
            writer.transport.abort()

    async def _answers(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65_536):
                if self.drop_answers:
                    self.cut += 1
                    writer.transport.abort()
                    return
                writer.write(data)
                await writer.drain()
            writer.close()
        except OSError:
            writer.transport.abort()


@asynccontextmanager
async def proxy(target: str) -> AsyncIterator[Proxy]:
    """A proxy in front of the server at `target`."""
    between = Proxy(target)
    async with await asyncio.start_server(between.serve, "127.0.0.1", 0) as server:
        between.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        yield between
