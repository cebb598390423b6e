"""What gaps do to features: tried out on the healthy record itself, by leaving half of it out.

A mean of half the samples is not wrong, but known worse, and how much worse is known: its standard
error. What that is worth in a feature depends on how the signal moves from cell to cell, so it is
measured and not derived.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from models.features.plan import ERROR, RECENT_ERROR, FeaturePlan
from models.features.stack import hole_max, longest
from models.record import Record
from models.windows import Grid, chunks, due, lay, some_features, thinned, windows

WINDOWS_TRIED = 2000
LEFT_OUT = 0.5
RARE = 0.1
"""One window in ten holds fewer samples than what counts as usual."""
COLUMNS = 512
"""Features that are compared at once, so that memory stays bounded however many there are."""

Floats = NDArray[np.float64]


def with_errors(plan: FeaturePlan, record: Record, grid: Grid) -> FeaturePlan:
    """The plan with a standard error of each signal, at each scale, behind its features."""
    scales = [ERROR]
    if any(name.endswith(":recent_mean") for name in plan.names):
        scales.append(RECENT_ERROR)
    names = [f"{signal}:{scale}" for scale in scales for signal in plan.signals]
    return replace(plan, names=(*plan.names, *names), usual=usual(record, grid))


def owners(plan: FeaturePlan) -> NDArray[np.int64]:
    """int64[d], which of the errors concerns each of the features before them."""
    at = {name: index for index, name in enumerate(plan.names[plan.measured :])}
    return np.array(
        [
            at[f"{signal}:{RECENT_ERROR if kind.startswith('recent_') else ERROR}"]
            for signal, _, kind in (name.rpartition(":") for name in plan.names[: plan.measured])
        ]
    )


def usual(record: Record, grid: Grid) -> tuple[tuple[float, float], ...]:
    """As `FeaturePlan.usual`. Windows with a long hole are not asked: nothing is taken of those."""
    every = max(1, len(record) // WINDOWS_TRIED)
    counted = [np.zeros((0, len(record.names), 2))]
    fewest = [grid.cells, grid.newest]
    for _, rows in record.sequences():
        time_s = None if record.time_s is None else record.time_s[rows]
        laid = lay(record.values[rows], time_s, grid)
        full = np.flatnonzero(due(laid, grid) >= 0)
        seen = np.insert(np.cumsum(laid.fresh.any(axis=1)), 0, 0)
        last = laid.cell[full] + 1
        for scale, cells in enumerate((grid.cells, grid.newest)):
            held: NDArray[np.int64] = seen[last] - seen[last - cells]
            fewest[scale] = min(fewest[scale], int(held.min(initial=cells)))
        for at in chunks(thinned(full, every), len(record.names), grid.cells):
            value, fresh = windows(laid, at, grid.cells)
            lately = fresh[:, :, -grid.newest :]
            samples = np.stack([fresh.sum(axis=2), lately.sum(axis=2)], axis=2).astype(float)
            hole = longest(np.isnan(value).reshape(-1, grid.cells)).reshape(value.shape[:2])
            samples[hole > hole_max(grid.cells)] = np.nan
            counted.append(samples)
    out = []
    for each in np.concatenate(counted).transpose(1, 0, 2):
        known = each[~np.isnan(each[:, 0])]
        whole, recent = np.quantile(known, RARE, axis=0) if len(known) else (0.0, 0.0)
        out.append((float(whole), float(recent)))
    return (*out, (float(fewest[0]), float(fewest[1])))


def worth(record: Record, plan: FeaturePlan, grid: Grid, seed: int) -> Floats:
    """float64[d], variance that a squared standard error of 1 stands for in each feature."""
    every = max(1, len(record) // WINDOWS_TRIED)
    random = np.random.default_rng([seed, 7])
    left = np.where(random.random(record.values.shape) < LEFT_OUT, np.nan, record.values)
    _, full = some_features(record, plan, grid, every)
    _, less = some_features(replace(record, values=left), plan, grid, every)
    d, owner = plan.measured, owners(plan)
    out = np.zeros(d)
    for start in range(0, d, COLUMNS):
        at = slice(start, min(d, start + COLUMNS))
        told = d + owner[at]
        off = np.square(less[:, at] - full[:, at], dtype=np.float64)
        error = np.square(less[:, told], dtype=np.float64)
        error -= np.square(full[:, told], dtype=np.float64)
        known = np.isfinite(off) & np.isfinite(error)
        total = np.where(known, error, 0.0).sum(axis=0)
        moved = np.where(known, off, 0.0).sum(axis=0)
        np.divide(moved, total, out=out[at], where=total > 1e-30)
    return out
