"""Many windows of one signal at once, and the intermediate results that their features share."""

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

RECENT = 8
"""`recent_` features see the last of so many parts of the window, unless a cycle is longer."""
PRESENT_MIN = 0.5
"""Share of cells that must hold a sample; below it every feature of that window is NaN."""
SPECTRUM_PRESENT_MIN = 0.75
"""The same for features of the spectrum, whose gaps are filled by straight lines."""


class Stack:
    """`n` windows of `m` evenly spaced cells each, with NaN where a cell has no sample.

    Args:
        values: float64[n, m], m >= 1.
        period_s: Time between cells; spectral features are in Hz, slopes per second.
        hole_max: A window that lacks more cells than that one after the other counts as empty.
        newest: Cells that `recent_` features see; None: as `recent_cells` says.
    """

    def __init__(
        self,
        values: Floats,
        period_s: float = 1.0,
        hole_max: int | None = None,
        newest: int | None = None,
    ) -> None:
        assert values.ndim == 2
        assert values.shape[1] >= 1
        self.values = values
        self.period_s = period_s
        self.hole_max = hole_max
        self.newest = newest

    @cached_property
    def missing(self) -> NDArray[np.bool_] | None:
        """bool[n, m], or None where nothing is missing at all (the fast path)."""
        mask: NDArray[np.bool_] = np.isnan(self.values)
        return mask if bool(mask.any()) else None

    @cached_property
    def recent(self) -> "Stack":
        """The newest part of each window."""
        m = self.values.shape[1]
        return Stack(self.values[:, m - (self.newest or recent_cells(m)) :], self.period_s)

    @cached_property
    def count(self) -> Floats:
        """float64[n] (or [1]), samples present."""
        m = self.values.shape[1]
        if self.missing is None:
            return np.full(1, float(m))
        present: Floats = m - self.missing.sum(axis=1, dtype=np.float64)
        enough = present >= max(1.0, PRESENT_MIN * m)
        if self.hole_max is not None:
            enough &= longest(self.missing) <= self.hole_max
        return np.where(enough, present, np.nan)

    @cached_property
    def filled(self) -> Floats:
        """float64[n, m], 0 where missing."""
        return self.values if self.missing is None else np.where(self.missing, 0.0, self.values)

    @cached_property
    def mean(self) -> Floats:
        return np.asarray(self.filled.sum(axis=1) / self.count)

    @cached_property
    def centred(self) -> Floats:
        """float64[n, m], the mean removed; 0 where missing."""
        out: Floats = self.values - self.mean[:, None]
        return out if self.missing is None else np.where(np.isnan(out), 0.0, out)

    @cached_property
    def squares(self) -> Floats:
        out: Floats = self.centred * self.centred
        return out

    @cached_property
    def variance(self) -> Floats:
        return np.asarray(self.squares.sum(axis=1) / self.count)

    @cached_property
    def steady(self) -> NDArray[np.bool_]:
        """bool[n], the window does not move beyond the rounding of its own mean."""
        scale = np.maximum(np.abs(self.mean), 1e-300)
        out: NDArray[np.bool_] = np.sqrt(self.variance) <= 1e-12 * scale
        return out

    @cached_property
    def minimum(self) -> Floats:
        low: Floats = np.fmin.reduce(self.values, axis=1)
        return low if self.missing is None else np.where(np.isnan(self.count), np.nan, low)

    @cached_property
    def maximum(self) -> Floats:
        high: Floats = np.fmax.reduce(self.values, axis=1)
        return high if self.missing is None else np.where(np.isnan(self.count), np.nan, high)

    @cached_property
    def power(self) -> Floats:
        """float64[n, m // 2], power at each frequency above 0 under a Hann window.

        Gaps of up to a quarter of the window are bridged by straight lines; beyond that NaN.
        """
        n, m = self.values.shape
        base = self.centred
        if self.missing is not None:
            base = base.copy()
            cells = np.arange(m)
            for row in np.flatnonzero(self.missing.any(axis=1)):
                gap = self.missing[row]
                if gap.mean() > 1 - SPECTRUM_PRESENT_MIN:
                    base[row] = np.nan
                else:
                    base[row, gap] = np.interp(cells[gap], cells[~gap], base[row, ~gap])
        if m < 4:
            return np.full((n, m // 2), np.nan)
        spectrum = np.fft.rfft(base * np.hanning(m), axis=1)[:, 1 : m // 2 + 1]
        return np.asarray(spectrum.real**2 + spectrum.imag**2)

    @cached_property
    def power_total(self) -> Floats:
        """float64[n]; NaN for a window that does not move, whose spectrum is rounding noise."""
        return np.where(self.steady, np.nan, self.power.sum(axis=1))

    @cached_property
    def frequency_hz(self) -> Floats:
        """float64[m // 2], the frequency of each column of `power`."""
        m = self.values.shape[1]
        return np.asarray(np.arange(1, m // 2 + 1) / (m * self.period_s))


def longest(marked: NDArray[np.bool_]) -> NDArray[np.int64]:
    """int64[n], how many marked cells follow one another at most.

    >>> longest(np.array([[True, False, True, True], [False] * 4]))
    array([2, 0])
    """
    step = np.arange(marked.shape[1])
    before = np.maximum.accumulate(np.where(marked, -1, step), axis=1)
    out: NDArray[np.int64] = (step - before).max(axis=1)
    return out


def hole_max(cells: int) -> int:
    """Cells that a window may lack one after the other where gaps are weighed: an eighth.

    Beyond that its mean is not known worse, but is the mean of another stretch of time.
    """
    return max(1, cells // RECENT)


def recent_cells(cells: int) -> int:
    """How many cells `recent_` features see where nothing else is said: an eighth, at least two.

    >>> recent_cells(48), recent_cells(8), recent_cells(1)
    (6, 2, 1)
    """
    return min(cells, max(2, cells // RECENT))
