"""The limit: where held-out healthy windows end, carried on to the promised false-alarm rate.

Three facts make a quantile of the training scores useless: neighbours resemble each other, the
healthy state drifts, and a model fits its own record best. So each part of the record is scored by
a model that has not seen it nor its neighbourhood, only the largest score of each block counts, and
what the record cannot support is said instead of promised.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import nct, norm

from models.errors import RecordError
from models.ewma import LEAST, Ewma, average
from models.manifest import DEADBAND
from models.training.company import Form
from models.training.conditions import Conditions, fit_conditions
from models.training.folds import FOLDS, folds
from models.training.independent import inflation

WINDOWS_MIN = 20
"""Fewer windows one after the other than this, and nothing can be said about rare scores."""
CONTENT, CONFIDENCE = 0.9, 0.99
"""Where every run is too short for anything rarer: the limit below which, with this confidence,
this share of windows stay from their first cell to their last (a tolerance limit)."""
PRIOR_WINDOWS, PRIOR_SPREAD = 10.0, 0.25
"""Few windows do not know their own spread: so many more are imagined, whose scores' logarithms
spread by a quarter, as those of machines with long records do."""
REACH = 10.0
"""A record supports statements about a span so many times its own length, and no longer."""
DRAWS = 200
TAIL_MIN = 5
WAYS = 2
"""To be found strange, at once or lastingly; each gets its share of the promise."""
LASTING_MAX = 8.0
"""Windows over which strangeness is averaged at most; longer, and it is told too late."""

Floats = NDArray[np.float64]
Say = Callable[[str], None]
_BUDGET = re.compile(r"^\s*(\d+)\s*/\s*(\d+(?:\.\d+)?)\s*(s|min|h|d|y)\s*$")
_SECONDS = {"s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0, "y": 365.25 * 86400.0}


WORDS = {
    "few": "not enough: the longest healthy run holds {windows} windows one after the other,"
    " {needed} are needed before anything can be said about rare scores",
    "no_time": "the record has no time, so the promise of {promise} cannot be checked",
    "short": "not enough: {has} of healthy record support a promise over {reach}; {promise} needs"
    " {needed}",
    "forward": "a model of the first 70 % flags {share} of the last 30 %",
    "drifting": "most signals still drift: {signals}",
    "fault": "the record may hold a fault: {found}",
}


@dataclass(frozen=True, slots=True)
class Doubt:
    """Why a record does not support a promise: which of `WORDS`, and what fills it."""

    what: str
    values: Mapping[str, str]

    def __str__(self) -> str:
        return WORDS[self.what].format_map(self.values)


@dataclass(frozen=True, slots=True)
class Limit:
    """A limit and what it promises.

    Attributes:
        value: Score above which a window counts as anomalous.
        supported: The record supports the promise.
        confidence: Share of resampled records in which the promise would hold at this limit.
        how: How the value was found, in words.
        doubt: Why the promise is not supported; None where it is.
        held_out: The largest held-out score of each block, oldest first.
    """

    value: float
    supported: bool
    confidence: float
    how: str
    doubt: Doubt | None
    held_out: tuple[float, ...]


def budget_s(text: str) -> float:
    """Seconds per false alarm of a promise such as `1/30d`.

    Raises:
        RecordError: Not such a promise.

    >>> budget_s("2/1h")
    1800.0
    """
    found = _BUDGET.match(text)
    if found is None or int(found[1]) == 0 or float(found[2]) == 0:
        raise RecordError(f"false-alarms: must be such as 1/30d or 2/8h, was {text!r}")
    return float(found[2]) * _SECONDS[found[3]] / int(found[1])


def nobody(_: str) -> None:
    """Where nobody watches a training."""


def held_out(
    sequences: Sequence[NDArray[np.float32]],
    form: Form,
    reach: int,
    conditions: int = 1,
    *,
    say: Say = nobody,
) -> list[Floats]:
    """Scores of every window by models that saw neither it nor what lies within `reach` of it.

    Args:
        sequences: float32[n_i, d + e] each.
        form: As for `fit`.
        reach: Windows that share cells with a window, on either side.
        conditions: How many operating conditions to learn.
        say: Is told how far it is.

    Returns:
        float64[n_i] each; NaN where nothing was left to learn from.
    """
    out = [np.full(len(s), np.nan) for s in sequences]
    for model, index, at in unseen(sequences, form, reach, conditions, say=say):
        out[index][at] = model.score(sequences[index][at])
    return out


def unseen(
    sequences: Sequence[NDArray[np.float32]],
    form: Form,
    reach: int,
    conditions: int,
    *,
    say: Say = nobody,
) -> Iterator[tuple[Conditions, int, slice]]:
    """Models, and which part of which sequence each may judge, as for `held_out`."""
    for turn, fold in enumerate(folds([len(s) for s in sequences], reach, alike=form.alike), 1):
        say(f"learning without part {turn} of {FOLDS}, and judging it")
        learn = [sequences[index][at] for index, at in fold.learn]
        if sum(map(len, learn)) > 2:
            model = fit_conditions(learn, form, conditions, reach)
            yield from ((model, index, at) for index, at in fold.test)


def limit(
    scores: Sequence[Floats],
    *,
    windows: float,
    per_window: int,
    window_s: float | None,
    promise: str,
    seed: int,
) -> Limit:
    """Set the limit from held-out scores.

    Args:
        scores: As `held_out` gives them.
        windows: How many whole windows the longest sequence holds, one after the other.
        per_window: How many scores fall into one window's length.
        window_s: Length of a window in seconds; None without a time.
        promise: Such as `1/30d`.
        seed: For the resampling behind the confidence.
    """
    per_alarm_s = budget_s(promise)
    every = np.concatenate(list(scores))
    every = every[np.isfinite(every)]
    if not len(every):
        raise RecordError("data: too few rows to hold any out; give at least three windows")
    maxima = block_maxima(scores, 2 * per_window)
    span_s = None if window_s is None else 2 * window_s * len(maxima)
    why = _why_not(windows, span_s, window_s, per_alarm_s, promise)
    if windows < WINDOWS_MIN:
        alone = block_maxima(scores, per_window)
        value = _tolerance(alone)
        how = (
            f"by {len(alone)} held-out windows, {CONTENT:.0%} of windows lie below it with "
            f"{CONFIDENCE:.0%} confidence"
        )
        return Limit(value, False, 0.0, how, why, tuple(float(m) for m in maxima))
    # A promise that is kept reaches as far as it says; one that cannot be, as far as it may.
    turns = REACH * len(maxima)
    if not why and span_s is not None:
        turns = min(turns, WAYS * len(maxima) * per_alarm_s / span_s)
    turns = max(turns, 2.0)
    # So that a verdict, which falls back only below its deadband, ends when the machine is well.
    value = max(tail_level(maxima, turns), float(every.max()) / (1.0 - DEADBAND))
    random = np.random.default_rng(seed)
    drawn = random.choice(maxima, (DRAWS, len(maxima)))
    confidence = float(np.mean([tail_level(row, turns) <= value for row in drawn]))
    how = (
        f"extreme-value fit to the largest of {len(maxima)} held-out blocks of two windows,"
        f" carried on to {turns:.0f} blocks; the largest held-out score lies below its deadband"
    )
    return Limit(value, not why, confidence, how, why, tuple(float(m) for m in maxima))


def lasting(
    scores: Sequence[Floats],
    limit: float,
    *,
    windows: float,
    per_window: int,
    cells: int,
    fewest: float,
) -> Ewma | None:
    """How far strangeness that lasts counts; None where the record is too short to say.

    Averages over a twentieth of the record, so that it holds as many of them as a limit needs
    windows. They are few, and a signal that drifts gives fewer still that tell anything new: the
    distance from the usual score to the limit of the average grows as Student's t does.

    Args:
        scores: As `held_out` gives them.
        limit: Of the score itself.
        windows: As for `limit`.
        per_window: As for `limit`.
        cells: Of a window.
        fewest: Independent windows of the slowest feature.
    """
    if windows < WINDOWS_MIN:
        return None
    over = min(windows / WINDOWS_MIN, LASTING_MAX)
    known = [np.clip(s[np.isfinite(s)], LEAST * limit, limit) for s in scores]
    usual = float(np.median(np.concatenate(known)))
    keep = float(np.exp(-1.0 / (over * per_window)))
    averages = [np.exp(average(np.log(s), keep, np.log(usual))) for s in known]
    maxima = block_maxima(averages, round(2 * over * per_window))
    value = max(tail_level(maxima, REACH * len(maxima)), float(maxima.max()) / (1.0 - DEADBAND))
    further = float(inflation(np.array([min(fewest, windows / (2 * over))]))[0])
    stretch = float(np.log(limit / usual) / (further * np.log(value / usual)))
    return Ewma(over * cells, usual, limit, stretch) if stretch > 1.0 else None


def _why_not(
    windows: float, span_s: float | None, window_s: float | None, per_alarm_s: float, promise: str
) -> Doubt | None:
    if windows < WINDOWS_MIN:
        return Doubt("few", {"windows": f"{int(windows)}", "needed": f"{WINDOWS_MIN}"})
    if span_s is None or window_s is None:
        return Doubt("no_time", {"promise": promise})
    if per_alarm_s > REACH * span_s:
        return Doubt(
            "short",
            {
                "has": spell(span_s),
                "reach": spell(REACH * span_s),
                "promise": promise,
                "needed": spell(per_alarm_s / REACH),
            },
        )
    return None


def spell(seconds: float) -> str:
    """A span as people say it.

    >>> spell(90.0), spell(86400.0 * 3)
    ('90 s', '3.0 days')
    """
    for size, name in ((86400.0, "days"), (3600.0, "h"), (60.0, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {name}"
    return f"{seconds:.0f} s"


def block_maxima(scores: Sequence[Floats], length: int) -> Floats:
    """The largest score of each whole block; a sequence shorter than one is one."""
    out = []
    for sequence in scores:
        count = max(1, len(sequence) // max(1, length))
        for part in np.array_split(sequence, count):
            good = part[np.isfinite(part)]
            if len(good):
                out.append(good.max())
    return np.asarray(out)


def _tolerance(maxima: Floats) -> float:
    """The upper tolerance limit of log-normal block maxima, their spread pooled with a prior.

    Source:
        Hahn and Meeker, Statistical Intervals (1991), section 4.6: by the non-central t.
    """
    x = np.log(np.maximum(maxima, 1e-9))
    n = len(x)
    freedom = PRIOR_WINDOWS + n - 1
    spread = np.sqrt((PRIOR_WINDOWS * PRIOR_SPREAD**2 + ((x - x.mean()) ** 2).sum()) / freedom)
    reach = nct.ppf(CONFIDENCE, freedom, norm.ppf(CONTENT) * np.sqrt(n)) / np.sqrt(n)
    return float(np.exp(x.mean() + reach * spread))


def tail_level(maxima: Floats, turns: float) -> float:
    """The score that one block in `turns` exceeds: an exponential tail of its logarithm.

    Fitted to the largest few alone, because blocks of several kinds (idle, steady, changing) make a
    middle that says nothing of the end.

    Source:
        Hill 1975, with the square root of the number as the number of order statistics.
    """
    ordered = np.sort(np.maximum(maxima, 1e-9))
    n = len(ordered)
    count = min(n - 1, max(TAIL_MIN, round(float(np.sqrt(n)))))
    if count < 1:
        return float(ordered[-1])
    threshold = ordered[-count - 1]
    mean_excess = float(np.mean(np.log(ordered[-count:] / threshold)))
    return float(threshold * max(1.0, turns * count / n) ** mean_excess)
