"""What becomes of a serial link in trouble, under the real supervisor: what the operator sees."""

import asyncio
import math
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import pytest
from structlog.testing import capture_logs

from gateway.core.batch import Batch
from gateway.core.channel import Channel, WhenFull
from gateway.core.errors import LinkError
from gateway.core.meter import LinkState
from gateway.pipeline import supervise
from gateway.pipeline.supervise import Supervisor
from protocols import as_source
from protocols.serial import Config
from protocols.serial.checks import find

from ..conformance import Bench, bench
from ..eventually import eventually
from ..protocols.serial_line import PtyMachine

crc = find("CRC-16/MODBUS")[1]


class Floor:
    """A supervised source, and everything that came out of it."""

    def __init__(self, world: Bench, supervisor: Supervisor) -> None:
        self.world = world
        self.supervisor = supervisor
        self.values: list[float] = []

    async def drain(self, channel: Channel) -> None:
        while True:
            for item in await channel.receive():
                self.values += item.value.tolist()

    def good(self) -> list[float]:
        return [value for value in self.values if not math.isnan(value)]


@pytest.fixture
def machine(tmp_path: Path) -> Any:
    machine = PtyMachine(tmp_path)
    yield machine
    machine.unplug()


def config(machine: PtyMachine, **settings: Any) -> Config:
    table = {
        "kind": "serial",
        "id": "node",
        "port": str(machine.port),
        "signals": [{"asset": "fan", "signal": "v"}],
    }
    return Config.model_validate(table | settings)


FRAMES = {
    "binary": {
        "start": "AA 55",
        "length": 8,
        "check": {"name": "CRC-16/MODBUS", "order": "little"},
        "gap_s": 0.05,
        "fields": [{"name": "v", "offset": 2, "type": "u32"}],
    }
}
LINES = {"text": {"pattern": r"^v=(?P<v>\d+)\s*$"}}


def frame(value: int) -> bytes:
    head = b"\xaa\x55" + value.to_bytes(4, "big")
    return head + crc(head).to_bytes(2, "little")


