"""OPC UA links that fail: what the operator sees, and that nothing the server kept is lost."""

import asyncio
import struct
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytest_asyncio
from asyncua import ua
from asyncua.server.monitored_item_service import MonitoredItemService
from structlog.testing import capture_logs

from gateway.core.batch import Batch, Quality, Waveform
from gateway.core.channel import Channel, WhenFull
from gateway.core.errors import LinkError, LinkTimeout
from gateway.core.meter import LinkState
from gateway.pipeline.supervise import Supervisor
from protocols.opcua import Config

from ..conformance import Bench, bench
from ..eventually import eventually
from ..protocols.opcua_plant import Plant, plant, signal, source
from ..sim.black_hole import black_hole, needs_black_hole
from ..sim.proxy import Proxy, proxy

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def made() -> AsyncIterator[Plant]:
    async with plant() as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def historian() -> AsyncIterator[Plant]:
    """A plant that keeps the past, of its own for each test."""
    async with plant() as running:
        await running.historize("speed")
        yield running


class Run:
    """A source under supervision, with all that came out of it."""

    def __init__(self, config: Config, folder: Path) -> None:
        self.world: Bench = bench(config.id, "opcua", folder)
        self.config = config
        self.items: list[Batch | Waveform] = []
        self.logs: list[Any] = []

    @property
    def state(self) -> LinkState:
        return self.world.meter.state

    def good(self, name: str = "speed") -> list[float]:
        return [value for value, _ in self.samples(name, Quality.GOOD)]

    def stamps(self, name: str = "speed") -> list[int]:
        return [t_ns for _, t_ns in self.samples(name, Quality.GOOD)]

    def samples(self, name: str, quality: Quality) -> list[tuple[float, int]]:
        found: list[tuple[float, int]] = []
        for item in self.items:
            assert isinstance(item, Batch)
            names = np.array([self.world.context.signals[i].name for i in item.signal])
            rows = (names == name) & (item.quality == quality)
            found += zip(item.value[rows].tolist(), item.t_ns[rows].tolist(), strict=True)
        return found

    def edges(self) -> list[str]:
        return [line["event"] for line in self.logs if line["event"].startswith("source.")]


@asynccontextmanager
async def running(config: Config, folder: Path) -> AsyncIterator[Run]:
    run = Run(config, folder)
    channel = Channel(samples_max=10_000, when_full=WhenFull.BLOCK)

    async def collect() -> None:
        while True:
            run.items += await channel.receive()

    with capture_logs() as run.logs:
        supervisor = Supervisor(config, run.world.context, channel)
        tasks = [asyncio.create_task(supervisor.run()), asyncio.create_task(collect())]
        try:
            yield run
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            for task in tasks:
                assert task.cancelled(), task.exception()


def behind(relay: Proxy, **settings: Any) -> Config:
    url = f"opc.tcp://127.0.0.1:{relay.port}/plant"
    return source(url, signal("speed", queue_size=100), keep_alive_s=0.2, timeout_s=1.0, **settings)


