"""What goes wrong on a Modbus link: each fault is counted, shown on the right signals, and ends."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from gateway.core.batch import Batch, Quality
from gateway.core.channel import Channel, WhenFull
from gateway.core.errors import LinkError
from gateway.core.source import Session, SourceContext
from gateway.pipeline.supervise import Supervisor
from protocols.modbus import Config
from tests.faults.modbus_device import Asked, Behaviour, Device, Write, on_tcp, on_tty, right
from tests.faults.modbus_faults import bad_checksum, silence
from tests.protocols.modbus_peers import make_config, make_context

DEADLINE_S = 30


def config(url: str, units: Sequence[int] = (1,), **settings: Any) -> Config:
    """Three registers, 10 to 12, of each unit."""
    signals = [{"address": f"holding:{a}", "unit_id": u} for u in units for a in (10, 11, 12)]
    return make_config(url, signals, **{"timeout_s": 0.1, "poll_s": 0.05, **settings})


async def batch_of(session: Session) -> Batch:
    batch = await session.read()
    assert isinstance(batch, Batch)
    return batch


async def until(session: Session, quality: Quality) -> Batch:
    """Read until every sample of a batch has this quality."""
    while True:
        batch = await batch_of(session)
        if (batch.quality == quality).all():
            return batch


def once(fault: Behaviour) -> Behaviour:
    """The fault at the first request, then health."""

    async def behave(device: Device, asked: Asked, write: Write) -> None:
        await (fault if len(device.asked) == 1 else right)(device, asked, write)

    return behave


async def test_a_damaged_reply_is_asked_for_again_at_once(tmp_path: Path) -> None:
    device = Device("rtu", behaviour=once(bad_checksum))
    context = make_context(tmp_path)
    async with (
        on_tty(device) as url,
        asyncio.timeout(DEADLINE_S),
        config(url, retries=1, timeout_s=2).open(context) as session,
    ):
        assert (await batch_of(session)).value.tolist() == [1010, 1011, 1012]
    assert context.meter.errors["checksum"] == 1


async def test_silence_is_asked_again_at_once_where_it_is_wished(tmp_path: Path) -> None:
    async def second_is_lost(device: Device, asked: Asked, write: Write) -> None:
        await (silence if len(device.asked) == 2 else right)(device, asked, write)

    device = Device(behaviour=second_is_lost)
    context = make_context(tmp_path)
    async with (
        on_tcp(device) as url,
        asyncio.timeout(DEADLINE_S),
        config(url, timeout_retries=1, timeout_s=0.5).open(context) as session,
    ):
        for _ in range(3):
            assert (await batch_of(session)).value.tolist() == [1010, 1011, 1012]
    assert context.meter.errors["timeout"] == 1


async def test_a_dead_unit_costs_the_others_one_time_out(tmp_path: Path) -> None:
    async def two_is_dead(device: Device, asked: Asked, write: Write) -> None:
        if asked.unit != 2:
            await right(device, asked, write)

    device = Device("rtu", behaviour=two_is_dead)
    context = make_context(tmp_path)
    async with on_tty(device) as url, asyncio.timeout(DEADLINE_S):
        signals = [
            {"address": f"holding:{a}", "unit_id": u} for u in (1, 2, 3) for a in (10, 500, 1000)
        ]
        source = make_config(url, signals, timeout_s=0.4, poll_s=0.05)
        async with source.open(context) as session:
            good: list[NDArray[np.float64]] = []
            while len(good) < 20:
                batch = await batch_of(session)
                alive = batch.quality == Quality.GOOD
                assert set(batch.value[alive] // 1000) <= {1, 2, 3, 4}
                if len(batch) == 9:
                    assert alive.sum() == 6
                    good.append(batch.value[alive])
            dead = [a for a in device.asked if a.unit == 2]
            # Three blocks a sweep, 20 sweeps: yet the dead unit was asked but for a probe now and
            # then, and one time-out was lost each time.
            assert len(dead) == context.meter.errors["timeout"] <= 8
            assert {n.split(":")[0] for n in context.meter.quarantined.values()} == {"unit 2"}
            assert set(context.meter.quarantined) == {"a/s3", "a/s4", "a/s5"}
            device.behaviour = right
            while context.meter.quarantined:
                batch = await batch_of(session)
            batch = await until(session, Quality.GOOD)
            assert len(batch) == 9


async def test_many_dead_units_are_not_a_dead_link_but_all_of_them_are(tmp_path: Path) -> None:
    """A line half of which is switched off goes on; one where nobody speaks is opened again."""
    dead = set(range(1, 8))

    async def some_dead(device: Device, asked: Asked, write: Write) -> None:
        if asked.unit not in dead:
            await right(device, asked, write)

    device = Device("rtu", behaviour=some_dead)
    context = make_context(tmp_path)
    async with on_tty(device) as url, asyncio.timeout(DEADLINE_S):
        source = config(url, units=range(1, 10), timeout_s=0.15)
        async with source.open(context) as session:
            good = 0
            while good < 30:
                good += int(((await batch_of(session)).quality == Quality.GOOD).sum())
            assert {
                int(text.split()[1][:-1]) for text in context.meter.quarantined.values()
            } == dead
            dead |= {8, 9}
            timeouts = context.meter.errors["timeout"]
            with pytest.raises(LinkError, match="no unit answers; see unit_id, baudrate, parity"):
                while True:
                    await session.read()
            # A few time-outs told it, probes of the others included.
            assert context.meter.errors["timeout"] <= timeouts + 15


async def test_one_stall_of_many_requests_under_way_is_one_silence(tmp_path: Path) -> None:
    async def stall(device: Device, asked: Asked, write: Write) -> None:
        if len(device.asked) > 8:
            await right(device, asked, write)

    device = Device(behaviour=stall)
    context = make_context(tmp_path)
    async with on_tcp(device) as url, asyncio.timeout(DEADLINE_S):
        signals = [{"address": f"holding:{200 * a}"} for a in range(8)]
        source = make_config(url, signals, in_flight=8, timeout_s=0.1, poll_s=0.05)
        async with source.open(context) as session:
            batch = await until(session, Quality.GOOD)
            assert len(batch) == 8
    assert context.meter.errors["timeout"] >= 8
    assert device.connections == 1


class supervised:  # noqa: N801 (used as a context manager)
    """The source under the real supervisor, with a channel wide enough to hold the test."""

    def __init__(self, source: Config, folder: Path) -> None:
        self._source = source
        self.context = make_context(folder)
        self.out = Channel(samples_max=1_000_000, when_full=WhenFull.BLOCK)

    async def __aenter__(self) -> tuple[SourceContext, Channel]:
        supervisor = Supervisor(self._source, self.context, self.out)
        self._task = asyncio.create_task(supervisor.run())
        return self.context, self.out

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await self._task
