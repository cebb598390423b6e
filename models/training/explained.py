"""What the other features let expect of each, with as much trust as held-out parts bear out.

Two signals that follow one load explain each other almost wholly, and a small fault shows only if
that is used. Two that merely drifted the same way do too, until tomorrow. Held-out parts of the
record tell which: each feature gets the ridge by which the others foretell it best there.
"""

from collections.abc import Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from models.training.companies import Members
from models.training.folds import Fold

RIDGES = (0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.003, 0.001, 0.0003)
"""Shares of a feature's variance that no other may explain away."""
ROWS_MAX = 4000
"""Windows by which ridges are chosen."""
WHOLE_SHARE = 0.25
"""Where so many rows lack nothing, they alone choose."""
REACH_Z = 8.0
"""Standard deviations up to which one feature may explain another."""
STAND_IN_RIDGE = 0.05
"""Of what stands in for where a signal was, if that is missing."""
GAIN_MIN, CERTAIN, SURE_FOLDS = 0.1, 2.0, 4
"""Share of what is left over (in logarithms of its squares), and standard errors, by which held-out
parts, so many at least, must be foretold better by where signals were earlier."""

Floats = NDArray[np.float64]
Barred = NDArray[np.int64] | None


def explain(
    z: Floats,
    have: NDArray[np.bool_],
    parts: Sequence[Fold],
    lengths: Sequence[int],
    members: Members,
) -> tuple[Floats, Floats]:
    """Learn how far each feature follows from the others.

    Where signals were earlier explains a feature only if held-out parts bear that out clearly. It
    is itself foretold by where the others were then.

    Args:
        z: float64[n, d], standardised, 0 where missing; sequences one after the other.
        have: bool[n, d], the feature is there.
        parts: To hold out.
        lengths: Rows of each sequence.
        members: What the features are.

    Returns:
        float64[d, d], column j: minus what the others let expect of j (diagonal 0), and
        float64[n, judged], what was left over in rows that were held out (else NaN).
    """
    d, told, judged = z.shape[1], members.told, members.judged
    known, held, lost = _foretold(z[:, :told], have[:, :told], parts, lengths, judged, None)
    weight = np.zeros((d, d))
    weight[:told, :told] = known
    if told == d or len(lost) < SURE_FOLDS:
        return weight, held
    more, better, less = _foretold(z, have, parts, lengths, judged, members.barred)
    gain = lost[:, :judged] - less[:, :judged]
    sure = np.maximum(GAIN_MIN, CERTAIN * gain.std(axis=0) / np.sqrt(len(gain)))
    at = np.flatnonzero(gain.mean(axis=0) > sure)
    weight[:, at], held[:, at] = more[:, at], better[:, at]
    weight[told:, told:] = _stand_ins(z[:, told:], have[:, told:], members)
    return weight, held


def _stand_ins(z: Floats, have: NDArray[np.bool_], members: Members) -> Floats:
    """As `weights`, of what only explains: by the same of other signals."""
    assert members.barred is not None
    # Of the hints of one signal, each is barred from the others.
    hints = np.unique(members.barred, axis=0) - members.told
    of = dict(zip(hints.ravel().tolist(), np.repeat(hints, hints.shape[1], axis=0), strict=True))
    barred = np.array([np.setdiff1d(of[i], [i]) for i in range(z.shape[1])])
    ridges = np.full(z.shape[1], STAND_IN_RIDGE)
    return weights(_Sums.of(z, have).axes, ridges, barred)


