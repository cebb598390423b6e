"""What an operator may point at: as numbers with a quality, waveforms, and a believable time."""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from asyncua import ua

from gateway.core.batch import Batch, Quality, Waveform

from ..conformance import bench
from .opcua_plant import URI, Plant, latest, read_until, signal, source

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_texts_fields_and_elements_become_numbers(opcua: Plant, tmp_path: Path) -> None:
    await opcua.add("mode", "running")
    await opcua.add("state", ua.LocalizedText("stopped"))
    await opcua.add("span", ua.Range(-5.0, 40.0))
    await opcua.add("windings", [61.0, 62.0, 63.0])
    await opcua.add("on", val := True)
    states = {"running": 2.0, "stopped": 0.0}
    config = source(
        opcua.url,
        signal("mode", states=states),
        signal("state", states=states),
        signal("span", field="High", scale=2.0, offset=1.0),
        signal("hot", address=f"nsu={URI};s=windings", field="[2]"),
        signal("on"),
    )
    world = bench("p1", "opcua", tmp_path)
    async with config.open(world.context) as session:
        got = await read_until(session, world, lambda got: len(latest(got)) == 5)
    assert latest(got) == {"mode": 2, "state": 0, "span": 81, "hot": 63, "on": float(val)}
    assert not world.meter.quarantined


async def test_what_is_no_number_is_bad_with_its_reason_until_it_is_one(
    opcua: Plant, tmp_path: Path
) -> None:
    await opcua.add("mode", "cleaning")
    await opcua.add("windings", [61.0, 62.0])
    await opcua.add("speed", 3.0)
    await opcua.add("span", ua.Range(0.0, 1.0))
    config = source(
        opcua.url,
        signal("mode", states={"running": 1.0}),
        signal("windings"),
        signal("speed", field="Low"),
        signal("span", field="Middle"),
    )
    world = bench("p1", "opcua", tmp_path)
    async with config.open(world.context) as session:
        got = await read_until(session, world, lambda got: len(got) >= 4)
        assert {quality for _, _, quality in got} == {Quality.BAD}
        quarantined = world.meter.quarantined
        assert "'cleaning' is not in states" in quarantined["pump/mode"]
        assert "an array of 2" in quarantined["pump/windings"]
        assert "a plain number" in quarantined["pump/speed"]
        assert "the value has Low, High" in quarantined["pump/span"]
        await opcua.set("mode", "running", kind=ua.VariantType.String)
        await read_until(session, world, lambda got: latest(got) == {"mode": 1.0})
        assert "pump/mode" not in quarantined


async def test_an_array_is_a_waveform_that_ends_at_its_stamp(opcua: Plant, tmp_path: Path) -> None:
    at = datetime(2026, 11, 1, 12, 0, 1, tzinfo=UTC)
    await opcua.add("vibration", [0.0] * 4)
    await opcua.set("vibration", [0.0, 1.0, 0.0, -1.0], at=at)
    config = source(opcua.url, signal("vibration", rate_hz=8.0, scale=2.0))
    world = bench("p1", "opcua", tmp_path)
    async with config.open(world.context) as session, asyncio.timeout(30):
        item = await session.read()
    assert isinstance(item, Waveform)
    assert item.value.tolist() == [0.0, 2.0, 0.0, -2.0]
    assert item.rate_hz == 8.0
    assert item.t0_ns == round(at.timestamp() * 1e9) - 500_000_000


async def test_whose_clock_stamps_is_chosen(opcua: Plant, tmp_path: Path) -> None:
    last_year = datetime(2025, 3, 1, tzinfo=UTC)
    await opcua.add("speed", 1.0)
    stamps = {}
    for clock in ("source", "server", "gateway"):
        await opcua.set("speed", 1.0, at=last_year)
        world = bench("p1", "opcua", tmp_path)
        config = source(opcua.url, signal("speed"), timestamp=clock, history=False)
        (tmp_path / "resume.json").unlink(missing_ok=True)
        async with config.open(world.context) as session, asyncio.timeout(30):
            batch = await session.read()
        assert isinstance(batch, Batch)
        stamps[clock] = int(batch.t_ns[0]) - batch.received_ns
        assert not world.meter.errors
    assert stamps["source"] < -86_400 * 10**9
    assert -(10**10) < stamps["server"] < 0
    assert stamps["gateway"] == 0


async def test_a_clock_in_the_future_is_not_believed(opcua: Plant, tmp_path: Path) -> None:
    await opcua.add("speed", 1.0)
    await opcua.set("speed", 2.0, at=datetime.now(UTC) + timedelta(hours=3))
    for settings, believed in (({}, False), ({"clock_ahead_s_max": 20_000}, True)):
        world = bench("p1", "opcua", tmp_path)
        config = source(opcua.url, signal("speed"), history=False, **settings)
        (tmp_path / "resume.json").unlink(missing_ok=True)
        async with config.open(world.context) as session, asyncio.timeout(30):
            batch = await session.read()
        assert isinstance(batch, Batch)
        assert (abs(int(batch.t_ns[0]) - batch.received_ns) > 10**10) == believed
        assert world.meter.errors == ({} if believed else {"clock": 1})


async def test_from_which_year_on_a_clock_is_believed_is_chosen(
    opcua: Plant, tmp_path: Path
) -> None:
    await opcua.add("speed", 1.0)
    await opcua.set("speed", 2.0, at=datetime(2025, 3, 1, tzinfo=UTC))
    world = bench("p1", "opcua", tmp_path)
    config = source(opcua.url, signal("speed"), clock_year_min=2026)
    async with config.open(world.context) as session, asyncio.timeout(30):
        batch = await session.read()
    assert isinstance(batch, Batch)
    assert abs(int(batch.t_ns[0]) - batch.received_ns) < 10**10
    assert world.meter.errors == {"clock": 1}
