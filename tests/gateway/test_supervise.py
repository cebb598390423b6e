"""Reconnection and reload, told as scripts in virtual time."""

import asyncio
from itertools import pairwise

import numpy as np
import pytest
from structlog.testing import capture_logs

from gateway.core.alarm import Condition
from gateway.core.batch import Batch, Quality
from gateway.core.channel import Channel, WhenFull
from gateway.core.errors import LinkRefused, LinkTimeout
from gateway.core.meter import LinkState
from gateway.pipeline.supervise import Supervisor
from tests.eventually import eventually
from tests.sim.loop import Deadlock, simulate
from tests.sim.peer import ScriptedSource, batch, source_context


async def take(channel: Channel, n: int) -> list[Batch]:
    got: list[Batch] = []
    while sum(len(item) for item in got) < n:
        got += [item for item in await channel.receive() if isinstance(item, Batch)]
    return got


async def stop(task: asyncio.Task[None]) -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_a_link_logs_two_edges_and_backs_off_to_a_minute() -> None:
    fails = [[LinkTimeout("no answer")] for _ in range(30)]
    source = ScriptedSource([[5], *fails, [0.0, 7, 9.0]])
    conditions: list[Condition] = []
    context = source_context(conditions)

    async def main() -> None:
        channel = Channel(samples_max=100, when_full=WhenFull.BLOCK)
        task = asyncio.create_task(Supervisor(source, context, channel).run())
        got = await take(channel, 13)
        # Five samples, one BAD sample of the only signal at the down edge, seven samples.
        assert [len(b) for b in got] == [5, 1, 7]
        assert got[1].quality.tolist() == [Quality.BAD]
        assert np.isnan(got[1].value).all()
        assert context.meter.state is LinkState.UP
        await stop(task)

    with capture_logs() as logs:
        simulate(main)

    gaps = [b - a for a, b in pairwise(source.opened_at_s)]
    assert [line["event"] for line in logs] == ["source.up", "source.down", "source.recovered"]
    assert [(c.alarm, c.active) for c in conditions] == [("link.s", True), ("link.s", False)]
    assert 0.25 <= gaps[0] <= 0.5
    assert all(30 <= gap <= 60 for gap in gaps[8:])
    assert sum(gaps) > 15 * 60  # A quarter of an hour, simulated.
    assert context.meter.link_errors == 31
    assert (context.meter.samples, context.meter.samples_bad) == (13, 1)


def test_a_refusal_is_retried_slowly() -> None:
    source = ScriptedSource([[LinkRefused("wrong password")], [LinkRefused("again")], [3, 99.0]])

    async def main() -> None:
        channel = Channel(samples_max=100, when_full=WhenFull.BLOCK)
        task = asyncio.create_task(Supervisor(source, source_context(), channel).run())
        await take(channel, 4)
        await stop(task)

    simulate(main)
    assert all(b - a >= 15 for a, b in pairwise(source.opened_at_s))


def test_a_changed_configuration_keeps_the_link_where_it_can() -> None:
    async def main(*, keeps_link: bool) -> int:
        source = ScriptedSource([[1, 50.0, 2, 1e6], [4, 1e6]], keeps_link=keeps_link)
        channel = Channel(samples_max=100, when_full=WhenFull.BLOCK)
        supervisor = Supervisor(source, source_context(), channel)
        task = asyncio.create_task(supervisor.run())
        await take(channel, 1)
        supervisor.change(source)
        await take(channel, 2 if keeps_link else 4)
        await stop(task)
        return len(source.opened_at_s)

    assert simulate(lambda: main(keeps_link=True)) == 1
    assert simulate(lambda: main(keeps_link=False)) == 2


def test_a_change_while_the_link_is_down_ends_the_waiting() -> None:
    source = ScriptedSource([[LinkTimeout("no")] for _ in range(12)] + [[3, 1e6]])

    async def main() -> None:
        channel = Channel(samples_max=100, when_full=WhenFull.BLOCK)
        supervisor = Supervisor(source, source_context(), channel)
        task = asyncio.create_task(supervisor.run())
        await eventually(lambda: len(source.opened_at_s) == 12, timeout_s=3600)
        now_s = asyncio.get_running_loop().time()
        supervisor.change(source)
        await take(channel, 3)
        assert asyncio.get_running_loop().time() - now_s < 2
        await stop(task)

    simulate(main)


def test_no_sample_is_lost_when_a_change_meets_a_full_channel() -> None:
    source = ScriptedSource([[6, 6, 6, 1e6]])

    async def main() -> None:
        channel = Channel(samples_max=10, when_full=WhenFull.BLOCK)
        supervisor = Supervisor(source, source_context(), channel)
        task = asyncio.create_task(supervisor.run())
        await asyncio.sleep(1)  # Virtual: the first six are in, the second six wait.
        supervisor.change(source)
        await asyncio.sleep(1)
        assert sum(len(b) for b in await take(channel, 18)) == 18
        await stop(task)

    simulate(main)


def test_block_holds_the_sender_and_drop_oldest_counts() -> None:
    async def main() -> None:
        channel = Channel(samples_max=10, when_full=WhenFull.BLOCK)
        await channel.send(batch(10))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(3600):
                await channel.send(batch(1))
        assert (channel.samples, channel.samples_dropped) == (10, 0)

        lossy = Channel(samples_max=10, when_full=WhenFull.DROP_OLDEST)
        for _ in range(4):
            await lossy.send(batch(5))
        assert (lossy.samples, lossy.samples_dropped) == (10, 10)

    simulate(main)


def test_what_was_received_is_worked_off_when_the_receiver_comes_for_more() -> None:
    async def main() -> None:
        channel = Channel(samples_max=10, when_full=WhenFull.BLOCK)
        await channel.worked_off()
        await channel.send(batch(5))
        await channel.receive()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(3600):
                await channel.worked_off()
        async with asyncio.TaskGroup() as tasks:
            waiting = tasks.create_task(channel.worked_off())
            await asyncio.sleep(1)
            more = tasks.create_task(channel.receive())
            await waiting
            more.cancel()

    simulate(main)


def test_waiting_for_nothing_is_a_deadlock() -> None:
    async def main() -> None:
        await Channel(samples_max=1, when_full=WhenFull.BLOCK).receive()

    with pytest.raises(Deadlock):
        simulate(main)
