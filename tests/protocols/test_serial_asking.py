"""Request and response on a real pty: rounds, late answers, silence, cancellation; and frames."""

import asyncio
import itertools
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway.core.batch import Batch, Quality, Waveform
from gateway.core.errors import LinkTimeout
from protocols.serial import Config
from protocols.serial.checks import find

from ..conformance import bench
from .serial_line import PtyMachine


@asynccontextmanager
async def answering(
    machine: PtyMachine, answer: Callable[[bytes], bytes]
) -> AsyncIterator[list[bytes]]:
    """The machine answers what it hears, for as long as the context is open."""
    heard: list[bytes] = []
    loop = asyncio.get_running_loop()

    def hear() -> None:
        heard.append(machine.hear())
        machine.say(answer(heard[-1]))

    loop.add_reader(machine.fd, hear)
    try:
        yield heard
    finally:
        loop.remove_reader(machine.fd)


@pytest.fixture
def machine(tmp_path: Path) -> Any:
    machine = PtyMachine(tmp_path)
    yield machine
    machine.unplug()


def scale(machine: PtyMachine, **changes: Any) -> Config:
    table: dict[str, Any] = {
        "kind": "serial",
        "id": "scale",
        "port": str(machine.port),
        "text": {"delimiter": "\r", "decimal_comma": True},
        "read_request": [
            {"text": "W?\r", "pattern": r"(?P<weight>[\d,]+) kg"},
            {"text": "T?\r", "pattern": r"(?P<temp>[\d,]+) C"},
        ],
        "poll_interval_s": 0.02,
        "answer_timeout_s": 1.0,
        "signals": [
            {"asset": "scale", "signal": "weight", "unit": "kg"},
            {"asset": "scale", "signal": "temp", "unit": "°C"},
        ],
    }
    return Config.model_validate(table | changes)


def weighs(asked: bytes) -> bytes:
    return b"12,5 kg\r" if asked == b"W?\r" else b"21 C\r"


async def test_rounds_of_requests(machine: PtyMachine, tmp_path: Path) -> None:
    world = bench("scale", "serial", tmp_path)
    async with answering(machine, weighs) as heard, scale(machine).open(world.context) as session:
        got = []
        for _ in range(6):
            batch = await session.read()
            assert isinstance(batch, Batch)
            got += batch.value.tolist()
    assert got == [12.5, 21.0] * 3
    assert heard == [b"W?\r", b"T?\r"] * 3
    assert world.meter.requests == 6
    assert 0 < world.meter.latency_s <= world.meter.latency_s_max < 1
    assert not world.meter.errors


async def test_the_rest_that_a_device_wants_is_kept(machine: PtyMachine, tmp_path: Path) -> None:
    asked_s: list[float] = []

    def note(asked: bytes) -> bytes:
        asked_s.append(asyncio.get_running_loop().time())
        return weighs(asked)

    config = scale(machine, turnaround_s=0.05, poll_interval_s=0.001)
    async with (
        answering(machine, note),
        config.open(bench("scale", "serial", tmp_path).context) as session,
    ):
        for _ in range(4):
            await session.read()
    assert min(b - a for a, b in itertools.pairwise(asked_s)) >= 0.05


async def test_an_unanswered_request_is_bad_and_the_others_live(
    machine: PtyMachine, tmp_path: Path
) -> None:
    world = bench("scale", "serial", tmp_path)
    answer = lambda asked: b"" if asked == b"W?\r" else b"21 C\r"  # noqa: E731
    async with (
        answering(machine, answer),
        scale(machine, answer_timeout_s=0.2).open(world.context) as session,
    ):
        bad, good = await session.read(), await session.read()
    assert isinstance(bad, Batch)
    assert isinstance(good, Batch)
    assert (bad.signal.tolist(), bad.quality.tolist()) == ([0], [Quality.BAD])
    assert (good.signal.tolist(), good.value.tolist()) == ([1], [21.0])
    assert world.meter.errors == {"timeout": 1}


async def test_a_late_answer_never_meets_the_next_question(
    machine: PtyMachine, tmp_path: Path
) -> None:
    world = bench("scale", "serial", tmp_path)
    one = [{"text": "W?\r", "pattern": r"(?P<weight>[\d,]+) kg"}]
    signals = [{"asset": "scale", "signal": "weight", "unit": "kg"}]
    config = scale(machine, read_request=one, signals=signals, answer_timeout_s=0.2)
    loop = asyncio.get_running_loop()
    asked = 0

    def answer(_: bytes) -> bytes:
        nonlocal asked
        asked += 1
        if asked == 1:
            loop.call_later(0.3, machine.say, b"1,0 kg\r")
            return b""
        return b"2,0 kg\r"

    async with answering(machine, answer), config.open(world.context) as session:
        values = []
        for _ in range(3):
            batch = await session.read()
            assert isinstance(batch, Batch)
            values += batch.value.tolist()
    assert values[1:] == [2.0, 2.0]
    assert world.meter.errors == {"timeout": 1, "unasked": 1}


