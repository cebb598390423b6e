"""A Modbus device whose misbehaviour is the test: a real socket or tty, a scripted reply."""

import asyncio
import os
import socket
import ssl
import struct
import tty
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from typing_extensions import override

from protocols.modbus.frame import crc16, lrc
from tests.eventually import eventually

Write = Callable[[bytes], None]
Framing = Literal["mbap", "rtu", "ascii"]


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

    def ascii(self, pdu: bytes, *, unit: int | None = None) -> bytes:
        frame = bytes([self.unit if unit is None else unit]) + pdu
        return b":" + (frame + bytes([lrc(frame)])).hex().upper().encode() + b"\r\n"


Behaviour = Callable[["Device", Asked, Write], Awaitable[None]]


async def right(device: "Device", asked: Asked, write: Write) -> None:
    """Answer as a healthy device does."""
    write(device.frame(asked, asked.pdu()))


@dataclass
class Device:
    """A device on one link. Set `behaviour`; read `asked`."""

    framing: Framing = "mbap"
    behaviour: Behaviour = right
    asked: list[Asked] = field(default_factory=list)
    connections: int = 0
    writers: list[asyncio.StreamWriter] = field(default_factory=list)
    serving: int = 0
    timers: list[asyncio.TimerHandle] = field(default_factory=list)

    def frame(self, asked: Asked, pdu: bytes, *, unit: int | None = None) -> bytes:
        match self.framing:
            case "mbap":
                return asked.tcp(pdu, unit=unit)
            case "rtu":
                return asked.rtu(pdu, unit=unit)
            case "ascii":
                return asked.ascii(pdu, unit=unit)

    def parse(self, data: bytes) -> tuple[list[Asked], bytes]:
        """The requests in what came, and what is left of it."""
        found: list[Asked] = []
        while True:
            if self.framing == "mbap" and len(data) >= 12:
                t, _, _, *request = struct.unpack(">HHHBBHH", data[:12])
                unit, function, start, count = request
                found.append(Asked(unit, function, start, count, t))
                data = data[12:]
            elif self.framing == "rtu" and len(data) >= 8:
                assert crc16(data[:6]) == int.from_bytes(data[6:8], "little")
                found.append(Asked(*struct.unpack(">BBHH", data[:6])))
                data = data[8:]
            elif self.framing == "ascii" and b"\r\n" in data:
                line, _, data = data.partition(b"\r\n")
                frame = bytes.fromhex(line.removeprefix(b":").decode())
                assert lrc(frame[:-1]) == frame[-1]
                found.append(Asked(*struct.unpack(">BBHH", frame[:-1])))
            else:
                return found, data

    async def take(self, asked: Asked, write: Write) -> None:
        self.asked.append(asked)
        await self.behaviour(self, asked, write)

    def later(self, delay_s: float, action: Callable[[], None]) -> None:
        """Do something by itself after a while, unless the device is gone by then."""
        loop = asyncio.get_running_loop()
        self.timers = [timer for timer in self.timers if timer.when() > loop.time()]
        self.timers.append(loop.call_later(delay_s, action))

    def end(self) -> None:
        """Do nothing more by itself."""
        for timer in self.timers:
            timer.cancel()

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
async def on_tcp(device: Device, secure: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    """Serve the device on TCP or TLS; gives its URL."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        device.connections += 1
        device.writers.append(writer)
        device.serving += 1
        rest = b""
        try:
            while data := await reader.read(4096):
                requests, rest = device.parse(rest + data)
                for asked in requests:
                    await device.take(asked, writer.write)
        except OSError:
            pass
        finally:
            writer.close()
            device.serving -= 1

    scheme = {"mbap": "tls" if secure else "tcp", "rtu": "rtu-over-tcp", "ascii": "ascii-over-tcp"}
    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=secure)
    async with server:
        port = server.sockets[0].getsockname()[1]
        try:
            yield f"{scheme[device.framing]}://127.0.0.1:{port}"
        finally:
            device.end()
            device.hang_up(reset=True)
            await eventually(lambda: device.serving == 0)


@asynccontextmanager
async def on_udp(device: Device) -> AsyncIterator[str]:
    """Serve the device on UDP; gives its URL."""
    assert device.framing == "mbap"
    incoming: asyncio.Queue[tuple[bytes, Any]] = asyncio.Queue()

    class Inbox(asyncio.DatagramProtocol):
        @override
        def datagram_received(self, data: bytes, addr: Any) -> None:
            incoming.put_nowait((data, addr))

    async def serve(transport: asyncio.DatagramTransport) -> None:
        while True:
            data, addr = await incoming.get()
            requests, _ = device.parse(data)
            for asked in requests:
                await device.take(asked, lambda reply, to=addr: transport.sendto(reply, to))  # type: ignore[misc]

    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(Inbox, local_addr=("127.0.0.1", 0))
    async with asyncio.TaskGroup() as tasks:
        serving = tasks.create_task(serve(transport), name="device")
        try:
            yield f"udp://127.0.0.1:{transport.get_extra_info('sockname')[1]}"
        finally:
            device.end()
            serving.cancel()
            transport.close()


@asynccontextmanager
async def on_tty(device: Device) -> AsyncIterator[str]:
    """Serve the device on a real tty with RTU or ASCII frames; gives its URL."""
    assert device.framing != "mbap"
    master, slave = os.openpty()
    tty.setraw(slave)
    os.set_blocking(master, False)
    loop = asyncio.get_running_loop()
    incoming: asyncio.Queue[bytes] = asyncio.Queue()
    loop.add_reader(master, lambda: incoming.put_nowait(os.read(master, 4096)))

    def write(data: bytes) -> None:
        try:
            os.write(master, data)
        except BlockingIOError:
            pass  # Nobody reads: as on a real line, what is sent then is gone.

    async def serve() -> None:
        rest = b""
        while True:
            requests, rest = device.parse(rest + await incoming.get())
            for asked in requests:
                await device.take(asked, write)

    async with asyncio.TaskGroup() as tasks:
        serving = tasks.create_task(serve(), name="device")
        try:
            yield f"{device.framing}://{os.ttyname(slave)}"
        finally:
            device.end()
            serving.cancel()
            loop.remove_reader(master)
            os.close(slave)
            os.close(master)
