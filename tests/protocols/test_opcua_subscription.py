"""What a server is asked to send, how often and how much of it, and what is lost on the way."""

import asyncio
import itertools
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from asyncua import ua
from asyncua.server.monitored_item_service import MonitoredItemService
from asyncua.server.subscription_service import SubscriptionService
from structlog.testing import capture_logs

from gateway.core.batch import Batch
from gateway.core.errors import DataError
from protocols.opcua.intake import turns
from protocols.opcua.publish import Publisher
from protocols.opcua.session import OpcUaSession
from protocols.opcua.wire import Publication

from ..conformance import bench
from ..eventually import eventually
from .opcua_plant import Plant, latest, read_until, signal, source

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_a_steady_value_is_repeated_while_the_link_lives(
    opcua: Plant, tmp_path: Path
) -> None:
    await opcua.add("speed", 1.0)
    await opcua.set("speed", 4.0, at=datetime(2026, 1, 1, tzinfo=UTC))
    config = source(opcua.url, signal("speed"), repeat_s=0.1, keep_alive_s=0.1)
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


async def test_polled_steady_values_are_as_fresh_as_the_poll(opcua: Plant, tmp_path: Path) -> None:
    await opcua.add("speed", 4.0)
    config = source(opcua.url, signal("speed"), mode="poll", publishing_interval_s=0.02)
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
    opcua: Plant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, by: str
) -> None:
    if by == "gateway":
        monkeypatch.setattr(MonitoredItemService, "create_monitored_items", refuse_filters)
    node = await opcua.add("speed", 0.0)
    await node.add_property(0, "EURange", ua.Range(0.0, 50.0))
    config = source(opcua.url, signal("speed", queue_size=50, **{kind: 2.0}))
    world = bench("p1", "opcua", tmp_path)
    async with config.open(world.context) as session:
        got = await read_until(session, world, lambda got: len(got) == 1)
        for value in (0.3, 0.6, 5.0, 5.4, 5.9, 9.0):
            await opcua.set("speed", value)
        got += await read_until(session, world, lambda got: latest(got).get("speed") == 9.0)
    assert [value for _, value, _ in got] == [0.0, 5.0, 9.0]


async def test_the_server_is_asked_for_what_is_configured(
    opcua: Plant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
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
        await opcua.add(name, 1.0)
    config = source(
        opcua.url,
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


async def test_a_server_without_subscriptions_is_polled(opcua: Plant, tmp_path: Path) -> None:
    await opcua.add("speed", 1.0)
    config = source(opcua.url, signal("speed"))
    world = bench("p1", "opcua", tmp_path)
    server = opcua.server.iserver
    most, server.max_subscriptions = server.max_subscriptions, 0
    try:
        async with config.open(world.context) as session:
            await read_until(session, world, lambda got: latest(got) == {"speed": 1.0})
            await opcua.set("speed", 2.0)
            await read_until(session, world, lambda got: latest(got) == {"speed": 2.0})
            assert isinstance(session, OpcUaSession)
            assert not session._subscriptions
    finally:
        server.max_subscriptions = most
    del world.meter.errors["late"]  # A busy machine leaves rounds out.
    assert world.meter.errors == {"BadTooManySubscriptions": 1}


async def test_a_server_that_looks_less_often_is_told(
    opcua: Plant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
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
    await opcua.add("speed", 1.0)
    world = bench("p1", "opcua", tmp_path)
    with capture_logs() as logs:
        async with source(opcua.url, signal("speed")).open(world.context) as session:
            await read_until(session, world, lambda got: len(got) == 1)
    (told,) = [line for line in logs if line["event"] == "sampling.revised"]
    assert (told["signals"], told["asked_s"], told["given_s"]) == (1, 0.05, 5.0)


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


async def test_a_publication_that_cannot_be_read_is_asked_for_again(
    opcua: Plant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await opcua.add("speed", 0.0)
    config = source(opcua.url, signal("speed", queue_size=100))
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
        await opcua.set("speed", 1.0)
        await eventually(lambda: bool(broken))
        await opcua.set("speed", 2.0)
        got = await read_until(session, world, lambda got: len(got) == 2)
    assert [value for _, value, _ in got] == [1.0, 2.0]
    assert world.meter.errors == {"decode": 1, "sequence_gap": 1}
    assert world.meter.samples_lost == 0


async def test_a_message_that_is_gone_is_counted(opcua: Plant, tmp_path: Path) -> None:
    await opcua.add("speed", 0.0)
    config = source(opcua.url, signal("speed", queue_size=100))
    world = bench("p1", "opcua", tmp_path)
    async with config.open(world.context) as session:
        await read_until(session, world, lambda got: len(got) == 1)
        subscriptions = opcua.server.iserver.subscription_service.subscriptions
        for subscription in subscriptions.values():
            subscription._notification_seq += 3
        await opcua.set("speed", 1.0)
        await read_until(session, world, lambda got: latest(got) == {"speed": 1.0})
    assert world.meter.errors["sequence_gap"] == 3
    assert world.meter.samples_lost == 3


async def test_each_group_is_published_at_its_own_pace(opcua: Plant, tmp_path: Path) -> None:
    for name in ("fast", "slow", "read"):
        await opcua.add(name, 1.0)
    groups = [
        {"name": "quick", "publishing_interval_s": 0.05},
        {"name": "lazy", "publishing_interval_s": 60.0},
        {"name": "asked", "publishing_interval_s": 0.05, "mode": "poll"},
    ]
    config = source(
        opcua.url,
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
                await opcua.set(name, value)
            got += await read_until(
                session,
                world,
                lambda got, value=value: (
                    latest(got).get("fast") == latest(got).get("read") == value
                ),  # type: ignore[misc]
            )
    assert 2.0 not in [value for name, value, _ in got if name == "slow"]


async def test_several_samples_of_a_signal_are_held_against_its_deadband_in_turn() -> None:
    handle = np.array([3, 1, 3, 2, 3, 1], np.uint32)
    parts = [part.tolist() for part in turns(handle, np.array([0, 1, 2, 4, 5]))]
    assert parts == [[1, 0], [5, 2], [4]]
    assert turns(handle, np.zeros(0, np.int64)) == []
