"""Tells a faulty sensor from a faulty machine: what no healthy record and no machine would show.

A sensor fault is claimed only where the reading itself gives it away; then the model abstains for
that signal and a data-quality alarm is due. A signal that merely leaves its range is the machine's
business. Clipping, noise and lonely drift may be either: they are told as suspicions and hide
nothing, since a valve at its stop is cut off as well.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

Floats = NDArray[np.float64]

STILL_TIMES = 3
"""Still for so many times as long as ever in the healthy record, while others move: stuck."""
CLIPPED_SHARE = 0.2
"""Of a window's cells at exactly its largest or smallest value, where healthy ones are not."""
NOISE_TIMES = 10.0
"""Steps from cell to cell so many times the healthy ones, at an unchanged level."""
LONELY_SHARE = 0.9
EXPLAINED_MIN = 0.8
SENTINELS = np.array(
    [-9999, -999, 999, 9999, 99999, 32767, -32768, 65535, 3276.7, -3276.8, 6553.5, 327.67, -327.68]
)
"""What instruments send for "no value" or a broken wire; a fault only outside the healthy range."""


class SensorFault(IntEnum):
    """What is wrong with a sensor."""

    NONE = 0
    STUCK = 1
    CLIPPED = 2
    NO_VALUE = 3
    NOISY = 4
    LONELY = 5
    APART = 6
    OUTVOTED = 7


CHUNK_CELLS = 1 << 20
"""Cells of windows that are looked at at once."""
MASKED = (SensorFault.STUCK, SensorFault.NO_VALUE)
"""Faults for which the model abstains for the signal."""


