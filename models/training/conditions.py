"""Operating conditions: as many healthy states as held-out parts of the record speak for.

A machine that idles, starts and runs is not one cloud of windows but several. Each gets a detector
of its own; a window is as strange as it is to the condition that knows it best. So a fault may hide
in a condition that knows little: there are several only if faults are told better by them.
"""

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from models.training.company import Form
from models.training.detector import Detector, density, fit
from models.training.folds import FOLDS, folds
from models.training.invented import Told, invent

CANDIDATES = (1, 2, 4, 6, 8, 12)
INDEPENDENT_MIN = 5
"""A condition must have been seen for so many windows that share no cell."""
FREEDOM = 10.0
"""Of the likelihood's tail: a few far windows decide nothing."""
CERTAIN = 2.0
"""Standard errors by which more conditions must speak better for held-out windows than fewer."""
FEATURES_MAX = 512
"""Conditions times features: wider machines would need longer records, and time, than they get.
What only explains is neither told nor judged, so it counts half."""
REACH_Z = 8.0
THIN = 3000
"""Windows by which the number of conditions is chosen."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Conditions:
    """One or several healthy states.

    Attributes:
        whole: Of all windows together.
        parts: One for each condition; just `whole` where there is one.
        share: Share of the healthy windows in each.
    """

    whole: Detector
    parts: tuple[Detector, ...]
    share: tuple[float, ...] = field(default=(1.0,))

    def score(self, x: NDArray[np.float32] | Floats) -> Floats:
        """float64[n], as the condition says that knows the window best."""
        out: Floats = np.min([part.score(x) for part in self.parts], axis=0)
        return out

    def off(self, x: NDArray[np.float32] | Floats) -> Floats:
        """float64[n, f], what the features of the whole window are off by beyond all guesses, in
        standard deviations, as the same condition says; 0 where missing."""
        block = np.flatnonzero(self.whole.blocks[0])
        told = [(part.residual(x)[:, block], part.guess(x)[:, block]) for part in self.parts]
        strange = np.array([part.score(x) for part in self.parts])
        best = np.argmin(np.where(np.isnan(strange), np.inf, strange), axis=0)
        residual, guess = np.nan_to_num(np.array(told)[best, :, np.arange(len(x))]).swapaxes(0, 1)
        out: Floats = residual - np.clip(residual, -guess, guess)
        return out

    def likelihood(self, x: NDArray[np.float32] | Floats) -> Floats:
        """float64[n], logarithm of how likely each window is, up to a constant."""
        told = [
            part.likelihood(x, FREEDOM) + np.log(share)
            for part, share in zip(self.parts, self.share, strict=True)
        ]
        out: Floats = np.logaddexp.reduce(told, axis=0)
        return out


def fit_conditions(
    sequences: Sequence[NDArray[np.float32]],
    form: Form,
    count: int,
    reach: int,
    *,
    told: bool = False,
) -> Conditions:
    """Learn so many conditions (or fewer, where some were seen too seldom).

    Args:
        sequences: float32[n_i, d + e] each, evenly spaced, oldest first.
        form: As for `fit`.
        count: How many to look for.
        reach: Windows that share cells with a window, on either side.
        told: Only what tells conditions apart (`likelihood`); such a model scores nothing.
    """

    def learn(part: Sequence[NDArray[np.float32]]) -> Detector:
        return density(part, form) if told else fit(part, form, reach)

    whole = learn(sequences)
    x = np.concatenate(sequences)
    least = max(INDEPENDENT_MIN * max(1, reach), 2 * int(form.blocks[0].sum()), 30)
    if count == 1 or len(x) < 2 * least:
        return Conditions(whole, (whole,))
    from sklearn.cluster import KMeans  # noqa: PLC0415 - slow to import, and rarely needed
    from sklearn.exceptions import ConvergenceWarning  # noqa: PLC0415 - as above

    at = slice(form.judged)
    z = np.nan_to_num((x[:, at] - whole.centre[at]) / whole.scale[at]).clip(-REACH_Z, REACH_Z)
    thin = z[:: max(1, len(z) // 8000)]
    with warnings.catch_warnings():
        # Fewer different windows than conditions: the empty ones are dropped below.
        warnings.simplefilter("ignore", ConvergenceWarning)
        centres = KMeans(count, n_init=1, random_state=0).fit(thin).cluster_centers_
    own = np.argmin(((z[:, None, :] - centres) ** 2).sum(axis=2), axis=1)
    kept = [c for c in range(count) if int((own == c).sum()) >= least]
    if len(kept) < 2:
        return Conditions(whole, (whole,))
    own = np.argmin(((z[:, None, :] - centres[kept]) ** 2).sum(axis=2), axis=1)
    parts = tuple(learn([x[own == c]]) for c in range(len(kept)))
    return Conditions(whole, parts, tuple(float(np.mean(own == c)) for c in range(len(kept))))


def choose(sequences: Sequence[NDArray[np.float32]], form: Form, reach: int) -> int:
    """How many conditions the record speaks for, by windows held out in blocks of time."""
    total = sum(map(len, sequences))
    longest = total if form.alike else max(map(len, sequences))
    if longest < FOLDS * reach or total < 2 * FOLDS * INDEPENDENT_MIN * reach:
        return 1
    most = FEATURES_MAX // max(form.judged, len(form.floor) // 2)
    if most < CANDIDATES[1]:
        return 1
    step = max(1, total // THIN)
    thin = [s[::step] for s in sequences]
    gap = max(1, reach // step)
    best, told, failed = 1, _held_out(thin, form, 1, gap), 0
    for count in CANDIDATES[1:]:
        if count > most:
            break
        other = _held_out(thin, form, count, gap)
        gain = other - told
        if float(np.mean(gain)) > CERTAIN * float(np.std(gain)) / np.sqrt(len(gain)):
            best, told, failed = count, other, 0
        else:
            failed += 1
        if failed == 2:
            break
    if best == 1:
        return 1
    size = sizes(thin, form, gap)
    several, one = (tells(thin, form, count, gap, size) for count in (best, 1))
    return best if several.better(one) else 1


def _held_out(
    sequences: Sequence[NDArray[np.float32]], form: Form, count: int, reach: int
) -> Floats:
    """Mean likelihood of each held-out block of time."""
    told = [
        np.mean(model.likelihood(test))
        for model, test in _blocks(sequences, form, count, reach, told=True)
    ]
    return np.asarray(told)


def sizes(sequences: Sequence[NDArray[np.float32]], form: Form, reach: int) -> Floats:
    """float64[judged], by how much each feature differs from what the others let expect of it."""
    one = fit(sequences, form, reach)
    return np.asarray((one.scale / one.own)[: form.judged])


def tells(
    sequences: Sequence[NDArray[np.float32]], form: Form, count: int, reach: int, size: Floats
) -> Told:
    """How well faults, invented in held-out windows, are told from them.

    Args:
        sequences: float32[n_i, d + e] each; a long record is thinned.
        form: As for `fit`.
        count: Of conditions.
        reach: Windows that share cells with a window, on either side.
        size: float64[judged], the unit of the faults.
    """
    step = max(1, sum(map(len, sequences)) // THIN)
    sequences, reach = [s[::step] for s in sequences], max(1, reach // step)
    random = np.random.default_rng(0)
    well, ill = [], []
    for model, test in _blocks(sequences, form, count, reach):
        well.append(model.score(test))
        ill.append(model.score(invent(test, size, random)))
    return Told.by(np.concatenate(well), np.concatenate(ill))


def _blocks(
    sequences: Sequence[NDArray[np.float32]],
    form: Form,
    count: int,
    reach: int,
    *,
    told: bool = False,
) -> Iterator[tuple[Conditions, NDArray[np.float32]]]:
    """Each held-out block of time, and a model that has not seen it."""
    for fold in folds([len(s) for s in sequences], reach, alike=form.alike):
        learn = [sequences[index][at] for index, at in fold.learn]
        test = np.concatenate([sequences[index][at] for index, at in fold.test])
        yield fit_conditions(learn, form, count, reach, told=told), test
