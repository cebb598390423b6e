"""Three or more sensors of one quantity: one that parts from the others, which go on agreeing.

Where a sensor strays, what it lets expect of its neighbours strays too, so that of three sensors
the one at fault carries eight ninths of the score and not nine tenths. But of three, two agree.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.neighbours import neighbours
from models.sensors import EXPLAINED_MIN, LONELY_SHARE

WITNESSES_MAX = 3
"""Others that are asked, those that resemble the signal most; with fewer than two nobody is."""
PART_TIMES = 2.0
"""The one lies so many times further from each than it used to, and than they lie apart now."""
GAP_MIN = 0.005
"""Of what two levels lie apart, in standard deviations of a level; less is not believed."""
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Majority:
    """For each of `m` signals its witnesses: others of its unit that followed it and each other.

    Attributes:
        at: int64[m, 4], number of the signal and of its witnesses; -1 where there is no third.
        centre, spread: float64[m, 4], of each level; negative where it goes against the signal's.
        usual: float64[m, 4, 2], healthy range of each level.
        gap: float64[m, 4, 4], how far two levels, in spreads, lay apart in 99 of 100 windows.
    """

    at: Ints
    centre: Floats
    spread: Floats
    usual: Floats
    gap: Floats

    def witnesses(self, signal: int) -> tuple[int, ...]:
        """Numbers of the others that are asked about a signal."""
        (row,) = self.at[self.at[:, 0] == signal]
        return tuple(row[1:][row[1:] >= 0].tolist())

    def strays(
        self,
        contribution: NDArray[np.float32],
        direction: NDArray[np.int8],
        levels: Floats,
    ) -> NDArray[np.bool_]:
        """Which signals stray while their witnesses agree.

        Signal and witnesses carry nearly all of the score, the signal the most; it parts from each
        of them; and it is not they who left their range while it stayed.

        Args:
            contribution: float32[n, k], shares of the score.
            direction: int8[n, k], 0 where a spread rather than a level says so.
            levels: float64[n, k].

        Returns:
            bool[n, k].
        """
        out = np.zeros(contribution.shape, bool)
        if not len(self.at):
            return out
        none = self.at < 0
        share = np.where(none, 0.0, np.nan_to_num(contribution)[:, self.at])
        carry = (share.sum(axis=2) >= LONELY_SHARE) & (share[:, :, 0] >= share.max(axis=2))
        level = levels[:, self.at]
        z = (level - self.centre) / self.spread
        # Not a number, where a sample is missing, is neither together nor apart.
        far = np.abs(z[:, :, :, None] - z[:, :, None, :]) / self.gap
        parts = np.where(none[:, 1:], np.inf, far[:, :, 0, 1:]).min(axis=2)
        skip = none[:, 1:, None] | none[:, None, 1:]
        differ = np.where(skip, 0.0, far[:, :, 1:, 1:]).max(axis=(2, 3))
        inside = (level >= self.usual[:, :, 0]) & (level <= self.usual[:, :, 1]) & ~none
        follows = inside[:, :, 0] & ~inside[:, :, 1:].any(axis=2)
        with np.errstate(invalid="ignore"):
            odd = parts >= PART_TIMES * np.maximum(differ, 1.0)
        one = self.at[:, 0]
        out[:, one] = carry & odd & ~follows & (direction[:, one] != 0)
        return out

    def pack(self) -> list[dict[str, Any]]:
        """For `manifest.detail["majority"]`."""
        rows = []
        for at, centre, spread, usual, gap in zip(
            self.at, self.centre, self.spread, self.usual, self.gap, strict=True
        ):
            have = at >= 0
            rows.append({
                "signals": at[have].tolist(),
                "centre": _short(centre[have]),
                "spread": _short(spread[have]),
                "usual": [_short(span) for span in usual[have]],
                "gap": [_short(row) for row in gap[have][:, have]],
            })  # fmt: skip
        return rows

    @classmethod
    def unpack(cls, rows: Sequence[Mapping[str, Any]]) -> "Majority":
        """What `pack` gave."""
        m, w = len(rows), 1 + WITNESSES_MAX
        made = cls(
            np.full((m, w), -1),
            np.zeros((m, w)),
            np.ones((m, w)),
            np.zeros((m, w, 2)),
            np.ones((m, w, w)),
        )
        for i, row in enumerate(rows):
            n = len(row["signals"])
            made.at[i, :n] = row["signals"]
            made.centre[i, :n], made.spread[i, :n] = row["centre"], row["spread"]
            made.usual[i, :n], made.gap[i, :n, :n] = row["usual"], row["gap"]
        return made


def find(levels: Floats, units: Sequence[str]) -> Majority:
    """The witnesses of a healthy record.

    Args:
        levels: float64[n, k], the level of each signal, window by window.
        units: The `k` units; "" where unknown, and then there is no neighbour.
    """
    rows: list[dict[str, Any]] = []
    for these in neighbours(levels, units, least=3):
        for one in range(len(these.at)):
            asked = _witnesses(these.alike, one)
            if len(asked) < 3:
                continue
            signs = np.sign(these.alike[one, asked])
            signed = these.z[:, asked] * signs
            gap = np.zeros((len(asked), len(asked)))
            for i, j in combinations(range(len(asked)), 2):
                gap[i, j] = gap[j, i] = np.quantile(np.abs(signed[:, i] - signed[:, j]), 0.99)
            rows.append({
                "signals": these.at[asked],
                "centre": these.centre[asked],
                "spread": these.spread[asked] * signs,
                "usual": these.usual[asked],
                "gap": np.maximum(gap, GAP_MIN),
            })  # fmt: skip
    return Majority.unpack(rows)


def _witnesses(alike: Floats, one: int) -> list[int]:
    """The signal, and those that resemble it and each other, the nearest first."""
    asked = [one]
    for other in np.argsort(-np.abs(alike[one]), kind="stable").tolist():
        if len(asked) > WITNESSES_MAX:
            break
        if other != one and (alike[other, asked] ** 2 >= EXPLAINED_MIN).all():
            asked.append(other)
    return asked


def _short(values: Floats) -> list[float]:
    return [float(f"{value:.6g}") for value in values]
