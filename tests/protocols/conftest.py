"""The OPC UA server of a small plant, one a module, empty for each test."""

from collections.abc import AsyncIterator

import pytest_asyncio

from .opcua_plant import Plant, plant


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def opcua_server() -> AsyncIterator[Plant]:
    async with plant() as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def opcua(opcua_server: Plant) -> AsyncIterator[Plant]:
    yield opcua_server
    await opcua_server.clear()
