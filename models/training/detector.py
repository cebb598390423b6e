"""The healthy state as one matrix: each feature against what all the others make of it.

Every feature is compared with what the other features of the same moment let expect (the
conditional residual of a Gaussian, from the ridged precision matrix). So a flow that falls with the
temperature, as it always did, is nothing; a flow that falls alone is. Residuals whose record holds
few independent windows count for less, by the tail of Student's t.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm, t

RIDGE = 0.05
"""Share of every feature's variance that no other feature may explain away."""
TAIL = 1e-3
"""Where Student's t is compared with the Gaussian."""
CLIP = 8.0
"""Standard deviations up to which one feature may explain another; also the range of int8."""
POWER = 4
"""Of the norm over features: between the sum of squares (2), which drowns one strange signal among
many, and the largest (infinity), which sees no signals that stray together."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Detector:
    """What `fit` learned of `d` features.

    Attributes:
        centre: float64[d].
        scale: float64[d], > 0.
        own: float64[d], what a feature's own deviation counts for.
        others: float64[d, d], what the deviations of the others take off, diagonal 0.
        independent: float64[d], how many independent windows the record held for each residual.
        blocks: For each of the scales (whole window, recent), bool[d]: the features it holds.
        precision: float64[d, d], of the standardised features; 0 between blocks.
    """

    centre: Floats
    scale: Floats
    own: Floats
    others: Floats
    independent: Floats
    blocks: tuple[NDArray[np.bool_], ...]
    precision: Floats

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
        z = (x - self.centre) / self.scale
        missing = np.isnan(z)
        known = np.clip(np.where(missing, 0.0, z), -CLIP, CLIP)
        if bool(missing.any()):
            known = np.where(missing, np.clip(known @ self.expected, -CLIP, CLIP), known)
        explained: Floats = known @ self.others
        return np.where(missing, np.nan, z * self.own + explained)

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
    floor: Floats,
    blocks: tuple[NDArray[np.bool_], ...],
    *,
    tails: bool = True,
) -> Detector:
    """Learn the healthy state.

    Args:
        sequences: float[n_i, d] each, evenly spaced in time, oldest first; NaN where missing.
        floor: float64[d], the least standard deviation that a feature can have (its resolution).
        blocks: As `Detector.blocks`.
        tails: Weigh residuals by how many independent windows stand behind them.
    """
    x = np.concatenate(sequences).astype(np.float64)
    d = x.shape[1]
    have = ~np.isnan(x)
    count = np.maximum(have.sum(axis=0), 1)
    centre = np.where(have, x, 0.0).sum(axis=0) / count
    away = np.where(have, x - centre, 0.0)
    scale = np.maximum(np.sqrt((away**2).sum(axis=0) / count), floor)
    z = away / scale
    own, others, inverse = np.ones(d), np.zeros((d, d)), np.zeros((d, d))
    for block in blocks:
        at = np.flatnonzero(block)
        inside = z[:, at]
        both = have[:, at].astype(float)
        pairs = np.maximum(both.T @ both, 1.0)
        shared = (1 - RIDGE) * (inside.T @ inside / pairs) + RIDGE * np.eye(len(at))
        precision = _inverse(shared)
        inverse[np.ix_(at, at)] = precision
        weight = precision / np.sqrt(np.diag(precision))
        own[at] = np.diag(weight)
        others[np.ix_(at, at)] = weight - np.diag(np.diag(weight))
    raw = Detector(centre, scale, own, others, np.ones(d), blocks, inverse)
    if not tails:
        return raw
    independent = effective([raw.residual(s) for s in sequences])
    tail = inflation(independent)
    return Detector(centre, scale, own / tail, others / tail, independent, blocks, inverse)


def inflation(independent: Floats) -> Floats:
    """How much wider a limit must be for so few independent values than for infinitely many.

    >>> inflation(np.array([3.0, 20.0, 1e6])).round(2)
    array([7.23, 1.16, 1.  ])
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
