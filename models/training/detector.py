"""The healthy state as one matrix: each feature against what all the others make of it.

So a flow that falls with the temperature, as it always did, is nothing; a flow that falls alone is.
What is left of a feature counts in units of what was left of it in held-out parts of the record,
out to the same quantile for every feature, and for less where few independent windows stand behind
it, by the tail of Student's t.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm, t

from models.training.explained import REACH_Z, explain
from models.training.folds import folds

RIDGE = 0.05
"""Of the density by which operating conditions are told apart."""
TAIL = 0.01
"""Every feature's own tail is brought to the Gaussian's here, and Student's t compared with it."""
CLIP = REACH_Z
"""Standard deviations up to which one feature may explain another; also the range of int8."""
SPREAD_MIN = 0.005
"""Of what is left over, in standard deviations of the feature; a smaller one is not believed."""
SURE = 0.25
"""Share of the windows, those that gaps concern the least, which tell how far a feature spreads."""
POWER = 4
"""Of the norm over features: between the sum of squares (2), which drowns one strange signal among
many, and the largest (infinity), which sees no signals that stray together."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Form:
    """What is known of `d` features before anything is learned.

    A row of features may hold `e` more columns behind them: standard errors, 0 where nothing is
    missing, NaN where a signal is.

    Attributes:
        floor: float64[d], the least standard deviation that a feature can have (its resolution).
        blocks: For each of the scales (whole window, recent), bool[d]: the features it holds.
        owner: int64[d], which of the `e` errors concerns a feature.
        worth: float64[d], variance of the feature for a squared error of 1.
    """

    floor: Floats
    blocks: tuple[NDArray[np.bool_], ...]
    owner: NDArray[np.int64]
    worth: Floats


@dataclass(frozen=True, slots=True, eq=False)
class Detector:
    """What `fit` learned of `d` features.

    Attributes:
        centre: float64[d].
        scale: float64[d], > 0.
        own: float64[d], what a feature's own deviation counts for.
        others: float64[d, d], what the deviations of the others take off, diagonal 0.
        independent: float64[d], how many independent windows the record held for each feature.
        blocks: For each of the scales (whole window, recent), bool[d]: the features it holds.
        precision: float64[d, d], of the standardised features; 0 between blocks.
        felt: float64[e, d], what each squared error adds to the variance of each residual.
        unforeseen: float64[e, d], how far off each feature's expectation may be without a signal.
    """

    centre: Floats
    scale: Floats
    own: Floats
    others: Floats
    independent: Floats
    blocks: tuple[NDArray[np.bool_], ...]
    precision: Floats
    felt: Floats
    unforeseen: Floats

    def likelihood(self, x: NDArray[np.float32] | Floats, freedom: float) -> Floats:
        """float64[n], log density of the first block's features, up to a constant; heavy-tailed."""
        at = np.flatnonzero(self.blocks[0])
        z = np.nan_to_num((x[:, at] - self.centre[at]) / self.scale[at])
        precision = self.precision[np.ix_(at, at)]
        distance = np.einsum("ni,ij,nj->n", z, precision, z, optimize=True)
        volume = 0.5 * np.linalg.slogdet(precision)[1] - np.log(self.scale[at]).sum()
        tail = (freedom + len(at)) / 2 * np.log1p(distance / freedom)
        return np.asarray(volume - tail)

    def residual(self, x: NDArray[np.float32] | Floats) -> Floats:
        """float64[n, d], in standard deviations; NaN where the feature is missing."""
        z = (x[:, : len(self.centre)] - self.centre) / self.scale
        missing = np.isnan(z)
        known = np.clip(np.where(missing, 0.0, z), -CLIP, CLIP)
        if bool(missing.any()):
            known = np.where(missing, np.clip(known @ self.expected, -CLIP, CLIP), known)
        explained: Floats = known @ self.others
        return np.where(missing, np.nan, (z * self.own + explained) / self.unsure(x))

    def unsure(self, x: NDArray[np.float32] | Floats) -> Floats:
        """float64[n, d], how many times as far as usual gaps let residuals lie: 1 without.

        What stands in for a missing feature is as far off as usual, and further for what it would
        have been foretold by and that is missing as well. All may err to the same side.
        """
        d = len(self.centre)
        errors = x[:, d:].astype(np.float64)
        gone = np.isnan(errors)
        added = np.where(gone, 0.0, errors) ** 2 @ self.felt
        absent = np.isnan(x[:, :d])
        if absent.any():
            off = absent * (1.0 / self.own + gone @ self.unforeseen)
            added += (off @ np.abs(self.others)) ** 2
        out: Floats = np.sqrt(1.0 + added)
        return out

    @property
    def expected(self) -> Floats:
        """float64[d, d], what the others let expect of a feature; stands in where it is missing."""
        out: Floats = -self.others / self.own
        return out

    def score(self, x: NDArray[np.float32] | Floats) -> Floats:
        """float64[n]: strange over the whole window, and still strange now; NaN with no feature."""
        residual = self.residual(x)
        parts = [_norm(residual[:, block]) for block in self.blocks]
        out: Floats = np.prod(parts, axis=0) ** (1.0 / len(parts))
        return out


