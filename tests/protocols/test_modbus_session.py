"""Polling as an operator sees it: refusals, silence and reloads, against a real device."""

import asyncio
from collections.abc import Collection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.batch import Quality
from gateway.core.source import Source
from protocols.modbus.group import Group
from protocols.modbus.schedule import Slots
from tests.faults.modbus_device import Asked, Behaviour, Device, Write, on_tcp, right
from tests.protocols.modbus_peers import make_config, make_context, sweep


def refusing(illegal: Collection[int], *, count_max: int = 125) -> Behaviour:
    """A device without some addresses, which takes no request longer than `count_max`."""

    async def behave(device: Device, asked: Asked, write: Write) -> None:
        touched = range(asked.start, asked.start + asked.count)
        if asked.count > count_max:
            write(device.frame(asked, asked.refusal(3)))
        elif any(a in illegal for a in touched):
            write(device.frame(asked, asked.refusal(2)))
        else:
            await right(device, asked, write)

    return behave


@settings(max_examples=40, deadline=None)
@given(
    st.sets(st.integers(0, 60), min_size=1, max_size=40),
    st.sets(st.integers(0, 60), max_size=12),
    st.sampled_from([1, 5, 125]),
)
def test_whatever_is_illegal_every_legal_signal_is_good_in_every_sweep(
    wanted: set[int], illegal: set[int], count_max: int
) -> None:
    """Unwanted addresses may be illegal too; then a gap must not be read over them."""

    async def main(folder: Path) -> None:
        device = Device(behaviour=refusing(illegal, count_max=count_max))
        context = make_context(folder)
        async with on_tcp(device) as url, asyncio.timeout(30):
            signals = [{"signal": str(a), "address": f"holding:{a}"} for a in sorted(wanted)]
            config = make_config(url, signals, poll_s=0.01, flush_s=5)
            async with config.open(context) as session:
                for n in range(3):
                    batch = await sweep(session)
                    good = batch.value[batch.quality == Quality.GOOD]
                    assert sorted(good) == [1000 + a for a in sorted(wanted - illegal)]
                    assert len(batch) == len(wanted)
                    if n == 1:
                        asked = len(device.asked)
                # It has learnt: a sweep asks for no more than what is there.
                assert all(
                    not illegal & set(range(a.start, a.start + a.count)) and a.count <= count_max
                    for a in device.asked[asked:]
                )
        assert set(context.meter.quarantined) == {f"a/{a}" for a in wanted & illegal}

    with TemporaryDirectory() as folder:
        asyncio.run(main(Path(folder)))


async def test_many_refused_in_one_block_do_not_take_the_rest_along(tmp_path: Path) -> None:
    """Fifty illegal ones at the front and one at the end; what lies between is read."""
    device = Device(behaviour=refusing({*range(50), 99}))
    context = make_context(tmp_path)
    async with on_tcp(device) as url, asyncio.timeout(30):
        config = make_config(url, [{"address": f"holding:{a}"} for a in range(100)])
        async with config.open(context) as session:
            batch = await sweep(session)
    good = batch.value[batch.quality == Quality.GOOD]
    assert sorted(good) == [1000 + a for a in range(50, 99)]


async def test_a_refused_address_is_tried_again_and_comes_back(tmp_path: Path) -> None:
    device = Device(behaviour=refusing({5}))
    context = make_context(tmp_path)
    async with on_tcp(device) as url, asyncio.timeout(30):
        signals = [{"address": f"holding:{a}"} for a in range(10)]
        config = make_config(url, signals, quarantine_retry_s=0.1)
        async with config.open(context) as session:
            assert (await sweep(session)).quality.tolist().count(Quality.BAD) == 1
            assert set(context.meter.quarantined) == {"a/s5"}
            device.behaviour = right
            while context.meter.quarantined:
                await sweep(session)
            batch = await sweep(session)
            assert (batch.quality == Quality.GOOD).all()
            assert sorted(batch.value) == list(range(1000, 1010))


def test_a_refused_address_is_tried_again_ever_more_rarely(tmp_path: Path) -> None:
    config = make_config("tcp://plc", [{"address": f"holding:{a}"} for a in range(3)])
    group = Group(config, make_context(tmp_path), config.signals, Slots(10**9, 0), {})
    pauses_s = []
    for _ in range(8):
        group.quarantine(1, "refused", now_ns=0, pause_ns=600 * 10**9)
        pauses_s.append(group.quarantined[1].retry_ns / 1e9)
    assert pauses_s == [600, 1200, 2400, 4800, 9600, 19_200, 21_600, 21_600]


