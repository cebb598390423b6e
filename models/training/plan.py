"""Chooses which features a detector takes of a record, and says how they belong together."""

import warnings
from collections.abc import Collection
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from models.features.bends import BENDS, SHARES, levels_of
from models.features.earlier import EARLIER
from models.features.plan import HINTS, FeaturePlan
from models.record import Record
from models.training.independent import effective
from models.training.rates import own_cells
from models.windows import Grid, some_features

CELLS_SPREAD, CELLS_RECENT, SAMPLES_RECENT = 4, 16, 2
"""Fewest cells of a window for a fluctuation, for a newest eighth that is worth the name, and of
that eighth for its fluctuation; where a signal is sampled more seldom, of its own intervals."""
WINDOWS_CHOOSING = 3000
EXPLAINING_MAX = 60
"""A wider machine gets no features that only explain: too many for what they tell."""
VALUES_CHOOSING = 20_000
BENT_MIN = 6
"""Independent values by which a curve may be told: two that drift once bend as they like."""
JUMP, RARE = 0.05, 0.01
"""Share of a signal's range, without its rarest values, that is more than a step of rounding."""
SURER = 0.6
"""In plain noise, spread and steps are known equally well to a fifth; this is clear of that."""


def plan_of(record: Record, grid: Grid) -> FeaturePlan:
    """Mean and fluctuation of each signal, over the window and over its newest part; and what only
    explains others: where it was before that, and how far above levels of its own."""
    levels = [f"{signal}:mean" for signal in record.names]
    wobble: list[str] = []
    if grid.cells >= CELLS_SPREAD:
        # A word's index has no spread that means anything; that it changes is in its mean.
        every = dict(zip(record.names, own_cells(record, grid.period_s, grid.rows), strict=True))
        wobbling = tuple(
            name
            for name in record.names
            if name not in record.categories and grid.cells >= CELLS_SPREAD * every[name]
        )
        wobble = [f"{s}:{kind}" for s, kind in _fluctuations(record, grid, wobbling).items()]
        lately = grid.newest
    names = levels + wobble
    if grid.cells >= CELLS_RECENT:
        names += [
            f"{s}:recent_{kind}"
            for s, _, kind in (n.rpartition(":") for n in names)
            if kind == "mean" or lately >= SAMPLES_RECENT * every[s]
        ]
        if len(record.names) <= EXPLAINING_MAX:
            names += [f"{s}:{kind}" for kind in (*EARLIER, *BENDS) for s in record.names]
    return FeaturePlan(
        record.names,
        tuple(names),
        grid.period_s or 1.0,
        grid.cells,
        grid.hop_cells,
        recent_cells=grid.recent_cells,
        levels=_levels(record),
    )


def _levels(record: Record) -> tuple[tuple[float, ...], ...]:
    """The levels above which signals explain others; of one that drifts, what it never passed."""
    rows = np.concatenate(record.oldest_first())[:: max(1, len(record) // VALUES_CHOOSING)]
    drifts = effective(record.values[rows]) < BENT_MIN
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        most = np.nan_to_num(np.nanmax(record.values, axis=0))
    return tuple(
        (float(most[i]),) * len(SHARES) if drifts[i] else levels
        for i, levels in enumerate(levels_of(record.values))
    )


def _fluctuations(record: Record, grid: Grid, signals: tuple[str, ...]) -> dict[str, str]:
    """How each signal's fluctuation is measured: by its spread, or by its steps from cell to cell.

    A signal that follows a load has a spread that is mostly the load's; its steps then tell noise
    far more surely. What is known more surely, relative to its size, is taken. Of a set point,
    which stands or jumps, steps tell by how much; its spread also tells where in the window.
    """
    kinds = ("spread", "roughness")
    names = tuple(f"{signal}:{kind}" for kind in kinds for signal in signals)
    if grid.cells < CELLS_RECENT:
        return dict.fromkeys(signals, "spread")
    plan = FeaturePlan(record.names, names, 1.0, grid.cells, grid.hop_cells)
    every = max(1, len(record) // WINDOWS_CHOOSING)
    _, x = some_features(record, plan, grid.every_cell(), every)
    x = x[np.isfinite(x).any(axis=1)].astype(np.float64)
    if not len(x):
        return dict.fromkeys(signals, "spread")
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        unsure = np.nanstd(x, axis=0) / np.nanmean(x, axis=0)
    spread, steps = np.split(unsure, 2)
    jumps = [_jumps(record.values[:, record.names.index(signal)]) for signal in signals]
    return {
        signal: kinds[int(jumps[i] or steps[i] < SURER * spread[i])]
        for i, signal in enumerate(signals)
    }


def _jumps(values: NDArray[np.float64]) -> bool:
    """Whether a signal mostly stands, and jumps when it moves; rounded, a slow one only creeps."""
    known = values[~np.isnan(values)]
    steps = np.abs(np.diff(known))
    moved = steps[steps > 0]
    if 2 * len(moved) >= len(steps) or not len(moved):
        return False
    low, high = np.quantile(known, [RARE, 1.0 - RARE])
    return float(np.median(moved)) >= JUMP * float(high - low)


def with_hints(plan: FeaturePlan, kinds: Collection[str]) -> FeaturePlan:
    """The same, of what only explains with these kinds alone."""
    out = {n for n in plan.names if n.rpartition(":")[2] in HINTS.difference(kinds)}
    levels = plan.levels if BENDS.keys() & kinds else ()
    return replace(plan, names=tuple(n for n in plan.names if n not in out), levels=levels)


def blocks_of(plan: FeaturePlan) -> tuple[NDArray[np.bool_], ...]:
    """Which features belong to the whole window, and which to its newest part; what only explains
    belongs to neither."""
    kinds = [name.rpartition(":")[2] for name in plan.names[: plan.measured]]
    judged = ~np.isin(kinds, list(HINTS))
    newest = np.array([kind.startswith("recent_") for kind in kinds])
    whole, recent = judged & ~newest, judged & newest
    return (whole, recent) if bool(recent.any()) else (whole,)


def signals_of(plan: FeaturePlan) -> NDArray[np.int64]:
    """int64[d], which signal each feature is of."""
    at = {name: index for index, name in enumerate(plan.signals)}
    return np.array([at[name.rpartition(":")[0]] for name in plan.names[: plan.measured]])


def floors(plan: FeaturePlan, step: NDArray[np.float64]) -> NDArray[np.float64]:
    """The least standard deviation of each feature: what rounding alone makes of it."""
    at = {name: index for index, name in enumerate(plan.signals)}
    out = np.empty(plan.measured)
    for index, name in enumerate(plan.names[: plan.measured]):
        signal, _, kind = name.rpartition(":")
        short = kind.startswith("recent_") or kind in EARLIER
        cells = plan.newest if short else plan.cells
        # Rounding errors are uniform over a step; a mean over cells averages them out.
        out[index] = step[at[signal]] / np.sqrt(12.0 * cells)
    return np.maximum(out, 1e-12)
