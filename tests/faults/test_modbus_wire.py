"""Faults of the wire itself: packets that vanish, datagrams that get lost, a port pulled out."""

import asyncio
import gc
import os
import tracemalloc
import tty
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pyModbusTCP.server import ModbusServer

from gateway.core.batch import Batch, Quality
from gateway.core.meter import LinkState
from protocols.modbus import Config
from protocols.modbus.frame import crc16
from tests.eventually import eventually
from tests.faults.modbus_device import Asked, Device, Write, on_tcp
from tests.faults.test_modbus_link import config, supervised
from tests.protocols.modbus_peers import make_context
from tests.servers import free_port
from tests.sim.black_hole import black_hole, needs_black_hole


@needs_black_hole
async def test_a_black_hole_is_found_and_left_again(tmp_path: Path) -> None:
    device = Device()
    async with on_tcp(device) as url:
        source = config(url, connect_timeout_s=0.3)
        async with supervised(source, tmp_path) as (context, out):
            await eventually(lambda: context.meter.state is LinkState.UP)
            port = urlsplit(url).port
            assert port is not None
            with black_hole(port):
                await eventually(lambda: context.meter.state is LinkState.DOWN)
                # Opening it again hangs no longer than it may.
                errors = context.meter.link_errors
                await eventually(lambda: context.meter.link_errors > errors)
            await eventually(lambda: context.meter.state is LinkState.UP, timeout_s=20)
            await out.receive()
            items = await out.receive()
    assert isinstance(items[-1], Batch)
    assert (items[-1].quality == Quality.GOOD).all()
    assert context.meter.errors["timeout"] >= 3


class LossyDatagrams(asyncio.DatagramProtocol):
    """Answers, but loses each third reply, repeats each second, and cuts each fifth short."""

    def __init__(self) -> None:
        self.n = 0

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.n += 1
        t, unit = int.from_bytes(data[:2], "big"), data[6]
        asked = Asked(
            unit, data[7], int.from_bytes(data[8:10], "big"), int.from_bytes(data[10:12], "big"), t
        )
        reply = asked.tcp(asked.pdu())
        if self.n % 3 == 0:
            return
        if self.n % 5 == 0:
            reply = reply[:-2]
        self.transport.sendto(reply, addr)
        if self.n % 2 == 0:
            self.transport.sendto(reply, addr)


async def test_lost_repeated_and_cut_datagrams_are_no_values(tmp_path: Path) -> None:
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(LossyDatagrams, local_addr=("127.0.0.1", 0))
    try:
        port = transport.get_extra_info("sockname")[1]
        context = make_context(tmp_path)
        source = config(f"udp://127.0.0.1:{port}", timeout_retries=3, unit_retry_s_max=0.05)
        async with asyncio.timeout(30), source.open(context) as session:
            good = 0
            while good < 20:
                batch = await session.read()
                assert isinstance(batch, Batch)
                if (batch.quality == Quality.GOOD).all():
                    good += 1
                    assert batch.value.tolist() == [1010, 1011, 1012]
    finally:
        transport.close()
    errors = context.meter.errors
    assert errors["timeout"] >= 5
    assert errors["late_reply"] >= 3
    assert errors["short_frame"] >= 1


async def test_a_server_that_is_not_there_at_start_and_that_restarts(tmp_path: Path) -> None:
    """pyModbusTCP's server comes up late, goes, and comes back with other values."""
    port = free_port()
    server = ModbusServer("127.0.0.1", port, no_block=True)
    async with supervised(config(f"tcp://127.0.0.1:{port}"), tmp_path) as (context, out):
        await eventually(lambda: context.meter.state is LinkState.DOWN)
        assert str(port) in context.meter.state_text
        for n in (1, 2):
            server.start()
            server.data_bank.set_holding_registers(10, [n, n, n])
            try:
                await eventually(lambda: context.meter.state is LinkState.UP, timeout_s=20)
                seen: list[float] = []
                while seen[-3:] != [n, n, n]:
                    for batch in await out.receive():
                        assert isinstance(batch, Batch)
                        seen += batch.value[batch.quality == Quality.GOOD].tolist()
            finally:
                server.stop()
            # The old value is not shown as if it were still so.
            await eventually(lambda: context.meter.state is LinkState.DOWN)
            last = (await out.receive())[-1]
            assert isinstance(last, Batch)
            assert (last.quality == Quality.BAD).all()


