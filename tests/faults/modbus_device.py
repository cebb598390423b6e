"""A Modbus device whose misbehaviour is the test: a real socket or tty, a scripted reply."""

import asyncio
import os
import socket
import struct
import tty
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from protocols.modbus.frame import crc16
from tests.eventually import eventually

Write = Callable[[bytes], None]


@dataclass(frozen=True, slots=True)
class Asked:
    """One request as the device saw it."""

    unit: int
    function: int
    start: int
    count: int
    transaction: int = 0

    def pdu(self) -> bytes:
        """The right reply: each register holds its own address plus 1000 times the unit."""
        values = [self.unit * 1000 + a for a in range(self.start, self.start + self.count)]
        return struct.pack(f">BB{self.count}H", self.function, 2 * self.count, *values)

    def refusal(self, code: int) -> bytes:
        return bytes([self.function | 0x80, code])

    def tcp(self, pdu: bytes, *, transaction: int | None = None, unit: int | None = None) -> bytes:
        t = self.transaction if transaction is None else transaction
        return struct.pack(
            ">HHHB", t & 0xFFFF, 0, len(pdu) + 1, self.unit if unit is None else unit
        ) + pdu  # fmt: skip

    def rtu(self, pdu: bytes, *, unit: int | None = None) -> bytes:
        frame = bytes([self.unit if unit is None else unit]) + pdu
        return frame + crc16(frame).to_bytes(2, "little")


Behaviour = Callable[["Device", Asked, Write], Awaitable[None]]


async def right(device: "Device", asked: Asked, write: Write) -> None:
    """Answer as a healthy device does."""
    write(device.frame(asked, asked.pdu()))


@dataclass
class Device:
    """A device on one link. Set `behaviour`; read `asked`."""

    rtu: bool = False
    behaviour: Behaviour = right
    asked: list[Asked] = field(default_factory=list)
    connections: int = 0
    writers: list[asyncio.StreamWriter] = field(default_factory=list)
    serving: int = 0

    def frame(self, asked: Asked, pdu: bytes) -> bytes:
        return asked.rtu(pdu) if self.rtu else asked.tcp(pdu)

    async def take(self, asked: Asked, write: Write) -> None:
        self.asked.append(asked)
        await self.behaviour(self, asked, write)

    def hang_up(self, *, reset: bool) -> None:
        """End every connection, by RST or by FIN."""
        for writer in self.writers:
            if writer.transport.is_closing():
                continue
            if reset:
                linger = struct.pack("ii", 1, 0)
                writer.get_extra_info("socket").setsockopt(
                    socket.SOL_SOCKET, socket.SO_LINGER, linger
                )
                writer.transport.abort()
            else:
                writer.close()
        self.writers.clear()


@asynccontextmanager
async def on_tcp(device: Device) -> AsyncIterator[str]:
    """Serve the device on TCP, by MBAP or RTU frames; gives its URL."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        device.connections += 1
        device.writers.append(writer)
        device.serving += 1
        try:
            while True:
                if device.rtu:
                    frame = await reader.readexactly(8)
                    unit, function, start, count = struct.unpack(">BBHH", frame[:6])
                    asked = Asked(unit, function, start, count)
                else:
                    frame = await reader.readexactly(12)
                    t, _, _, unit, function, start, count = struct.unpack(">HHHBBHH", frame)
                    asked = Asked(unit, function, start, count, t)
                await device.take(asked, writer.write)
        except (asyncio.IncompleteReadError, OSError):
            pass
        finally:
            writer.close()
            device.serving -= 1

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        try:
            yield f"{'rtu-over-tcp' if device.rtu else 'tcp'}://127.0.0.1:{port}"
        finally:
            device.hang_up(reset=True)
            await eventually(lambda: device.serving == 0)


@asynccontextmanager
async def on_tty(device: Device) -> AsyncIterator[str]:
    """Serve the device on a real tty with RTU frames; gives its URL."""
    assert device.rtu
    master, slave = os.openpty()
    tty.setraw(slave)
    loop = asyncio.get_running_loop()
    incoming: asyncio.Queue[bytes] = asyncio.Queue()
    loop.add_reader(master, lambda: incoming.put_nowait(os.read(master, 4096)))

    def write(data: bytes) -> None:
        assert os.write(master, data) == len(data)

    async def serve() -> None:
        rest = b""
        while True:
            rest += await incoming.get()
            while len(rest) >= 8:
                unit, function, start, count = struct.unpack(">BBHH", rest[:6])
                rest = rest[8:]
                await device.take(Asked(unit, function, start, count), write)

    async with asyncio.TaskGroup() as tasks:
        serving = tasks.create_task(serve(), name="device")
        try:
            yield f"rtu://{os.ttyname(slave)}"
        finally:
            serving.cancel()
            loop.remove_reader(master)
            os.close(slave)
            os.close(master)
