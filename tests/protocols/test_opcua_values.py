"""What an operator may point at, and what comes of it: texts, fields, waveforms, gaps, silence."""

import asyncio
import itertools
import re
from collections import Counter
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from asyncua import ua
from asyncua.server.monitored_item_service import MonitoredItemService
from asyncua.server.subscription_service import SubscriptionService
from structlog.testing import capture_logs

from gateway.core.batch import Batch, Quality, Waveform
from gateway.core.errors import DataError
from gateway.core.source import Session
from protocols.opcua.items import read_server
from protocols.opcua.link import open_link
from protocols.opcua.publish import Publisher
from protocols.opcua.session import OpcUaSession
from protocols.opcua.wire import Publication

from ..conformance import Bench, bench
from ..eventually import eventually
from ..sim.proxy import proxy
from .opcua_plant import URI, Plant, plant, signal, source

pytestmark = pytest.mark.asyncio(loop_scope="module")

Samples = list[tuple[str, float, int]]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server() -> AsyncIterator[Plant]:
    async with plant() as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def made(server: Plant) -> AsyncIterator[Plant]:
    yield server
    await server.clear()


async def read_until(
    session: Session, world: Bench, done: Callable[[Samples], bool], *, timeout_s: float = 30.0
) -> Samples:
    """Every sample read, as (signal, value, quality), up to the one that makes `done` true."""
    got: Samples = []
    async with asyncio.timeout(timeout_s):
        while not done(got):
            item = await session.read()
            if isinstance(item, Batch):
                got += samples_of(item, world)
    return got


def samples_of(batch: Batch, world: Bench) -> Samples:
    names = [world.context.signals[number].name for number in batch.signal]
    return list(zip(names, batch.value.tolist(), batch.quality.tolist(), strict=True))


def latest(samples: Samples) -> dict[str, float]:
    return {name: value for name, value, quality in samples if quality != Quality.BAD}


