"""What the log and the InfluxDB writer cost: `python -m tests.bench.bench_store [--samples N]`.

Prints one JSON object. The gateway's half is pinned to one core and the real influxd to another,
where there are two; every figure is the median of its repeats unless it says otherwise.
"""

import argparse
import asyncio
import contextlib
import json
import os
import resource
import statistics
import tempfile
import time
from bisect import bisect_right
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from gateway.core.batch import Batch
from gateway.core.clock import SystemClock
from gateway.core.signals import Signal, SignalTable
from gateway.store.blocks import FormMemory, decode, encode
from gateway.store.config import InfluxConfig, StoreConfig
from gateway.store.influx import InfluxWriter
from gateway.store.line_protocol import Encoder
from gateway.store.log import Log
from gateway.store.record import Kind

from ..eventually import eventually
from ..servers import Influxd, influxd

SIGNALS = 1000
REPEATS = 5
T0_NS = 1_800_000_000 * 1_000_000_000


class Plant:
    """1,000 signals read once a cycle: a slow walk with noise, in tenths, as converters give it."""

    def __init__(self, cycle_s: float) -> None:
        self._random = np.random.default_rng(3)
        self._level = self._random.uniform(10, 500, SIGNALS)
        self._cycle_ns = round(cycle_s * 1e9)
        self._signal = np.arange(SIGNALS, dtype=np.int32)
        self._quality = np.zeros(SIGNALS, dtype=np.uint8)
        self.cycle = 0

    def batch(self) -> Batch:
        self._level += self._random.normal(0, 0.05, SIGNALS)
        jitter_ns = int(self._random.integers(0, 2_000_000))
        t_ns = T0_NS + self.cycle * self._cycle_ns + jitter_ns
        self.cycle += 1
        value = np.round(self._level + self._random.normal(0, 0.1, SIGNALS), 1)
        times = np.full(SIGNALS, t_ns, dtype=np.int64)
        return Batch("bench", self._signal, times, value, self._quality, t_ns)


def opened(folder: Path) -> Log:
    log = Log.open(folder, StoreConfig(memory_mb_max=512), SystemClock())
    for i in range(SIGNALS):
        log.signals.intern(Signal(f"press-{i // 10}", f"signal_{i % 10}", "mm/s"))
    return log


