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
from gateway.core.meter import LinkState
from gateway.core.source import Session, SourceContext
from gateway.pipeline.supervise import Supervisor
from protocols.modbus import Config
from tests.eventually import eventually
from tests.faults.modbus_device import Asked, Behaviour, Device, Write, on_tcp, on_tty, right
from tests.protocols.modbus_peers import faults_of, make_config, make_context

DEADLINE_S = 15


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


async def wrong_transaction(device: Device, asked: Asked, write: Write) -> None:
    write(asked.tcp(asked.pdu(), transaction=asked.transaction + 7))


async def wrong_unit(device: Device, asked: Asked, write: Write) -> None:
    write(
        asked.rtu(asked.pdu(), unit=asked.unit + 1)
        if device.rtu
        else asked.tcp(asked.pdu(), unit=asked.unit + 1)
    )


async def wrong_count(device: Device, asked: Asked, write: Write) -> None:
    write(
        device.frame(
            asked, bytes([asked.function, 2 * asked.count + 2]) + asked.pdu()[2:] + b"\0\0"
        )
    )


async def short_frame(device: Device, asked: Asked, write: Write) -> None:
    write(asked.tcp(asked.pdu()[:-1]))


async def long_frame(device: Device, asked: Asked, write: Write) -> None:
    write(asked.tcp(asked.pdu() + b"\0"))


async def wrong_function(device: Device, asked: Asked, write: Write) -> None:
    write(device.frame(asked, bytes([asked.function + 1]) + asked.pdu()[1:]))


async def busy(device: Device, asked: Asked, write: Write) -> None:
    write(device.frame(asked, asked.refusal(6)))


async def silence(device: Device, asked: Asked, write: Write) -> None:
    pass


async def cut_short(device: Device, asked: Asked, write: Write) -> None:
    write(device.frame(asked, asked.pdu())[:-3])


async def bad_checksum(device: Device, asked: Asked, write: Write) -> None:
    frame = bytearray(asked.rtu(asked.pdu()))
    frame[4] ^= 1
    write(bytes(frame))


async def byte_by_byte(device: Device, asked: Asked, write: Write) -> None:
    for byte in device.frame(asked, asked.pdu()):
        write(bytes([byte]))
        await asyncio.sleep(0.001)


async def noise_around(device: Device, asked: Asked, write: Write) -> None:
    write(b"\xfe\x00\x13" + asked.rtu(asked.pdu()) + b"\x00\xff")


async def garbage(device: Device, asked: Asked, write: Write) -> None:
    write(b"\xa5\x5a\x00" * 200)


TCP_FAULTS = {
    "late_reply": wrong_transaction,
    "wrong_unit": wrong_unit,
    "wrong_count": wrong_count,
    "short_frame": short_frame,
    "long_frame": long_frame,
    "wrong_function": wrong_function,
    "exception_6": busy,
    "timeout": silence,
}
SERIAL_FAULTS = {
    "checksum": bad_checksum,
    "late_reply": wrong_unit,
    "wrong_count": wrong_count,
    "wrong_function": wrong_function,
    "exception_6": busy,
    "timeout": silence,
    "noise": cut_short,
}


async def check_fault_passes(url: str, device: Device, counted: str, folder: Path) -> None:
    """One faulty reply: BAD, counted by name, and GOOD with the right values afterwards."""
    context = make_context(folder)
    source = config(url, retries=0)
    async with asyncio.timeout(DEADLINE_S), source.open(context) as session:
        first = await batch_of(session)
        assert (first.quality == Quality.BAD).all()
        assert context.meter.errors[counted] >= 1
        good = await until(session, Quality.GOOD)
        assert good.value.tolist() == [1010, 1011, 1012]
    assert not context.meter.quarantined


@pytest.mark.parametrize("counted", sorted(TCP_FAULTS.keys() - {"late_reply", "timeout"}))
async def test_one_faulty_reply_over_tcp(tmp_path: Path, counted: str) -> None:
    device = Device(behaviour=once(TCP_FAULTS[counted]))
    async with on_tcp(device) as url:
        await check_fault_passes(url, device, counted, tmp_path)
    assert device.connections == 1


@pytest.mark.parametrize("counted", ["checksum", "exception_6"])
async def test_one_faulty_reply_on_a_tty(tmp_path: Path, counted: str) -> None:
    device = Device(rtu=True, behaviour=once(SERIAL_FAULTS[counted]))
    async with on_tty(device) as url:
        await check_fault_passes(url, device, counted, tmp_path)


@pytest.mark.parametrize(
    ("rtu", "counted"),
    [
        *((False, name) for name in ("late_reply", "timeout")),
        *((True, name) for name in SERIAL_FAULTS if name not in {"checksum", "exception_6"}),
    ],
)
async def test_a_reply_that_never_fits_is_a_time_out(
    tmp_path: Path, counted: str, rtu: bool
) -> None:
    faults = SERIAL_FAULTS if rtu else TCP_FAULTS
    device = Device(rtu=rtu, behaviour=once(faults[counted]))
    context = make_context(tmp_path)
    async with (
        on_tty(device) if rtu else on_tcp(device) as url,
        asyncio.timeout(DEADLINE_S),
        config(url).open(context) as session,
    ):
        good = await until(session, Quality.GOOD)
        assert good.value.tolist() == [1010, 1011, 1012]
    assert context.meter.errors["timeout"] >= 1
    assert context.meter.errors[counted] >= 1
    assert not context.meter.quarantined