@dataclass(frozen=True, slots=True, eq=False)
class Sensors:
    """What the healthy record showed of `k` sensors.

    Attributes:
        still_cells: float64[k], longest run of one value.
        edge: float64[k], largest share of a window at its own extreme value.
        noise: float64[k], largest RMS of steps in a window.
        low: float64[k], lowest healthy value.
        high: float64[k], highest.
    """

    still_cells: Floats
    edge: Floats
    noise: Floats
    low: Floats
    high: Floats

    @classmethod
    def learn(cls, tables: Sequence[Floats], cells: int) -> "Sensors":
        """From healthy sequences.

        Args:
            tables: float64[n_i, k], cells of each sequence, held values included.
            cells: Length of a window.
        """
        still = np.max([longest_run(t) for t in tables], axis=0).astype(np.float64)
        fits = [t for t in tables if len(t) >= cells] or list(tables)
        edge, noise = np.zeros(still.shape), np.zeros(still.shape)
        for windows in (part for table in fits for part in _windows(table, cells)):
            edge = np.maximum(edge, _edge(windows).max(axis=0))
            noise = np.maximum(noise, np.nan_to_num(_noise(windows)).max(axis=0))
        return cls(
            still_cells=still,
            edge=edge,
            noise=noise,
            low=np.nanmin([np.nanmin(t, axis=0) for t in tables], axis=0),
            high=np.nanmax([np.nanmax(t, axis=0) for t in tables], axis=0),
        )

    def faults(self, window: Floats) -> NDArray[np.uint8]:
        """What is wrong with each sensor of each asset.

        Args:
            window: float64[a, k, cells], NaN where a cell has no sample.

        Returns:
            uint8[a, k], `SensorFault`.
        """
        a, k, cells = window.shape
        out = np.zeros((a, k), np.uint8)
        with np.errstate(invalid="ignore"):
            newest = window[:, :, -1:]
            still = np.all(window == newest, axis=2)
            gap = np.isnan(window)
            moving = ~still & ~gap.all(axis=2)
            level = (np.where(gap, 0.0, window) if gap.any() else window).mean(axis=2)
            inside = (level >= self.low) & (level <= self.high)
            noisy = (_noise(window) > NOISE_TIMES * np.maximum(self.noise, 1e-300)) & inside
            out[noisy & (self.noise > 0)] = SensorFault.NOISY
            width = self.high - self.low
            beyond = (window.max(axis=2) > self.high + 0.1 * width) | (
                window.min(axis=2) < self.low - 0.1 * width
            )
            # Few are beyond, so few have to be counted cell by cell.
            asset, signal = np.nonzero(beyond & moving & (self.edge < CLIPPED_SHARE / 4))
            if len(asset):
                cut = _edge(window[asset, signal][None])[0] >= CLIPPED_SHARE
                out[asset[cut], signal[cut]] = SensorFault.CLIPPED
            # That others move says that the machine runs, or at least that its link is alive.
            lively = moving.sum(axis=1, keepdims=True) >= max(1, k // 2)
            never = STILL_TIMES * self.still_cells <= cells
            # At a level that is not healthy, or in company, it is the machine that stands still.
            within = (newest[:, :, 0] >= self.low) & (newest[:, :, 0] <= self.high)
            stuck = still & never & lively & within
            out[stuck & (stuck.sum(axis=1, keepdims=True) <= max(1, k // 4))] = SensorFault.STUCK
            said = np.isin(newest[:, :, 0], SENTINELS)
            outside = (newest[:, :, 0] > self.high + width) | (newest[:, :, 0] < self.low - width)
            out[said & outside] = SensorFault.NO_VALUE
        return out

    def masked(self, window: Floats) -> tuple[Floats, NDArray[np.uint8]]:
        """The window with faulty signals taken out, and what was wrong with them."""
        found = self.faults(window)
        gone = np.isin(found, MASKED)
        if not gone.any():
            return window, found
        return np.where(gone[:, :, None], np.nan, window), found

    def pack(self) -> dict[str, list[float]]:
        """For `manifest.detail["sensors"]`."""
        return {
            name: [float(v) for v in getattr(self, name)]
            for name in ("still_cells", "edge", "noise", "low", "high")
        }

    @classmethod
    def unpack(cls, held: Mapping[str, Any]) -> "Sensors":
        """What `pack` gave."""
        return cls(**{name: np.asarray(values, np.float64) for name, values in held.items()})


def lonely(
    contribution: NDArray[np.float32],
    direction: NDArray[np.int8],
    explained: Floats,
    units: Sequence[str],
) -> NDArray[np.bool_]:
    """The signal that strays while neighbours that explain it stay: its sensor may drift.

    A neighbour is a signal of the same unit. Only levels count, and only a signal that carries
    nearly all of the score, so that a fault that is felt anywhere else is the machine's.

    Args:
        contribution: float32[n, k], shares of the score.
        direction: int8[n, k], 0 where a spread rather than a level says so.
        explained: float64[k], share of each signal's variance that the others explain.
        units: The `k` units.

    Returns:
        bool[n, k].

    >>> share, up = np.array([[0.95, 0.05, 0]], np.float32), np.ones((1, 3), np.int8)
    >>> lonely(share, up, np.array([0.9, 0.9, 0.9]), ("°C", "°C", "rpm"))
    array([[ True, False, False]])
    >>> lonely(share, up, np.array([0.9, 0.9, 0.9]), ("°C", "K", "rpm")).any()
    np.False_
    """
    company = np.array([bool(unit) and list(units).count(unit) > 1 for unit in units])
    apart = np.nan_to_num(contribution) >= LONELY_SHARE
    return np.asarray(apart & (direction != 0) & company & (explained >= EXPLAINED_MIN))


def longest_run(table: Floats) -> NDArray[np.int64]:
    """int64[k], the longest run of one value in each column.

    >>> longest_run(np.array([[1.0, 5.0], [1.0, 6.0], [2.0, 6.0], [2.0, 6.0], [2.0, 7.0]]))
    array([3, 3])
    """
    k = table.shape[1]
    out = np.ones(k, np.int64)
    for column in range(k):
        x = table[:, column]
        change = np.flatnonzero(np.concatenate([[True], x[1:] != x[:-1], [True]]))
        runs = np.diff(change)
        good = ~np.isnan(x[change[:-1]])
        out[column] = int(runs[good].max(initial=1))
    return out


def _windows(table: Floats, cells: int) -> Iterator[Floats]:
    """float64[w, k, cells], that overlap by half, so many at a time as memory should hold."""
    cells = min(cells, len(table))
    view = sliding_window_view(table, cells, axis=0)[:: max(1, cells // 2)]
    step = max(1, CHUNK_CELLS // max(1, table.shape[1] * cells))
    return (view[start : start + step] for start in range(0, len(view), step))


def _edge(window: Floats) -> Floats:
    """float64[a, k], share of cells at the window's own largest or smallest value, the larger."""
    with np.errstate(invalid="ignore"):
        top = np.mean(window == window.max(axis=2, keepdims=True), axis=2)
        low = np.mean(window == window.min(axis=2, keepdims=True), axis=2)
    return np.asarray(np.maximum(top, low))


def _noise(window: Floats) -> Floats:
    """float64[a, k], RMS of the steps from cell to cell; 0 where there are none."""
    step = np.diff(window, axis=2)
    square = np.einsum("akc,akc->ak", step, step)
    if not np.isnan(square).any():
        return np.asarray(np.sqrt(square / max(step.shape[2], 1)))
    have = np.maximum((~np.isnan(step)).sum(axis=2), 1)
    return np.asarray(np.sqrt(np.nansum(step**2, axis=2) / have))
