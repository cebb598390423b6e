"""One company of features: each against what all the others make of it.

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
from scipy.stats import norm

from models.training.companies import Members
from models.training.explained import REACH_Z, explain
from models.training.folds import Fold
from models.training.independent import TAIL, TREND, effective, inflation
from models.training.motion import STILL, Motion, stirred

RIDGE = 0.05
"""Of the density by which operating conditions are told apart."""
CLIP = REACH_Z
"""Standard deviations up to which one feature may explain another; also the range of int8."""
TELLS_TREND = 20
"""Windows that a record must hold before a trend can be told from chance."""
SPREAD_MIN = 0.005
"""Of what is left over, in standard deviations of the feature; a smaller one is not believed."""
SURE = 0.25
"""Share of the windows, those that gaps concern the least, which tell how far a feature spreads."""
WRONG = 0.5
"""Share of what a signal explains that may be wrong where it was never seen."""

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Rows = NDArray[np.float32] | Floats


@dataclass(frozen=True, slots=True, eq=False)
class Form:
    """What is known of `d` features before anything is learned.

    A row of features may hold `e` more columns behind them, of what leaves residuals unsure:
    standard errors, 0 where nothing is missing, NaN where a signal is; and movements.

    Attributes:
        floor: float64[d], the least standard deviation that a feature can have (its resolution).
        blocks: For each of the scales (whole window, recent), bool[d]: the features it holds.
        owner: int64[d], which of the `e` errors concerns a feature.
        worth: float64[d], variance of the feature for a squared error of 1.
        companies: The features that are compared with each other; each company is of one scale.
        alike: Sequences are runs of one course, and are held out whole.
        motion: Which features tell how much the machine moves.
    """

    floor: Floats
    blocks: tuple[NDArray[np.bool_], ...]
    owner: Ints
    worth: Floats
    companies: tuple[Members, ...]
    alike: bool = False
    motion: Motion = STILL

    @property
    def judged(self) -> int:
        """How many features are judged; behind them stand those that only explain."""
        return int(np.any(self.blocks, axis=0).sum())

    def of(self, at: Ints) -> "Form":
        """Of some features alone, all that are judged among them."""
        motion = self.motion
        if len(motion.signals):
            motion = replace(motion, signals=motion.signals[at])
        return replace(
            self,
            floor=self.floor[at],
            blocks=tuple(block[at] for block in self.blocks),
            owner=self.owner[at],
            worth=self.worth[at],
            motion=motion,
        )


@dataclass(frozen=True, slots=True, eq=False)
class Company:
    """What was learned of `g` features that are compared with each other and with `h` - `g` more.

    Attributes:
        at: int64[h], which of all features they are.
        judged: How many of them, from the first on, are judged here: g.
        told: How many of them, from the first on, do not only explain.
        errors: int64[e], which of all standard errors and movements concern them.
        centre: float64[h].
        scale: float64[h], > 0.
        own: float64[h], what a feature's own deviation counts for.
        shared: float64[h, h], correlation.
        expected: float64[h, h], what the others let expect of a feature, diagonal 0; stands in
            where it is missing.
        felt: float64[e, g], what each squared error or movement adds to the variance of each
            residual.
        unforeseen: float64[e, h], how far off each feature's expectation may be without a signal.
        seen: float64[2, h], the least and the most of each standardised feature.
    """

    at: Ints
    judged: int
    told: int
    errors: Ints
    centre: Floats
    scale: Floats
    own: Floats
    shared: Floats
    expected: Floats
    felt: Floats
    unforeseen: Floats
    seen: Floats

    @property
    def mine(self) -> Ints:
        """int64[g], the features that are judged here."""
        return self.at[: self.judged]

    @property
    def others(self) -> Floats:
        """float64[h, g], what the deviations of the others take off, diagonal 0."""
        g = self.judged
        out: Floats = -self.expected[:, :g] * self.own[:g]
        return out

    @property
    def guessed(self) -> Floats:
        """float64[h, g], by what a feature beyond all it was seen at may mislead the others."""
        return WRONG * np.abs(self.others)

    @property
    def precision(self) -> Floats:
        """float64[told, told], of the standardised features."""
        shared = self.shared[: self.told, : self.told]
        return _inverse((1 - RIDGE) * shared + RIDGE * np.eye(self.told))

    def residual(self, x: Rows, errors: Rows) -> Floats:
        """float64[n, g], in standard deviations; NaN where the feature is missing.

        Args:
            x: float[n, h], these features.
            errors: float[n, e], these errors.
        """
        g = self.judged
        z = (x - self.centre) / self.scale
        missing = np.isnan(z)
        known = np.clip(np.where(missing, 0.0, z), -CLIP, CLIP)
        if bool(missing.any()):
            known = np.where(missing, np.clip(known @ self.expected, -CLIP, CLIP), known)
        told = z[:, :g] * self.own[:g] + known @ self.others
        return np.where(missing[:, :g], np.nan, told / self.unsure(x, errors))

    def guess(self, x: Rows, errors: Rows) -> Floats:
        """float64[n, g], how much of each residual may be a guess: what signals explain that lie
        beyond all they were seen at, as far as that may be wrong there.

        Args:
            x: As for `residual`.
            errors: As for `residual`.
        """
        known = np.clip(np.nan_to_num((x - self.centre) / self.scale), -CLIP, CLIP)
        beyond = np.abs(known - np.clip(known, *self.seen))
        out: Floats = beyond @ self.guessed / self.unsure(x, errors)
        return out

    def unsure(self, x: Rows, errors: Rows) -> Floats:
        """float64[n, g], how many times as far as usual gaps and movement let residuals lie: 1
        without.

        What stands in for a missing feature is as far off as usual, and further for what it would
        have been foretold by and that is missing as well. All may err to the same side.
        """
        absent, gone = np.isnan(x), np.isnan(errors)
        added = np.zeros((len(x), self.judged))
        if bool(errors.any()):
            added += np.where(gone, 0.0, errors).astype(np.float64) ** 2 @ self.felt
        if bool(absent.any()):
            off = absent * (1.0 / self.own + gone @ self.unforeseen)
            added += (off @ np.abs(self.others)) ** 2
        out: Floats = np.sqrt(1.0 + added)
        return out

    def in_gaps(self, form: Form) -> "Company":
        """The same, knowing what gaps do as well."""
        owned = np.zeros((len(self.errors), len(self.at)))
        owned[np.searchsorted(self.errors, form.owner[self.at]), np.arange(len(self.at))] = 1.0
        # What an error does to the residual of its own feature, and to those it helps to explain.
        squares = (self.others + np.eye(len(self.at), self.judged) * self.own[: self.judged]) ** 2
        felt = owned * (form.worth[self.at] / self.scale**2) @ squares
        return replace(self, felt=self.felt + felt, unforeseen=owned @ np.abs(self.expected))


def plain(x: Rows, members: Members, form: Form) -> tuple[Company, Floats, NDArray[np.bool_]]:
    """A company of which only centre, scale and correlation are known; its features float64[n, h],
    standardised, 0 where missing, and bool[n, h], which are there."""
    at, h = members.at, len(members.at)
    heard = x[:, at].astype(np.float64)
    have = ~np.isnan(heard)
    count = np.maximum(have.sum(axis=0), 1)
    centre = np.where(have, heard, 0.0).sum(axis=0) / count
    away = np.where(have, heard - centre, 0.0)
    scale = np.maximum(np.sqrt((away**2).sum(axis=0) / count), form.floor[at])
    z = away / scale
    both = have.astype(float)
    shared = z.T @ z / np.maximum(both.T @ both, 1.0)
    errors, none = np.unique(form.owner[at]), np.zeros((h, h))
    felt, unforeseen = np.zeros((len(errors), members.judged)), np.zeros((len(errors), h))
    company = Company(
        at,
        members.judged,
        members.told,
        errors,
        centre,
        scale,
        np.ones(h),
        shared,
        none,
        felt,
        unforeseen,
        np.clip([z.min(axis=0), z.max(axis=0)], -CLIP, CLIP),
    )
    return company, z, have


def learn(
    x: Rows,
    members: Members,
    form: Form,
    parts: Sequence[Fold],
    lengths: Sequence[int],
    reach: int,
) -> tuple[Company, Floats]:
    """One company, its own features known, and float64[g], their independent windows."""
    bare, z, have = plain(x, members, form)
    g = members.judged
    others, held = explain(z, have, parts, lengths, members)
    raw = replace(bare, expected=-others)
    d, m = len(form.floor), len(form.motion.at)
    heard, errors = x[:, members.at], x[:, d + bare.errors]
    moves = x[:, x.shape[1] - m :].astype(np.float64)
    left = raw.residual(heard, errors)
    moved = stirred(held, moves, form.motion.of_same(members.mine), parts, lengths, reach)
    further = np.sqrt(1.0 + moves**2 @ moved)
    left, held = left / further, held / further
    unsure = raw.in_gaps(form).unsure(heard, errors)
    sure = unsure <= np.quantile(unsure, SURE, axis=0) if bool((unsure > 1).any()) else have[:, :g]
    spread = np.maximum(
        _spread(np.where(sure, left, np.nan), np.where(sure, held, np.nan)),
        np.maximum(form.floor[members.mine] / bare.scale[:g], SPREAD_MIN),
    )
    # Two drifts explain each other's past; so a feature is known no better than its own level is.
    levels = np.where(have[:, :g], z[:, :g], np.nan)
    independent = np.minimum(effective(left), effective(levels))
    spent = TREND if sum(lengths) >= TELLS_TREND * reach else 1.0
    # How far off what stands in for the rest may be.
    rest = z[:, g:] + (z @ others)[:, g:]
    own = np.append(
        1.0 / (spread * inflation(independent, spent)),
        1.0 / np.maximum(np.sqrt(np.square(rest).mean(axis=0)), SPREAD_MIN),
    )
    told = np.append(bare.errors, x.shape[1] - d - m + np.arange(m))
    felt = np.vstack([np.zeros((len(bare.errors), g)), moved])
    return replace(raw, own=own, errors=told, felt=felt), independent


def _spread(left: Floats, held: Floats) -> Floats:
    """float64[d], standard deviations of what is left over: held out, and out to the tail."""
    with np.errstate(all="ignore"), warnings.catch_warnings():
        # A feature that is missing in every held-out row has no such figure: NaN, and left at 1.
        warnings.simplefilter("ignore", RuntimeWarning)
        size = np.sqrt(np.fmax(np.nanmean(left**2, axis=0), np.nanmean(held**2, axis=0)))
        far = np.nanquantile(np.abs(held), 1.0 - TAIL, axis=0) / norm.isf(TAIL / 2)
    out: Floats = np.nan_to_num(np.fmax(size, far), nan=1.0)
    return out


def _inverse(matrix: Floats) -> Floats:
    """Inverse of a correlation matrix that gaps may have left not quite positive."""
    values, vectors = np.linalg.eigh(0.5 * (matrix + matrix.T))
    out: Floats = (vectors / np.maximum(values, RIDGE)) @ vectors.T
    return out
