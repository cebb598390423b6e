"""Every fault over every transport: counted, BAD where it should be and nowhere else, and over."""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from gateway.core.batch import Batch, Quality
from gateway.core.channel import Channel
from gateway.core.errors import LinkError
from gateway.core.meter import LinkState
from gateway.core.source import SourceContext
from tests.authority import Authority
from tests.faults.modbus_device import (
    Asked,
    Device,
    Framing,
    Write,
    on_tcp,
    on_tty,
    on_udp,
    right,
)
from tests.faults.modbus_faults import FAULTS, Effect, Fault
from tests.faults.test_modbus_link import supervised
from tests.protocols.modbus_peers import make_config, make_context
from tests.sim.loop import PatientLoop

TRANSPORTS: dict[str, Framing] = {
    "tcp": "mbap",
    "tls": "mbap",
    "udp": "mbap",
    "rtu": "rtu",
    "rtu-over-tcp": "rtu",
    "ascii": "ascii",
    "ascii-over-tcp": "ascii",
}
TIMEOUT_S = 0.2
SWEEPS = 3
SICK, WELL = "sick", "well"
ADDRESSES = (10, 11, 12)
CELLS = [(t, name) for t in TRANSPORTS for name, fault in FAULTS.items() if fault.on(t)]


@asynccontextmanager
async def served(device: Device, transport: str, folder: Path) -> AsyncIterator[dict[str, Any]]:
    """The device behind this transport; gives the settings by which it is reached."""
    if transport == "udp":
        async with on_udp(device) as url:
            yield {"url": url}
    elif transport in ("rtu", "ascii"):
        async with on_tty(device) as url:
            yield {"url": url}
    elif transport == "tls":
        authority = Authority(folder)
        ours, key = authority.issue("gateway")
        async with on_tcp(device, authority.server("plc")) as url:
            yield {"url": url, "tls_ca": authority.path, "tls_cert": ours, "tls_key": key}
    else:
        async with on_tcp(device) as url:
            yield {"url": url}


class Watch:
    """What comes out of the channel, by unit; every GOOD value must be true."""

    def __init__(self, context: SourceContext, out: Channel) -> None:
        self._context, self._out = context, out
        self.clear()

    def clear(self) -> None:
        """Begin to count anew."""
        self.good, self.bad = {SICK: 0, WELL: 0}, {SICK: 0, WELL: 0}

    async def until(self, condition: Callable[[], bool]) -> None:
        """Take samples until the condition holds."""
        while not condition():
            try:
                async with asyncio.timeout(0.02):
                    items = await self._out.receive()
            except TimeoutError:
                continue
            for item in items:
                assert isinstance(item, Batch)
                self._take(item)

    def _take(self, batch: Batch) -> None:
        for number, value, quality in zip(
            batch.signal.tolist(), batch.value.tolist(), batch.quality.tolist(), strict=True
        ):
            key = self._context.signals[number]
            if quality == Quality.BAD:
                self.bad[key.asset] += 1
            else:
                self.good[key.asset] += 1
                assert value == (2000 if key.asset == WELL else 1000) + int(key.name)

    def whole(self) -> bool:
        """Some sweeps of both units without a BAD sample."""
        if self.bad[SICK] or self.bad[WELL]:
            self.clear()
        return min(self.good.values()) >= SWEEPS * len(ADDRESSES)


