"""Tells from which share of its life on a machine is seen to wear: no life is foretold before."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from models.features.regimes import Regimes
from models.record import Record
from models.training.screen import is_counter

Floats = NDArray[np.float64]

LATE_SHARE = 0.6
"""Wear that shows only late is told from this share of a life on (decision 058)."""
STEPS = ((0.6, 0.8), (0.8, 1.0))
"""Earlier fifths of a life, from its end backwards, that are asked one after the other."""
FADES_MIN = 0.5
"""A fifth in which wear goes on at this share of its mean speed is no time of health."""
ENDS = 0.05
FOLDS = 4
CLIP = 6.0
RIDGE = 1e-3


def told_share(record: Record, left: Floats, found: Regimes | None) -> float:
    """The share of a life, from its end backwards, in which wear goes on.

    Machines that were not used in fitting it are measured by one linear index of their signals,
    the one that follows the life left best. It is linear in the signals, so it falls as they do:
    evenly where a machine fades from its first day, and at last only where a fault shows late.

    Args:
        record: Whole lives, each a sequence.
        left: float64[n], the life that each row has left; NaN where unknown.
        found: Its operating conditions, to take out.
    """
    lives = []
    for _, every in record.sequences():
        rows = every[~np.isnan(left[every])]
        if len(rows) and left[rows].max() > 0:
            lives.append((rows, left[rows] / left[rows].max()))
    index = _unseen_index(_signals(record, found), lives)
    told = [(each, u) for each, (_, u) in zip(index, lives, strict=True)]
    whole = _mean(each[u >= 1 - ENDS] for each, u in told) - _mean(
        each[u <= ENDS] for each, u in told
    )
    share = LATE_SHARE
    for begin, end in STEPS:
        speed = _mean(_speed(each, u, begin, end) for each, u in told)
        if not (whole > 0 and speed >= FADES_MIN * whole):
            break
        share = end
    return share


def _signals(record: Record, found: Regimes | None) -> Floats:
    """float64[n, k], what may wear, in spreads; what only counts up shows age, and no wear."""
    values = record.values if found is None else found.normalise(record.values)
    out = {*record.words(), *(found.settings if found else ())}
    columns = []
    for i, column in enumerate(values.T):
        known = column[~np.isnan(column)]
        if i in out or not len(known) or np.ptp(known) == 0:
            continue
        if is_counter(record.values[:, i], record.group):
            continue
        held = np.clip((column - known.mean()) / (known.std() or 1.0), -CLIP, CLIP)
        columns.append(np.nan_to_num(held))
    return np.stack([*columns, np.ones(len(values))], axis=1)


def _unseen_index(values: Floats, lives: list[tuple[NDArray[np.int64], Floats]]) -> list[Floats]:
    """Of each life, its index by the others: least squares in which each machine counts alike."""
    folds = min(FOLDS, len(lives))
    square = np.zeros((folds, values.shape[1], values.shape[1]))
    both = np.zeros((folds, values.shape[1]))
    for i, (rows, u) in enumerate(lives):
        square[i % folds] += values[rows].T @ values[rows] / len(rows)
        both[i % folds] += values[rows].T @ u / len(rows)
    held = RIDGE * len(lives) * np.eye(values.shape[1])
    weights = [
        np.linalg.solve(square.sum(axis=0) - square[i] + held, both.sum(axis=0) - both[i])
        for i in range(folds)
    ]
    return [values[rows] @ weights[i % folds] for i, (rows, _) in enumerate(lives)]


def _mean(parts: Iterable[Floats]) -> float:
    """Of the means of the parts that are not empty, NaN if all are: each machine counts alike."""
    means = [part.mean() for part in parts if len(part)]
    return float(np.mean(means)) if means else np.nan


def _speed(index: Floats, u: Floats, begin: float, end: float) -> Floats:
    """How fast a life's index falls there, by least squares; empty where too few rows tell."""
    inside = (u > begin) & (u <= end)
    if np.ptp(u[inside]) if inside.any() else 0:
        off = u[inside] - u[inside].mean()
        return np.array([off @ index[inside] / (off @ off)])
    return np.zeros(0)
