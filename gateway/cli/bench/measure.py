"""The measurements of `forewarn bench`. CPU time of this process, all its threads, and medians."""

import asyncio
import statistics
import tempfile
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gateway.cli.bench.footprint import footprint
from gateway.cli.bench.load import period_s, rows
from gateway.core.batch import Batch
from gateway.core.channel import Channel, WhenFull
from gateway.core.clock import SystemClock
from gateway.core.signals import Signal, SignalTable
from gateway.pipeline.assess import Judge
from gateway.pipeline.findings import Findings
from gateway.pipeline.windows import Watch, WindowBuilder, Windows
from gateway.store.config import StoreConfig
from gateway.store.log import Log
from models.bundle import Bundle, read
from models.features.plan import FeaturePlan
from models.runtime import open_session

S = 1_000_000_000
ASSETS = 125
"""Assets of the pipeline's load; with a bundle of eight signals, a thousand signals."""
BATCHES = 480
GROWTH = 8
"""So many times the samples, and so many times the assets, must cost as much a sample."""
GROWTH_MAX = 1.25
ALARM_MS_MAX = 100.0
UNITS = 100
REGISTERS = 100
WIRE_S = 20.0


@dataclass(frozen=True, slots=True)
class Figure:
    """One thing measured.

    Attributes:
        what: In words.
        value: The median.
        unit: Its unit.
        budget: The most it may be; None where there is none.
    """

    what: str
    value: float
    unit: str
    budget: float | None = None


def measure(
    stages: Collection[str], *, runs: int, scale: float, bundle: Path | None
) -> list[Figure]:
    """The figures of those stages, one after another."""
    from rich.console import Console
    from rich.progress import Progress

    loaded = read(bundle or _shipped())
    figures: list[Figure] = []
    steps: dict[str, Callable[[], list[Figure]]] = {
        "pipeline": lambda: _pipeline(loaded, runs, scale),
        "growth": lambda: _growth(loaded, runs, scale),
        "features": lambda: _features(runs),
        "models": lambda: _models(loaded, runs),
        "wire": lambda: _wire(loaded, scale),
        "alarm": lambda: _alarm(scale),
        "process": lambda: _process(scale),
    }
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("measuring", total=len(stages))
        for name in stages:
            progress.update(task, description=name)
            figures += steps[name]()
            progress.advance(task)
    return figures


def _shipped() -> Path:
    from gateway.demo.configuration import shipped_bundles

    found = shipped_bundles()["pump"]
    if not found:
        raise FileNotFoundError("no shipped bundle; give one with --bundle")
    return found[0]


@contextmanager
def _cpu(into: list[float]) -> Iterator[None]:
    start = time.process_time()
    yield
    into.append(time.process_time() - start)


def _load(table: SignalTable, bundle: Bundle, batches: int, assets: int) -> list[Batch]:
    """What polls of healthy machines give: one batch a grid cell, of all signals of all assets."""
    names = [signal.name for signal in bundle.manifest.signals]
    numbers = np.array(
        [table.intern(Signal(f"asset-{a}", name)) for a in range(assets) for name in names],
        dtype=np.int32,
    )
    start_ns = 1_800_000_000 * S
    step_ns = round(period_s(bundle) * S)
    return [
        Batch(
            "bench",
            numbers.copy(),
            np.full(len(numbers), start_ns + i * step_ns, dtype=np.int64),
            np.tile(row, assets),
            np.zeros(len(numbers), dtype=np.uint8),
            start_ns + i * step_ns,
        )
        for i, row in enumerate(rows(bundle, batches))
    ]


def _watch(table: SignalTable, plan: FeaturePlan, assets: int) -> Watch:
    names = plan.signals
    return Watch(
        assets=tuple(f"asset-{a}" for a in range(assets)),
        signals=np.array(
            [[table.intern(Signal(f"asset-{a}", n)) for n in names] for a in range(assets)],
            dtype=np.int32,
        ),
        sources=(("bench",),) * assets,
        period_ns=round(plan.period_s * S),
        cells=plan.cells,
        hop_cells=plan.hop_cells,
        stale_ns=round(3 * plan.period_s * S),
        lateness_ns=2 * S,
    )


def _pipeline(bundle: Bundle, runs: int, scale: float) -> list[Figure]:
    """Channel, log, windows, features and int8, each by itself, over the same samples."""
    cost = _cost_us(bundle, runs, max(120, round(BATCHES * scale)), ASSETS)
    return [
        *(Figure(f"{name}, CPU a sample", value, "µs") for name, value in cost.items()),
        Figure("pipeline in all, CPU a sample", sum(cost.values()), "µs", 1.0),
    ]


def _growth(bundle: Bundle, runs: int, scale: float) -> list[Figure]:
    """What a sample costs with more of them, and with more assets, against what it cost before."""
    few = max(120, round(BATCHES * scale / 2))
    plain = sum(_cost_us(bundle, runs, few, ASSETS).values())
    longer = sum(_cost_us(bundle, runs, GROWTH * few, ASSETS).values())
    wider = sum(_cost_us(bundle, runs, few, GROWTH * ASSETS).values())
    return [
        Figure(
            f"CPU a sample with {GROWTH} times the samples", longer / plain, "times", GROWTH_MAX
        ),
        Figure(f"CPU a sample with {GROWTH} times the assets", wider / plain, "times", GROWTH_MAX),
    ]