async def test_a_device_that_fails_while_it_starts_is_not_left_out_for_long(tmp_path: Path) -> None:
    """Exception 4 says nothing of the address, so ten minutes of quarantine would be wrong."""

    async def failing(device: Device, asked: Asked, write: Write) -> None:
        write(device.frame(asked, asked.refusal(4)))

    device = Device(behaviour=failing)
    context = make_context(tmp_path)
    async with on_tcp(device) as url, asyncio.timeout(30):
        config = make_config(url, [{"address": f"holding:{a}"} for a in range(3)], poll_s=0.02)
        async with config.open(context) as session:
            assert ((await sweep(session)).quality == Quality.BAD).all()
            assert "device failure" in context.meter.quarantined["a/s1"]
            device.behaviour = right
            while context.meter.quarantined:
                await sweep(session)
            assert ((await sweep(session)).quality == Quality.GOOD).all()


async def test_a_missing_table_is_refused_as_a_whole(tmp_path: Path) -> None:
    async def no_input(device: Device, asked: Asked, write: Write) -> None:
        pdu = asked.refusal(1) if asked.function == 4 else asked.pdu()
        write(device.frame(asked, pdu))

    device = Device(behaviour=no_input)
    context = make_context(tmp_path)
    async with on_tcp(device) as url, asyncio.timeout(30):
        signals = [{"address": f"{t}:{a}"} for t in ("input", "holding") for a in range(60)]
        async with make_config(url, signals).open(context) as session:
            batch = await sweep(session)
            assert (batch.quality == Quality.GOOD).sum() == 60
    assert len(context.meter.quarantined) == 60
    assert context.meter.requests <= 4  # It did not ask for each of them.


async def test_a_gateway_that_reports_a_silent_unit_is_believed(tmp_path: Path) -> None:
    async def no_two(device: Device, asked: Asked, write: Write) -> None:
        write(device.frame(asked, asked.refusal(11) if asked.unit == 2 else asked.pdu()))

    device = Device(behaviour=no_two)
    context = make_context(tmp_path)
    async with on_tcp(device) as url, asyncio.timeout(30):
        signals = [{"address": f"holding:{a}", "unit_id": u} for u in (1, 2) for a in (1, 500)]
        async with make_config(url, signals).open(context) as session:
            for _ in range(6):
                batch = await sweep(session)
                assert sorted(batch.value[batch.quality == Quality.GOOD]) == [1001, 1500]
            assert set(context.meter.quarantined) == {"a/s2", "a/s3"}
            assert sum(asked.unit == 2 for asked in device.asked) <= 4
            device.behaviour = right
            while context.meter.quarantined:
                await sweep(session)
            assert ((await sweep(session)).quality == Quality.GOOD).all()


async def test_a_reload_keeps_what_is_known(tmp_path: Path) -> None:
    """Signals, rates and limits change without the link; refusals and silence are remembered."""

    async def two_is_dead(device: Device, asked: Asked, write: Write) -> None:
        if asked.unit == 1:
            await refusing({5})(device, asked, write)

    device = Device(behaviour=two_is_dead)
    context = make_context(tmp_path)
    before: list[dict[str, Any]] = [
        {"signal": "good", "address": "holding:4"},
        {"signal": "refused", "address": "holding:5"},
        {"signal": "silent", "address": "holding:4", "unit_id": 2},
    ]
    async with on_tcp(device) as url, asyncio.timeout(30):
        config = make_config(url, before, timeout_s=0.1)
        async with config.open(context) as session:
            while len(context.meter.quarantined) < 2:
                await sweep(session)
            shown = dict(context.meter.quarantined)
            refusals = context.meter.errors["exception_2"]
            added = {"signal": "added", "address": "holding:6", "poll_s": 0.02}
            after = make_config(url, [*before, added], timeout_s=0.1, registers_max=50)
            assert await session.apply(cast("Source", after))
            assert context.meter.quarantined == shown
            values: set[float] = set()
            while not {1004, 1006} <= values:
                values |= set((await sweep(session)).value.tolist())
            assert context.meter.errors["exception_2"] == refusals
            elsewhere = make_config("tcp://127.0.0.1:1", before)
            assert not await session.apply(cast("Source", elsewhere))
    assert device.connections == 1


async def test_a_counter_goes_on_over_a_restart(tmp_path: Path) -> None:
    count = 65_530

    async def counting(device: Device, asked: Asked, write: Write) -> None:
        nonlocal count
        count += 4
        data = (count % 65_536).to_bytes(2, "big")
        write(device.frame(asked, bytes([asked.function, 2]) + data))

    device = Device(behaviour=counting)
    context = make_context(tmp_path)
    async with on_tcp(device) as url, asyncio.timeout(30):
        signal = {"address": "holding:1", "counter": True, "scale": 0.5}
        config = make_config(url, [signal])
        for _ in range(2):  # The second time, another session with the same data directory.
            async with config.open(context) as session:
                for _ in range(3):
                    assert (await sweep(session)).value.tolist() == [count / 2]
    assert context.meter.errors == {"counter_rollover": 1}
