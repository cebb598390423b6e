"""Takes the operating condition out of the other signals, cell by cell, before any feature.

A machine that jumps between a few speeds or altitudes shows mostly those jumps; its wear is a
small shift within each. Conditions are found in the record itself: signals that take few, clearly
separate levels and come and go are settings, and each combination of their levels is a condition.
"""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

LEVELS_MAX = 12
REGIMES_MAX = 24
GAP_MIN = 0.03
"""Smallest gap between two levels, as a share of the signal's range."""
SHARE_MIN = 0.01
"""Smallest share of the rows that makes a level or a condition."""
VISITS_MIN = 3.0
"""Changes of condition in a median sequence; wear changes a level once, a setting changes it often."""


@dataclass(frozen=True, slots=True, eq=False)
class Regimes:
    """`r` conditions, told apart by `s` settings, and what `k` signals are like in each.

    Attributes:
        settings: Which of the `k` signals are settings.
        centre: float64[r, s], the settings' values in each condition.
        scale: float64[s], the settings' ranges, to make them comparable.
        mean: float64[r, k].
        spread: float64[r, k], > 0.
    """

    settings: tuple[int, ...]
    centre: Floats
    scale: Floats
    mean: Floats
    spread: Floats

    def of(self, values: Floats) -> NDArray[np.int64]:
        """int64[...], the condition of each cell; -1 where a setting is missing.

        Args:
            values: float64[..., k].
        """
        held = values[..., list(self.settings)] / self.scale
        best = np.full(held.shape[:-1], np.inf)
        out = np.full(held.shape[:-1], -1, np.int64)
        for index, centre in enumerate(self.centre / self.scale):
            away = ((held - centre) ** 2).sum(axis=-1)
            near = away < best
            best[near], out[near] = away[near], index
        return out

    def normalise(self, values: Floats) -> Floats:
        """Each signal relative to what it is in the cell's condition, in healthy spreads.

        Args:
            values: float64[..., k].

        Returns:
            float64[..., k]; NaN where the condition is not known.
        """
        which = self.of(values)
        out: Floats = (values - self.mean[which]) / self.spread[which]
        out[which < 0] = np.nan
        return out

    def pack(self) -> dict[str, Any]:
        """As JSON, for a manifest's `detail`."""
        return {
            "settings": list(self.settings),
            "centre": self.centre.tolist(),
            "scale": self.scale.tolist(),
            "mean": self.mean.tolist(),
            "spread": self.spread.tolist(),
        }

    @classmethod
    def unpack(cls, held: dict[str, Any]) -> Self:
        """What `pack` gave."""
        return cls(
            tuple(int(i) for i in held["settings"]),
            *(np.asarray(held[name], float) for name in ("centre", "scale", "mean", "spread")),
        )


def find(values: Floats, group: NDArray[np.int64]) -> Regimes | None:
    """The operating conditions of a record, if it has several.

    Args:
        values: float64[n, k], oldest first within each group.
        group: int64[n], the sequence of each row.

    Returns:
        None where fewer than two conditions come and go.
    """
    edges = [_edges(column) for column in values.T]
    settings = tuple(i for i, cuts in enumerate(edges) if len(cuts))
    settings = tuple(i for i in settings if _comes_and_goes(values[:, i], edges[i], group))
    if not settings:
        return None
    held = values[:, list(settings)]
    known = ~np.isnan(held).any(axis=1)
    code = np.stack([np.searchsorted(edges[i], values[:, i]) for i in settings], axis=1)
    combos, which, counts = np.unique(code[known], axis=0, return_inverse=True, return_counts=True)
    which = which.ravel()
    real = np.flatnonzero(counts >= max(20.0, SHARE_MIN / 2 * len(values)))
    covered = counts[real].sum() / max(1, known.sum())
    if not 2 <= len(real) <= REGIMES_MAX or covered < 0.9 or len(combos) > 4 * REGIMES_MAX:
        return None
    inside = values[known]
    k = values.shape[1]
    mean, spread = np.empty((len(real), k)), np.empty((len(real), k))
    for row, index in enumerate(real):
        part = inside[which == index]
        with np.errstate(all="ignore"):
            mean[row] = np.nan_to_num(np.nanmean(part, axis=0))
            spread[row] = np.nan_to_num(np.nanstd(part, axis=0))
    overall = np.nanstd(values, axis=0)
    floor = np.maximum(1e-9 * np.abs(mean).max(axis=0), 1e-4 * overall)
    spread = np.where(spread > floor, spread, np.inf)
    # What does not move within a condition says nothing there, and must not be blown up.
    spread = np.where(np.isinf(spread), np.maximum(overall, 1e-12), spread)
    reach = np.nanmax(held, axis=0) - np.nanmin(held, axis=0)
    return Regimes(settings, mean[:, list(settings)], reach, mean, spread)


def _edges(column: Floats) -> Floats:
    """Values between the levels of a signal that has few of them; empty for any other."""
    known = np.sort(column[~np.isnan(column)])
    none = np.zeros(0)
    if len(known) < 100 or known[0] == known[-1]:
        return none
    reach = known[-1] - known[0]
    steps = np.diff(known)
    cuts = np.flatnonzero(steps > GAP_MIN * reach)
    if not 1 <= len(cuts) < LEVELS_MAX:
        return none
    parts = np.split(known, cuts + 1)
    within = max(float(part[-1] - part[0]) for part in parts)
    if min(len(part) for part in parts) < SHARE_MIN * len(known) or within > steps[cuts].min():
        return none
    return np.asarray(known[cuts] + steps[cuts] / 2)


def _comes_and_goes(column: Floats, edges: Floats, group: NDArray[np.int64]) -> bool:
    """Whether the level changes often within a sequence, as a setting does and wear does not."""
    level = np.searchsorted(edges, column)
    changes = np.zeros(int(group.max()) + 1)
    same = group[1:] == group[:-1]
    np.add.at(changes, group[1:][same & (level[1:] != level[:-1])], 1)
    return bool(np.median(changes[np.unique(group)]) >= VISITS_MIN)
