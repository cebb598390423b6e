"""Two sensors that agreed while healthy and part: a fault of one of them, nobody can say which.

Each lets expect the other best, so where one strays both look strange, and neither stays behind as
the neighbour that proves the other wrong. The machine between them may part them as well.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.neighbours import neighbours
from models.sensors import EXPLAINED_MIN, LONELY_SHARE

PART_MIN = 0.1
"""Each of the two carries as much of the score; else one strays alone."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Gap:
    """How far two levels lie from what each lets expect of the other.

    Attributes:
        strayed, other: Numbers of the signals; the first left its healthy range, if just one did.
        by: What `strayed` is higher than `other` lets expect; negative where it is lower.
        stayed: `other` is within its healthy range, and `strayed` is not.
    """

    strayed: int
    other: int
    by: float
    stayed: bool


@dataclass(frozen=True, slots=True)
class Pair:
    """Two of the `k` signals, of one unit, the levels of which followed each other.

    Attributes:
        first, second: Numbers of the signals; a signal is of one pair at most.
        slope, offset: What the second lets expect of the first: `slope * second + offset`.
        usual: The healthy range of either's level.
    """

    first: int
    second: int
    slope: float
    offset: float
    usual: tuple[Sequence[float], Sequence[float]]

    def gap(self, first: float, second: float) -> Gap:
        """How far the two levels lie apart.

        >>> Pair(3, 4, 2.0, 1.0, ((9.0, 11.0), (4.0, 5.0))).gap(10.0, 6.0)
        Gap(strayed=4, other=3, by=1.5, stayed=True)
        """
        inside = [
            low <= level <= high
            for level, (low, high) in zip((first, second), self.usual, strict=True)
        ]
        above = first - (self.slope * second + self.offset)
        if inside == [True, False]:
            return Gap(self.second, self.first, -above / self.slope, stayed=True)
        return Gap(self.first, self.second, above, stayed=inside == [False, True])

    def pack(self) -> dict[str, Any]:
        """For `manifest.detail["pairs"]`."""
        return {
            "signals": [self.first, self.second],
            "slope": float(f"{self.slope:.6g}"),
            "offset": float(f"{self.offset:.6g}"),
            "usual": [[float(f"{edge:.6g}") for edge in span] for span in self.usual],
        }

    @classmethod
    def unpack(cls, held: Mapping[str, Any]) -> "Pair":
        """What `pack` gave."""
        first, second = held["signals"]
        return cls(first, second, held["slope"], held["offset"], tuple(held["usual"]))


def find(levels: Floats, units: Sequence[str]) -> tuple[Pair, ...]:
    """The pairs of a healthy record: each of the two is what tells the other best in its unit.

    Args:
        levels: float64[n, k], the level of each signal, window by window.
        units: The `k` units; "" where unknown, and then there is no neighbour.
    """
    out = []
    for these in neighbours(levels, units, least=2):
        at, alike, usual = these.at.tolist(), these.alike, these.usual.tolist()
        best = np.argmax(np.abs(alike) - 2 * np.eye(len(at)), axis=1)
        for i, j in enumerate(best.tolist()):
            if i < j and best[j] == i and alike[i, j] ** 2 >= EXPLAINED_MIN:
                # The line between both regressions: the same whichever of the two strays.
                slope = float(np.sign(alike[i, j]) * these.spread[i] / these.spread[j])
                offset = float(these.centre[i] - slope * these.centre[j])
                out.append(Pair(at[i], at[j], slope, offset, (usual[i], usual[j])))
    return tuple(out)


def apart(
    contribution: NDArray[np.float32], direction: NDArray[np.int8], pairs: Sequence[Pair]
) -> NDArray[np.bool_]:
    """Which pairs part: together they carry nearly all of the score, and against each other.

    Args:
        contribution: float32[n, k], shares of the score.
        direction: int8[n, k], 0 where a spread rather than a level says so.
        pairs: Of the healthy record.

    Returns:
        bool[n, k], at the first of each pair.

    >>> pair = Pair(0, 1, 1.0, 0.0, ((0.0, 1.0), (0.0, 1.0)))
    >>> share = np.array([[0.4, 0.6, 0]] * 2, np.float32)
    >>> apart(share, np.array([[1, -1, 0], [1, 1, 0]], np.int8), [pair])
    array([[ True, False, False],
           [False, False, False]])
    """
    out = np.zeros(contribution.shape, bool)
    for pair in pairs:
        theirs = np.nan_to_num(contribution[:, [pair.first, pair.second]])
        told = (theirs.sum(axis=1) >= LONELY_SHARE) & (theirs.min(axis=1) >= PART_MIN)
        against = direction[:, pair.first] * direction[:, pair.second] * np.sign(pair.slope) < 0
        out[:, pair.first] = told & against
    return out
