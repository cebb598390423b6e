"""Which windows a held-out part tests, and which are left to learn from beside it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FOLDS = 8

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


def folds(lengths: Sequence[int], reach: int) -> Iterator[Fold]:
    """Each eighth of each sequence in turn; whole sequences where there are many short ones.

    Args:
        lengths: Windows of each sequence.
        reach: Windows that share cells with a window, on either side.

    >>> next(folds([80], 5))
    Fold(test=((0, slice(0, 10, None)),), learn=((0, slice(15, 80, None)),))
    """
    whole = len(lengths) >= FOLDS and max(lengths) < FOLDS * 2
    for fold in range(FOLDS):
        test: list[Piece] = []
        learn: list[Piece] = []
        for index, n in enumerate(lengths):
            if whole:
                start, stop = (0, n) if index % FOLDS == fold else (0, 0)
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