def _foretold(
    z: Floats,
    have: NDArray[np.bool_],
    parts: Sequence[Fold],
    lengths: Sequence[int],
    judged: int,
    barred: Barred,
) -> tuple[Floats, Floats, Floats]:
    """As `explain`, by all that is given; and float64[parts, d], what each part left over, as the
    logarithm of its squares."""
    sums = _Sums.of(z, have)
    views = [fold.rows(lengths) for fold in parts]
    seen = [(test, sums.less(_Sums.of(z[hidden], have[hidden]))) for test, hidden in views]
    every = max(1, len(z) // ROWS_MAX)
    # Rows in which others are missing say little of what those others explain.
    whole = have.all(axis=1)
    asked = whole if whole.mean() >= WHOLE_SHARE else np.ones(len(z), bool)
    ridges, lost = np.full(z.shape[1], RIDGES[0]), np.zeros((0, 1, z.shape[1]))
    if seen:
        rows = [np.flatnonzero(test & asked)[::every] for test, _ in seen]
        lost = np.array(
            [rest.lost(z[at], have[at], barred) for at, (_, rest) in zip(rows, seen, strict=True)]
        )
        ridges = np.asarray(RIDGES)[np.argmin(lost.mean(axis=0), axis=0)]
        lost = np.take_along_axis(lost, np.argmin(lost.mean(axis=0), axis=0)[None, None], axis=1)
    held = np.full((len(z), judged), np.nan)
    for test, rest in seen:
        held[test] = rest.left_over(z[test], have[test], ridges, barred)[:, :judged]
    return weights(sums.axes, ridges, barred), held, lost[:, 0]


class _Sums:
    """Sums over rows, from which the rows of a held-out part can be taken off again."""

    def __init__(self, first: Floats, second: Floats, count: Floats, pairs: Floats) -> None:
        self.first, self.second, self.count, self.pairs = first, second, count, pairs

    @classmethod
    def of(cls, z: Floats, have: NDArray[np.bool_]) -> "_Sums":
        both = have.astype(np.float64)
        # Where nothing is missing, each pair is there in every row.
        pairs = np.full((1, 1), float(len(z))) if bool(have.all()) else both.T @ both
        return cls(z.sum(axis=0), z.T @ z, both.sum(axis=0), pairs)

    def less(self, other: "_Sums") -> "_Sums":
        return _Sums(
            self.first - other.first,
            self.second - other.second,
            self.count - other.count,
            self.pairs - other.pairs,
        )

    def correlation(self) -> tuple[Floats, Floats, Floats]:
        """Correlation float64[d, d], mean and standard deviation float64[d]."""
        mean = self.first / np.maximum(self.count, 1.0)
        shared = self.second / np.maximum(self.pairs, 1.0) - np.outer(mean, mean)
        spread = np.sqrt(np.maximum(np.diag(shared), 1e-12))
        return shared / np.outer(spread, spread), mean, spread

    @cached_property
    def axes(self) -> tuple[Floats, Floats]:
        """Eigenvalues and eigenvectors of the correlation, the same for every ridge."""
        return axes(self.correlation()[0])

    def lost(self, z: Floats, have: NDArray[np.bool_], barred: Barred = None) -> Floats:
        """float64[ridges, d], logarithm of the squares that each ridge leaves of other rows."""
        _, mean, spread = self.correlation()
        values, vectors = self.axes
        inside = np.where(have, (z - mean) / spread, 0.0)
        bounded = np.clip(inside, -REACH_Z, REACH_Z)
        along, squares = bounded @ vectors, vectors**2
        out = np.empty((len(RIDGES), z.shape[1]))
        for index, ridge in enumerate(RIDGES):
            # As with `weights`, without making them: of each feature all but what it says itself.
            pull = 1.0 / ((1.0 - ridge) * values + ridge)
            told, own = (along * pull) @ vectors.T, squares @ pull
            if barred is not None:
                shared = (vectors * pull) @ vectors.T
                without = _without(shared, barred, np.arange(len(barred)))
                told[:, : len(barred)] -= told @ without
                own[: len(barred)] -= (shared[:, : len(barred)] * without).sum(axis=0)
            left = told / own + (inside - bounded)
            out[index] = np.log((np.where(have, left * spread, 0.0) ** 2).sum(axis=0) + 1e-12)
        return out

    def left_over(
        self, z: Floats, have: NDArray[np.bool_], ridges: Floats, barred: Barred = None
    ) -> Floats:
        """float64[n, d], what these rows leave of other rows, in z's unit; NaN where missing."""
        _, mean, spread = self.correlation()
        inside = np.where(have, (z - mean) / spread, 0.0)
        left = inside + np.clip(inside, -REACH_Z, REACH_Z) @ weights(self.axes, ridges, barred)
        return np.where(have, left * spread, np.nan)


def axes(shared: Floats) -> tuple[Floats, Floats]:
    """Eigenvalues float64[d] and eigenvectors float64[d, d] of a correlation."""
    values, vectors = np.linalg.eigh(0.5 * (shared + shared.T))
    # Gaps may have left the correlation not quite positive.
    return np.maximum(values, 0.0), vectors


def weights(found: tuple[Floats, Floats], ridges: Floats, barred: Barred = None) -> Floats:
    """float64[d, d], column j: minus the ridge regression of j on the others; diagonal 0.

    Args:
        found: The `axes` of the correlation.
        ridges: float64[d], each feature's own.
        barred: As for `Members`, of the first so many features.

    >>> weights(axes(np.array([[1.0, 0.5], [0.5, 1.0]])), np.array([1e-9, 1e-9])).round(6)
    array([[ 0. , -0.5],
           [-0.5,  0. ]])
    """
    values, vectors = found
    out = np.empty_like(vectors)
    for ridge in np.unique(ridges):
        at = np.flatnonzero(ridges == ridge)
        turned = vectors / ((1.0 - ridge) * values + ridge)
        inverse = turned @ vectors[at].T
        if barred is not None:
            some = at < len(barred)
            shared = turned @ vectors.T
            inverse[:, some] -= shared @ _without(shared, barred, at[some])
        out[:, at] = inverse / inverse[at, np.arange(len(at))]
        out[at, at] = 0.0
    return out


def _without(shared: Floats, barred: NDArray[np.int64], at: NDArray[np.int64]) -> Floats:
    """float64[d, m], by which an inverse's columns `at` lose what is barred from them."""
    mine = barred[at]
    these = shared[mine[:, :, None], mine[:, None, :]]
    out = np.zeros((len(shared), len(at)))
    solved = np.linalg.solve(these, shared[mine, at[:, None]][:, :, None])[:, :, 0]
    np.put_along_axis(out, mine.T, solved.T, axis=0)
    return out