@pytest.mark.parametrize("rtu", [False, True])
async def test_a_reply_byte_by_byte_is_a_reply(tmp_path: Path, rtu: bool) -> None:
    device = Device(rtu=rtu, behaviour=byte_by_byte)
    context = make_context(tmp_path)
    async with (
        on_tty(device) if rtu else on_tcp(device) as url,
        asyncio.timeout(DEADLINE_S),
        config(url, timeout_s=1).open(context) as session,
    ):
        assert (await batch_of(session)).value.tolist() == [1010, 1011, 1012]
    assert not faults_of(context.meter)


async def test_a_reply_amid_noise_is_a_reply(tmp_path: Path) -> None:
    device = Device(rtu=True, behaviour=noise_around)
    context = make_context(tmp_path)
    async with (
        on_tty(device) as url,
        asyncio.timeout(DEADLINE_S),
        config(url, timeout_s=2).open(context) as session,
    ):
        for _ in range(3):
            assert (await batch_of(session)).value.tolist() == [1010, 1011, 1012]
    assert context.meter.errors["noise"] >= 3


async def test_a_damaged_reply_is_asked_for_again_at_once(tmp_path: Path) -> None:
    device = Device(rtu=True, behaviour=once(bad_checksum))
    context = make_context(tmp_path)
    async with (
        on_tty(device) as url,
        asyncio.timeout(DEADLINE_S),
        config(url, retries=1, timeout_s=2).open(context) as session,
    ):
        assert (await batch_of(session)).value.tolist() == [1010, 1011, 1012]
    assert context.meter.errors["checksum"] == 1


@pytest.mark.parametrize("rtu", [False, True])
async def test_a_stalled_reply_is_never_taken_for_a_later_request(
    tmp_path: Path, rtu: bool
) -> None:
    """Each reply comes 2.5 time-outs late, so that it meets another request of the same shape."""
    count = 0
    reply_s = 0.0

    async def stall(device: Device, asked: Asked, write: Write) -> None:
        nonlocal count, reply_s
        count += 1
        loop = asyncio.get_running_loop()
        # However slow, a device answers in the order in which it was asked.
        reply_s = max(reply_s + 0.001, loop.time() + (0.25 if count <= 6 else 0))
        # Old data are marked by the number of the request that they answer.
        pdu = bytes([asked.function, 2 * asked.count]) + bytes([0, count]) * asked.count
        loop.call_at(reply_s, write, device.frame(asked, pdu))

    device = Device(rtu=rtu, behaviour=stall)
    context = make_context(tmp_path)
    async with on_tty(device) if rtu else on_tcp(device) as url, asyncio.timeout(DEADLINE_S):
        source = config(url, unit_retry_s_max=0.1)
        seen: list[float] = []
        while not seen:
            try:
                async with source.open(context) as session:
                    while not seen:
                        batch = await batch_of(session)
                        asked_by_now = count
                        seen += batch.value[batch.quality == Quality.GOOD].tolist()
                        assert all(value == asked_by_now for value in seen)
            except LinkError:
                continue
    assert context.meter.errors["timeout"] >= 2
    assert context.meter.errors["late_reply"] + context.meter.errors["wrong_count"] >= 1


async def test_a_dead_unit_costs_the_others_one_time_out(tmp_path: Path) -> None:
    async def two_is_dead(device: Device, asked: Asked, write: Write) -> None:
        if asked.unit != 2:
            await right(device, asked, write)

    device = Device(rtu=True, behaviour=two_is_dead)
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

    device = Device(rtu=True, behaviour=some_dead)
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
            with pytest.raises(LinkError, match="no unit answers"):
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


@pytest.mark.parametrize("reset", [False, True])
async def test_a_hung_up_link_comes_back_by_itself(tmp_path: Path, reset: bool) -> None:
    device = Device()
    async with on_tcp(device) as url, supervised(config(url), tmp_path) as (context, _):
        for n in range(1, 3):
            await eventually(lambda n=n: device.connections == n)  # type: ignore[misc]
            await eventually(lambda: context.meter.state is LinkState.UP)
            device.hang_up(reset=reset)
            await eventually(lambda n=n: context.meter.link_errors == n)  # type: ignore[misc]
        await eventually(lambda: context.meter.state is LinkState.UP)
    assert context.meter.errors["LinkLost"] == 2


@pytest.mark.parametrize(
    ("behaviour", "counted"), [(silence, "timeout"), (garbage, "framing")], ids=["hole", "garbage"]
)
async def test_a_black_hole_and_garbage_take_the_link_down_and_health_brings_it_back(
    tmp_path: Path, behaviour: Behaviour, counted: str
) -> None:
    device = Device()
    async with on_tcp(device) as url, supervised(config(url), tmp_path) as (context, out):
        await eventually(lambda: context.meter.state is LinkState.UP)
        device.behaviour = behaviour
        await eventually(lambda: context.meter.state is LinkState.DOWN)
        assert context.meter.errors[counted] >= 1
        device.behaviour = right
        await eventually(lambda: context.meter.state is LinkState.UP)
        items = await out.receive()
        assert isinstance(items[-1], Batch)
        assert (items[-1].quality == Quality.GOOD).all()
        seen = np.concatenate([item.quality for item in items if isinstance(item, Batch)])
        assert (seen == Quality.BAD).any()


async def test_garbage_for_ever_on_a_tty_stops_nothing(tmp_path: Path) -> None:
    device = Device(rtu=True)
    async with on_tty(device) as url, supervised(config(url), tmp_path) as (context, _):
        await eventually(lambda: context.meter.state is LinkState.UP)
        device.behaviour = garbage
        await eventually(lambda: context.meter.state is LinkState.DOWN)
        assert context.meter.errors["noise"] >= 1
        device.behaviour = right
        await eventually(lambda: context.meter.state is LinkState.UP)


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
