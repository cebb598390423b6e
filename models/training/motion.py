"""How much a machine moves just now, and how much further its residuals may lie for it.

While a set point is changed, what follows it is off by what it lags behind: further the larger the
change is, and in no other window. Such rare moments would else set the limit for all the others.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.features.plan import FeaturePlan
from models.training.folds import Fold

KINDS = frozenset({"spread", "roughness"})
MOVERS_MAX = 60
"""Of a wider machine, nothing is learned here: too many signals move for each residual."""
STRETCH_MAX = 8.0
"""Times its root mean square, at which a movement counts no further."""
CERTAIN = 2.0
"""Standard errors by which held-out parts must speak for it."""
ROWS_MAX = 1500
"""Windows by which it is fitted."""
STEPS = 200
"""Of the fit; each is two small products."""
FAR = 0.99
"""Quantile at which a squared residual counts no further, so that no single moment decides."""
WINDOWS_MIN = 20
"""Windows, one after the other, that a record must hold before it can tell."""
STILL_MIN = 0.02
"""Share of a residual's variance that stays where nothing moves."""

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Motion:
    """Which features tell how much a machine moves.

    Attributes:
        at: int64[m], the fluctuation of each signal over the window.
        unit: float64[m], its root mean square in the record.
        signals: int64[d], which signal each feature is of.
    """

    at: Ints
    unit: Floats
    signals: Ints

    def beside(self, x: NDArray[np.float32] | Floats) -> NDArray[np.float32] | Floats:
        """float[n, d + e + m]: behind x how much each signal moves, in units; 0 if not known."""
        if not len(self.at):
            return x
        moves = np.nan_to_num(x[:, self.at]) / self.unit.astype(x.dtype)
        return np.concatenate([x, np.minimum(moves, STRETCH_MAX)], axis=1)

    def of_same(self, mine: Ints) -> NDArray[np.bool_]:
        """bool[m, g], which movements are of a feature's own signal."""
        if not len(self.at):
            return np.zeros((0, len(mine)), bool)
        return np.asarray(self.signals[self.at][:, None] == self.signals[mine])


STILL = Motion(np.zeros(0, np.int64), np.zeros(0), np.zeros(0, np.int64))


def motion_of(sequences: Sequence[NDArray[np.float32]], plan: FeaturePlan, signals: Ints) -> Motion:
    """What moves.

    Args:
        sequences: float32[n_i, d + e] each.
        plan: The features.
        signals: int64[d], which signal each feature is of.
    """
    kinds = [name.rpartition(":")[2] for name in plan.names[: plan.measured]]
    at = np.array([i for i, kind in enumerate(kinds) if kind in KINDS], np.int64)
    if len(at) > MOVERS_MAX:
        return STILL
    square = np.concatenate([s[:, at].astype(np.float64) for s in sequences]) ** 2
    unit = np.sqrt(np.nan_to_num(square).mean(axis=0))
    return Motion(at[unit > 0], unit[unit > 0], signals)


def stirred(
    held: Floats,
    moves: Floats,
    own: NDArray[np.bool_],
    parts: Sequence[Fold],
    lengths: Sequence[int],
    reach: int,
) -> Floats:
    """What each squared movement adds to the variance of each residual, in units of the variance
    that there is where nothing moves.

    Args:
        held: float64[n, g], what was left over in rows that were held out (else NaN).
        moves: float64[n, m], as `Motion.beside` gives them.
        own: bool[m, g], movements that may add nothing.
        parts: To hold out.
        lengths: Rows of each sequence.
        reach: Windows that share cells with a window, on either side.

    Returns:
        float64[m, g]; 0 for a residual of which held-out parts do not bear it out.
    """
    n, g = held.shape
    found = np.zeros((moves.shape[1], g))
    if not moves.shape[1] or n < WINDOWS_MIN * reach:
        return found
    known = np.isfinite(held)
    square = np.where(known, held, 0.0) ** 2
    terms = np.column_stack([np.ones(n), moves**2])
    allowed = np.vstack([np.ones((1, g), bool), ~own])
    every = max(1, n // ROWS_MAX)
    gains = []
    for fold in parts:
        test, hidden = fold.rows(lengths)
        learn = np.flatnonzero(~hidden)[::every]
        at = np.flatnonzero(test)
        if len(learn) < len(terms[0]) or len(at) < 2:
            continue
        weight = _fit(terms[learn], square[learn], known[learn], allowed)
        variance = terms[at] @ weight
        usual = _mean(square[learn], known[learn])
        gain = np.log(usual / variance) + square[at] * (1.0 / usual - 1.0 / variance)
        gains.append(_mean(gain, known[at]))
    if len(gains) < 4:
        return found
    gained = np.array(gains)
    error = gained.std(axis=0) / np.sqrt(len(gained))
    sure = gained.mean(axis=0) > CERTAIN * error
    if bool(sure.any()):
        rows = slice(None, None, every)
        weight = _fit(terms[rows], square[rows], known[rows], allowed)
        found[:, sure] = (weight[1:] / weight[0])[:, sure]
    return found


def _mean(x: Floats, known: NDArray[np.bool_]) -> Floats:
    out: Floats = np.where(known, x, 0.0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    return np.where(out == 0, 1e-300, out)


def _fit(
    terms: Floats, square: Floats, known: NDArray[np.bool_], allowed: NDArray[np.bool_]
) -> Floats:
    """float64[1 + m, g], non-negative least squares of each column of squares on the terms.

    Source:
        The multiplicative update of Lee and Seung, Advances in NIPS 13 (2001), of one factor.
    """
    if bool(known.all()):
        far = np.quantile(square, FAR, axis=0)
    else:
        far = np.nanquantile(np.where(known, square, np.nan), FAR, axis=0)
    usual = _mean(square, known)
    bounded = np.where(known, np.minimum(square, far), usual)
    told = terms.T @ bounded
    shared = terms.T @ terms
    weight = allowed * usual / len(shared)
    for _ in range(STEPS):
        weight *= told / np.maximum(shared @ weight, 1e-300)
    weight[0] = np.maximum(weight[0], STILL_MIN * usual)
    return weight
