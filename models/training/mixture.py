"""Chooses among learners by what each says of rows that it has not seen, and combines them.

None wins everywhere, so a non-negative combination is kept, which calibrates as well. A learner
that takes too little off the error is left out: each costs the time of all the others together.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from models.graph import Graph
from models.training.learners import Features, Fit, Floats, Learner, never

Task = Literal["classify", "regress"]

FOLDS = 4
EARNED_MIN = 0.02
"""Share of the others' loss on unseen rows (squared error, log loss) that a learner must take off
to be kept: one hundredth of the root mean square error."""


@dataclass(frozen=True, slots=True, eq=False)
class Mix:
    """The learners kept, their weights, and what is added to their sum."""

    names: tuple[str, ...]
    learners: tuple[Learner, ...]
    weight: Floats
    bias: float

    def predict(self, z: Features) -> Floats:
        """float64[n], a calibrated logit, or the value."""
        out = np.full(len(z), self.bias)
        for learner, weight in zip(self.learners, self.weight, strict=True):
            out += weight * learner.predict(z)
        return out

    def shares(self) -> dict[str, float]:
        """Each learner's weight."""
        return dict(zip(self.names, map(float, self.weight), strict=True))

    def emit(self, graph: Graph, z: str, shift: Floats | None = None) -> str:
        """Name of float32[n, m]: the logit or value, plus each of `m` shifts (one of 0 if None)."""
        first = self.bias + (np.zeros(1) if shift is None else shift)
        terms = [
            learner.emit(graph, z, float(weight), first if i == 0 else np.zeros_like(first))
            for i, (learner, weight) in enumerate(zip(self.learners, self.weight, strict=True))
        ]
        return terms[0] if len(terms) == 1 else graph.node("Sum", *terms)


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """A mix, and how it does.

    Attributes:
        mix: Fitted on all rows.
        unseen: float64[n], what it says of rows that it was not fitted on.
        by_learner: The same of each candidate.
        parts: By fold, the mix that said so of the fold's rows.
    """

    mix: Mix
    unseen: Floats
    by_learner: dict[str, Floats]
    parts: dict[int, Mix]


def unseen(
    fit: Fit, z: Features, y: Floats, folds: NDArray[np.int64], seed: int, task: Task
) -> Floats:
    """float64[n], what a learner says of rows that it was not fitted on."""
    return _unseen(fit, z, y, folds, seed, task)[0]


def _unseen(
    fit: Fit, z: Features, y: Floats, folds: NDArray[np.int64], seed: int, task: Task
) -> tuple[Floats, dict[int, Learner]]:
    """And by fold, who said it."""
    out = np.zeros(len(z))
    said_by: dict[int, Learner] = {}
    for fold in np.unique(folds):
        held = folds == fold
        rest = y[~held]
        some = task == "regress" or 0 < (rest > 0.5).sum() < len(rest)
        learner = fit(z[~held], rest, seed) if some else never()
        out[held] = learner.predict(z[held])
        said_by[int(fold)] = learner
    return out, said_by


def mix(
    candidates: dict[str, Fit],
    z: Features,
    y: Floats,
    folds: NDArray[np.int64],
    *,
    task: Task,
    seed: int,
    earned_min: Mapping[str, float] | None = None,
    calibrate: NDArray[np.int64] | None = None,
) -> Found:
    """Fit the candidates, weigh them by what they say of rows not seen, keep what helps.

    Args:
        candidates: By name.
        z: float32[n, d], standardised features.
        y: float64[n], 0 and 1, or the value.
        folds: int64[n], which rows are held out together.
        task: What `y` is.
        seed: Of every learner.
        earned_min: What a learner that costs more than others must take off, instead of
            `EARNED_MIN`.
        calibrate: int64[n], other folds for the last step, from the mix to a probability. Learners
            are weighed on blocks of time, where those that only interpolate fail; how sure to be
            is learned on rows spread evenly.

    Returns:
        `by_learner` always on `folds`, `unseen` and `parts` on `calibrate` if there is one.
    """
    told = {name: _unseen(fit, z, y, folds, seed, task) for name, fit in candidates.items()}
    by_learner = {name: said for name, (said, _) in told.items()}
    least = dict.fromkeys(told, EARNED_MIN) | dict(earned_min or {})
    columns = np.stack(list(by_learner.values()), axis=1)
    keep = _earning(columns, y, task, [least[name] for name in told])
    weight, bias, _ = weigh(columns[:, keep], y, task)
    names = tuple(list(told)[i] for i in keep)
    if calibrate is not None:
        told |= {name: _unseen(candidates[name], z, y, calibrate, seed, task) for name in names}
        columns = np.stack([told[name][0] for name in names], axis=1)
        scale, bias, _ = weigh((columns @ weight)[:, None], y, task)
        weight = weight * scale[0]

    def mixed(learners: Iterable[Learner]) -> Mix:
        return Mix(names, tuple(learners), weight, bias)

    fitted = mixed(candidates[name](z, y, seed) for name in names)
    parts = {fold: mixed(told[name][1][fold] for name in names) for fold in told[names[0]][1]}
    said = np.stack([told[name][0] for name in names], axis=1) @ weight + bias
    return Found(fitted, said, by_learner, parts)