async def test_silence_ends_the_link(machine: PtyMachine, tmp_path: Path) -> None:
    world = bench("scale", "serial", tmp_path)
    config = scale(machine, unanswered_rounds_max=2, answer_timeout_s=0.01)
    async with config.open(world.context) as session:
        with pytest.raises(LinkTimeout, match="no answer in 2 rounds"):
            async with asyncio.timeout(30):
                while True:
                    await session.read()


async def test_a_cancelled_read_asks_nothing_twice(machine: PtyMachine, tmp_path: Path) -> None:
    world = bench("scale", "serial", tmp_path)
    config = scale(machine, answer_timeout_s=5)
    async with config.open(world.context) as session:
        reading = asyncio.create_task(session.read())
        assert await asyncio.to_thread(machine.hear) == b"W?\r"
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        machine.say(b"3 kg\r")
        batch = await session.read()
        assert isinstance(batch, Batch)
        assert batch.value.tolist() == [3.0]
    assert world.meter.requests == 1


async def test_frames_with_a_burst_and_a_state(machine: PtyMachine, tmp_path: Path) -> None:
    crc = find("CRC-16/MODBUS")[1]
    config = Config.model_validate(
        {
            "kind": "serial",
            "id": "node",
            "port": str(machine.port),
            "binary": {
                "start": "AA 55",
                "count": {"offset": 2, "adds": 5},
                "check": {"name": "CRC-16/MODBUS", "order": "little"},
                "order": "little",
                "gap_s": 0.05,
                "fields": [
                    {"name": "mode", "offset": 3, "type": "u8"},
                    {"name": "temp", "offset": 4, "type": "i16"},
                    {"name": "wave", "offset": 6, "type": "i16", "count": 4},
                ],
            },
            "signals": [
                {"asset": "fan", "signal": "mode", "states": {"1": 10, "*": -1}},
                {"asset": "fan", "signal": "temp", "scale": 0.1, "invalid": ["-0x8000"]},
                {"asset": "fan", "signal": "wave", "scale": 0.5, "rate_hz": 1000},
            ],
        }
    )

    def frame(mode: int, temp: int) -> bytes:
        head = b"\xaa\x55\x0b" + struct.pack("<Bh4h", mode, temp, 2, 4, 6, -8)
        return head + crc(head).to_bytes(2, "little")

    world = bench("node", "serial", tmp_path)
    async with config.open(world.context) as session:
        broken = bytearray(frame(9, 9))
        broken[5] ^= 1
        # A false start whose count waits for more than ever comes is given up after the gap.
        machine.say(
            frame(1, 215) + bytes(broken) + frame(2, -32768) + b"\xaa\x55\xf0" + frame(1, 5)
        )
        async with asyncio.timeout(30):
            items = [await session.read() for _ in range(5)]
    batches = [item for item in items if isinstance(item, Batch)]
    waves = [item for item in items if isinstance(item, Waveform)]
    values = [batch.value.tolist() for batch in batches]
    assert [batch.quality.tolist() for batch in batches] == [[0, 0, 0, 2], [0, 0]]
    assert values[0][:3] == [10, 21.5, -1]
    assert values[1] == [10, 0.5]
    assert [wave.value.tolist() for wave in waves] == [[1, 2, 3, -4]] * 3
    assert waves[0].t0_ns + 3_000_000 == batches[0].t_ns[0]
    assert world.meter.errors["checksum"] >= 1


async def test_the_devices_own_clock_where_it_can_be_believed(
    machine: PtyMachine, tmp_path: Path
) -> None:
    config = Config.model_validate(
        {
            "kind": "serial",
            "id": "logger",
            "port": str(machine.port),
            "text": {"separator": ";", "columns": ["when", "v"]},
            "time": {"field": "when", "form": "%d.%m.%Y %H:%M:%S", "zone": "Europe/Berlin"},
            "signals": [{"asset": "a", "signal": "v"}],
        }
    )
    world = bench("logger", "serial", tmp_path)
    async with config.open(world.context) as session:
        machine.say(b"01.07.2024 12:00:00;1\n01.01.2000 00:00:00;2\nnever;3\n")
        batch = await session.read()
    assert isinstance(batch, Batch)
    assert batch.t_ns[0] == 1_719_828_000 * 10**9  # 10:00 UTC: summer time in Berlin.
    assert all(abs(t - batch.received_ns) < 10**9 for t in batch.t_ns[1:].tolist())
    assert world.meter.errors == {"clock": 2}
