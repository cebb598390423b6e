"""Batches, assessments and transitions for the tests of the store."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np

from gateway.core.alarm import Cause, Driver, Priority, Transition
from gateway.core.assessment import Abstained, Assessments, ModelKind
from gateway.core.batch import Batch, make_batch
from gateway.core.clock import SystemClock
from gateway.core.signals import Signal
from gateway.store.config import StoreConfig
from gateway.store.log import Log

T0_NS = 3_999_999_600 * 1_000_000_000
"""The year 2096, on a whole hour: no age bound of the real clock touches it."""
SECOND_NS = 1_000_000_000


def numbered(
    start: int, n: int, *, signals: int = 1, t0_ns: int = T0_NS, step_ns: int = 1_000_000
) -> Batch:
    """`n` samples whose value is their own number, so that each can be told from all others."""
    number = np.arange(start, start + n)
    return make_batch(
        "test",
        (number % signals).astype(np.int32),
        t0_ns + number * step_ns,
        number.astype(np.float64),
        np.zeros(n, dtype=np.uint8),
        t0_ns,
    )


def assessments(t_ns: int, score: float = 0.5, assets: tuple[str, ...] = ("pump",)) -> Assessments:
    n = len(assets)
    return Assessments(
        kind=ModelKind.ANOMALY,
        bundle="pump-1",
        shadow=False,
        assets=assets,
        t_ns=np.full(n, t_ns, dtype=np.int64),
        score=np.full(n, score, dtype=np.float32),
        limit=np.ones(n, dtype=np.float32),
        coverage=np.ones(n, dtype=np.float32),
        abstained=(Abstained.NO,) * n,
        signals=("vibration", "power"),
        contribution=np.tile(np.array([0.75, 0.25], dtype=np.float32), (n, 1)),
        direction=np.tile(np.array([1, -1], dtype=np.int8), (n, 1)),
    )


def transition(t_ns: int, occurrence: int = 1, asset: str = "pump") -> Transition:
    return Transition(
        asset=asset,
        alarm="anomaly",
        cause=Cause.ANOMALY,
        state="active",
        event="raise",
        occurrence=occurrence,
        t_ns=t_ns,
        active_since_ns=t_ns,
        severity=1.5,
        priority=Priority.HIGH,
        text="The bearing, ä, is hot.",
        drivers=(Driver("vibration", 0.75, "vibration 7.9 mm/s, high"),),
    )


@asynccontextmanager
async def opened(directory: Path, config: StoreConfig | None = None) -> AsyncIterator[Log]:
    """A log in `directory`, closed afterwards."""
    log = Log.open(directory, config or StoreConfig(commit_s=0.02), SystemClock())
    log.signals.intern(Signal("pump", "vibration", "mm/s"))
    try:
        yield log
    finally:
        log.close()