def _earning(columns: Floats, y: Floats, task: Task, least: Sequence[float]) -> list[int]:
    """The columns that earn their place, by leaving out one after the other the least missed.

    Args:
        columns: float64[n, k], what each learner says of rows not seen.
        y: float64[n].
        task: What `y` is.
        least: Of each, the share of the others' loss that it must take off.
    """
    keep = list(range(columns.shape[1]))
    while len(keep) > 1:
        loss = weigh(columns[:, keep], y, task)[2]
        without = {i: [j for j in keep if j != i] for i in keep}
        missed = {i: weigh(columns[:, rest], y, task)[2] for i, rest in without.items()}
        bar = {i: (1 - least[i]) * missed[i] for i in keep}
        worst = min(bar, key=lambda i: bar[i])
        if loss < bar[worst]:
            break
        keep = without[worst]
    return keep


def weigh(columns: Floats, y: Floats, task: Task) -> tuple[Floats, float, float]:
    """Non-negative weights and a bias: logistic or least squares, weakly held to the mean; and the
    loss that is left."""
    k = columns.shape[1]
    spread = np.maximum(columns.std(axis=0), 1e-9)
    held = (columns - columns.mean(axis=0)) / spread

    def loss(p: Floats) -> tuple[float, Floats]:
        s = held @ p[:k] + p[k]
        if task == "classify":
            value = float(np.logaddexp(0, s).sum() - (y * s).sum())
            off = 1 / (1 + np.exp(-np.clip(s, -500, 500))) - y
        else:
            off = s - y
            value = 0.5 * float(off @ off)
        pull = 1e-3 * p[:k]
        return value + 0.5e-3 * float(p[:k] @ p[:k]), np.append(held.T @ off + pull, off.sum())

    mean = float(y.mean())
    rate = float(np.clip(mean, 1e-6, 1 - 1e-6))
    start = np.append(
        np.full(k, 1.0 / k), np.log(rate / (1 - rate)) if task == "classify" else mean
    )
    bounds: list[tuple[float | None, float | None]] = [(0.0, None)] * k + [(None, None)]
    if task == "regress":
        start[:k] = spread / k
    found = minimize(loss, start, jac=True, bounds=bounds, method="L-BFGS-B")
    weight = found.x[:k] / spread
    return weight, float(found.x[k] - weight @ columns.mean(axis=0)), float(found.fun)


def folds_of(group: NDArray[np.int64], *, whole: bool = False) -> NDArray[np.int64]:
    """int64[n], the fold of each row: whole sequences, or blocks of time where there are few.

    Args:
        group: int64[n], the sequence of each row, oldest first within.
        whole: Never blocks.
    """
    n_folds = FOLDS
    names = np.unique(group)
    if whole or len(names) >= n_folds:
        at = np.searchsorted(names, group)
        return np.asarray(at % n_folds, np.int64)
    out = np.zeros(len(group), np.int64)
    for name in names:
        rows = np.flatnonzero(group == name)
        out[rows] = np.arange(len(rows)) * n_folds // max(1, len(rows))
    return out
