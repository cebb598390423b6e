"""Takes the operating condition out of the other signals, cell by cell, before any feature.

A machine that jumps between a few speeds or altitudes shows mostly those jumps; its wear is a
small shift within each. Conditions are found in the record itself: signals that take few, clearly
separate levels and come and go are settings, and each combination of their levels is a condition.
"""

import warnings
from collections.abc import Sequence
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
"""Smallest share of the rows that makes a level; half of it makes a condition. A cell in a rarer
one is not known: too few rows tell what the other signals are like there."""
COVERED_MIN = 0.9
"""Share of the rows that the conditions must account for."""
VISITS_MIN = 3.0
"""Changes of condition in a median sequence; wear changes a level once, a setting often."""
JUMP_MIN = 1.5
"""Some signal jumps so many times as far where a setting changes as just before and after it; the
noise of a sensor that is rounded to a few numbers changes its level often, and moves no other."""


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
        """int64[...], the condition of each cell; -1 where a setting is missing, or nearer to a
        level that was not learned.

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
        off = np.abs(held - (self.centre / self.scale)[out])
        out[(off > self._reach()).any(axis=-1)] = -1
        return out

    def _reach(self) -> Floats:
        """float64[s], how far from its level a setting may be: half the way to the next one."""
        gaps = np.diff(np.sort(self.centre / self.scale, axis=0), axis=0)
        return np.asarray(np.where(gaps > GAP_MIN, gaps, np.inf).min(axis=0) / 2)

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
    def unpack(cls, held: dict[str, Any], signals: int) -> Self:
        """What `pack` gave.

        Raises:
            ValueError, KeyError: The shapes do not fit each other or the number of signals.
        """
        settings = tuple(int(i) for i in held["settings"])
        centre, scale, mean, spread = (
            np.asarray(held[name], float) for name in ("centre", "scale", "mean", "spread")
        )
        r, s = len(centre), len(settings)
        shapes = (centre.shape, scale.shape, mean.shape, spread.shape)
        if shapes != ((r, s), (s,), (r, signals), (r, signals)) or not r or not s:
            raise ValueError(f"shapes must fit, were {shapes}")
        if not all(0 <= i < signals for i in settings) or not (spread > 0).all():
            raise ValueError("settings must be signals, and spreads above 0")
        return cls(settings, centre, scale, mean, spread)


def told(found: Regimes, names: Sequence[str]) -> str:
    """What was found, for who trained on it."""
    held = ", ".join(names[i] for i in found.settings)
    return f"{len(found.centre)} operating conditions, told apart by {held}"


def find(values: Floats, group: NDArray[np.int64], words: Sequence[int] = ()) -> Regimes | None:
    """The operating conditions of a record, if it has several.

    Args:
        values: float64[n, k], oldest first within each group.
        group: int64[n], the sequence of each row.
        words: Columns that are no quantities; they stay as they are.

    Returns:
        None where fewer than two conditions come and go.
    """
    found = {i: _levels(column) for i, column in enumerate(values.T)}
    steady = {i: held for i, held in found.items() if held is not None}
    fit = [
        i
        for i, held in steady.items()
        if _comes_and_goes(values[:, i], held[0], group)
        and _moves_others(values, i, held[0], group)
    ]
    # The tightest levels are the commanded ones; a signal that tells no more apart is no setting.
    settings: tuple[int, ...] = ()
    parts: tuple[NDArray[np.bool_], NDArray[np.int64], NDArray[np.int64]] | None = None
    for i in sorted(fit, key=lambda i: steady[i][1]):
        tried = _combine(values, (*settings, i), steady)
        if tried is not None and (parts is None or len(tried[2]) > len(parts[2])):
            settings, parts = (*settings, i), tried
    if parts is None:
        return None
    known, which, real = parts
    held = values[:, list(settings)]
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
    centre = mean[:, list(settings)]
    mean[:, list(words)], spread[:, list(words)] = 0.0, 1.0
    reach = np.nanmax(held, axis=0) - np.nanmin(held, axis=0)
    return Regimes(settings, centre, reach, mean, spread)


_Levels = tuple[Floats, float]


def _levels(column: Floats) -> _Levels | None:
    """Values between the levels of a signal, and how wide levels are beside the gaps; None if
    it has no levels."""
    known = np.sort(column[~np.isnan(column)])
    if len(known) < 100 or known[0] == known[-1]:
        return None
    reach = known[-1] - known[0]
    steps = np.diff(known)
    cuts = np.flatnonzero(steps > GAP_MIN * reach)
    if not 1 <= len(cuts) < LEVELS_MAX:
        return None
    parts = np.split(known, cuts + 1)
    real = [part for part in parts if len(part) >= SHARE_MIN * len(known)]
    if len(real) < 2 or sum(map(len, real)) < COVERED_MIN * len(known):
        return None
    within = max(float(part[-1] - part[0]) for part in real)
    gap = float(steps[cuts].min())
    if within > gap:
        return None
    return known[cuts] + steps[cuts] / 2, within / gap


def _combine(
    values: Floats, settings: tuple[int, ...], levels: dict[int, _Levels]
) -> tuple[NDArray[np.bool_], NDArray[np.int64], NDArray[np.int64]] | None:
    """Rows whose settings are known, the combination of levels of each, and those that count."""
    known = np.asarray(~np.isnan(values[:, list(settings)]).any(axis=1), bool)
    code = np.stack([np.searchsorted(levels[i][0], values[known, i]) for i in settings], axis=1)
    combos, which, counts = np.unique(code, axis=0, return_inverse=True, return_counts=True)
    real = np.flatnonzero(counts >= max(20.0, SHARE_MIN / 2 * len(values)))
    covered = counts[real].sum() / max(1, known.sum())
    if not 2 <= len(real) <= REGIMES_MAX or covered < COVERED_MIN or len(combos) > 96:
        return None
    return known, np.asarray(which, np.int64).ravel(), np.asarray(real, np.int64)


def _comes_and_goes(column: Floats, edges: Floats, group: NDArray[np.int64]) -> bool:
    """Whether the level changes often within a sequence, as a setting does and wear does not."""
    level = np.searchsorted(edges, column)
    changes = np.zeros(int(group.max()) + 1)
    same = group[1:] == group[:-1]
    np.add.at(changes, group[1:][same & (level[1:] != level[:-1])], 1)
    return bool(np.median(changes[np.unique(group)]) >= VISITS_MIN)


def _moves_others(values: Floats, signal: int, edges: Floats, group: NDArray[np.int64]) -> bool:
    """Whether other signals jump where this one changes its level, and not just beside that."""
    changed = np.diff(np.searchsorted(edges, values[:, signal])) != 0
    beside = np.zeros(len(changed), bool)
    beside[1:] |= changed[:-1]
    beside[:-1] |= changed[1:]
    same = group[1:] == group[:-1]
    still = same & beside & ~changed
    if not still.any():
        return True
    step = np.abs(np.diff(np.delete(values, signal, axis=1), axis=0))
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        at, else_ = (np.nanmean(step[rows], axis=0) for rows in (same & changed, still))
    return bool((at > JUMP_MIN * else_).any())