async def tell(made: Plant, value: float) -> int:
    """Give a value and its stamp, UTC ns."""
    at = datetime.now(UTC)
    at = at.replace(microsecond=at.microsecond // 1000 * 1000)
    await made.set("speed", value, at=at)
    await asyncio.sleep(0.002)  # The next stamp is another one.
    return round(at.timestamp() * 1000) * 1_000_000


async def test_a_restarted_server_is_found_again_though_its_namespace_moved(
    tmp_path: Path,
) -> None:
    async with plant() as first, proxy(("127.0.0.1", first.port)) as relay:
        await first.add("speed", 1.0)
        async with running(behind(relay), tmp_path) as run:
            await eventually(lambda: run.good() == [1.0])
            await first.server.stop()
            relay.cut(reset=False)
            await eventually(lambda: run.state is LinkState.DOWN)
            assert np.isnan(run.samples("speed", Quality.BAD)[0][0])
            async with plant(before=("urn:test:new-module",)) as second:
                assert second.index != first.index
                await second.add("speed", 2.0)
                relay.target = ("127.0.0.1", second.port)
                await eventually(lambda: run.good()[-1] == 2.0)
                assert run.state is LinkState.UP
                assert not run.world.meter.quarantined
                assert run.edges() == ["source.up", "source.down", "source.recovered"]
                links = [c.active for c in run.world.reported if c.alarm == "link.p1"]
                assert links == [True, False]


async def test_a_silent_link_is_found_and_its_gap_is_filled(
    historian: Plant, tmp_path: Path
) -> None:
    async with proxy(("127.0.0.1", historian.port)) as relay:
        async with running(behind(relay), tmp_path) as run:
            told = [await tell(historian, 1.0)]
            await eventually(lambda: 1.0 in run.good())
            relay.stall()
            await eventually(lambda: run.state is LinkState.DOWN)
            assert any(text in run.world.meter.state_text for text in ("silent", "no answer"))
            told += [await tell(historian, value) for value in (2.0, 3.0, 4.0)]
            relay.cut(reset=True)
            relay.resume()
            told.append(await tell(historian, 5.0))
            await eventually(lambda: {2.0, 3.0, 4.0, 5.0} <= set(run.good()))
            seen = Counter(run.stamps())
        assert all(seen[stamp] == 1 for stamp in told)
        assert any(item.history for item in run.items if isinstance(item, Batch))
        assert run.edges() == ["source.up", "source.down", "source.recovered"]


async def test_silence_is_found_within_two_keep_alives(made: Plant, tmp_path: Path) -> None:
    async with proxy(("127.0.0.1", made.port)) as relay:
        await made.add("speed", 1.0)
        config = behind(relay).model_copy(update={"keep_alive_s": 1.0, "timeout_s": 60.0})
        world = bench("p1", "opcua", tmp_path)
        async with config.open(world.context) as session:
            await session.read()
            began_ns = world.context.clock.mono_ns()
            relay.stall()
            with pytest.raises(LinkTimeout, match=r"silent for .* every 1 s"):
                while True:
                    await session.read()
        # What was said last was said up to one keep-alive before the stall.
        assert 0.9e9 < world.context.clock.mono_ns() - began_ns < 4e9
        assert world.meter.errors["silence"] == 1


async def test_resets_one_after_the_other_lose_nothing_and_tell_nothing_twice(
    historian: Plant,
    tmp_path: Path,
) -> None:
    async with proxy(("127.0.0.1", historian.port)) as relay:
        told: list[int] = []
        async with running(behind(relay), tmp_path) as run:
            for outage in range(4):
                up = outage
                await eventually(lambda up=up: run.world.meter.connects > up)  # type: ignore[misc]
                await eventually(lambda: run.state is LinkState.UP)
                told += [await tell(historian, 10.0 * outage + i) for i in range(1, 4)]
                relay.cut(reset=outage % 2 == 0)
                told += [await tell(historian, 10.0 * outage + i) for i in range(4, 7)]
            last = await tell(historian, 99.0)
            await eventually(lambda: last in run.stamps())
            await eventually(lambda: sorted(set(told) - set(run.stamps())) == [])
            seen = Counter(run.stamps())
        assert {stamp: seen[stamp] for stamp in told if seen[stamp] != 1} == {}
        assert run.world.meter.samples_lost == 0
        assert run.edges()[0] == "source.up"


async def test_a_server_that_is_down_at_the_start_is_waited_for(tmp_path: Path) -> None:
    async with proxy(("127.0.0.1", 1)) as relay, running(behind(relay), tmp_path) as run:
        await eventually(lambda: run.state is LinkState.DOWN)
        async with plant() as made:
            await made.add("speed", 1.0)
            relay.target = ("127.0.0.1", made.port)
            await eventually(lambda: run.good() == [1.0])
        assert run.edges()[:2] == ["source.down", "source.recovered"]


async def test_a_server_that_accepts_and_says_nothing_is_given_up(
    made: Plant, tmp_path: Path
) -> None:
    async with proxy(("127.0.0.1", made.port)) as relay:
        relay.stall()
        world = bench("p1", "opcua", tmp_path)
        config = behind(relay).model_copy(update={"timeout_s": 0.3})
        with pytest.raises(LinkTimeout, match=r"no answer within 0\.3 s"):
            async with asyncio.timeout(30), config.open(world.context):
                pass


@needs_black_hole
async def test_a_black_hole_is_found_and_its_gap_is_filled(
    historian: Plant, tmp_path: Path
) -> None:
    config = source(historian.url, signal("speed", queue_size=100), keep_alive_s=0.2, timeout_s=1.0)
    async with running(config, tmp_path) as run:
        told = [await tell(historian, 1.0)]
        await eventually(lambda: 1.0 in run.good())
        with black_hole(historian.port):
            await eventually(lambda: run.state is LinkState.DOWN)
            told += [await tell(historian, value) for value in (2.0, 3.0, 4.0)]
        await eventually(lambda: {2.0, 3.0, 4.0} <= set(run.good()), timeout_s=20.0)
        seen = Counter(run.stamps())
    assert {stamp: seen[stamp] for stamp in told if seen[stamp] != 1} == {}


async def test_an_illegal_node_costs_the_others_nothing(made: Plant, tmp_path: Path) -> None:
    await made.add("speed", 1.0)
    bad = [signal(f"bad{i}", address=f"nsu=urn:test:plant;s=none{i}") for i in range(20)]
    async with running(source(made.url, *bad, signal("speed")), tmp_path) as run:
        await eventually(lambda: run.good() == [1.0])
        await made.set("speed", 2.0)
        await eventually(lambda: run.good() == [1.0, 2.0])
        assert len(run.world.meter.quarantined) == 20
        assert run.world.meter.errors["BadNodeIdUnknown"] == 20
        assert run.state is LinkState.UP
    refused = [line for line in run.logs if line["event"] == "signal.refused"]
    assert len(refused) == 20


async def test_a_server_that_ends_the_link_at_a_long_request_is_asked_for_less(
    made: Plant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"t{i}" for i in range(120)]
    for name in names:
        await made.add(name, 1.0)
    create = MonitoredItemService.create_monitored_items
    async with proxy(("127.0.0.1", made.port)) as relay:

        async def bear_it(
            service: MonitoredItemService, params: ua.CreateMonitoredItemsParameters
        ) -> list[ua.MonitoredItemCreateResult]:
            if len(params.ItemsToCreate) > 40:
                relay.cut(reset=False)
            return await create(service, params)

        monkeypatch.setattr(MonitoredItemService, "create_monitored_items", bear_it)
        url = f"opc.tcp://127.0.0.1:{relay.port}/plant"
        config = source(url, *(signal(name) for name in names), timeout_s=1.0)
        async with running(config, tmp_path) as run:
            await eventually(lambda: all(run.good(name) == [1.0] for name in names), timeout_s=30.0)
            # 120, 60, and then 30 at once.
            assert run.world.meter.link_errors == 2
            assert run.world.meter.connects == 1


@pytest.mark.parametrize(
    "junk",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"ACKF\xff\xff\xff\x7f" + bytes(65_536),  # A message of 2 GB, which never ends.
        b"ERRF\x10\x00\x00\x00\x00\x00\x7d\x80\xff\xff\xff\xff",
        bytes(range(256)) * 64,
    ],
    ids=["http", "endless", "error", "noise"],
)
async def test_what_is_no_server_is_left_alone(tmp_path: Path, junk: bytes) -> None:
    sent = 0

    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        try:
            while sent < 200_000_000:
                writer.write(junk)
                sent += len(junk)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as listener:
        port = listener.sockets[0].getsockname()[1]
        url = f"opc.tcp://127.0.0.1:{port}"
        config = source(url, signal("speed"), timeout_s=1.0, message_bytes_max=200_000)
        world = bench("p1", "opcua", tmp_path)
        with pytest.raises(LinkError):
            async with asyncio.timeout(30), config.open(world.context):
                pass
        assert sent < 100_000_000


async def test_a_servers_last_word_is_heard(tmp_path: Path) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(8)  # A hello begins.
        writer.write(b"ERRF" + struct.pack("<IIi", 16, 0x807D0000, -1))
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as listener:
        port = listener.sockets[0].getsockname()[1]
        config = source(f"opc.tcp://127.0.0.1:{port}", signal("speed"), timeout_s=5.0)
        with pytest.raises(LinkError, match="BadTcpServerTooBusy"):
            async with config.open(bench("p1", "opcua", tmp_path).context):
                pass
