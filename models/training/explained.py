"""What the other features let expect of each, with as much trust as held-out parts bear out.

Two signals that follow one load explain each other almost wholly, and a small fault shows only if
that is used. Two that merely drifted the same way do too, until tomorrow. Held-out parts of the
record tell which: each feature gets the ridge by which the others foretell it best there.
"""

from collections.abc import Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from models.training.folds import Fold

RIDGES = (0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.003, 0.001, 0.0003)
"""Shares of a feature's variance that no other may explain away."""
ROWS_MAX = 4000
"""Windows by which ridges are chosen."""
WHOLE_SHARE = 0.25
"""Where so many rows lack nothing, they alone choose."""
REACH_Z = 8.0
"""Standard deviations up to which one feature may explain another."""

Floats = NDArray[np.float64]


def explain(
    z: Floats,
    have: NDArray[np.bool_],
    parts: Sequence[Fold],
    lengths: Sequence[int],
    judged: int,
) -> tuple[Floats, Floats]:
    """Learn how far each feature follows from the others.

    Args:
        z: float64[n, d], standardised, 0 where missing; sequences one after the other.
        have: bool[n, d], the feature is there.
        parts: To hold out.
        lengths: Rows of each sequence.
        judged: Of the first so many, it is told what was left over.

    Returns:
        float64[d, d], column j: minus what the others let expect of j (diagonal 0), and
        float64[n, judged], what was left over in rows that were held out (else NaN).
    """
    sums = _Sums.of(z, have)
    views = [fold.rows(lengths) for fold in parts]
    seen = [(test, sums.less(_Sums.of(z[hidden], have[hidden]))) for test, hidden in views]
    every = max(1, len(z) // ROWS_MAX)
    # Rows in which others are missing say little of what those others explain.
    whole = have.all(axis=1)
    asked = whole if whole.mean() >= WHOLE_SHARE else np.ones(len(z), bool)
    ridges = np.full(z.shape[1], RIDGES[0])
    if seen:
        held_out = [np.flatnonzero(test & asked)[::every] for test, _ in seen]
        lost = [rest.lost(z[at], have[at]) for at, (_, rest) in zip(held_out, seen, strict=True)]
        ridges = np.asarray(RIDGES)[np.argmin(np.mean(lost, axis=0), axis=0)]
    held = np.full((len(z), judged), np.nan)
    for test, rest in seen:
        held[test] = rest.left_over(z[test], have[test], ridges)[:, :judged]
    return weights(sums.axes, ridges), held


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

    def lost(self, z: Floats, have: NDArray[np.bool_]) -> Floats:
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
            left = (along * pull) @ vectors.T / (squares @ pull) + (inside - bounded)
            out[index] = np.log((np.where(have, left * spread, 0.0) ** 2).sum(axis=0) + 1e-12)
        return out

    def left_over(self, z: Floats, have: NDArray[np.bool_], ridges: Floats) -> Floats:
        """float64[n, d], what these rows leave of other rows, in z's unit; NaN where missing."""
        _, mean, spread = self.correlation()
        inside = np.where(have, (z - mean) / spread, 0.0)
        left = inside + np.clip(inside, -REACH_Z, REACH_Z) @ weights(self.axes, ridges)
        return np.where(have, left * spread, np.nan)


def axes(shared: Floats) -> tuple[Floats, Floats]:
    """Eigenvalues float64[d] and eigenvectors float64[d, d] of a correlation."""
    values, vectors = np.linalg.eigh(0.5 * (shared + shared.T))
    # Gaps may have left the correlation not quite positive.
    return np.maximum(values, 0.0), vectors


def weights(found: tuple[Floats, Floats], ridges: Floats) -> Floats:
    """float64[d, d], column j: minus the ridge regression of j on the others; diagonal 0.

    Args:
        found: The `axes` of the correlation.
        ridges: float64[d], each feature's own.

    >>> weights(axes(np.array([[1.0, 0.5], [0.5, 1.0]])), np.array([1e-9, 1e-9])).round(6)
    array([[ 0. , -0.5],
           [-0.5,  0. ]])
    """
    values, vectors = found
    out = np.empty_like(vectors)
    for ridge in np.unique(ridges):
        at = np.flatnonzero(ridges == ridge)
        inverse = (vectors / ((1.0 - ridge) * values + ridge)) @ vectors[at].T
        out[:, at] = inverse / inverse[at, np.arange(len(at))]
        out[at, at] = 0.0
    return out
