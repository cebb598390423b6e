"""What the OPC UA source does by the clock alone, in virtual time."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest

from gateway.core.alarm import Condition, Priority
from gateway.core.errors import LinkTimeout
from protocols.opcua.expiry import watch_expiry
from protocols.opcua.publish import Publisher
from protocols.opcua.subscription import Subscription

from ..sim.loop import LoopClock, simulate
from ..sim.peer import source_context
from .opcua_plant import signal, source

NOW = datetime(2026, 11, 1, tzinfo=UTC)
NOTHING = cast("Any", None)


def test_a_certificate_that_ends_while_the_link_lives_is_warned_of_in_time() -> None:
    conditions: list[Condition] = []
    clock = LoopClock(round(NOW.timestamp()))
    context = replace(source_context(conditions), clock=clock)

    async def main() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(41 * 86_400):
                await watch_expiry(context, "plc", {"server": NOW + timedelta(days=40)})

    simulate(main)
    days_left: dict[Priority, float] = {}
    for condition in conditions:
        if condition.active:
            assert condition.priority is not None
            days_left.setdefault(
                condition.priority, 40 - (condition.t_ns / 1e9 - clock.begin_s) / 86_400
            )
    assert {priority: round(days, 1) for priority, days in days_left.items()} == {
        Priority.LOW: 30,
        Priority.MEDIUM: 7,
        Priority.HIGH: 1,
    }


@pytest.mark.parametrize("keep_alive_s", [1.0, 5.0])
def test_silence_is_found_at_two_keep_alives_and_not_before(keep_alive_s: float) -> None:
    context = replace(source_context(), clock=LoopClock())
    config = source("opc.tcp://plc", signal("speed"))

    async def main() -> None:
        publisher = Publisher(NOTHING, context, NOTHING, NOTHING, {}, NOTHING)
        publisher.add(Subscription(NOTHING, config, context.log, 1, keep_alive_s, 0))
        with pytest.raises(LinkTimeout, match="sign of life"):
            await publisher.watch()
        found_s = asyncio.get_running_loop().time() / keep_alive_s
        assert 2 <= found_s <= 2.25

    simulate(main)
