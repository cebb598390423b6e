"""Real Modbus devices for the tests: pymodbus servers on port 0 and on ptys."""

import asyncio
import os
import socket
import tty
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any, cast

import structlog
from pymodbus.framer import FramerType
from pymodbus.server import ModbusSerialServer, ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from gateway.core.batch import Batch
from gateway.core.clock import SystemClock
from gateway.core.meter import SourceMeter
from gateway.core.signals import SignalTable
from gateway.core.source import Session, SourceContext
from protocols.modbus import Config


def make_context(folder: Path, source: str = "plc") -> SourceContext:
    """A world for one source."""
    return SourceContext(
        clock=SystemClock(),
        random=Random(1),
        log=structlog.get_logger(),
        signals=SignalTable(),
        meter=SourceMeter(source, "modbus"),
        data_dir=folder,
        report=lambda condition: None,
    )


def make_config(url: str, signals: Sequence[Mapping[str, Any]], **settings: Any) -> Config:
    """A source; signals are named s0, s1… of asset `a` unless they say otherwise.

    A sweep is one batch, however busy the machine.
    """
    rows = [{"asset": "a", "signal": f"s{i}", **signal} for i, signal in enumerate(signals)]
    return Config.model_validate(
        {"kind": "modbus", "id": "plc", "url": url, "poll_s": 0.05, "flush_s": 1.0}
        | {**settings, "signals": rows}
    )


def registers(values: Mapping[int, Sequence[int]], units: Sequence[int] = (1,)) -> list[SimDevice]:
    """Units that hold runs of registers, the same for all tables; other addresses are illegal."""
    data = [
        SimData(at, values=list(run), datatype=DataType.REGISTERS) for at, run in values.items()
    ]
    return [SimDevice(unit, simdata=data) for unit in units]


@asynccontextmanager
async def tcp_server(
    devices: list[SimDevice], framer: FramerType = FramerType.SOCKET
) -> AsyncIterator[int]:
    """A pymodbus TCP server; gives its port."""
    server = ModbusTcpServer(devices, framer=framer, address=("127.0.0.1", 0))
    await server.serve_forever(background=True)
    try:
        yield cast("asyncio.Server", server.transport).sockets[0].getsockname()[1]
    finally:
        await server.shutdown()  # type: ignore[no-untyped-call]


@asynccontextmanager
async def pty_pair() -> AsyncIterator[tuple[str, str]]:
    """Two real ttys joined back to back; gives their paths."""
    masters, slaves, paths = [], [], []
    for _ in range(2):
        master, slave = os.openpty()
        tty.setraw(slave)
        os.set_blocking(master, False)
        masters.append(master)
        slaves.append(slave)
        paths.append(os.ttyname(slave))
    loop = asyncio.get_running_loop()

    def pump(source: int, target: int) -> Callable[[], None]:
        def move() -> None:
            try:
                os.write(target, os.read(source, 4096))
            except (BlockingIOError, OSError):
                pass

        return move

    loop.add_reader(masters[0], pump(masters[0], masters[1]))
    loop.add_reader(masters[1], pump(masters[1], masters[0]))
    try:
        yield paths[0], paths[1]
    finally:
        for fd in masters:
            loop.remove_reader(fd)
        for fd in (*masters, *slaves):
            os.close(fd)


@asynccontextmanager
async def serial_server(
    path: str, devices: list[SimDevice], framer: FramerType = FramerType.RTU
) -> AsyncIterator[None]:
    """A pymodbus server on a serial port."""
    server = ModbusSerialServer(devices, framer=framer, port=path, baudrate=19200)
    await server.serve_forever(background=True)
    try:
        yield
    finally:
        await server.shutdown()  # type: ignore[no-untyped-call]


async def read_once(config: Config, folder: Path) -> Batch:
    """The first batch of a source."""
    async with asyncio.timeout(30), config.open(make_context(folder)) as session:
        batch = await session.read()
        assert isinstance(batch, Batch)
        return batch


def listens(port: int) -> bool:
    """Whether the server, which starts in a thread of its own, takes connections by now."""
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


def faults_of(meter: SourceMeter) -> dict[str, int]:
    """What went wrong on the wire; a slot that was missed says only that the machine is busy."""
    return {kind: n for kind, n in meter.errors.items() if n and kind != "slot_missed"}


async def sweep(session: Session) -> Batch:
    batch = await session.read()
    assert isinstance(batch, Batch)
    return batch


def unheard(doing: str, left: int) -> None:
    """For a scan whose progress nobody follows."""
