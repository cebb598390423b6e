"""Finds where a run is still settling after its start: no fault, and not what healthy is like."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from models.manifest import DEADBAND
from models.training.company import Form
from models.training.detector import fit
from models.training.folds import FOLDS
from models.training.limits import Say, held_out, spell
from models.windows import Grid

STRANGE_TIMES = 2.0
"""A run whose first eighth is so many times as strange as its others may begin with a start."""
SETTLES_TIMES = 1.5
"""The first third of a start is so many times as strange as its last; another product is not."""
SETTLED_SHARE = 0.9
"""Of the windows from the end of a start on must be as usual as settled ones."""

Floats = NDArray[np.float64]


def without(
    sequences: list[NDArray[np.float32]],
    scores: list[Floats],
    form: Form,
    reach: int,
    say: Say,
) -> tuple[list[NDArray[np.float32]], list[Floats], list[NDArray[np.float32]]]:
    """Runs without their starts, held out again; and the starts, empty where there is none.

    Args:
        sequences: float32[n_i, d + e] each, evenly spaced, oldest first.
        scores: float64[n_i] each, held out.
        form: Of the features.
        reach: Windows that share cells with a window, on either side.
        say: Is told how far it is.
    """
    took = _starts(sequences, scores, form, reach, say)
    early = [s[:n] for s, n in zip(sequences, took, strict=True)]
    if any(took):
        sequences = [s[n:] for s, n in zip(sequences, took, strict=True)]
        scores = held_out(sequences, form, reach, say=say)
    return sequences, scores, early


def told(starts: Sequence[NDArray[np.float32]], cells: float, grid: Grid) -> str:
    """What is said of the starts of runs, whose windows are so many cells apart."""
    runs, longest = sum(1 for s in starts if len(s)), max(map(len, starts)) * cells
    whose = "the record begins" if len(starts) == 1 else f"{runs} of {len(starts)} runs begin"
    most = f"{longest:.0f} rows" if grid.period_s is None else spell(longest * grid.period_s)
    return (
        f"{whose} with a start, still settling ({most}); a machine that starts is judged by how"
        " strange that was"
    )


def _starts(
    sequences: Sequence[NDArray[np.float32]],
    scores: Sequence[Floats],
    form: Form,
    reach: int,
    say: Say,
) -> list[int]:
    """How many windows of each run, from its first on, are of a start; 0 where none are.

    Judged by what the second halves of all runs teach: a start is strange to it from its first
    window on, less and less, and over before the middle of its run.
    """
    out = [0] * len(sequences)
    # Each half must hold a window for each fold.
    long = [i for i, s in enumerate(sequences) if len(s) >= (2 * FOLDS - 1) * reach]
    if not any(_suspect(scores[i]) for i in long):
        return out
    say("looking for a start")
    late = [sequences[i][len(sequences[i]) // 2 :] for i in long]
    usual = np.nan_to_num(np.concatenate(held_out(late, form, reach)))
    model = fit(late, form, reach)
    for i in long:
        early = model.score(sequences[i][: len(sequences[i]) // 2 - reach])
        out[i] = _start(np.nan_to_num(early), float(usual.max()), reach)
    return out


def _suspect(scores: Floats) -> bool:
    """Whether a run's first eighth was clearly stranger, held out, than half of the others."""
    first, *others = (np.nanmax(part, initial=0.0) for part in np.array_split(scores, FOLDS))
    return bool(first > STRANGE_TIMES * np.median(others))


def _start(score: Floats, limit: float, reach: int) -> int:
    """How many windows the start takes; 0 where it is none.

    Args:
        score: float64[n], of a run's first half.
        limit: What its second half reaches. A part of a record may be strange to the rest of it,
            so no more than is left below the deadband by the second quarter, unless that is still
            settling.
        reach: As for `starts`.

    >>> _start(np.array([9.0, 8, 6, 4, 3, 2, 1, 1, 1, 1, 1, 2, 1, 1, 1, 1]), 2.5, 2)
    6
    >>> _start(np.array([9.0, 8, 6, 4, 3, 2, 1, 1, 1, 1, 1, 2, 1, 1, 1, 1]), 50.0, 2)
    6
    >>> _start(np.array([9.0, 9, 9, 9, 9, 9, 9, 1, 1, 1, 1, 2, 1, 1, 1, 1]), 2.5, 2)
    0
    """
    strange = score > min(limit, score[len(score) // 2 :].max() / (1.0 - DEADBAND))
    # Over where a whole window's length stays calm.
    calm = np.convolve(~strange, np.ones(reach), "valid") == reach
    end = int(np.argmax(calm)) if calm.any() else 0
    if end == 0 or np.mean(~strange[end:]) < SETTLED_SHARE:
        return 0
    first, _, last = np.array_split(score[:end], 3)
    if end > reach and np.median(first) < SETTLES_TIMES * np.median(last):
        return 0
    # Its rest is strange to no window alone, but would stretch what counts as healthy.
    ahead = np.convolve(score, np.full(reach, 1.0 / reach), "valid")
    usual = np.flatnonzero(ahead[end:] <= score[len(score) // 2 :].mean())
    return end + int(usual[0]) if len(usual) else end