@asynccontextmanager
async def floor(source: Config, folder: Path) -> AsyncIterator[Floor]:
    """Run the source as the gateway does, for as long as the context is open."""
    world = bench(source.id, "serial", folder)
    channel = Channel(samples_max=100_000, when_full=WhenFull.BLOCK)
    supervisor = Supervisor(as_source(source), world.context, channel)
    running = Floor(world, supervisor)
    async with asyncio.TaskGroup() as tasks:
        work = [
            tasks.create_task(supervisor.run(), name="source"),
            tasks.create_task(running.drain(channel), name="drain"),
        ]
        try:
            yield running
        finally:
            for task in work:
                task.cancel()


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reconnect without the patience that a plant needs and a test has not."""
    monkeypatch.setattr(supervise, "BACKOFF_NS_MIN", 20_000_000)


@pytest.mark.usefixtures("soon")
async def test_unplugged_and_plugged_in_again(machine: PtyMachine, tmp_path: Path) -> None:
    with capture_logs() as logs:
        async with floor(config(machine, **LINES), tmp_path) as running:
            meter = running.world.meter
            await eventually(lambda: meter.connects == 1)
            machine.say(b"v=1\nv=2\nv=")
            await eventually(lambda: running.good() == [1, 2])
            machine.unplug()
            await eventually(lambda: meter.state is LinkState.DOWN)
            # Its signal is BAD at once, and the operator is told why.
            await eventually(lambda: len(running.values) == 3)
            assert "unplugged" in str(running.world.reported[-1].text)
            machine.plug()
            await eventually(lambda: meter.connects == 2)
            # The half record of before is not joined to what comes now.
            machine.say(b"3\nv=4\n")
            await eventually(lambda: running.good() == [1, 2, 4])
            assert meter.state is LinkState.UP
            assert running.world.reported[-1].active is False
    edges = [line["event"] for line in logs if line["event"].startswith("source.")]
    assert edges == ["source.up", "source.down", "source.recovered"]


async def test_noise_on_the_line_costs_only_what_it_hits(
    machine: PtyMachine, tmp_path: Path
) -> None:
    random = Random(7)
    async with floor(config(machine, **FRAMES), tmp_path) as running:
        meter = running.world.meter
        await eventually(lambda: meter.connects == 1)
        untouched = []
        for value in range(300):
            data = bytearray(frame(value))
            match random.randrange(4):
                case 0:
                    bit = random.randrange(8 * len(data))
                    data[bit // 8] ^= 1 << bit % 8
                case 1:
                    data[:0] = random.randbytes(random.randrange(12))
                    untouched.append(float(value))
                case 2:
                    del data[random.randrange(1, len(data)) :]
                case _:
                    untouched.append(float(value))
            await asyncio.to_thread(machine.say, bytes(data))
        machine.say(frame(1000))
        await eventually(lambda: 1000.0 in running.good())
        got = running.good()
    # Nothing was read that was not sent, and in order; what a false start or half a frame held
    # back is given when the search goes on behind it.
    assert set(got) <= set(map(float, range(300))) | {1000.0}
    assert got == sorted(got)
    assert set(untouched) <= set(got)
    assert meter.errors["checksum"] > 0
    assert meter.errors["noise_bytes"] > 0
    assert meter.link_errors == 0


@pytest.mark.parametrize("settings", [LINES, FRAMES], ids=["text", "binary"])
async def test_garbage_for_ever_costs_no_memory_and_no_link(
    machine: PtyMachine, tmp_path: Path, settings: dict[str, Any]
) -> None:
    random = Random(7)
    async with floor(config(machine, **settings), tmp_path) as running:
        meter = running.world.meter
        await eventually(lambda: meter.connects == 1)

        async def garbage(n: int) -> None:
            for _ in range(n):
                # Every byte but the line's end, the start bytes often among them.
                junk = random.randbytes(1000).replace(b"\n", b"\xaa\x55")
                # In a thread, for a terminal that is full blocks whoever talks into it.
                await asyncio.to_thread(machine.say, junk)

        await garbage(50)
        tracemalloc.start()
        try:
            before, _ = tracemalloc.get_traced_memory()
            await garbage(200)
            after, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert after - before < 100_000
        assert sum(meter.errors.values()) > 0
        assert running.values == []
        good = b"\nv=5\n" if settings is LINES else frame(5)
        machine.say(good)
        await eventually(lambda: running.good() == [5])
        assert meter.link_errors == 0


@pytest.mark.usefixtures("soon")
async def test_half_a_frame_and_silence(machine: PtyMachine, tmp_path: Path) -> None:
    settings = FRAMES | {"silence_timeout_s": 0.2}
    async with floor(config(machine, **settings), tmp_path) as running:
        meter = running.world.meter
        await eventually(lambda: meter.connects == 1)
        machine.say(frame(1) + frame(2)[:5])
        await eventually(lambda: running.good() == [1])
        await eventually(lambda: meter.state is LinkState.DOWN)
        assert "was silent for 0.2 s" in meter.state_text
        await eventually(lambda: meter.connects >= 2)

        async def speak() -> None:
            while 3 not in running.good():
                machine.say(frame(3))
                await asyncio.sleep(0.02)

        async with asyncio.timeout(30):
            await speak()
        assert set(running.good()) == {1, 3}


@pytest.mark.usefixtures("soon")
async def test_a_device_that_answers_nothing_and_then_does(
    machine: PtyMachine, tmp_path: Path
) -> None:
    settings = LINES | {
        "read_request": [{"text": "?\n"}],
        "poll_interval_s": 0.02,
        "answer_timeout_s": 0.05,
        "unanswered_rounds_max": 2,
    }
    async with floor(config(machine, **settings), tmp_path) as running:
        meter = running.world.meter
        await eventually(lambda: meter.link_errors >= 2)
        assert "no answer in 2 rounds" in meter.state_text
        assert running.good() == []
        answering = asyncio.get_running_loop()
        answering.add_reader(machine.fd, lambda: machine.say(b"v=9\n" * machine.hear().count(b"?")))
        try:
            await eventually(lambda: 9 in running.good())
            await eventually(lambda: meter.state is LinkState.UP)
        finally:
            answering.remove_reader(machine.fd)


async def test_a_reload_under_traffic_loses_no_record(machine: PtyMachine, tmp_path: Path) -> None:
    source = config(machine, **LINES)
    wider = config(
        machine,
        **LINES,
        signals=[{"asset": "fan", "signal": "v"}, {"asset": "fan", "signal": "w", "field": "v"}],
    )
    async with floor(source, tmp_path) as running:
        meter = running.world.meter
        await eventually(lambda: meter.connects == 1)
        faces = [as_source(wider), as_source(source)]
        for value in range(400):
            # Each change falls into the middle of a record, with records before and behind it.
            text = b"v=%d\n" % value
            machine.say(text[:3])
            if value % 40 == 20:
                running.supervisor.change(faces[0])
                await eventually(lambda: running.supervisor.source is faces[0])
                faces.reverse()
            machine.say(text[3:])
        await eventually(lambda: 399.0 in running.good())
        assert sorted(set(running.good())) == [float(value) for value in range(400)]
        assert len(running.good()) > 400
        assert meter.connects == 1
        assert not meter.errors


async def test_the_two_ends_of_a_line_set_differently_are_told_once(
    machine: PtyMachine, tmp_path: Path
) -> None:
    with capture_logs() as logs:
        async with floor(config(machine, **LINES), tmp_path) as running:
            await eventually(lambda: running.world.meter.connects == 1)
            machine.say(b"\xf8\x00\x80\n" * 500)
            await eventually(lambda: running.world.meter.errors["pattern"] == 500)
    assert [line["event"] for line in logs] == ["serial.unreadable"]


async def test_a_batch_is_what_comes_out(machine: PtyMachine, tmp_path: Path) -> None:
    async with config(machine, **FRAMES).open(bench("n", "serial", tmp_path).context) as session:
        machine.say(frame(4_294_967_295))
        batch = await session.read()
    assert isinstance(batch, Batch)
    assert batch.value.tolist() == [4_294_967_295]


def descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


async def test_opening_again_and_again_leaks_nothing(machine: PtyMachine, tmp_path: Path) -> None:
    world = bench("n", "serial", tmp_path)

    async def rounds(source: Config, n: int) -> None:
        for _ in range(n):
            try:
                async with source.open(world.context) as session:
                    machine.say(b"v=1\n")
                    await session.read()
            except LinkError:
                pass

    async with await asyncio.start_server(_say_and_close, "127.0.0.1", 0) as server:
        number = server.sockets[0].getsockname()[1]
        good = config(machine, **LINES)
        over_tcp = config(machine, **LINES, port=f"socket://127.0.0.1:{number}")
        closed = config(machine, **LINES, port="socket://127.0.0.1:1")
        gone = config(machine, **LINES, port=str(tmp_path / "nothing"))
        for source in (good, over_tcp, closed, gone):
            await rounds(source, 2)
        before = descriptors()
        for source in (good, over_tcp, closed, gone):
            await rounds(source, 25)
        # The server's half of the last links may take it a moment.
        await eventually(lambda: descriptors() <= before)
    assert len(asyncio.all_tasks()) == 1


async def _say_and_close(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"v=2\n")
    await writer.drain()
    writer.close()