def fit(
    sequences: Sequence[NDArray[np.float32] | Floats],
    form: Form,
    reach: int,
) -> Detector:
    """Learn the healthy state.

    Args:
        sequences: float[n_i, d + e] each, evenly spaced in time, oldest first; NaN where missing.
        form: Of the features.
        reach: Windows that share cells with a window, on either side.
    """
    plain = density(sequences, form)
    d = len(form.floor)
    wide: Floats = np.concatenate(sequences).astype(np.float64)
    x = wide[:, :d]
    lengths = [len(s) for s in sequences]
    have = ~np.isnan(x)
    z = np.where(have, (x - plain.centre) / plain.scale, 0.0)
    others = np.zeros_like(plain.others)
    held = np.full(x.shape, np.nan)
    parts = list(folds(lengths, reach))
    for block in form.blocks:
        at = np.flatnonzero(block)
        others[np.ix_(at, at)], held[:, at] = explain(z[:, at], have[:, at], parts, lengths)
    raw = replace(plain, others=others)
    left = [raw.residual(s) for s in sequences]
    unsure = _in_gaps(raw, form).unsure(wide)
    sure = unsure <= np.quantile(unsure, SURE, axis=0)
    spread = np.maximum(
        _spread(np.where(sure, np.concatenate(left), np.nan), np.where(sure, held, np.nan)),
        np.maximum(form.floor / plain.scale, SPREAD_MIN),
    )
    # Two drifts explain each other's past; so a feature is known no better than its own level is.
    edges = np.cumsum(lengths)[:-1]
    levels = np.split(np.where(have, z, np.nan), edges)
    independent = np.minimum(effective(left), effective(levels))
    tail = spread * inflation(independent)
    told = replace(raw, own=1.0 / tail, others=others / tail, independent=independent)
    return _in_gaps(told, form)


def _in_gaps(model: Detector, form: Form) -> Detector:
    """The same, knowing what gaps do."""
    owned = np.zeros((int(form.owner.max()) + 1, len(form.owner)))
    owned[form.owner, np.arange(len(form.owner))] = 1.0
    # What an error does to the residual of its own feature, and to those that it helps to explain.
    squares = (model.others + np.diag(model.own)) ** 2
    felt = owned * (form.worth / model.scale**2) @ squares
    return replace(model, felt=felt, unforeseen=owned @ np.abs(model.expected))


