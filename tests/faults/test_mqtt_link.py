"""What becomes of an MQTT source when its broker, or what it retains, is in trouble."""

import asyncio
import math
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from gateway.core.channel import Channel, WhenFull
from gateway.core.errors import LinkError
from gateway.core.meter import LinkState
from gateway.pipeline import supervise
from gateway.pipeline.supervise import Supervisor
from protocols import as_source
from protocols.mqtt import Config

from ..conformance import Bench, bench
from ..eventually import eventually
from ..protocols.mqtt_broker import Broker, Publisher, broker
from ..servers import free_port


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reconnect without the patience that a plant needs and a test has not."""
    monkeypatch.setattr(supervise, "BACKOFF_NS_MIN", 20_000_000)


@pytest.fixture
def hall(tmp_path: Path) -> Iterator[tuple[Broker, Publisher]]:
    with broker(tmp_path / "broker") as pair:
        yield pair


@asynccontextmanager
async def listening(
    port: int, folder: Path, **settings: Any
) -> AsyncIterator[tuple[Bench, list[float]]]:
    """A supervised source of one topic, and the values that came out of it."""
    table: dict[str, Any] = {"kind": "mqtt", "id": "hall", "host": "127.0.0.1", "port": port}
    signals = [{"asset": "m", "signal": "x", "topic": "m/x"}]
    config = Config.model_validate(table | {"signals": signals} | settings)
    world = bench("hall", "mqtt", folder)
    channel = Channel(samples_max=100_000, when_full=WhenFull.BLOCK)
    supervisor = Supervisor(as_source(config), world.context, channel)
    values: list[float] = []

    async def drain() -> None:
        while True:
            for item in await channel.receive():
                values.extend(item.value.tolist())

    async with asyncio.TaskGroup() as tasks:
        work = [tasks.create_task(supervisor.run()), tasks.create_task(drain())]
        try:
            yield world, values
        finally:
            for task in work:
                task.cancel()


async def say(publisher: Publisher, payload: object, *, retain: bool = False) -> None:
    await asyncio.to_thread(publisher.say, "m/x", payload, retain=retain)


@pytest.mark.usefixtures("soon")
@pytest.mark.parametrize("death", ["stop", "kill"])
async def test_a_broker_that_restarts(
    hall: tuple[Broker, Publisher], tmp_path: Path, death: str
) -> None:
    running, publisher = hall
    with capture_logs() as logs:
        async with listening(running.port, tmp_path) as (world, values):
            await eventually(lambda: "as forewarn-hall" in running.log())
            await eventually(lambda: "Received SUBSCRIBE from forewarn-hall" in running.log())
            await say(publisher, "1")
            await eventually(lambda: values == [1])
            await asyncio.to_thread(getattr(running, death))
            await eventually(lambda: world.meter.state is LinkState.DOWN)
            await eventually(lambda: len(values) == 2 and math.isnan(values[1]))
            assert "is gone" in str(world.reported[0].text)
            await asyncio.to_thread(running.start)
            await eventually(lambda: world.meter.connects == 2, timeout_s=20)
            # The publisher comes back by itself, and its message is at the broker.
            await say(publisher, "2")
            await eventually(lambda: values[2:] == [2])
            assert world.meter.state is LinkState.UP
            assert world.meter.gaps_unfilled == 1
            assert world.meter.gaps_unfilled_s > 0
            assert "the broker keeps nothing for us; see persistent" in world.meter.gap_text
    edges = [line["event"] for line in logs if line["event"].startswith("source.")]
    assert edges == ["source.up", "source.down", "source.recovered"]


async def test_retained_garbage_is_counted_and_passed_over(
    hall: tuple[Broker, Publisher], tmp_path: Path
) -> None:
    running, publisher = hall
    await say(publisher, b"\xff\xfe{not json", retain=True)
    async with listening(running.port, tmp_path, path="v") as (world, values):
        await eventually(lambda: world.meter.errors["payload"] == 1)
        await say(publisher, {"v": 3})
        await eventually(lambda: values == [3])
        await say(publisher, b"[" * 100_000)
        await say(publisher, {"v": 4, "pad": "x" * 2_000_000})
        await say(publisher, {"v": 10**400})
        await say(publisher, {"v": 5})
        await eventually(lambda: values[-1:] == [5])
        assert [v for v in values if not math.isnan(v)] == [3, 5]
        assert world.meter.errors == {"payload": 2, "overlong": 1, "value": 1}
        assert world.meter.link_errors == 0


@pytest.mark.usefixtures("soon")
async def test_two_clients_of_one_name_are_told_what_it_is(
    hall: tuple[Broker, Publisher], tmp_path: Path
) -> None:
    running, publisher = hall
    async with listening(running.port, tmp_path) as (world, values):
        await eventually(lambda: "Received SUBSCRIBE from forewarn-hall" in running.log())
        await say(publisher, "1")
        await eventually(lambda: values == [1])
        async with listening(running.port, tmp_path):
            await eventually(lambda: world.meter.link_errors > 0)
            assert "no other client has our client_id" in str(world.reported[0].text)
        await eventually(lambda: world.meter.connects > 1)
        await eventually(lambda: running.log().count("Received SUBSCRIBE") > 2)


async def test_a_flood_is_bounded_and_counted(
    hall: tuple[Broker, Publisher], tmp_path: Path
) -> None:
    """Nobody takes the samples: messages wait in a queue of so many, and the oldest go."""
    running, publisher = hall
    table: dict[str, Any] = {"kind": "mqtt", "id": "hall", "host": "127.0.0.1"}
    signals = [{"asset": "m", "signal": "x", "topic": "m/x"}]
    settings = {"port": running.port, "queue_messages_max": 100, "signals": signals}
    config = Config.model_validate(table | settings)
    world = bench("hall", "mqtt", tmp_path)
    async with config.open(world.context) as session:
        for value in range(300):
            await say(publisher, str(value))
        await eventually(lambda: world.meter.errors["dropped"] == 200)
        batch = await session.read()
        assert batch.value.tolist() == [float(value) for value in range(200, 300)]
        for value in range(30):
            await say(publisher, str(value))
        sent = "Sending PUBLISH to forewarn-hall"
        await eventually(lambda: running.log().count(sent) == 330)
    # Ten, the broker thinks that we never had.
    assert world.meter.errors["dropped"] == 220


def descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


async def test_connecting_again_and_again_leaks_nothing(
    hall: tuple[Broker, Publisher], tmp_path: Path
) -> None:
    running, _ = hall
    world = bench("hall", "mqtt", tmp_path)
    table: dict[str, Any] = {"kind": "mqtt", "id": "hall", "host": "127.0.0.1"}
    signals = [{"asset": "m", "signal": "x", "topic": "m/x"}]

    async def rounds(port: int, n: int) -> None:
        settings = {"port": port, "signals": signals, "open_timeout_s": 0.1}
        config = Config.model_validate(table | settings)
        for _ in range(n):
            try:
                async with config.open(world.context):
                    pass
            except LinkError:
                pass

    with socket.create_server(("127.0.0.1", 0)) as silent:
        ports = (running.port, free_port(), silent.getsockname()[1])
        for port in ports:
            await rounds(port, 2)
        await eventually(lambda: len(asyncio.all_tasks()) == 1)
        before = descriptors()
        for port in ports:
            await rounds(port, 10)
        await eventually(lambda: len(asyncio.all_tasks()) == 1)
        await eventually(lambda: descriptors() <= before)


@pytest.mark.soak
async def test_a_broker_that_hangs_is_found_by_keep_alive(
    hall: tuple[Broker, Publisher], tmp_path: Path
) -> None:
    running, publisher = hall
    async with listening(running.port, tmp_path, keepalive_s=5) as (world, values):
        await eventually(lambda: "Received SUBSCRIBE from forewarn-hall" in running.log())
        await say(publisher, "1")
        await eventually(lambda: values == [1])
        running.freeze()
        try:
            await eventually(lambda: world.meter.state is LinkState.DOWN, timeout_s=20)
            assert "is gone" in str(world.reported[0].text)
        finally:
            running.thaw()
        await eventually(lambda: world.meter.connects >= 2, timeout_s=20)
