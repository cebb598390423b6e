"""Which windows a held-out part tests, and which are left to learn from beside it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FOLDS = 8
COURSE, SHORT = 0.5, 0.1
"""Share of the variance within runs that their common course must explain; and of the runs, those
that are left out of that as they end early."""

Piece = tuple[int, slice]
"""A stretch of one sequence, by its index."""


@dataclass(frozen=True, slots=True)
class Fold:
    """One part of a record held out.

    Attributes:
        test: What is held out.
        learn: What shares no cell with it.
    """

    test: tuple[Piece, ...]
    learn: tuple[Piece, ...]

    def rows(self, lengths: Sequence[int]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """bool[n] of all sequences one after the other: held out, and not to learn from."""
        starts = np.cumsum([0, *lengths])
        test, hidden = np.zeros(starts[-1], bool), np.ones(starts[-1], bool)
        for index, at in self.test:
            test[starts[index] + at.start : starts[index] + at.stop] = True
        for index, at in self.learn:
            hidden[starts[index] + at.start : starts[index] + at.stop] = False
        return test, hidden


def one_course(sequences: Sequence[NDArray[np.float32]], features: int) -> bool:
    """Whether many runs go the same way: most of what most features do, the place in the run tells.

    Args:
        sequences: float32[n_i, d + e] each.
        features: d.
    """
    n = int(np.quantile([len(s) for s in sequences], SHORT))
    runs = [s[:n, :features].astype(np.float64) for s in sequences if len(s) >= n]
    if len(runs) < FOLDS or n < 2:
        return False
    x = np.nan_to_num(np.stack(runs))
    away = x - x.mean(axis=1, keepdims=True)
    all_, told = away.var(axis=(0, 1)), away.mean(axis=0).var(axis=0)
    # Of chance alone the mean of m runs keeps 1/m.
    share = (len(runs) * told / np.maximum(all_, 1e-300) - 1.0) / (len(runs) - 1)
    return float(np.median(share)) > COURSE


def folds(lengths: Sequence[int], reach: int, *, alike: bool = False) -> Iterator[Fold]:
    """Each eighth of each sequence in turn; whole sequences where there are many short ones.

    Args:
        lengths: Windows of each sequence.
        reach: Windows that share cells with a window, on either side.
        alike: Sequences are of one course (`one_course`), an eighth of which is a state of its own.

    >>> next(folds([80], 5))
    Fold(test=((0, slice(0, 10, None)),), learn=((0, slice(15, 80, None)),))
    """
    whole = len(lengths) >= FOLDS and (alike or max(lengths) < FOLDS * 2)
    for fold in range(FOLDS):
        test: list[Piece] = []
        learn: list[Piece] = []
        for index, n in enumerate(lengths):
            if whole:
                # Neighbours drift together, so runs of one machine are held out side by side.
                turn = index * FOLDS // len(lengths) if alike else index % FOLDS
                start, stop = (0, n) if turn == fold else (0, 0)
            else:
                start, stop = n * fold // FOLDS, n * (fold + 1) // FOLDS
            if stop <= start:
                learn.append((index, slice(0, n)))
                continue
            test.append((index, slice(start, stop)))
            learn += [(index, slice(0, start - reach)), (index, slice(stop + reach, n))]
        kept = tuple((index, at) for index, at in learn if 0 <= at.start < at.stop)
        if test and kept:
            yield Fold(tuple(test), kept)