async def test_many_sweeps_and_faults_hold_no_more_memory_than_few(tmp_path: Path) -> None:
    """A refused address, a silent unit, noise and hang-ups: what they leave behind is bounded."""

    n = 0

    async def behave(device: Device, asked: Asked, write: Write) -> None:
        nonlocal n
        n += 1
        device.asked.clear()
        if asked.unit == 2 or n % 11 == 0:
            return
        if asked.start <= 12 < asked.start + asked.count:
            write(device.frame(asked, asked.refusal(2)))
        elif n % 199 == 0:
            device.hang_up(reset=True)
        else:
            write(device.frame(asked, asked.pdu()))

    device = Device(behaviour=behave)
    async with on_tcp(device) as url:
        source = config(
            url, (1, 2, 3), timeout_s=0.01, poll_s=0.006, unit_retry_s_max=0.02,
            quarantine_retry_s=0.05,
        )  # fmt: skip
        held = await memory_held(source, tmp_path, (50, 150, 200))
    assert held[2] - held[1] < 30_000


async def memory_held(source: Config, folder: Path, sweeps: Sequence[int]) -> list[int]:
    """Bytes that Python holds after so many sweeps, and after so many more."""
    async with supervised(source, folder) as (context, out):
        held: list[int] = []
        tracemalloc.start()
        try:
            for n in sweeps:
                wanted = context.meter.requests + 3 * n
                while context.meter.requests < wanted:
                    await out.receive()
                gc.collect()
                held.append(tracemalloc.get_traced_memory()[0])
        finally:
            tracemalloc.stop()
    assert context.meter.errors["exception_2"] > 5
    assert context.meter.errors["timeout"] > 20
    assert context.meter.link_errors
    return held


async def test_an_icmp_refusal_is_a_lost_link(tmp_path: Path) -> None:
    source = config("udp://127.0.0.1:1")
    async with supervised(source, tmp_path) as (context, _):
        await eventually(lambda: context.meter.state is LinkState.DOWN)
    assert "udp://127.0.0.1:1" in context.meter.state_text


@asynccontextmanager
async def plugged_in(link: Path) -> AsyncIterator[None]:
    """A serial device behind a stable name, as udev gives it; gone at the end."""
    master, slave = os.openpty()
    tty.setraw(slave)
    loop = asyncio.get_running_loop()

    def answer() -> None:
        frame = os.read(master, 256)
        asked = Asked(frame[0], frame[1], frame[2] << 8 | frame[3], frame[4] << 8 | frame[5])
        assert crc16(frame[:6]) == int.from_bytes(frame[6:8], "little")
        os.write(master, asked.rtu(asked.pdu()))

    loop.add_reader(master, answer)
    new = link.with_suffix(".new")
    new.symlink_to(os.ttyname(slave))
    new.replace(link)
    try:
        yield
    finally:
        loop.remove_reader(master)
        os.unlink(link)  # noqa: PTH108 (a moment, in a test)
        os.close(slave)
        os.close(master)


async def test_a_port_that_is_pulled_out_is_opened_again_when_it_is_back(tmp_path: Path) -> None:
    link = tmp_path / "usb-adapter"
    async with supervised(config(f"rtu://{link}"), tmp_path) as (context, _):
        await eventually(lambda: context.meter.state is LinkState.DOWN)
        assert "is not there" in context.meter.state_text
        for _ in range(2):
            async with plugged_in(link):
                await eventually(lambda: context.meter.state is LinkState.UP)
            await eventually(lambda: context.meter.state is LinkState.DOWN)
            assert context.meter.state_text
