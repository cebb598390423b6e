"""How far averages of residuals may stray, from residuals of windows that were held out."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from models.manifest import DEADBAND
from models.strays import POWER, SHORT, Strays, averages, bounded, still
from models.training.company import Form
from models.training.conditions import Conditions
from models.training.folds import FOLDS
from models.training.independent import TAIL, TREND, effective, inflation
from models.training.limits import (
    LASTING_MAX,
    REACH,
    WINDOWS_MIN,
    Say,
    block_maxima,
    nobody,
    tail_level,
    unseen,
)

SMALL = 1e-6

Floats = NDArray[np.float64]


def held_out(
    sequences: Sequence[NDArray[np.float32]],
    form: Form,
    reach: int,
    count: int,
    *,
    say: Say = nobody,
) -> tuple[list[Floats], list[Floats]]:
    """Scores as `limits.held_out` gives them, and float64[n_i, f] each, what the features of the
    whole window are off by, as the same models say; 0 where nothing is known."""
    scores = [np.full(len(s), np.nan) for s in sequences]
    off = [np.zeros((len(s), int(form.blocks[0].sum()))) for s in sequences]
    for model, index, at in unseen(sequences, form, reach, count, say=say):
        scores[index][at] = model.score(sequences[index][at])
        off[index][at] = bounded(model.off(sequences[index][at]))
    return scores, off


def strays(
    off: Sequence[Floats],
    scores: Sequence[Floats],
    states: Conditions,
    limit: float,
    *,
    windows: float,
    per_window: int,
    cells: int,
) -> Strays | None:
    """How far averages may stray; None where the record is too short to say.

    Over as long as `limits.lasting` averages. The limit is that of the held-out averages, by the
    same rules. What it is compared with are averages in wider units: a level that wanders within
    the record (its means over eighths of it) may wander on, as a random walk does, so with as many
    times the variance as the limit looks records ahead.

    Args:
        off: As `held_out` gives them.
        scores: Of the same windows.
        states: Of all of them.
        limit: Of the score.
        windows: As for `limits.limit`.
        per_window: As for `limits.limit`.
        cells: Of a window.
    """
    if windows < WINDOWS_MIN:
        return None
    over = min(windows / WINDOWS_MIN, LASTING_MAX)
    keep = np.exp(-np.array([1.0, SHORT]) / (over * per_window))
    heard = [np.nan_to_num(s, nan=np.inf) <= limit for s in scores]
    levels = [_along(x, keep, mine) for x, mine in zip(off, heard, strict=True)]
    long = np.concatenate([each[:, 0] for each in levels])
    independent = np.minimum(effective(long), windows / (2 * over))
    known = states.whole.independent[np.flatnonzero(states.whole.blocks[0])]
    wide = inflation(np.minimum(independent, known), TREND)
    unit = np.maximum(_spread(long) * wide, SMALL)
    far = [np.mean((still(each) / unit) ** POWER, axis=1) ** (1.0 / POWER) for each in levels]
    maxima = block_maxima(far, round(2 * over * per_window))
    value = max(tail_level(maxima, REACH * len(maxima)), float(maxima.max()) / (1.0 - DEADBAND))
    usual = float(np.nanmedian(np.concatenate(list(scores))))
    healthy = max(float(np.median(np.concatenate(far))), SMALL)
    if not SMALL < usual < limit or healthy >= value:
        return None
    wanders = _wander(off, heard) * float(inflation(np.array([float(FOLDS)]))[0])
    unit = np.sqrt(unit**2 + REACH * wanders**2)
    stretch = float(np.log(limit / usual) / np.log(value / healthy))
    return Strays(over * cells, tuple(map(float, unit)), usual, healthy, stretch, limit)


def _along(x: Floats, keep: Floats, heard: NDArray[np.bool_]) -> Floats:
    """float64[n, 2, f], the averages as each window left them."""
    begin = np.zeros((2, x.shape[1]))
    past = np.concatenate([begin[None], averages(x[heard], keep, begin)])
    out: Floats = past[np.cumsum(heard)]
    return out


def _spread(x: Floats) -> Floats:
    """float64[f], standard deviations about 0, out to the tail."""
    size = np.sqrt(np.square(x).mean(axis=0))
    out: Floats = np.maximum(size, np.quantile(np.abs(x), 1.0 - TAIL, axis=0) / norm.isf(TAIL / 2))
    return out


def _wander(off: Sequence[Floats], heard: Sequence[NDArray[np.bool_]]) -> Floats:
    """float64[f], root mean square of the means over eighths of the record."""
    every = np.concatenate([x[mine] for x, mine in zip(off, heard, strict=True)])
    parts = [part.mean(axis=0) for part in np.array_split(every, FOLDS) if len(part)]
    out: Floats = np.sqrt(np.square(parts).mean(axis=0))
    return out
