"""The serial source through the checks that all sources pass: pty, socket://, RFC 2217, asked."""

import asyncio
import contextlib
import os
import select
import socket
import struct
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import serial
import serial.rfc2217

from gateway.core.batch import Batch
from gateway.core.errors import LinkError, LinkTimeout
from gateway.core.source import Source
from protocols import as_source
from protocols.serial import Config

from ..conformance import bench, check_module, check_source
from .serial_line import PtyMachine

SIGNALS = [{"asset": "m", "signal": "x"}, {"asset": "m", "signal": "y"}]


def source(port: str, signals: list[dict[str, str]], **settings: Any) -> Source:
    table = {"kind": "serial", "id": "m", "port": port, "signals": signals}
    text = {"pattern": r"x=(?P<x>\S+) y=(?P<y>\S+)"}
    return as_source(Config.model_validate(table | {"text": text} | settings))


class PtyPeer:
    """Prints numbered lines on a pty, one by itself as soon as somebody listens; or when asked."""

    broken = None
    resets = False

    def __init__(self, machine: PtyMachine, settings: dict[str, Any]) -> None:
        self._machine = machine
        self.source = source(str(machine.port), SIGNALS[:1], **settings)
        self.wider = source(str(machine.port), SIGNALS, **settings)
        self.asked = bool(settings)
        self._value = 0
        self._said = 0
        self._links = 0

    def links(self) -> int:
        return self._links

    def count(self) -> None:
        """Called whenever the terminal is opened."""
        self._links += 1

    def line(self) -> bytes:
        """The next value that was not said yet; the last one again where there is none."""
        self._said = min(self._said + 1, self._value)
        return b"x=%d y=%d\n" % (self._said, -self._said)

    async def emit(self, n: int) -> Sequence[float]:
        values = []
        for _ in range(n):
            self._value += 1
            values.append(float(self._value))
            if not self.asked:
                self._machine.say(self.line())
        return values

    async def hang_up(self, *, reset: bool) -> None:
        assert not reset
        self._machine.unplug()


@asynccontextmanager
async def pty_peer(folder: Path, **settings: Any) -> AsyncIterator[PtyPeer]:
    machine = PtyMachine(folder, held=False)
    peer = PtyPeer(machine, settings)
    stop = asyncio.Event()

    async def watch() -> None:
        """Sees by the hang-up flag whether the terminal is open; greets whoever opened it."""
        opened = False
        while not stop.is_set() and machine.fd != -1:
            poll = select.poll()
            poll.register(machine.fd, select.POLLIN)
            events = dict(poll.poll(0)).get(machine.fd, 0)
            if not events & select.POLLHUP and not opened:
                peer.count()
                if not peer.asked:
                    machine.say(peer.line())
            opened = not events & select.POLLHUP
            if events & select.POLLIN and opened:
                for _ in range(machine.hear().count(b"?")):
                    machine.say(peer.line())
            await asyncio.sleep(0.002)

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(watch())
        try:
            yield peer
        finally:
            stop.set()
            machine.unplug()


async def test_pty_conforms(tmp_path: Path) -> None:
    await check_source(lambda: pty_peer(tmp_path), tmp_path)


async def test_asked_pty_conforms(tmp_path: Path) -> None:
    settings = {"read_request": [{"text": "?"}], "poll_interval_s": 0.02}
    await check_source(lambda: pty_peer(tmp_path, **settings), tmp_path)


