"""The gateway ends while its machines go on: what they and their broker keep is there, once."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

import numpy as np
import pytest

from gateway.core.batch import Quality
from tests.e2e.processes import Gateway, gateway
from tests.eventually import eventually
from tests.protocols.mqtt_broker import Broker, Publisher, broker
from tests.protocols.opcua_plant import URI, Plant, plant

EVERY_S = 0.05
CONFIG = """
[gateway]
id = "hall"
data_dir = "data"

[console]
enabled = false

[[source]]
kind = "opcua"
id = "press-plc"
url = "opc.tcp://127.0.0.1:{opcua}/plant"
security_policy = "None"
publishing_interval_s = 0.1
signals = [ {{ asset = "press", signal = "count", address = "nsu={uri};s=count" }} ]

[[source]]
kind = "mqtt"
id = "saw-broker"
host = "127.0.0.1"
port = {mqtt}
client_id = "hall"
persistent = true
time_path = "t"
time_form = "unix_ms"
signals = [ {{ asset = "saw", signal = "count", topic = "saw", path = "n" }} ]
"""


@asynccontextmanager
async def machines(made: Plant, publisher: Publisher) -> AsyncIterator[list[int]]:
    """Count up on both, each number with its own time, until the block ends; gives the numbers."""
    told: list[int] = []
    over = asyncio.Event()

    async def tell() -> None:
        last_ms = 0
        for number in count(1):
            if over.is_set():
                return
            # Whole milliseconds, and never the same one twice.
            now_ms = last_ms = max(time.time_ns() // 1_000_000, last_ms + 1)
            at = datetime.fromtimestamp(now_ms / 1000, UTC)
            await made.set("count", float(number), at=at)
            message = {"t": now_ms, "n": number}
            await asyncio.to_thread(publisher.say, "saw", message, wait=False)
            told.append(number)
            await asyncio.sleep(EVERY_S)

    task = asyncio.create_task(tell(), name="machines")
    try:
        yield told
    finally:
        # Not in the middle of a number: one machine would have told it, and the other not.
        over.set()
        await task


def logged(one: Gateway, asset: str) -> list[int]:
    """The numbers of an asset that are in the log, by their own time."""
    with one.log() as log:
        names = [(s.asset, s.name) for s in log.signals().signals()]
        if (asset, "count") not in names:
            return []
        signal, t_ns, value, quality = log.samples(0, 1 << 62)
    mine = (signal == names.index((asset, "count"))) & (quality != Quality.BAD)
    return [int(n) for n in value[mine][np.argsort(t_ns[mine], kind="stable")]]


async def stopped(one: Gateway, _running: Broker, _told: list[int]) -> None:
    assert await asyncio.to_thread(one.stop) == 0


async def killed(one: Gateway, _running: Broker, _told: list[int]) -> None:
    assert await asyncio.to_thread(one.stop, signal.SIGKILL) == -signal.SIGKILL


async def stopped_by_a_broker_that_starves(one: Gateway, running: Broker, told: list[int]) -> None:
    """It takes no acknowledgement before the link is closed; then the first closes it for it.

    For each that it reads it sends another message, which nobody takes: that tells it that the
    link is gone, and the other acknowledgements are lost.
    """
    one.send(signal.SIGSTOP)
    aim = told[-1] + 60
    await eventually(lambda: told[-1] >= aim)
    running.freeze()
    try:
        one.send(signal.SIGCONT)
        await reached(one, aim - 55, "saw")
        await stopped(one, running, told)
    finally:
        running.thaw()


@pytest.mark.parametrize("end", [stopped, killed, stopped_by_a_broker_that_starves])
async def test_nothing_is_missing_and_nothing_twice_over_two_ends(
    tmp_path: Path, end: Callable[[Gateway, Broker, list[int]], Awaitable[None]]
) -> None:
    # Away for long is no matter where the broker keeps enough.
    settings = "max_queued_messages 10000"
    async with plant() as made:
        await made.historize("count")
        with broker(tmp_path / "broker", settings) as (running, publisher):
            config = tmp_path / "forewarn.toml"
            config.write_text(CONFIG.format(opcua=made.port, uri=URI, mqtt=running.port))
            with gateway(config) as one:
                stops: list[int] = []
                async with machines(made, publisher) as told:
                    await asyncio.to_thread(one.start)
                    for _ in range(2):
                        await eventually(lambda: len(one.told("source.up")) >= 2, timeout_s=30)
                        aim = told[-1] + 20
                        await reached(one, aim)
                        await end(one, running, told)
                        stops.append(told[-1])
                        await eventually(lambda: told[-1] > stops[-1] + 40)
                        await asyncio.to_thread(one.start)
                    await reached(one, told[-1] + 20)
                last = told[-1]
                await reached(one, last)
                assert await asyncio.to_thread(one.stop) == 0
            assert len(one.told("gateway.start")) == 3
            for asset in ("press", "saw"):
                found = logged(one, asset)
                # The first link may be up after the first numbers; from then on there is no gap.
                assert found == list(range(found[0], last + 1)), asset
                assert found[0] < stops[0]


async def reached(one: Gateway, number: int, *assets: str) -> None:
    """Wait until the machines' numbers are in the log up to this one."""

    def there() -> bool:
        of = assets or ("press", "saw")
        return all((logged(one, asset) or [0])[-1] >= number for asset in of)

    await eventually(there, timeout_s=40)