async def check(fault: Fault, transport: str, folder: Path) -> None:
    """Health, the fault for a while, health again."""
    expected = fault.on(transport)
    assert expected is not None
    effect, counted = expected
    device = Device(TRANSPORTS[transport])

    async def faulty(device: Device, asked: Asked, write: Write) -> None:
        sick = asked.unit == 1 or fault.whole_link
        await (fault.behave if sick else right)(device, asked, write)

    signals = [
        {"asset": asset, "signal": str(a), "address": f"holding:{a}", "unit_id": unit}
        for asset, unit in ((SICK, 1), (WELL, 2))
        for a in ADDRESSES
    ]
    async with served(device, transport, folder) as settings:
        config = make_config(
            settings.pop("url"), signals, timeout_s=TIMEOUT_S, unit_retry_s_max=0.1,
            quarantine_retry_s=0.2, retries=0, **settings,
        )  # fmt: skip
        async with supervised(config, folder) as (context, out):
            meter, watch = context.meter, Watch(context, out)
            await watch.until(watch.whole)
            errors, links = meter.errors.copy(), meter.link_errors
            device.behaviour = faulty
            watch.clear()

            def shown() -> bool:
                """The operator sees what this fault is said to do, and the counters tell."""
                for kinds in counted:
                    if all(meter.errors[kind] == errors[kind] for kind in kinds.split("|")):
                        return False
                match effect:
                    case Effect.DOWN:
                        return meter.link_errors > links and watch.bad[SICK] > 0
                    case Effect.BAD:
                        return watch.bad[SICK] >= 2 and watch.good[WELL] > 0
                    case Effect.GOOD:
                        return min(watch.good.values()) >= SWEEPS or watch.bad[SICK] > 0
                    case Effect.ANY:
                        return watch.good[WELL] >= SWEEPS

            await watch.until(shown)
            if effect is Effect.GOOD:
                assert not watch.bad[SICK]
            if effect in (Effect.GOOD, Effect.BAD):
                assert not watch.bad[WELL]
                assert meter.link_errors == links
            device.behaviour = right
            watch.clear()
            await watch.until(watch.whole)
            await watch.until(lambda: not meter.quarantined)
            assert meter.state is LinkState.UP


@cache
def outcomes(transport: str) -> dict[str, BaseException | None]:
    """Every fault over one transport, all at once on links of their own: they mostly wait."""
    found: dict[str, BaseException | None] = {}

    async def one(name: str) -> None:
        with tempfile.TemporaryDirectory() as folder:
            try:
                async with asyncio.timeout(30):
                    await check(FAULTS[name], transport, Path(folder))
                found[name] = None
            except (AssertionError, TimeoutError, ExceptionGroup) as error:
                found[name] = error

    async def every() -> None:
        async with asyncio.TaskGroup() as tasks:
            for name in (name for t, name in CELLS if t == transport):
                tasks.create_task(one(name), name=name)

    with asyncio.Runner(loop_factory=PatientLoop) as runner:
        runner.run(every())
    return found


@pytest.mark.parametrize(("transport", "fault"), CELLS, ids=[": ".join(cell) for cell in CELLS])
def test_fault(transport: str, fault: str) -> None:
    error = outcomes(transport)[fault]
    if error is not None:
        raise error


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_late_reply_is_never_taken_for_a_later_request(
    tmp_path: Path, transport: str
) -> None:
    """Each reply comes 2.5 time-outs late, so that it meets another request of the same shape."""
    count = 0
    reply_s = 0.0

    async def late(device: Device, asked: Asked, write: Write) -> None:
        nonlocal count, reply_s
        count += 1
        now_s = asyncio.get_running_loop().time()
        # However slow, a device answers in the order in which it was asked.
        reply_s = max(reply_s + 0.001, now_s + (0.25 if count <= 6 else 0))
        # Old data are marked by the number of the request that they answer.
        pdu = bytes([asked.function, 2 * asked.count]) + bytes([0, count]) * asked.count
        reply = device.frame(asked, pdu)
        device.later(reply_s - now_s, lambda: write(reply))

    device = Device(TRANSPORTS[transport], behaviour=late)
    context = make_context(tmp_path)
    signals = [{"address": f"holding:{a}"} for a in ADDRESSES]
    async with served(device, transport, tmp_path) as settings, asyncio.timeout(30):
        config = make_config(
            settings.pop("url"), signals, timeout_s=0.1, unit_retry_s_max=0.1, **settings
        )
        seen: list[float] = []
        while not seen:
            try:
                async with config.open(context) as session:
                    while not seen:
                        batch = await session.read()
                        assert isinstance(batch, Batch)
                        asked_by_now = count
                        seen += batch.value[batch.quality == Quality.GOOD].tolist()
                        assert all(value == asked_by_now for value in seen)
            except LinkError:
                continue
    assert context.meter.errors["timeout"] >= 2
    assert context.meter.errors["late_reply"] + context.meter.errors["wrong_count"] >= 1
