"""Whether a healthy record has shown enough of a machine to learn from, and what is missing."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

REACHED_MIN = 0.95
"""Share of a signal's whole range that must have been seen before the last third of the record."""
DRIFT_MAX = 0.35
"""Share of a signal's variance that a straight line over the last half may explain."""
ROWS_MIN = 20
TIED = 1e-9


@dataclass(frozen=True, slots=True)
class Lack:
    """What a record has not shown yet.

    Attributes:
        what: `time`: of `needed`, only `has` was recorded. `samples`: too few to say anything.
            `range`: before the last third, only the part `share` of its range was seen.
            `drift`: a signal still drifts.
        signal: Which; "" for all.
    """

    what: Literal["time", "samples", "range", "drift"]
    signal: str = ""
    has: str = ""
    needed: str = ""
    share: float = 0.0


@dataclass(frozen=True, slots=True)
class Readiness:
    """How far collecting has come.

    Attributes:
        share: 0 to 1; training starts at 1.
        missing: What is not there yet; empty when ready.
        covered_s: Time that the record covers.
    """

    share: float
    missing: tuple[Lack, ...]
    covered_s: float

    @property
    def ready(self) -> bool:
        return not self.missing


def readiness(
    mean: NDArray[np.float64], names: Sequence[str], *, width_s: float, needed_s: float
) -> Readiness:
    """Judge a record by its bucket means.

    Enough time, operating conditions that repeat (the last third brings nothing new), and no
    signal that still drifts one way (warm-up). A counter that only rises says nothing of either.

    Args:
        mean: float64[n, k], bucket means in order of time; NaN where a bucket has no sample.
        names: The `k` signals.
        width_s: Width of a bucket, s.
        needed_s: Least time that must be covered, s.
    """
    seen = np.isfinite(mean).any(axis=1)
    covered_s = float(seen.sum()) * width_s
    missing: list[Lack] = []
    if covered_s < needed_s:
        missing.append(Lack("time", has=_span(covered_s), needed=_span(needed_s)))
    shares = [min(1.0, covered_s / needed_s)]
    rows = mean[seen]
    if len(rows) < ROWS_MIN:
        return Readiness(min(0.99, shares[0]), tuple(missing) or (Lack("samples"),), covered_s)
    for column, name in enumerate(names):
        values = rows[:, column]
        values = values[np.isfinite(values)]
        if len(values) < ROWS_MIN or _counter(values):
            continue
        low, high = np.quantile(values, [0.01, 0.99])
        if high - low <= TIED * max(abs(high), abs(low), 1.0):
            continue
        reached = _reached(values, float(low), float(high))
        if reached < REACHED_MIN:
            missing.append(Lack("range", name, share=reached))
        shares.append(min(1.0, reached / REACHED_MIN))
        if _drift(values) > DRIFT_MAX and _moved(values) > 0.25:
            missing.append(Lack("drift", name))
            shares.append(0.9)
    share = min(shares)
    return Readiness(1.0 if not missing else min(share, 0.99), tuple(missing), covered_s)


def unseen(mean: NDArray[np.float64]) -> dict[int, int]:
    """Signals that the last third of a record does not hold, and the row that last did; -1: none.

    Args:
        mean: float64[n, k], as for `readiness`. Rows without any signal do not count.
    """
    rows = np.flatnonzero(np.isfinite(mean).any(axis=1))
    if len(rows) < ROWS_MIN:
        return {}
    seen = np.isfinite(mean[rows])
    last = np.where(seen.any(axis=0), len(rows) - 1 - seen[::-1].argmax(axis=0), -1)
    silent = np.flatnonzero(last < 2 * len(rows) // 3).tolist()
    return {column: int(rows[last[column]]) if last[column] >= 0 else -1 for column in silent}


def _reached(values: NDArray[np.float64], low: float, high: float) -> float:
    """Share of [low, high] that lies within what the first two thirds saw."""
    early = values[: 2 * len(values) // 3]
    inside = min(high, float(early.max())) - max(low, float(early.min()))
    return float(np.clip(inside / (high - low), 0, 1))


def _drift(values: NDArray[np.float64]) -> float:
    """Share of the variance of the last half that a straight line explains, 0 to 1."""
    half = values[len(values) // 2 :]
    t = np.linspace(-1, 1, len(half))
    spread = half.std()
    if spread == 0:
        return 0.0
    return float(np.mean(t * (half - half.mean())) ** 2 / (np.mean(t**2) * spread**2))


def _moved(values: NDArray[np.float64]) -> float:
    """How far the last quarter's mean lies from the one before, in spreads of the whole."""
    quarter = len(values) // 4
    a, b = values[-2 * quarter : -quarter], values[-quarter:]
    spread = float(values.std())
    return abs(float(b.mean() - a.mean())) / spread if spread > 0 else 0.0


def _counter(values: NDArray[np.float64]) -> bool:
    """A quantity that never falls and ends above where it began: energy, hours, pieces."""
    step = np.diff(values)
    return bool((step >= 0).all() and values[-1] > values[0])


def _span(seconds: float) -> str:
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"
