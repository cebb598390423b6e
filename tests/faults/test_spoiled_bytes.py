"""Bits that fall over between a server and us, for ever: the source never dies, and comes back."""

import asyncio
import math
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from gateway.core.meter import LinkState
from gateway.pipeline import supervise

from ..eventually import eventually
from ..protocols.mqtt_broker import broker
from ..protocols.opcua_plant import plant, signal, source
from ..sim.proxy import proxy
from .test_mqtt_link import listening, say
from .test_opcua_link import running

FLIPS = 40
SEEDS = [1, *(pytest.param(seed, marks=pytest.mark.soak) for seed in range(2, 12))]


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reconnect without the patience that a plant needs and a test has not."""
    monkeypatch.setattr(supervise, "BACKOFF_NS_MIN", 10_000_000)
    monkeypatch.setattr(supervise, "BACKOFF_NS_MAX", 50_000_000)
    monkeypatch.setattr(supervise, "BACKOFF_REFUSED_NS_MIN", 50_000_000)


def spoiling(random: Random, flipped: list[int]) -> Callable[[bytes], bytes]:
    """Flip one bit of each third piece that passes, or cut the piece."""

    def spoil(data: bytes) -> bytes:
        if random.randrange(3):
            return data
        flipped.append(len(data))
        at = random.randrange(len(data))
        if random.randrange(4) == 0:
            return data[:at]
        return data[:at] + bytes([data[at] ^ 1 << random.randrange(8)]) + data[at + 1 :]

    return spoil


@pytest.mark.parametrize("seed", SEEDS)
async def test_opcua(tmp_path: Path, seed: int) -> None:
    flipped: list[int] = []
    async with plant() as made, proxy(("127.0.0.1", made.port)) as relay:
        await made.add("speed", 1.0)
        url = f"opc.tcp://127.0.0.1:{relay.port}/plant"
        config = source(url, signal("speed"), keep_alive_s=0.2, timeout_s=0.5)
        async with running(config, tmp_path) as run:
            await eventually(lambda: run.good() == [1.0])
            relay.spoil = spoiling(Random(seed), flipped)
            value = 1.0
            async with asyncio.timeout(60):
                while len(flipped) < FLIPS:
                    value += 1
                    await made.set("speed", value)
                    await asyncio.sleep(0.02)
            relay.spoil = None
            await made.set("speed", -1.0)
            await eventually(lambda: run.good()[-1] == -1.0, timeout_s=30)
            await eventually(lambda: run.state is LinkState.UP)


@pytest.mark.parametrize("seed", SEEDS)
async def test_mqtt(tmp_path: Path, seed: int) -> None:
    flipped: list[int] = []
    with broker(tmp_path / "broker") as (hall, publisher):
        async with proxy(("127.0.0.1", hall.port)) as relay:
            settings = {"open_timeout_s": 0.5, "keepalive_s": 5}
            async with listening(relay.port, tmp_path, **settings) as (world, values):
                await eventually(lambda: "Received SUBSCRIBE from forewarn-hall" in hall.log())
                await say(publisher, "1")
                await eventually(lambda: values == [1])
                relay.spoil = spoiling(Random(seed), flipped)
                async with asyncio.timeout(60):
                    while len(flipped) < FLIPS:
                        await say(publisher, "2")
                        await asyncio.sleep(0.02)
                relay.spoil = None

                async def say_until_heard() -> None:
                    while not values or values[-1] != 3 or math.isnan(values[-1]):
                        await say(publisher, "3")
                        await asyncio.sleep(0.1)

                async with asyncio.timeout(40):
                    await say_until_heard()
                assert world.meter.state is LinkState.UP