async def test_texts_fields_and_elements_become_numbers(made: Plant, tmp_path: Path) -> None:
    await made.add("mode", "running")
    await made.add("state", ua.LocalizedText("stopped"))
    await made.add("span", ua.Range(-5.0, 40.0))
    await made.add("windings", [61.0, 62.0, 63.0])
    await made.add("on", val := True)
    states = {"running": 2.0, "stopped": 0.0}
    config = source(
        made.url,
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
    made: Plant, tmp_path: Path
) -> None:
    await made.add("mode", "cleaning")
    await made.add("windings", [61.0, 62.0])
    await made.add("speed", 3.0)
    await made.add("span", ua.Range(0.0, 1.0))
    config = source(
        made.url,
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
        await made.set("mode", "running", kind=ua.VariantType.String)
        await read_until(session, world, lambda got: latest(got) == {"mode": 1.0})
        assert "pump/mode" not in quarantined


async def test_an_array_is_a_waveform_that_ends_at_its_stamp(made: Plant, tmp_path: Path) -> None:
    at = datetime(2026, 11, 1, 12, 0, 1, tzinfo=UTC)
    await made.add("vibration", [0.0] * 4)
    await made.set("vibration", [0.0, 1.0, 0.0, -1.0], at=at)
    config = source(made.url, signal("vibration", rate_hz=8.0, scale=2.0))
    world = bench("p1", "opcua", tmp_path)
    async with config.open(world.context) as session, asyncio.timeout(30):
        item = await session.read()
    assert isinstance(item, Waveform)
    assert item.value.tolist() == [0.0, 2.0, 0.0, -2.0]
    assert item.rate_hz == 8.0
    assert item.t0_ns == round(at.timestamp() * 1e9) - 500_000_000


async def test_nodes_are_found_by_index_uri_and_path(made: Plant, tmp_path: Path) -> None:
    await made.add("speed", 1.0)
    addresses = [
        f"ns={made.index};s=speed",
        f"nsu={URI};s=speed",
        f"/Objects/{made.index}:Pump/speed",
        f"/Objects/{{{URI}}}Pump/{{{URI}}}speed",
        "/Objects/Pump/nothing",
        "nsu=urn:not:there;s=speed",
    ]
    config = source(made.url, *(signal(f"s{i}", address=text) for i, text in enumerate(addresses)))
    world = bench("p1", "opcua", tmp_path)
    async with config.open(world.context) as session:
        got = await read_until(session, world, lambda got: len(got) >= 6)
    assert latest(got) == {"s0": 1, "s1": 1, "s2": 1, "s3": 1}
    assert "BadNoMatch" in world.meter.quarantined["pump/s4"]
    assert "forewarn browse shows them" in world.meter.quarantined["pump/s4"]
    assert "no namespace urn:not:there" in world.meter.quarantined["pump/s5"]


@pytest.mark.parametrize("mode", ["subscribe", "poll"])
async def test_a_node_that_appears_later_is_found_by_itself(
    made: Plant, tmp_path: Path, mode: str
) -> None:
    await made.add("speed", 1.0)
    config = source(
        made.url,
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
        await made.add("late", 7.0)
        await read_until(session, world, lambda got: latest(got).get("late") == 7.0)
        assert not world.meter.quarantined
        assert world.meter.errors["BadNodeIdUnknown"] >= 1
        assert isinstance(session, OpcUaSession)
        assert all(len(poller._items) == 2 for poller in session._pollers.values())


async def test_a_node_that_is_there_after_an_outage_is_quarantined_no_more(
    made: Plant, tmp_path: Path
) -> None:
    """As after a download to the PLC: the link ends, and comes back to a server that has it."""
    await made.add("speed", 1.0)
    config = source(made.url, signal("speed"), signal("late"), signal("gone"))
    world = bench("p1", "opcua", tmp_path)
    async with config.open(world.context) as session:
        await read_until(session, world, lambda got: len(got) >= 3)
    assert world.meter.quarantined.keys() == {"pump/late", "pump/gone"}
    await made.add("late", 7.0)
    config = source(made.url, signal("speed"), signal("late"))
    async with config.open(world.context) as session:
        await read_until(session, world, lambda got: latest(got).get("late") == 7.0)
        assert not world.meter.quarantined


@pytest.mark.parametrize("mode", ["subscribe", "poll"])
async def test_what_the_server_calls_bad_is_shown_with_its_status(
    made: Plant, tmp_path: Path, mode: str
) -> None:
    await made.add("speed", 1.0)
    await made.add("burst", [0.0, 1.0])
    config = source(made.url, signal("speed"), signal("burst", rate_hz=2.0), mode=mode)
    world = bench("p1", "opcua", tmp_path)
    shown = world.meter.quarantined
    async with config.open(world.context) as session:
        for code in (ua.StatusCodes.BadNoCommunication, ua.StatusCodes.BadSensorFailure):
            for name, value in (("speed", 1.0), ("burst", [0.0, 1.0])):
                await made.set(name, value, status=code)
            reason = f"{ua.StatusCode(ua.UInt32(code)).name}: the server itself says so"
            await read_until(
                session,
                world,
                lambda _, reason=reason: [t[: len(reason)] for t in shown.values()] == [reason] * 2,  # type: ignore[misc]
            )
        assert shown.keys() == {"pump/speed", "pump/burst"}
        for name, value in (("speed", 2.0), ("burst", [1.0, 1.0])):
            await made.set(name, value)
        await read_until(session, world, lambda _: not shown)
    assert not +world.meter.errors - Counter("late")


@pytest.mark.parametrize("longest_s", [0.02, 10.0])
async def test_a_refused_node_is_tried_ever_more_rarely(
    made: Plant, tmp_path: Path, longest_s: float
) -> None:
    await made.add("speed", 1.0)
    signals = [signal("speed"), signal("missing")]
    config = source(made.url, *signals, retry_s_min=0.01, retry_s_max=longest_s)
    world = bench("p1", "opcua", tmp_path)
    async with config.open(world.context) as session:
        await eventually(lambda: world.meter.errors["BadNodeIdUnknown"] >= 5)
        tried = world.meter.errors["BadNodeIdUnknown"]
        assert isinstance(session, OpcUaSession)
        pause_s = session._items["pump/missing"].backoff_ns / 1e9
    assert pause_s == pytest.approx(min(longest_s, 0.01 * 2 ** (tried - 1)))


async def test_a_steady_value_is_repeated_while_the_link_lives(made: Plant, tmp_path: Path) -> None:
    await made.add("speed", 1.0)
    await made.set("speed", 4.0, at=datetime(2026, 1, 1, tzinfo=UTC))
    config = source(made.url, signal("speed"), repeat_s=0.1, keep_alive_s=0.1)
    world = bench("p1", "opcua", tmp_path)
    stamps: list[int] = []
    async with config.open(world.context) as session, asyncio.timeout(30):
        while len(stamps) < 4:
            batch = await session.read()
            assert isinstance(batch, Batch)
            assert batch.value.tolist() == [4.0] * len(batch)
            stamps += batch.t_ns.tolist()
    assert stamps[0] == round(datetime(2026, 1, 1, tzinfo=UTC).timestamp() * 1e9)
    assert all(b > a for a, b in itertools.pairwise(stamps))
    assert abs(stamps[1] - world.context.clock.wall_ns()) < 60 * 10**9


async def test_polled_steady_values_are_as_fresh_as_the_poll(made: Plant, tmp_path: Path) -> None:
    await made.add("speed", 4.0)
    config = source(made.url, signal("speed"), mode="poll", publishing_interval_s=0.02)
    world = bench("p1", "opcua", tmp_path)
    stamps: list[int] = []
    async with config.open(world.context) as session, asyncio.timeout(30):
        while len(stamps) < 4:
            batch = await session.read()
            assert isinstance(batch, Batch)
            stamps += batch.t_ns.tolist()
    assert all(b > a for a, b in itertools.pairwise(stamps))


# The library's server takes a percent deadband and does not keep it; node-opcua does.
@pytest.mark.parametrize(
    ("kind", "by"),
    [
        ("deadband", "server"),
        ("deadband", "gateway"),
        ("deadband_percent", "nobody"),
        ("deadband_percent", "gateway"),
    ],
)
async def test_a_deadband_is_kept_whatever_the_server_makes_of_it(
    made: Plant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, by: str
) -> None:
    if by == "gateway":
        monkeypatch.setattr(MonitoredItemService, "create_monitored_items", refuse_filters)
    node = await made.add("speed", 0.0)
    await node.add_property(0, "EURange", ua.Range(0.0, 50.0))
    config = source(made.url, signal("speed", queue_size=50, **{kind: 2.0}))
    world = bench("p1", "opcua", tmp_path)
    async with config.open(world.context) as session:
        got = await read_until(session, world, lambda got: len(got) == 1)
        for value in (0.3, 0.6, 5.0, 5.4, 5.9, 9.0):
            await made.set("speed", value)
        got += await read_until(session, world, lambda got: latest(got).get("speed") == 9.0)
    assert [value for _, value, _ in got] == [0.0, 5.0, 9.0]


async def test_the_server_is_asked_for_what_is_configured(
    made: Plant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    groups: dict[float, int] = {}
    subscribe = SubscriptionService.create_subscription

    async def watch_groups(
        service: SubscriptionService,
        params: ua.CreateSubscriptionParameters,
        *rest: Any,
        **named: Any,
    ) -> Any:
        groups[params.RequestedPublishingInterval] = params.Priority
        return await subscribe(service, params, *rest, **named)

    monkeypatch.setattr(SubscriptionService, "create_subscription", watch_groups)
    wishes: list[ua.MonitoringParameters] = []
    create = MonitoredItemService.create_monitored_items

    async def watch(
        service: MonitoredItemService, params: ua.CreateMonitoredItemsParameters
    ) -> list[ua.MonitoredItemCreateResult]:
        wishes.extend(item.RequestedParameters for item in params.ItemsToCreate)
        return await create(service, params)

    monkeypatch.setattr(MonitoredItemService, "create_monitored_items", watch)
    for name in ("a", "b", "c", "d"):
        await made.add(name, 1.0)
    config = source(
        made.url,
        signal("a"),
        signal("b", sampling_interval_s=0.1),
        signal("c", sampling_interval_s=0.5, queue_size=7, discard="newest"),
        signal("d", group="urgent", sampling_interval_s=0.25, queue_size=1),
        publishing_interval_s=1.0,
        groups=[{"name": "urgent", "publishing_interval_s": 0.5, "priority": 200}],
    )
    world = bench("p1", "opcua", tmp_path)
    async with config.open(world.context) as session:
        await read_until(session, world, lambda got: len(got) == 4)
    assert groups == {1000.0: 0, 500.0: 200}
    asked = [(w.SamplingInterval, w.QueueSize, w.DiscardOldest) for w in wishes]
    # Enough for two publishing intervals, and one more; or as written.
    assert sorted(asked) == [
        (100.0, 21, True),
        (250.0, 1, True),
        (500.0, 7, False),
        (1000.0, 3, True),
    ]


async def test_a_server_without_subscriptions_is_polled(made: Plant, tmp_path: Path) -> None:
    await made.add("speed", 1.0)
    config = source(made.url, signal("speed"))
    world = bench("p1", "opcua", tmp_path)
    server = made.server.iserver
    most, server.max_subscriptions = server.max_subscriptions, 0
    try:
        async with config.open(world.context) as session:
            await read_until(session, world, lambda got: latest(got) == {"speed": 1.0})
            await made.set("speed", 2.0)
            await read_until(session, world, lambda got: latest(got) == {"speed": 2.0})
            assert isinstance(session, OpcUaSession)
            assert not session._subscriptions
    finally:
        server.max_subscriptions = most
    assert world.meter.errors == {"BadTooManySubscriptions": 1}


async def test_a_server_that_looks_less_often_is_told(
    made: Plant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = MonitoredItemService.create_monitored_items

    async def slowly(
        service: MonitoredItemService, params: ua.CreateMonitoredItemsParameters
    ) -> list[ua.MonitoredItemCreateResult]:
        results = await create(service, params)
        for result in results:
            result.RevisedSamplingInterval = 5000.0
        return results

    monkeypatch.setattr(MonitoredItemService, "create_monitored_items", slowly)
    await made.add("speed", 1.0)
    world = bench("p1", "opcua", tmp_path)
    with capture_logs() as logs:
        async with source(made.url, signal("speed")).open(world.context) as session:
            await read_until(session, world, lambda got: len(got) == 1)
    (told,) = [line for line in logs if line["event"] == "sampling.revised"]
    assert (told["signals"], told["asked_s"], told["given_s"]) == (1, 0.05, 5.0)


async def test_whose_clock_stamps_is_chosen(made: Plant, tmp_path: Path) -> None:
    last_year = datetime(2025, 3, 1, tzinfo=UTC)
    await made.add("speed", 1.0)
    stamps = {}
    for clock in ("source", "server", "gateway"):
        await made.set("speed", 1.0, at=last_year)
        world = bench("p1", "opcua", tmp_path)
        config = source(made.url, signal("speed"), timestamp=clock, history=False)
        (tmp_path / "resume.json").unlink(missing_ok=True)
        async with config.open(world.context) as session, asyncio.timeout(30):
            batch = await session.read()
        assert isinstance(batch, Batch)
        stamps[clock] = int(batch.t_ns[0]) - batch.received_ns
        assert not world.meter.errors
    assert stamps["source"] < -86_400 * 10**9
    assert -(10**10) < stamps["server"] < 0
    assert stamps["gateway"] == 0


async def test_a_clock_in_the_future_is_not_believed(made: Plant, tmp_path: Path) -> None:
    await made.add("speed", 1.0)
    await made.set("speed", 2.0, at=datetime.now(UTC) + timedelta(hours=3))
    for settings, believed in (({}, False), ({"clock_ahead_s_max": 20_000}, True)):
        world = bench("p1", "opcua", tmp_path)
        config = source(made.url, signal("speed"), history=False, **settings)
        (tmp_path / "resume.json").unlink(missing_ok=True)
        async with config.open(world.context) as session, asyncio.timeout(30):
            batch = await session.read()
        assert isinstance(batch, Batch)
        assert (abs(int(batch.t_ns[0]) - batch.received_ns) > 10**10) == believed
        assert world.meter.errors == ({} if believed else {"clock": 1})


async def test_from_which_year_on_a_clock_is_believed_is_chosen(
    made: Plant, tmp_path: Path
) -> None:
    await made.add("speed", 1.0)
    await made.set("speed", 2.0, at=datetime(2025, 3, 1, tzinfo=UTC))
    world = bench("p1", "opcua", tmp_path)
    config = source(made.url, signal("speed"), clock_year_min=2026)
    async with config.open(world.context) as session, asyncio.timeout(30):
        batch = await session.read()
    assert isinstance(batch, Batch)
    assert abs(int(batch.t_ns[0]) - batch.received_ns) < 10**10
    assert world.meter.errors == {"clock": 1}


@pytest.mark.parametrize("junk", ["", "{", "[]", '{"marks": 7}', '{"marks": {"pump/speed": 1}}'])
async def test_a_broken_memory_of_the_last_session_stops_nothing(
    made: Plant, tmp_path: Path, junk: str
) -> None:
    await made.add("speed", 1.0)
    (tmp_path / "resume.json").write_text(junk)
    world = bench("p1", "opcua", tmp_path)
    async with source(made.url, signal("speed")).open(world.context) as session:
        await read_until(session, world, lambda got: latest(got) == {"speed": 1.0})


async def refuse_filters(
    service: MonitoredItemService, params: ua.CreateMonitoredItemsParameters
) -> list[ua.MonitoredItemCreateResult]:
    """As a small PLC answers that knows no deadband."""
    results = []
    for wish in params.ItemsToCreate:
        if type(wish.RequestedParameters.Filter).__name__ == "DataChangeFilter":
            refusal = ua.MonitoredItemCreateResult()
            refusal.StatusCode = ua.StatusCode(ua.UInt32(ua.StatusCodes.BadFilterNotAllowed))
            results.append(refusal)
        else:
            results.append(await service._create_data_change_monitored_item(wish))
    return results


async def test_the_gap_of_an_outage_is_filled_from_history_once(
    made: Plant, tmp_path: Path
) -> None:
    async with proxy(("127.0.0.1", made.port)) as relay:
        await made.historize("speed")
        await made.add("load", 0.0)  # Has no history, and must not be in the way.
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
            await made.set("speed", value)
        await watch(3.0)
        for value in (4.0, 5.0, 6.0, 7.0):
            await made.set("speed", value)
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
    made: Plant, tmp_path: Path, settings: dict[str, Any], reason: str
) -> None:
    for name in ("load", "torque", "resting"):
        await made.add(name, 1.0)
    signals = [signal(name) for name in ("load", "torque", "resting")]
    config = source(made.url, *signals, timeout_s=0.3, **settings)
    world = bench("p1", "opcua", tmp_path)
    meter = world.meter
    async with config.open(world.context) as session:
        await read_until(session, world, lambda got: len(got) >= 3)
    for name in ("load", "torque"):
        await made.set(name, 2.0)
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
    made: Plant, tmp_path: Path
) -> None:
    await made.historize("speed")
    await made.set("speed", 1.0)
    config = source(made.url, signal("speed"), history_span_s_max=0.05, timeout_s=0.3)
    world = bench("p1", "opcua", tmp_path)
    async with config.open(world.context) as session:
        await read_until(session, world, lambda got: latest(got) == {"speed": 1.0})
    await made.set("speed", 2.0)
    await asyncio.sleep(0.1)  # Longer than the span.
    await made.set("speed", 3.0)
    async with config.open(world.context) as session:
        await read_until(session, world, lambda got: latest(got) == {"speed": 3.0})
        await eventually(lambda: world.meter.gaps_unfilled > 0)
    assert world.meter.gaps_unfilled == 1
    assert world.meter.gap_text.endswith("not filled: it is longer than history_span_s_max")


async def test_the_servers_limits_are_read(made: Plant, tmp_path: Path) -> None:
    limit = ua.ObjectIds.Server_ServerCapabilities_OperationLimits_MaxMonitoredItemsPerCall
    await made.server.write_attribute_value(
        ua.NodeId(ua.Int32(limit)), ua.DataValue(ua.Variant(3, ua.VariantType.UInt32))
    )
    names = [f"n{i}" for i in range(10)]
    for name in names:
        await made.add(name, 1.0)
    config = source(made.url, *(signal(name) for name in names))
    world = bench("p1", "opcua", tmp_path)
    async with open_link(config, world.context) as link:
        uris, limits = await read_server(link, config)
    assert uris[made.index] == URI
    assert limits.monitored == 3
    assert limits.read == config.items_per_call_max
    async with config.open(world.context) as session:
        got = await read_until(session, world, lambda got: len(latest(got)) == 10)
    assert latest(got) == dict.fromkeys(names, 1.0)


async def test_a_publication_that_cannot_be_read_is_asked_for_again(
    made: Plant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await made.add("speed", 0.0)
    config = source(made.url, signal("speed", queue_size=100))
    world = bench("p1", "opcua", tmp_path)
    decode = Publisher._decode
    broken: list[bytes] = []

    def decode_but_once(data: bytes) -> Publication:
        publication = decode(data)
        if publication.values is not None and publication.sequence == 2:
            broken.append(data)
            raise DataError("a bit fell over")
        return publication

    monkeypatch.setattr(Publisher, "_decode", staticmethod(decode_but_once))
    async with config.open(world.context) as session:
        await read_until(session, world, lambda got: len(got) == 1)
        await made.set("speed", 1.0)
        await eventually(lambda: bool(broken))
        await made.set("speed", 2.0)
        got = await read_until(session, world, lambda got: len(got) == 2)
    assert [value for _, value, _ in got] == [1.0, 2.0]
    assert world.meter.errors == {"decode": 1, "sequence_gap": 1}
    assert world.meter.samples_lost == 0


async def test_a_message_that_is_gone_is_counted(made: Plant, tmp_path: Path) -> None:
    await made.add("speed", 0.0)
    config = source(made.url, signal("speed", queue_size=100))
    world = bench("p1", "opcua", tmp_path)
    async with config.open(world.context) as session:
        await read_until(session, world, lambda got: len(got) == 1)
        subscriptions = made.server.iserver.subscription_service.subscriptions
        for subscription in subscriptions.values():
            subscription._notification_seq += 3
        await made.set("speed", 1.0)
        await read_until(session, world, lambda got: latest(got) == {"speed": 1.0})
    assert world.meter.errors["sequence_gap"] == 3
    assert world.meter.samples_lost == 3


async def test_each_group_is_published_at_its_own_pace(made: Plant, tmp_path: Path) -> None:
    for name in ("fast", "slow", "read"):
        await made.add(name, 1.0)
    groups = [
        {"name": "quick", "publishing_interval_s": 0.05},
        {"name": "lazy", "publishing_interval_s": 60.0},
        {"name": "asked", "publishing_interval_s": 0.05, "mode": "poll"},
    ]
    config = source(
        made.url,
        signal("fast", group="quick"),
        signal("slow", group="lazy"),
        signal("read", group="asked"),
        groups=groups,
        history=False,
    )
    world = bench("p1", "opcua", tmp_path)
    async with config.open(world.context) as session:
        got = await read_until(session, world, lambda got: {"fast", "read"} <= latest(got).keys())
        for value in (2.0, 3.0):
            for name in ("fast", "slow", "read"):
                await made.set(name, value)
            got += await read_until(
                session,
                world,
                lambda got, value=value: (
                    latest(got).get("fast") == latest(got).get("read") == value
                ),  # type: ignore[misc]
            )
    assert 2.0 not in [value for name, value, _ in got if name == "slow"]