def density(sequences: Sequence[NDArray[np.float32] | Floats], form: Form) -> Detector:
    """Centre, scale and precision alone, which is all that a likelihood needs."""
    floor, blocks, d = form.floor, form.blocks, len(form.floor)
    x = np.concatenate(sequences)
    none = np.zeros((x.shape[1] - d, d))
    x = x[:, :d].astype(np.float64)
    have = ~np.isnan(x)
    count = np.maximum(have.sum(axis=0), 1)
    centre = np.where(have, x, 0.0).sum(axis=0) / count
    away = np.where(have, x - centre, 0.0)
    scale = np.maximum(np.sqrt((away**2).sum(axis=0) / count), floor)
    z = away / scale
    inverse = np.zeros((d, d))
    for block in blocks:
        at = np.flatnonzero(block)
        inside, both = z[:, at], have[:, at].astype(float)
        pairs = np.maximum(both.T @ both, 1.0)
        shared = (1 - RIDGE) * (inside.T @ inside / pairs) + RIDGE * np.eye(len(at))
        inverse[np.ix_(at, at)] = _inverse(shared)
    return Detector(
        centre, scale, np.ones(d), np.zeros((d, d)), np.ones(d), blocks, inverse, none, none
    )


def _spread(left: Floats, held: Floats) -> Floats:
    """float64[d], standard deviations of what is left over: held out, and out to the tail."""
    with np.errstate(all="ignore"), warnings.catch_warnings():
        # A feature that is missing in every held-out row has no such figure: NaN, and left at 1.
        warnings.simplefilter("ignore", RuntimeWarning)
        size = np.sqrt(np.fmax(np.nanmean(left**2, axis=0), np.nanmean(held**2, axis=0)))
        far = np.nanquantile(np.abs(held), 1.0 - TAIL, axis=0) / norm.isf(TAIL / 2)
    out: Floats = np.nan_to_num(np.fmax(size, far), nan=1.0)
    return out


def inflation(independent: Floats) -> Floats:
    """How much wider a limit must be for so few independent values than for infinitely many.

    >>> inflation(np.array([3.0, 20.0, 1e6])).round(2)
    array([2.99, 1.09, 1.  ])
    """
    freedom = np.clip(independent - 1.0, 1.5, None)
    out: Floats = t.isf(TAIL, freedom) / norm.isf(TAIL)
    return out


def effective(sequences: Sequence[Floats]) -> Floats:
    """How many independent values a column holds: its length over its correlation time.

    The sequences are read as one, in order, so that what changes from run to run counts as slow.

    Args:
        sequences: float64[n_i, d] each, NaN where missing.

    Returns:
        float64[d], 1 to n.
    """
    x = np.concatenate(sequences)
    n, d = x.shape
    have = ~np.isnan(x)
    count = np.maximum(have.sum(axis=0), 1)
    centre = np.where(have, x, 0.0).sum(axis=0) / count
    away = np.where(have, x - centre, 0.0)
    size = 1 << (2 * n - 1).bit_length()
    out = np.ones(d)
    for start in range(0, d, 32):
        part = away[:, start : start + 32]
        power = np.abs(np.fft.rfft(part, size, axis=0)) ** 2
        correlation = np.fft.irfft(power, size, axis=0)[:n]
        first = correlation[0]
        correlation = correlation / np.where(first > 0, first, 1.0)
        # Up to its first zero, beyond which it is noise (Sokal's window, in its simplest form).
        until = np.cumsum(correlation <= 0, axis=0) == 0
        until[0] = False
        time = 1.0 + 2.0 * np.where(until, correlation, 0.0).sum(axis=0)
        out[start : start + 32] = np.where(first > 0, n / time, n)
    return np.clip(out, 1.0, n)


def _norm(residual: Floats) -> Floats:
    present = (~np.isnan(residual)).sum(axis=1)
    total = np.nansum(residual**POWER, axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        out: Floats = (total / np.where(present > 0, present, np.nan)) ** (1.0 / POWER)
    return out


def _inverse(matrix: Floats) -> Floats:
    """Inverse of a correlation matrix that gaps may have left not quite positive."""
    values, vectors = np.linalg.eigh(0.5 * (matrix + matrix.T))
    out: Floats = (vectors / np.maximum(values, RIDGE)) @ vectors.T
    return out
