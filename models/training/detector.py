"""The healthy state: what each company knows, and how strange a window is by all of them."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from models.training import company
from models.training.company import Company, Floats, Form, Rows
from models.training.folds import folds
from models.training.motion import Motion

POWER = 4
"""Of the norm over features: between the sum of squares (2), which drowns one strange signal among
many, and the largest (infinity), which sees no signals that stray together."""


@dataclass(frozen=True, slots=True, eq=False)
class Detector:
    """What `fit` learned of `d` features.

    Attributes:
        companies: Of features, each within a scale.
        independent: float64[d], how many independent windows the record held for each feature;
            infinite for what only explains.
        blocks: For each of the scales (whole window, recent), bool[d]: the features it holds.
        motion: Which features tell how much the machine moves.
    """

    companies: tuple[Company, ...]
    independent: Floats
    blocks: tuple[NDArray[np.bool_], ...]
    motion: Motion

    @property
    def judged(self) -> int:
        """How many features are judged; behind them stand those that only explain."""
        return int(np.any(self.blocks, axis=0).sum())

    @property
    def centre(self) -> Floats:
        """float64[d]."""
        return self._each([each.centre for each in self.companies])

    @property
    def scale(self) -> Floats:
        """float64[d], > 0."""
        return self._each([each.scale for each in self.companies])

    @property
    def own(self) -> Floats:
        """float64[d], what a feature's own deviation counts for."""
        return self._each([each.own for each in self.companies])

    @property
    def certain(self) -> Floats:
        """float64[d], one over the variance that the others leave of each standardised feature; 1
        of what only explains."""
        bare = [np.ones(len(each.at)) for each in self.companies]
        for each, certain in zip(self.companies, bare, strict=True):
            certain[: each.told] = np.diag(each.precision)
        return self._each(bare)

    def _each(self, values: Sequence[Floats]) -> Floats:
        out = np.ones(len(self.independent))
        for one, value in zip(self.companies, values, strict=True):
            out[one.at[one.told :]] = value[one.told :]
        for one, value in zip(self.companies, values, strict=True):
            out[one.mine] = value[: one.judged]
        return out

    def likelihood(self, x: Rows, freedom: float) -> Floats:
        """float64[n], log density of the first block's features, up to a constant; heavy-tailed."""
        distance, volume, count = np.zeros(len(x)), 0.0, 0
        for one in self._of(self.blocks[0]):
            at = slice(one.told)
            z = np.nan_to_num((x[:, one.at[at]] - one.centre[at]) / one.scale[at])
            precision = one.precision
            distance += np.einsum("ni,ij,nj->n", z, precision, z, optimize=True)
            volume += 0.5 * np.linalg.slogdet(precision)[1] - np.log(one.scale[at]).sum()
            count += one.told
        tail = (freedom + count) / 2 * np.log1p(distance / freedom)
        return np.asarray(volume - tail)

    def score(self, x: Rows) -> Floats:
        """float64[n]: strange over the whole window, and still strange now; NaN with no feature."""
        residual = self.residual(x)
        parts = [_norm(residual[:, np.flatnonzero(block)]) for block in self.blocks]
        out: Floats = np.prod(parts, axis=0) ** (1.0 / len(parts))
        return out

    def residual(self, x: Rows) -> Floats:
        """float64[n, judged], in standard deviations; NaN where the feature is missing."""
        return self._told(x, Company.residual)

    def guess(self, x: Rows) -> Floats:
        """float64[n, judged], how much of the residual may be a guess, in the same unit."""
        return self._told(x, Company.guess)

    def _told(self, x: Rows, tell: Callable[[Company, Rows, Rows], Floats]) -> Floats:
        told, d = self.motion.beside(x), len(self.independent)
        out = np.full((len(x), self.judged), np.nan)
        for one in self.companies:
            out[:, one.mine] = tell(one, told[:, one.at], told[:, d + one.errors])
        return out

    def _of(self, block: NDArray[np.bool_]) -> Iterator[Company]:
        return (each for each in self.companies if block[each.at[0]])


def _norm(residual: Floats) -> Floats:
    present = (~np.isnan(residual)).sum(axis=1)
    total = np.nansum(residual**POWER, axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        out: Floats = (total / np.where(present > 0, present, np.nan)) ** (1.0 / POWER)
    return out


def fit(sequences: Sequence[Rows], form: Form, reach: int) -> Detector:
    """Learn the healthy state.

    Args:
        sequences: float[n_i, d + e] each, evenly spaced in time, oldest first; NaN where missing.
        form: Of the features.
        reach: Windows that share cells with a window, on either side.
    """
    x = form.motion.beside(_joined(sequences))
    lengths = [len(s) for s in sequences]
    parts = list(folds(lengths, reach, alike=form.alike))
    independent, own = np.full(len(form.floor), np.inf), np.ones(len(form.floor))
    companies = []
    for members in form.companies:
        one, independent[members.mine] = company.learn(x, members, form, parts, lengths, reach)
        own[members.mine] = one.own[: members.judged]
        own[members.at[members.told :]] = one.own[members.told :]
        companies.append(one)
    # How far a delegate may be off is learned where it is judged.
    known = tuple(replace(each, own=own[each.at]).in_gaps(form) for each in companies)
    return Detector(known, independent, form.blocks, form.motion)


def density(sequences: Sequence[Rows], form: Form) -> Detector:
    """Centre, scale and correlation alone, which is all that a likelihood needs."""
    x = _joined(sequences)
    companies = tuple(company.plain(x, members, form)[0] for members in form.companies)
    return Detector(companies, np.ones(len(form.floor)), form.blocks, form.motion)


def _joined(sequences: Sequence[Rows]) -> Rows:
    return np.asarray(np.concatenate(sequences))
