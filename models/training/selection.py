"""Chooses what a failure is told by: the window, and products and differences of signals."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score

from models.features import regimes as conditions
from models.record import Record
from models.training import grid as grids
from models.training import label as labels_of
from models.training import learners, mixture, rates
from models.training.inputs import Features, Inputs, choose, pair_candidates
from models.windows import Grid

GAIN_MIN = 0.01
"""Average precision on unseen rows that a longer window or derived features must bring."""
KEPT_SHARE = 0.25
"""A product or difference must weigh so much of what the strongest one does."""
CELLS_MAX = 256

LOOSE = (
    "rows are judged each alone, as nothing tells that they follow each other; if they do, name"
    " --time or --group, or give --window"
)
ROWS_SAY_ALL = (
    "rows are judged each alone: windows as long as the label holds told no more of unseen ones"
)

Floats = NDArray[np.float64]
Chosen = tuple[Inputs, Features, NDArray[np.bool_], list[str]]


def choose_window(
    record: Record,
    window: str | None,
    target: Floats,
    keep: NDArray[np.bool_],
    seed: int,
) -> Chosen:
    """The window under which boosted trees see unseen failures best, or the one asked for; and
    whether to take out the operating conditions, if there are several."""
    period_s, regular = rates.sampling(record)
    run = labels_of.run_length(target, record.group)
    weighed = False
    if window is not None:
        cells, rows = grids.span(window, "window", period_s)
        windows = [Grid(rows or not regular, period_s, cells, 1, 3)]
    else:
        lengths = _lengths(record, target, run)
        weighed = lengths[0] > 1
        windows = [Grid(True, period_s, cells, 1, 3) for cells in lengths]
    found = None
    if windows[-1].cells > 1:
        found = conditions.find(record.values, record.group, record.words())
    made = choose(record, windows[0], regimes=None, rows=keep)
    best = _unseen_worth(made, record, target, seed) if found or weighed else 0.0
    for grid in windows if found else windows[1:]:
        # Conditions are tried on the first window; a longer one goes on with what was better.
        held = found if grid is windows[0] or made[0].plan.regimes else None
        tried = choose(record, grid, regimes=held, rows=keep)
        worth = _unseen_worth(tried, record, target, seed)
        if worth > best + GAIN_MIN:
            best, made = worth, tried
    if weighed:
        alone = choose(record, Grid(True, period_s, 1, 1, 3), regimes=None, rows=keep)
        if _unseen_worth(alone, record, target, seed) >= best - GAIN_MIN:
            made = alone
    inputs, x, ready, notes = made
    if window is None and run >= labels_of.RUN_MIN and labels_of.loose(record):
        notes.append(LOOSE)
    if weighed and inputs.plan.cells == 1:
        notes.append(ROWS_SAY_ALL)
    elif weighed:
        notes.append(
            f"window of {inputs.plan.cells} rows: the label holds for {run:g} rows at a time"
        )
    if inputs.plan.regimes is not None:
        notes.append(conditions.told(inputs.plan.regimes, inputs.plan.signals))
    return inputs, x, ready, notes


def _lengths(record: Record, target: Floats, run: float) -> list[int]:
    """Of windows to try, in rows: as long as the label holds at a time, and three times that."""
    each_alone = labels_of.loose(record) or labels_of.holds_once(record, target)
    if run < labels_of.RUN_MIN or each_alone:
        return [1]
    healthy = np.asarray((target <= 0.5).all(axis=1, keepdims=True), float)
    # Where nothing is healthy for longer than that, a long window learns which state came before.
    times = (1, 3) if labels_of.run_length(healthy, record.group) > run else (1,)
    longest = max(len(rows) for _, rows in record.sequences())
    lengths = [int(np.clip(run * each, 2, min(CELLS_MAX, longest))) for each in times]
    return list(dict.fromkeys(lengths))


def _unseen_worth(made: Chosen, record: Record, target: Floats, seed: int) -> float:
    inputs, x, ready, _ = made
    folds = mixture.folds_of(record.group[ready])
    return _worth(inputs.fitted(x[ready]), x[ready], target[ready], folds, seed)


def choose_pairs(
    inputs: Inputs,
    x: Features,
    y: Floats,
    folds: NDArray[np.int64],
    seed: int,
    notes: list[str],
) -> Inputs:
    """Products and differences of signals, if boosted trees do better with them on unseen rows."""
    z = inputs.standard(x)
    hit = (y > 0.5).any(axis=1)
    with np.errstate(all="ignore"):
        columns = z[:, : len(inputs.plan.names)]
        strength = np.abs(columns[hit].mean(axis=0) - columns[~hit].mean(axis=0))
        strength += np.abs(np.log(columns[hit].std(axis=0) + 1e-3))
    pairs = pair_candidates(inputs, strength)
    if not pairs:
        return inputs
    more = _strongest(replace(inputs, products=pairs, differences=pairs).fitted(x), x, y, seed)
    plain, derived = (_worth(each, x, y, folds, seed) for each in (inputs, more))
    if derived <= plain + GAIN_MIN:
        return inputs
    names = [name.rpartition(":")[0] for name in inputs.plan.names]
    told = [f"{names[a]} x {names[b]}" for a, b in more.products]
    told += [f"{names[a]} - {names[b]}" for a, b in more.differences]
    notes.append(
        f"derived: {', '.join(told)}; average precision on unseen rows {derived:.3f}, "
        f"without them {plain:.3f}"
    )
    return more


def _strongest(more: Inputs, x: Features, y: Floats, seed: int) -> Inputs:
    """With only those products and differences that a forest leans on."""
    z = more.standard(x)
    first, count = x.shape[1], len(more.products)
    weight = np.zeros(2 * count)
    for column in y.T:
        seen = learners.importance(z, column, seed)[first : first + 2 * count]
        weight = np.maximum(weight, seen / max(float(seen.max()), 1e-12))
    keep = weight >= KEPT_SHARE
    pairs = more.products
    return replace(
        more,
        products=tuple(pair for pair, good in zip(pairs, keep[:count], strict=True) if good),
        differences=tuple(pair for pair, good in zip(pairs, keep[count:], strict=True) if good),
    ).fitted(x)


def _worth(inputs: Inputs, x: Features, y: Floats, folds: NDArray[np.int64], seed: int) -> float:
    """Mean average precision of boosted trees on unseen rows, over labels that are not too rare."""
    z = inputs.standard(x)
    out = []
    for column in y.T:
        said = mixture.unseen(learners.boosted, z, column, folds, seed, "classify")
        out.append(float(average_precision_score(column > 0.5, said)))
    return float(np.mean(out))