async def fill(log: Log, plant: Plant, samples: int) -> None:
    """Append as fast as the log takes it, a quarter of a million samples to a group at most."""
    for _ in range(samples // SIGNALS):
        log.append(plant.batch())
        if plant.cycle % 250 == 0:
            await log.flush()
    await log.flush()


async def cost_of_log(folder: Path, samples: int) -> dict[str, Any]:
    """CPU of append and commit, and bytes on the disk, at full blocks and at the demo's rate."""
    plant, costs = Plant(0.1), []
    for i in range(REPEATS):
        batches = [plant.batch() for _ in range(samples // SIGNALS)]
        log = opened(folder / f"log{i}")
        before_s = time.process_time()
        for n, batch in enumerate(batches):
            log.append(batch)
            if n % 25 == 24:  # What a quarter of a second brings at 100,000 samples/s.
                await log.flush()
        await log.flush()
        costs.append((time.process_time() - before_s) / samples * 1e6)
        kept, size = log.counters()["samples_kept_bytes"], log.path.stat().st_size
        log.close()
        file_bytes = (folder / f"log{i}" / "log.db").stat().st_size
    return {
        "cpu_us_per_sample": round(statistics.median(costs), 3),
        "payload_bytes_per_sample": round(kept / samples, 2),
        "file_bytes_per_sample": round(max(file_bytes, size) / samples, 2),
    }


def bytes_of(kind: str) -> float:
    """Bytes per sample of a block of 16 cycles of 1,000 signals, by kind of value."""
    random = np.random.default_rng(5)
    n, cycles = SIGNALS * 16, 16
    walk = random.uniform(10, 500, SIGNALS) + np.cumsum(
        random.normal(0, 0.2, (cycles, SIGNALS)), axis=0
    )
    value = {
        "tenths": np.round(walk, 1),
        "register_times_0.1": np.round(walk * 10) * 0.1,
        "float32_noise": (walk + random.normal(0, 1, walk.shape)).astype(np.float32).astype(float),
        "float64_noise": walk + random.normal(0, 1, walk.shape),
    }[kind].reshape(n)
    t_ns = T0_NS + np.arange(cycles) * 10**9 + random.integers(0, 5_000_000, cycles)
    columns = (
        np.tile(np.arange(SIGNALS, dtype=np.int32), cycles),
        np.repeat(t_ns, SIGNALS),
        value,
        np.zeros(n, dtype=np.uint8),
    )
    return round(len(encode(columns)) / n, 2)


def cost_of_codec() -> dict[str, Any]:
    """Encoding and decoding a block, and lines of line protocol made of it."""
    plant = Plant(0.1)
    batches = [plant.batch() for _ in range(50)]
    columns = (
        np.concatenate([b.signal for b in batches]),
        np.concatenate([b.t_ns for b in batches]),
        np.concatenate([b.value for b in batches]),
        np.concatenate([b.quality for b in batches]),
    )
    n = len(columns[0])
    memory = FormMemory()
    block = encode(columns, memory)
    table = SignalTable(Signal(f"press-{i // 10}", f"signal_{i % 10}", "mm/s") for i in range(1000))
    encoder = Encoder(table, "bench")

    def median_s(work: Any) -> float:
        times = []
        for _ in range(3 * REPEATS):
            before_s = time.perf_counter()
            work()
            times.append(time.perf_counter() - before_s)
        return statistics.median(times)

    lines_s = median_s(lambda: "\n".join(encoder.samples(columns)).encode())
    return {
        "encode_us_per_sample": round(median_s(lambda: encode(columns, memory)) / n * 1e6, 3),
        "decode_us_per_sample": round(median_s(lambda: decode(block)) / n * 1e6, 3),
        "lines_per_s": round(n / lines_s),
        "bytes_per_sample": {
            kind: bytes_of(kind)
            for kind in ("tenths", "register_times_0.1", "float32_noise", "float64_noise")
        },
    }


def rss_mb() -> float:
    with Path("/proc/self/statm").open() as file:
        return int(file.read().split()[1]) * resource.getpagesize() / 1e6


class Lag:
    """How long appended data has to wait for the server's word."""

    def __init__(self, log: Log, writer: InfluxWriter) -> None:
        self._log = log
        self._writer = writer
        self._ends: list[int] = []
        self._at_s: list[float] = []
        self.seen_s: list[float] = []

    def appended(self) -> None:
        self._ends.append(1 + self._log.counters()["samples_appended"])
        self._at_s.append(time.monotonic())

    def look(self) -> None:
        confirmed = self._writer.cursor.live_position(Kind.SAMPLES)
        at = bisect_right(self._ends, confirmed)
        waiting = at < len(self._ends)
        self.seen_s.append(time.monotonic() - self._at_s[at] if waiting else 0.0)


async def cost_of_writer(
    folder: Path, server: Influxd, backlog: int, live_per_s: int, seconds: float
) -> dict[str, Any]:
    """Drain a backlog beside live data; with no backlog, live data alone for so many seconds."""
    database = f"bench{backlog}"
    server.query(f"CREATE DATABASE {database}")
    log, plant = opened(folder), Plant(SIGNALS / live_per_s)
    await fill(log, plant, backlog)
    before = {"rss_mb": rss_mb(), "cpu_s": time.process_time(), "s": time.monotonic()}
    config = InfluxConfig(url=server.url, api="v1", database=database, timeout_s=30)
    config = config.model_copy(update={"backlog_samples_per_s_max": 1e9})
    writer = InfluxWriter(log, config, "bench", SystemClock(), Random(0))
    lag = Lag(log, writer)
    drained_s, peak_mb = 0.0, 0.0
    start = plant.cycle

    async def live() -> None:
        nonlocal drained_s, peak_mb
        began_s = time.monotonic()
        while True:
            due = start + int((time.monotonic() - began_s) * live_per_s / SIGNALS)
            while plant.cycle < due:
                log.append(plant.batch())
                lag.appended()
            lag.look()
            peak_mb = max(peak_mb, rss_mb())
            ranges = writer.cursor.ranges(Kind.SAMPLES)
            if backlog and plant.cycle > start + 20 and ranges == 1:
                break
            if not backlog and time.monotonic() - began_s > seconds:
                break
            await asyncio.sleep(0.02)
        drained_s = time.monotonic() - began_s

    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(writer.run())
        await live()
        cpu_s = time.process_time() - before["cpu_s"]
        sent = writer.meter.lines
        await log.flush()
        await eventually(lambda: writer.cursor.lag() == 0, timeout_s=120)
        running.cancel()
    appended = plant.cycle * SIGNALS
    log.close()
    stored = server.count(db=database)
    lags = sorted(lag.seen_s[len(lag.seen_s) // 10 :])
    return {
        "backlog": backlog,
        "live_samples_per_s": live_per_s,
        "seconds": round(drained_s, 2),
        "drain_samples_per_s": round(sent / drained_s),
        "core_share": round(cpu_s / drained_s, 3),
        "cpu_us_per_sample": round(cpu_s / max(1, sent) * 1e6, 3),
        "live_lag_s_median": round(lags[len(lags) // 2], 2),
        "live_lag_s_p99": round(lags[int(len(lags) * 0.99)], 2),
        "live_lag_s_max": round(lags[-1], 2),
        "rss_mb_before": round(before["rss_mb"]),
        "rss_mb_peak": round(peak_mb),
        "missing_or_twice": appended - stored,
    }


async def main(samples: int, seconds: float) -> dict[str, Any]:
    cores = sorted(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with contextlib.ExitStack() as stack:
            if len(cores) > 1:
                os.sched_setaffinity(0, {cores[-1]})
            server = stack.enter_context(influxd(folder / "influxd"))
            if len(cores) > 1:
                os.sched_setaffinity(0, {cores[0]})
            found: dict[str, Any] = {"cores": len(cores), "load": os.getloadavg()[0]}
            found["codec"] = cost_of_codec()
            found["log"] = await cost_of_log(folder, 500_000)
            found["live"] = await cost_of_writer(folder / "a", server, 0, 100_000, seconds)
            found["backlog"] = await cost_of_writer(folder / "b", server, samples, 5000, 0)
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--samples", type=int, default=2_000_000, help="Size of the backlog.")
    parser.add_argument("--seconds", type=float, default=15, help="Of live data at full rate.")
    options = parser.parse_args()
    print(json.dumps(asyncio.run(main(options.samples, options.seconds)), indent=1))
