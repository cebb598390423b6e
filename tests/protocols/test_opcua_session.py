"""OPC UA against the library's own server: what each signal, status and clock becomes."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import pytest_asyncio
from asyncua import ua

from gateway.core.batch import Batch, Quality
from protocols.opcua import Config

from ..conformance import bench, check_module, check_source
from .opcua_plant import Plant, plant, plant_peer, signal, source


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def made() -> AsyncIterator[Plant]:
    async with plant() as running:
        yield running


@pytest.mark.asyncio(loop_scope="module")
async def test_conforms(made: Plant, tmp_path: Path) -> None:
    await check_source(lambda: plant_peer(made), tmp_path)


@pytest.mark.asyncio(loop_scope="module")
async def test_conforms_when_polled(made: Plant, tmp_path: Path) -> None:
    await check_source(lambda: plant_peer(made, mode="poll"), tmp_path)


def test_module_conforms() -> None:
    check_module("opcua", libraries=["asyncua", "cryptography"])


@pytest.mark.asyncio(loop_scope="module")
async def test_status_and_clock_become_quality_and_time(made: Plant, tmp_path: Path) -> None:
    long_ago = datetime(2000, 1, 1, 0, 0, 7, tzinfo=UTC)
    last_year = datetime(2025, 3, 1, tzinfo=UTC)
    names = ["good", "unsure", "bad", "stuck", "old"]
    for name in names:
        await made.add(name, 1.0)
    await made.set("unsure", 2.0, status=ua.StatusCodes.UncertainLastUsableValue)
    await made.set("bad", 3.0, status=ua.StatusCodes.BadSensorFailure)
    await made.set("stuck", 4.0, at=long_ago)
    await made.set("old", 5.0, at=last_year)
    config = source(made.url, *(signal(name) for name in names))
    world = bench("p1", "opcua", tmp_path)
    async with config.open(world.context) as session, asyncio.timeout(30):
        batch = await session.read()
    assert isinstance(batch, Batch)
    assert [world.context.signals[i].name for i in batch.signal] == names
    assert batch.quality.tolist() == [
        Quality.GOOD,
        Quality.UNCERTAIN,
        Quality.BAD,
        Quality.GOOD,
        Quality.GOOD,
    ]
    assert batch.value[[0, 1, 3, 4]].tolist() == [1, 2, 4, 5]
    assert batch.t_ns[4] == last_year.timestamp() * 10**9
    assert abs(batch.t_ns[3] - world.context.clock.wall_ns()) < 60 * 10**9
    assert world.meter.errors == {"clock": 1}


def test_a_link_without_security_is_opened_only_when_written() -> None:
    table = source("opc.tcp://192.0.2.1:4840", signal("speed")).model_dump()
    del table["security_policy"]
    assert Config.model_validate(table).security_policy == "Basic256Sha256"