class TcpPeer:
    """A serial server: its lines go to the last client."""

    broken = None
    resets = True
    asked = False

    def __init__(self) -> None:
        self._writers: list[asyncio.StreamWriter] = []
        self._accepted = asyncio.Event()
        self._value = 0
        self.source: Source
        self.wider: Source

    def links(self) -> int:
        return len(self._writers)

    async def serve(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        self._accepted.set()
        writer.write(b"x=0 y=0\n")

    async def emit(self, n: int) -> Sequence[float]:
        await self._accepted.wait()
        # A link just opened again stands in the listener's queue: the server takes it first.
        for _ in range(10):
            await asyncio.sleep(0)
        values = []
        for _ in range(n):
            self._value += 1
            values.append(float(self._value))
            self._writers[-1].write(b"x=%d y=%d\n" % (self._value, -self._value))
        return values

    async def hang_up(self, *, reset: bool) -> None:
        await self._accepted.wait()
        if reset:
            linger = struct.pack("ii", 1, 0)
            connection = self._writers[-1].get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self._writers[-1].transport.abort()

    async def end(self) -> None:
        for writer in self._writers:
            writer.transport.abort()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


@asynccontextmanager
async def tcp_peer() -> AsyncIterator[TcpPeer]:
    peer = TcpPeer()
    async with await asyncio.start_server(peer.serve, "127.0.0.1", 0) as server:
        port = f"socket://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        peer.source, peer.wider = source(port, SIGNALS[:1]), source(port, SIGNALS)
        try:
            yield peer
        finally:
            await peer.end()


async def test_socket_conforms(tmp_path: Path) -> None:
    await check_source(tcp_peer, tmp_path)


def test_module_conforms() -> None:
    check_module("serial", libraries=["serial"])


class PtySerial(serial.Serial):
    """A terminal without modem lines, which a pty has not."""

    cts = dsr = ri = cd = True

    def _update_dtr_state(self) -> None:
        pass

    def _update_rts_state(self) -> None:
        pass


class Rfc2217Server:
    """pyserial's own server half of RFC 2217, in front of a pty. One client at a time."""

    def __init__(self, port: str) -> None:
        self._serial = PtySerial(port, timeout=0)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._stop = threading.Event()
        self.url = f"rfc2217://127.0.0.1:{self._listener.getsockname()[1]}"
        self.baud_rates: list[int] = []
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        self._listener.settimeout(0.05)
        while not self._stop.is_set():
            try:
                client, _ = self._listener.accept()
            except TimeoutError:
                continue
            with client:
                self._pass_on(client)

    def _pass_on(self, client: Any) -> None:
        lock = threading.Lock()

        class Connection:
            def write(self, data: bytes) -> None:
                with lock:
                    client.sendall(data)

        manager = serial.rfc2217.PortManager(self._serial, Connection())  # type: ignore[arg-type]
        while not self._stop.is_set():
            ready, _, _ = select.select([client, self._serial.fileno()], [], [], 0.02)
            if client in ready:
                data = client.recv(1024)
                if not data:
                    return
                self._serial.write(b"".join(manager.filter(data)))
                self.baud_rates.append(self._serial.baudrate)
            if self._serial.fileno() in ready:
                said = os.read(self._serial.fileno(), 1024)
                if said:
                    client.sendall(b"".join(manager.escape(said)))

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        self._listener.close()
        self._serial.close()


# pyserial 3.5 names its thread's kind by methods that Python 3.10 deprecated.
pyserial_warns = pytest.mark.filterwarnings("ignore:set(Daemon|Name):DeprecationWarning")


@pyserial_warns
async def test_rfc2217(tmp_path: Path) -> None:
    machine = PtyMachine(tmp_path)
    server = await asyncio.to_thread(Rfc2217Server, str(machine.port))
    world = bench("m", "serial", tmp_path)
    config = source(server.url, SIGNALS, baud_rate=19_200)
    try:
        async with config.open(world.context) as session:
            assert 19_200 in server.baud_rates
            machine.say(b"x=1 y=2\n")
            async with asyncio.timeout(30):
                batch = await session.read()
            assert isinstance(batch, Batch)
            assert batch.value.tolist() == [1, 2]
            await asyncio.to_thread(server.close)
            with pytest.raises(LinkError):
                async with asyncio.timeout(30):
                    await session.read()
    finally:
        await asyncio.to_thread(server.close)
        machine.unplug()


@pyserial_warns
async def test_a_network_port_that_is_not_there(tmp_path: Path) -> None:
    world = bench("m", "serial", tmp_path)
    with pytest.raises(LinkError, match="cannot be reached"):
        async with source("socket://127.0.0.1:1", SIGNALS).open(world.context):
            pass
    with pytest.raises(LinkError, match="cannot be opened"):
        async with source("rfc2217://127.0.0.1:1", SIGNALS).open(world.context):
            pass
    # Somebody listens, and speaks no RFC 2217.
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = f"rfc2217://127.0.0.1:{listener.getsockname()[1]}"
        with pytest.raises(LinkTimeout, match="speaks RFC 2217"):
            async with source(port, SIGNALS, open_timeout_s=0.1).open(world.context):
                pass
        # pyserial's thread is still at it, and ends by itself.
        await asyncio.get_running_loop().shutdown_default_executor()