def _cost_us(bundle: Bundle, runs: int, batches: int, assets: int) -> dict[str, float]:
    """CPU µs a sample of each stage, medians."""
    costs: dict[str, list[float]] = {"channel": [], "log": [], "windows": [], "judge": []}
    samples = 1
    for _ in range(runs):
        judge = Judge(bundle, open_session(bundle), [f"asset-{a}" for a in range(assets)])
        with tempfile.TemporaryDirectory() as folder:
            log = Log.open(Path(folder), StoreConfig(), SystemClock())
            load = _load(log.signals, bundle, batches, assets)
            samples = sum(len(batch) for batch in load)
            asyncio.run(_stages(log, judge, load, costs))
            log.close()
    return {name: 1e6 * statistics.median(c) / samples for name, c in costs.items()}


async def _stages(
    log: Log, judge: Judge, batches: list[Batch], costs: dict[str, list[float]]
) -> None:
    channel = Channel(samples_max=10_000_000, when_full=WhenFull.BLOCK)
    with _cpu(costs["channel"]):
        for batch in batches:
            await channel.send(batch)
            await channel.receive()
    with _cpu(costs["log"]):
        for batch in batches:
            log.append(batch)
            await asyncio.sleep(0)
        await log.flush()
    assets = len(judge.assets)
    builder = WindowBuilder([_watch(log.signals, judge.plan, assets)], len(log.signals))
    cut: list[Windows] = []
    with _cpu(costs["windows"]):
        for i, batch in enumerate(batches):
            cut += [w for _, w in builder.add(batch, i * S)]
            cut += [w for _, w in builder.close(i * S)]
    coverage, findings = np.full(assets, 0.5), Findings(judge)
    with _cpu(costs["judge"]):
        for windows in cut:
            judged = judge.judge(windows, coverage)
            findings.conditions(windows, judged)


def _features(runs: int) -> list[Figure]:
    """The whole catalogue over windows of 256 samples."""
    from models.features.catalogue import CATALOGUE

    signals = tuple(f"s{i}" for i in range(8))
    plan = FeaturePlan(
        signals, tuple(f"{s}:{name}" for s in signals for name in CATALOGUE), 1.0, 256
    )
    window = np.random.default_rng(0).standard_normal((125, 8, 256))
    plan.compute(window)
    spent: list[float] = []
    for _ in range(3 * runs):
        with _cpu(spent):
            plan.compute(window)
    cost_us = 1e6 * statistics.median(spent) / 1000
    return [
        Figure(f"{len(CATALOGUE)} features of 256 samples, a signal-window", cost_us, "µs", 30.0),
        Figure("feature vectors (of one signal-window) a second", 1e6 / cost_us, "/s"),
    ]


def _models(bundle: Bundle, runs: int) -> list[Figure]:
    figures = []
    for precision in ("int8", "fp32"):
        session = open_session(bundle, precision=precision)
        for n in (1, 32, 1024):
            x = np.resize(bundle.golden.x, (n, bundle.golden.x.shape[1])).astype(np.float32)
            session.run(x)
            spent: list[float] = []
            calls = max(3, 2000 // n)
            for _ in range(3 * runs):
                start = time.perf_counter()
                for _ in range(calls):
                    session.run(x)
                spent.append((time.perf_counter() - start) / calls)
            figures.append(
                Figure(f"{precision} inference, batch {n}", 1e6 * statistics.median(spent), "µs")
            )
        session.close()
    assert bundle.path is not None
    grown_mb, took_ms = footprint(bundle.path)
    figures.append(Figure("model load and proof", took_ms, "ms", 200.0))
    figures.append(Figure("memory of a further model", grown_mb, "MB", 5.0))
    return figures


def _wire(bundle: Bundle, scale: float) -> list[Figure]:
    """Modbus TCP from the wire to the durable log and the score, device in another process."""
    from gateway.cli.bench.wire import modbus_to_score

    measured = modbus_to_score(bundle, max(5.0, WIRE_S * scale), UNITS * REGISTERS)
    return [
        Figure(
            f"Modbus TCP wire to log and score, CPU a sample ({measured.samples:,} samples)",
            measured.cpu_us_per_sample,
            "µs",
            6.0,
        ),
        Figure("written to the disk of them, a sample", measured.bytes_per_sample, "bytes"),
    ]


def _alarm(scale: float) -> list[Figure]:
    """From a sample at the gateway to the alarm that it raises, 10,000 signals being polled."""
    from gateway.cli.bench.wire import sample_to_alarm_ms

    seen = sample_to_alarm_ms(max(5.0, WIRE_S * scale), UNITS, REGISTERS)
    return [
        Figure(f"sample to alarm, p99 of {len(seen):,}", _p99(seen), "ms", ALARM_MS_MAX),
        Figure("sample to alarm, median", statistics.median(seen), "ms"),
    ]


def _p99(values: list[float]) -> float:
    return float(np.percentile(values, 99))


def _process(scale: float) -> list[Figure]:
    """Memory and start of a whole gateway process, as an operator would see them."""
    from gateway.cli.bench.wire import gateway_process

    figures = []
    for signals, budget in ((1000, None), (10_000, 200.0)):
        if signals > 1000 and scale < 1:
            continue
        seen = gateway_process(signals)
        figures.append(
            Figure(f"memory of `forewarn run`, {signals:,} signals", seen.rss_mb, "MB", budget)
        )
        figures.append(
            Figure(f"start to first sample, {signals:,} signals", seen.first_sample_s, "s", 2.0)
        )
    return figures
