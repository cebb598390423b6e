"""Faults of the wire itself: packets that vanish, datagrams that get lost, a port pulled out."""

import asyncio
import os
import shutil
import subprocess
import tty
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from gateway.core.batch import Batch, Quality
from gateway.core.meter import LinkState
from protocols.modbus.frame import crc16
from tests.eventually import eventually
from tests.faults.modbus_device import Asked, Device, on_tcp
from tests.faults.test_modbus_link import config, supervised
from tests.protocols.modbus_peers import make_context


@contextmanager
def black_hole(port: int) -> Iterator[None]:
    """Packets to and from this port of the loopback vanish, as behind a pulled cable."""
    rules = [
        ["INPUT", "-i", "lo", "-p", "tcp", side, str(port), "-j", "DROP"]
        for side in ("--dport", "--sport")
    ]
    for rule in rules:
        subprocess.run(["iptables", "-w", "-I", *rule], check=True, capture_output=True)
    try:
        yield
    finally:
        for rule in rules:
            subprocess.run(["iptables", "-w", "-D", *rule], check=True, capture_output=True)


def can_drop_packets() -> bool:
    """Whether this machine lets us: root, iptables, and a kernel that has it."""
    if os.geteuid() != 0 or shutil.which("iptables") is None:
        return False
    return (
        subprocess.run(["iptables", "-w", "-L", "-n"], check=False, capture_output=True).returncode
        == 0
    )


@pytest.mark.skipif(not can_drop_packets(), reason="needs root and a working iptables")
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
        async with asyncio.timeout(15), source.open(context) as session:
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
        assert "cannot be opened" in context.meter.state_text
        for _ in range(2):
            async with plugged_in(link):
                await eventually(lambda: context.meter.state is LinkState.UP)
            await eventually(lambda: context.meter.state is LinkState.DOWN)
            assert context.meter.state_text
