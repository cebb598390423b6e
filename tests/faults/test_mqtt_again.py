"""What a persistent MQTT session is told to have, and what of it is logged when it comes again."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gateway.core.channel import Channel, WhenFull
from gateway.core.clock import SystemClock
from gateway.core.source import NothingLogged
from gateway.pipeline.supervise import Supervisor
from gateway.store.config import StoreConfig
from gateway.store.log import Log
from gateway.store.past import Past
from protocols import as_source
from protocols.mqtt import Config, inbox

from ..conformance import bench
from ..eventually import eventually
from ..protocols.mqtt_broker import Broker, Publisher, broker
from ..sim.proxy import proxy

T_MS = 1_732_387_200_000


@pytest.fixture
def hall(tmp_path: Path) -> Iterator[tuple[Broker, Publisher]]:
    with broker(tmp_path / "broker") as pair:
        yield pair


def keeping(port: int, **settings: Any) -> Config:
    """A source for which the broker keeps messages."""
    signals = [{"asset": "m", "signal": "x", "topic": "m/x"}]
    table = {"kind": "mqtt", "id": "hall", "host": "127.0.0.1", "port": port, "signals": signals}
    return Config.model_validate(table | {"persistent": True, "client_id": "gw"} | settings)


async def say(publisher: Publisher, payload: object) -> None:
    await asyncio.to_thread(publisher.say, "m/x", payload)


class Full(NothingLogged):
    """A log that never gets anything onto its disk."""

    def __init__(self) -> None:
        self.asked = 0

    async def settled(self) -> None:
        self.asked += 1
        await asyncio.Event().wait()


async def test_a_message_that_is_not_on_the_disk_is_sent_again(
    hall: tuple[Broker, Publisher], tmp_path: Path
) -> None:
    running, publisher = hall
    logged = Full()
    config = keeping(running.port)
    world = bench("hall", "mqtt", tmp_path)
    async with config.open(replace(world.context, logged=logged)) as session:
        await say(publisher, "1")
        assert (await session.read()).value.tolist() == [1]
        reading = asyncio.create_task(session.read())
        await eventually(lambda: logged.asked > 0)
        reading.cancel()
        await asyncio.wait([reading])
    assert "Received PUBACK from gw" not in running.log()
    async with config.open(world.context) as session:
        assert (await session.read()).value.tolist() == [1]


async def test_a_slow_log_holds_no_broker_up(
    hall: tuple[Broker, Publisher], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inbox, "SLOW_S", 0.1)
    running, publisher = hall
    context = replace(bench("hall", "mqtt", tmp_path).context, logged=Full())
    values: list[float] = []
    async with keeping(running.port).open(context) as session:
        # Three times what mosquitto sends before it waits.
        for n in range(60):
            await say(publisher, str(n))
        async with asyncio.timeout(30):
            while len(values) < 60:
                values += (await session.read()).value.tolist()
    assert values == list(range(60))


@asynccontextmanager
async def logging(folder: Path, port: int) -> AsyncIterator[tuple[Log, dict[str, int]]]:
    """A supervised source whose samples are logged, and what is counted against it."""
    log = Log.open(folder / "data", StoreConfig(), SystemClock())
    channel = Channel(samples_max=100_000, when_full=WhenFull.BLOCK)
    world = bench("hall", "mqtt", folder)
    context = replace(world.context, signals=log.signals, logged=Past(log, channel))
    source = as_source(keeping(port, path="v", time_path="t", time_form="unix_ms"))

    async def drain() -> None:
        while True:
            for item in await channel.receive():
                log.append(item)

    try:
        async with asyncio.TaskGroup() as tasks:
            work = [
                tasks.create_task(Supervisor(source, context, channel).run()),
                tasks.create_task(drain()),
            ]
            try:
                yield log, world.meter.errors
            finally:
                for task in work:
                    task.cancel()
    finally:
        log.close()


async def test_what_is_sent_again_is_logged_once_and_what_never_came_is_not_taken_for_it(
    hall: tuple[Broker, Publisher], tmp_path: Path
) -> None:
    running, publisher = hall

    async with proxy(("127.0.0.1", running.port)) as relay:

        def first_only(data: bytes) -> bytes:
            if b'"v"' in data:
                relay.stall()
            return data

        async with logging(tmp_path, relay.port) as (log, errors):

            def values() -> list[float]:
                _, _, value, quality = log.samples(0, 1 << 62)
                return [float(v) for v in value[quality == 0]]

            await eventually(lambda: "Received SUBSCRIBE from gw" in running.log())
            relay.spoil = first_only
            await say(publisher, {"t": T_MS, "v": 1})
            await eventually(lambda: values() == [1])
            # In the same millisecond: it differs by nothing but its value.
            await say(publisher, {"t": T_MS, "v": 2})
            await say(publisher, {"t": T_MS + 1, "v": 2})
            await eventually(lambda: running.log().count("Sending PUBLISH to gw") == 3)
            relay.spoil = None
            relay.cut(reset=True)
            relay.resume()
            await eventually(lambda: values()[-2:] == [2, 2])
            await eventually(lambda: running.log().count("Received PUBACK from gw") == 3)
            assert values() == [1, 2, 2]
            assert errors["again"] == 1
