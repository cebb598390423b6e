"""Which node is meant, and what becomes of one that is not there, or not yet."""

from pathlib import Path

import pytest
from asyncua import ua

from protocols.opcua.items import read_server
from protocols.opcua.opening import open_link
from protocols.opcua.session import OpcUaSession

from ..conformance import bench
from ..eventually import eventually
from .opcua_plant import URI, Plant, latest, read_until, signal, source

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_nodes_are_found_by_index_uri_and_path(opcua: Plant, tmp_path: Path) -> None:
    await opcua.add("speed", 1.0)
    addresses = [
        f"ns={opcua.index};s=speed",
        f"nsu={URI};s=speed",
        f"/Objects/{opcua.index}:Pump/speed",
        f"/Objects/{{{URI}}}Pump/{{{URI}}}speed",
        "/Objects/Pump/nothing",
        "nsu=urn:not:there;s=speed",
    ]
    config = source(opcua.url, *(signal(f"s{i}", address=text) for i, text in enumerate(addresses)))
    world = bench("p1", "opcua", tmp_path)
    async with config.open(world.context) as session:
        got = await read_until(session, world, lambda got: len(got) >= 6)
    assert latest(got) == {"s0": 1, "s1": 1, "s2": 1, "s3": 1}
    assert "BadNoMatch" in world.meter.quarantined["pump/s4"]
    assert "forewarn browse shows them" in world.meter.quarantined["pump/s4"]
    assert "no namespace urn:not:there" in world.meter.quarantined["pump/s5"]


@pytest.mark.parametrize("mode", ["subscribe", "poll"])
async def test_a_node_that_appears_later_is_found_by_itself(
    opcua: Plant, tmp_path: Path, mode: str
) -> None:
    await opcua.add("speed", 1.0)
    config = source(
        opcua.url,
        signal("speed"),
        signal("late"),
        mode=mode,
        retry_s_min=0.05,
        retry_s_max=0.2,
    )
    world = bench("p1", "opcua", tmp_path)
    async with config.open(world.context) as session:
        await read_until(session, world, lambda got: "late" in {n for n, _, _ in got})
        assert "BadNodeIdUnknown" in world.meter.quarantined["pump/late"]
        await opcua.add("late", 7.0)
        await read_until(session, world, lambda got: latest(got).get("late") == 7.0)
        assert not world.meter.quarantined
        assert world.meter.errors["BadNodeIdUnknown"] >= 1
        assert isinstance(session, OpcUaSession)
        assert all(len(poller._items) == 2 for poller in session._pollers.values())


async def test_a_node_that_is_there_after_an_outage_is_quarantined_no_more(
    opcua: Plant, tmp_path: Path
) -> None:
    """As after a download to the PLC: the link ends, and comes back to a server that has it."""
    await opcua.add("speed", 1.0)
    config = source(opcua.url, signal("speed"), signal("late"), signal("gone"))
    world = bench("p1", "opcua", tmp_path)
    async with config.open(world.context) as session:
        await read_until(session, world, lambda got: len(got) >= 3)
    assert world.meter.quarantined.keys() == {"pump/late", "pump/gone"}
    await opcua.add("late", 7.0)
    config = source(opcua.url, signal("speed"), signal("late"))
    async with config.open(world.context) as session:
        await read_until(session, world, lambda got: latest(got).get("late") == 7.0)
        assert not world.meter.quarantined


@pytest.mark.parametrize("mode", ["subscribe", "poll"])
async def test_what_the_server_calls_bad_is_shown_with_its_status(
    opcua: Plant, tmp_path: Path, mode: str
) -> None:
    await opcua.add("speed", 1.0)
    await opcua.add("burst", [0.0, 1.0])
    config = source(opcua.url, signal("speed"), signal("burst", rate_hz=2.0), mode=mode)
    world = bench("p1", "opcua", tmp_path)
    shown = world.meter.quarantined
    async with config.open(world.context) as session:
        for code in (ua.StatusCodes.BadNoCommunication, ua.StatusCodes.BadSensorFailure):
            for name, value in (("speed", 1.0), ("burst", [0.0, 1.0])):
                await opcua.set(name, value, status=code)
            reason = f"{ua.StatusCode(ua.UInt32(code)).name}: the server itself says so"
            await read_until(
                session,
                world,
                lambda _, reason=reason: [t[: len(reason)] for t in shown.values()] == [reason] * 2,  # type: ignore[misc]
            )
        assert shown.keys() == {"pump/speed", "pump/burst"}
        for name, value in (("speed", 2.0), ("burst", [1.0, 1.0])):
            await opcua.set(name, value)
        await read_until(session, world, lambda _: not shown)
    assert (+world.meter.errors).keys() <= {"late"}, "a busy machine leaves rounds out"


@pytest.mark.parametrize("longest_s", [0.02, 10.0])
async def test_a_refused_node_is_tried_ever_more_rarely(
    opcua: Plant, tmp_path: Path, longest_s: float
) -> None:
    await opcua.add("speed", 1.0)
    signals = [signal("speed"), signal("missing")]
    config = source(opcua.url, *signals, retry_s_min=0.01, retry_s_max=longest_s)
    world = bench("p1", "opcua", tmp_path)
    async with config.open(world.context) as session:
        await eventually(lambda: world.meter.errors["BadNodeIdUnknown"] >= 5)
        tried = world.meter.errors["BadNodeIdUnknown"]
        assert isinstance(session, OpcUaSession)
        pause_s = session._items["pump/missing"].backoff_ns / 1e9
    assert pause_s == pytest.approx(min(longest_s, 0.01 * 2 ** (tried - 1)))


async def test_the_servers_limits_are_read(opcua: Plant, tmp_path: Path) -> None:
    limit = ua.ObjectIds.Server_ServerCapabilities_OperationLimits_MaxMonitoredItemsPerCall
    await opcua.server.write_attribute_value(
        ua.NodeId(ua.Int32(limit)), ua.DataValue(ua.Variant(3, ua.VariantType.UInt32))
    )
    names = [f"n{i}" for i in range(10)]
    for name in names:
        await opcua.add(name, 1.0)
    config = source(opcua.url, *(signal(name) for name in names))
    world = bench("p1", "opcua", tmp_path)
    async with open_link(config, world.context) as link:
        uris, limits = await read_server(link, config)
    assert uris[opcua.index] == URI
    assert limits.monitored == 3
    assert limits.read == config.items_per_call_max
    async with config.open(world.context) as session:
        got = await read_until(session, world, lambda got: len(latest(got)) == 10)
    assert latest(got) == dict.fromkeys(names, 1.0)
