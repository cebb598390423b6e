"""A gateway's log under load, in a process of its own that may be killed at any time.

    python -m tests.faults.store_child FOLDER START [URL]

Appends samples whose value is their number, from START on, in batches of uneven size, and a
transition now and then. Prints `durable N` when everything below N is on the disk, and each
condition that is reported. Ends in order when its input is closed.
"""

import asyncio
import sys
from pathlib import Path
from random import Random

import numpy as np

from gateway.core.alarm import Condition
from gateway.core.batch import make_batch
from gateway.core.clock import SystemClock
from gateway.core.signals import Signal
from gateway.store.clock_watch import watch_clock
from gateway.store.config import InfluxConfig, StoreConfig
from gateway.store.influx import InfluxWriter
from gateway.store.log import Log

from ..gateway.storing import T0_NS


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def tell(condition: Condition) -> None:
    say(f"condition {condition.alarm} {condition.active}")


async def append(log: Log, clock: SystemClock, number: int, *, by_clock: bool) -> None:
    random = Random(number)
    while True:
        for _ in range(random.randrange(1, 6)):
            n = random.randrange(1, 400)
            numbers = np.arange(number, number + n)
            base_ns = clock.wall_ns() if by_clock else 0
            t_ns = base_ns + (np.arange(n) if by_clock else numbers * 1_000_000 + T0_NS)
            log.append(
                make_batch(
                    "child",
                    np.zeros(n, dtype=np.int32),
                    t_ns.astype(np.int64),
                    numbers.astype(np.float64),
                    np.zeros(n, dtype=np.uint8),
                    base_ns,
                )
            )
            number += n
            await asyncio.sleep(random.random() * 0.01)
        await log.flush()
        say(f"durable {number}")


async def main(folder: Path, start: int, url: str) -> None:
    clock = SystemClock()
    log = Log.open(folder, StoreConfig(commit_s=0.02), clock)
    log.signals.intern(Signal("press", "force", "kN"))
    say("ready")
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    try:
        async with asyncio.TaskGroup() as tasks:
            running = [
                tasks.create_task(append(log, clock, start, by_clock=url == "clock")),
                tasks.create_task(watch_clock(clock, tell)),
                tasks.create_task(log.run(tell)),
            ]
            if url.startswith("http"):
                config = InfluxConfig(url=url, api="v1", timeout_s=5)
                writer = InfluxWriter(log, config, "gw", clock, Random(0), tell)
                running.append(tasks.create_task(writer.run()))
            await reader.read()
            for task in running:
                task.cancel()
    finally:
        log.close()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2]), (sys.argv[3:] or [""])[0]))
