"""What an outage leaves open is filled from the server's history, or counted with its reason."""

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest

from gateway.core.batch import Batch

from ..conformance import bench
from ..eventually import eventually
from ..sim.proxy import proxy
from .opcua_plant import Plant, latest, read_until, signal, source

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.mark.parametrize("junk", ["", "{", "[]", '{"marks": 7}', '{"marks": {"pump/speed": 1}}'])
async def test_a_broken_memory_of_the_last_session_stops_nothing(
    opcua: Plant, tmp_path: Path, junk: str
) -> None:
    await opcua.add("speed", 1.0)
    (tmp_path / "resume.json").write_text(junk)
    world = bench("p1", "opcua", tmp_path)
    async with source(opcua.url, signal("speed")).open(world.context) as session:
        await read_until(session, world, lambda got: latest(got) == {"speed": 1.0})


async def test_the_gap_of_an_outage_is_filled_from_history_once(
    opcua: Plant, tmp_path: Path
) -> None:
    async with proxy(("127.0.0.1", opcua.port)) as relay:
        await opcua.historize("speed")
        await opcua.add("load", 0.0)  # Has no history, and must not be in the way.
        url = f"opc.tcp://127.0.0.1:{relay.port}/plant"
        config = source(url, signal("speed", queue_size=100), signal("load"))
        values: list[float] = []
        past: list[float] = []

        async def watch(last: float) -> None:
            world = bench("p1", "opcua", tmp_path)
            number = world.context.signals.intern(config.signals[0].key())
            async with config.open(world.context) as session, asyncio.timeout(30):
                while not values or last not in values or (past_wanted and not past):
                    item = await session.read()
                    assert isinstance(item, Batch)
                    mine = item.value[(item.signal == number) & (item.quality == 0)].tolist()
                    (past if item.history else values).extend(mine)
            assert +world.meter.errors == {}

        past_wanted = False
        for value in (1.0, 2.0, 3.0):
            await opcua.set("speed", value)
        await watch(3.0)
        for value in (4.0, 5.0, 6.0, 7.0):
            await opcua.set("speed", value)
            await asyncio.sleep(0)
        past_wanted = True
        await watch(7.0)
        assert past == [4.0, 5.0, 6.0]
        assert values == [3.0, 7.0]
        # Nothing happened since: nothing is told twice, but that the value still holds.
        past.clear()
        past_wanted = False
        await watch(7.0)
        assert past == []


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({}, "the server keeps no history"),
        ({"history": False}, "history = false"),
        ({"timestamp": "gateway"}, 'timestamp = "gateway", and the past has other clocks'),
    ],
)
async def test_a_gap_that_cannot_be_filled_is_counted_with_its_reason(
    opcua: Plant, tmp_path: Path, settings: dict[str, Any], reason: str
) -> None:
    for name in ("load", "torque", "resting"):
        await opcua.add(name, 1.0)
    signals = [signal(name) for name in ("load", "torque", "resting")]
    config = source(opcua.url, *signals, timeout_s=0.3, **settings)
    world = bench("p1", "opcua", tmp_path)
    meter = world.meter
    async with config.open(world.context) as session:
        await read_until(session, world, lambda got: len(got) >= 3)
    for name in ("load", "torque"):
        await opcua.set(name, 2.0)
    async with config.open(world.context) as session:
        await read_until(session, world, lambda got: len(latest(got)) >= 2)
        await eventually(lambda: meter.gaps_unfilled > 0)
    # What was at rest has lost nothing, unless the gateway's clock stamps it.
    assert meter.gaps_unfilled == (3 if "timestamp" in settings else 2)
    assert 0 < meter.gaps_unfilled_s < 10
    assert re.fullmatch(
        r"gap of [\d.]+ s in . signals not filled: " + re.escape(reason), meter.gap_text
    )
    # The next session has nothing more to say of it.
    async with config.open(world.context):
        await eventually(lambda: not (tmp_path / "resume.json").exists())


async def test_what_an_outage_loses_beyond_the_longest_span_is_counted(
    opcua: Plant, tmp_path: Path
) -> None:
    await opcua.historize("speed")
    await opcua.set("speed", 1.0)
    config = source(opcua.url, signal("speed"), history_span_s_max=0.05, timeout_s=0.3)
    world = bench("p1", "opcua", tmp_path)
    async with config.open(world.context) as session:
        await read_until(session, world, lambda got: latest(got) == {"speed": 1.0})
    await opcua.set("speed", 2.0)
    await asyncio.sleep(0.1)  # Longer than the span.
    await opcua.set("speed", 3.0)
    async with config.open(world.context) as session:
        await read_until(session, world, lambda got: latest(got) == {"speed": 3.0})
        await eventually(lambda: world.meter.gaps_unfilled > 0)
    assert world.meter.gaps_unfilled == 1
    assert world.meter.gap_text.endswith("not filled: it is longer than history_span_s_max")
