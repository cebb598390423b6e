"""The numbers that describe one window of one signal: one function and one row each.

All functions take a `Stack` (many windows at once, with the intermediate results they share) and
return one number a window. NaN means "not enough samples" or "has no meaning here", never 0.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.features.stack import Floats, Stack

BANDS = 8


def last(stack: Stack) -> Floats:
    """The newest cell.

    >>> last(Stack(np.array([[1.0, 4.0]])))
    array([4.])
    """
    return stack.values[:, -1].copy()


def mean(stack: Stack) -> Floats:
    """Arithmetic mean.

    >>> mean(Stack(np.array([[1.0, 2.0, np.nan]])))
    array([1.5])
    """
    return stack.mean


def median(stack: Stack) -> Floats:
    """The middle value; a single spike does not move it.

    >>> median(Stack(np.array([[1.0, 2.0, 90.0]])))
    array([2.])
    """
    m = stack.values.shape[1]
    if stack.missing is None:
        half = m // 2
        part = np.partition(stack.values, (half,) if m % 2 else (half - 1, half), axis=1)
        return part[:, half] if m % 2 else 0.5 * (part[:, half - 1] + part[:, half])
    out = np.full(len(stack.values), np.nan)
    keep = np.broadcast_to(~np.isnan(stack.count), out.shape)
    if bool(keep.any()):
        out[keep] = np.nanmedian(stack.values[keep], axis=1)
    return out


def minimum(stack: Stack) -> Floats:
    """Smallest sample.

    >>> minimum(Stack(np.array([[1.0, -2.0]])))
    array([-2.])
    """
    return stack.minimum


def maximum(stack: Stack) -> Floats:
    """Largest sample.

    >>> maximum(Stack(np.array([[1.0, -2.0]])))
    array([1.])
    """
    return stack.maximum


def peak_to_peak(stack: Stack) -> Floats:
    """Largest minus smallest sample; ISO 2041:2018 calls it the peak-to-peak value.

    >>> peak_to_peak(Stack(np.array([[1.0, -2.0]])))
    array([3.])
    """
    out: Floats = stack.maximum - stack.minimum
    return out


def spread(stack: Stack) -> Floats:
    """Standard deviation over all cells (divided by m, not m - 1).

    >>> spread(Stack(np.array([[1.0, 3.0]])))
    array([1.])
    """
    return np.sqrt(stack.variance)


def recent_mean(stack: Stack) -> Floats:
    """Mean of the newest part of the window: is it still so now?

    >>> recent_mean(Stack(np.array([[0.0, 0.0, 1.0, 3.0]])))
    array([2.])
    """
    return stack.recent.mean


def recent_spread(stack: Stack) -> Floats:
    """Standard deviation of the newest part of the window.

    >>> recent_spread(Stack(np.array([[0.0, 9.0, 1.0, 3.0]])))
    array([1.])
    """
    return spread(stack.recent)


def rms(stack: Stack) -> Floats:
    """Root mean square, mean included.

    >>> rms(Stack(np.array([[3.0, -3.0]])))
    array([3.])
    """
    return np.sqrt(stack.variance + stack.mean**2)


def crest_factor(stack: Stack) -> Floats:
    """Largest distance from the mean over the standard deviation; rises when impacts begin.

    >>> crest_factor(Stack(np.array([[1.0, -1.0, 1.0, -1.0]])))
    array([1.])
    """
    peak = np.maximum(stack.maximum - stack.mean, stack.mean - stack.minimum)
    return _over(peak, np.sqrt(stack.variance), stack.steady)


def skewness(stack: Stack) -> Floats:
    """Third standardised moment; 0 for a symmetric distribution.

    >>> skewness(Stack(np.array([[0.0, 0.0, 0.0, 1.0]]))).round(3)
    array([1.155])
    """
    third = np.einsum("nm,nm->n", stack.squares, stack.centred) / stack.count
    return _over(third, stack.variance**1.5, stack.steady)


def kurtosis(stack: Stack) -> Floats:
    """Fourth standardised moment; 3 for Gaussian noise, 1.5 for a sine, more for impacts.

    >>> kurtosis(Stack(np.array([[1.0, -1.0, 1.0, -1.0]])))
    array([1.])
    """
    fourth = np.einsum("nm,nm->n", stack.squares, stack.squares) / stack.count
    return _over(fourth, stack.variance**2, stack.steady)


def slope(stack: Stack) -> Floats:
    """Slope of the least-squares line through the window, per second.

    >>> slope(Stack(np.array([[0.0, 2.0, 4.0]]), period_s=2.0))
    array([1.])
    """
    m = stack.values.shape[1]
    if m < 2:
        return np.full(len(stack.values), np.nan)
    x = (np.arange(m) - (m - 1) / 2) * stack.period_s
    if stack.missing is None:
        return np.asarray(stack.centred @ x / (x @ x))
    present = ~stack.missing
    centre = (present @ x) / stack.count
    below = present @ (x * x) - stack.count * centre**2
    return _over(stack.centred @ x, below, below <= 0)


def recent_roughness(stack: Stack) -> Floats:
    """RMS of the steps within the newest part of the window.

    >>> recent_roughness(Stack(np.array([[0.0, 9.0, 1.0, 3.0]])))
    array([2.])
    """
    return roughness(stack.recent)


def roughness(stack: Stack) -> Floats:
    """RMS of the steps from cell to cell; noise without drift, since a slow trend hardly counts.

    >>> roughness(Stack(np.array([[0.0, 1.0, 0.0]])))
    array([1.])
    """
    if stack.values.shape[1] < 2:
        return np.full(len(stack.values), np.nan)
    steps = np.diff(stack.values, axis=1)
    if stack.missing is None:
        return np.asarray(np.sqrt(np.einsum("nm,nm->n", steps, steps) / steps.shape[1]))
    have = (~np.isnan(steps)).sum(axis=1)
    steps = np.where(np.isnan(steps), 0.0, steps)
    few = np.isnan(stack.count) | (have < 1)
    return np.sqrt(_over(np.einsum("nm,nm->n", steps, steps), have.astype(float), few))


def spectral_centroid(stack: Stack) -> Floats:
    """Mean frequency of the spectrum, weighted by power, in Hz; 0 < f <= half the cell rate.

    >>> wave = np.sin(2 * np.pi * 0.125 * np.arange(64))[None]
    >>> spectral_centroid(Stack(wave)).round(3)
    array([0.125])
    """
    return _over(stack.power @ stack.frequency_hz, stack.power_total, stack.steady)


def spectral_entropy(stack: Stack) -> Floats:
    """Shannon entropy of the power spectrum over its largest possible value: 0 tone, 1 white.

    >>> bool(spectral_entropy(Stack(np.sin(0.25 * np.pi * np.arange(64))[None]))[0] < 0.4)
    True
    """
    columns = stack.power.shape[1]
    if columns < 2:
        return np.full(len(stack.values), np.nan)
    share = stack.power / stack.power_total[:, None]
    log = np.log(np.where(share > 0, share, 1.0))
    return np.asarray(-np.einsum("nf,nf->n", share, log) / np.log(columns))


def _band(index: int) -> Callable[[Stack], Floats]:
    def share(stack: Stack) -> Floats:
        columns = stack.power.shape[1]
        if columns < BANDS:
            return np.full(len(stack.values), np.nan)
        low, high = columns * index // BANDS, columns * (index + 1) // BANDS
        return np.asarray(stack.power[:, low:high].sum(axis=1) / stack.power_total)

    share.__doc__ = f"Share of the power in part {index + 1} of {BANDS} equal parts up to Nyquist."
    return share


def _over(above: Floats, below: Floats, undefined: NDArray[np.bool_]) -> Floats:
    """above / below, NaN where undefined."""
    out = np.full(np.shape(above), np.nan)
    return np.asarray(np.divide(above, below, out=out, where=~undefined))


@dataclass(frozen=True, slots=True)
class Feature:
    """One row of the catalogue.

    Attributes:
        name: As it stands after the colon in `signal:name`.
        compute: `Stack` of n windows -> float64[n].
        unit: "same" as the signal's, "same/s", "Hz", or "1".
        low: Smallest possible value.
        high: Largest possible value.
        source: Where the definition is from.
    """

    name: str
    compute: Callable[[Stack], Floats]
    unit: str
    low: float
    high: float
    source: str


_INF = float("inf")
_ROWS = (
    Feature("last", last, "same", -_INF, _INF, "definition"),
    Feature("mean", mean, "same", -_INF, _INF, "definition"),
    Feature("median", median, "same", -_INF, _INF, "definition"),
    Feature("minimum", minimum, "same", -_INF, _INF, "definition"),
    Feature("maximum", maximum, "same", -_INF, _INF, "definition"),
    Feature("peak_to_peak", peak_to_peak, "same", 0, _INF, "ISO 2041:2018"),
    Feature("spread", spread, "same", 0, _INF, "population standard deviation"),
    Feature("recent_mean", recent_mean, "same", -_INF, _INF, "definition"),
    Feature("recent_spread", recent_spread, "same", 0, _INF, "as `spread`"),
    Feature("rms", rms, "same", 0, _INF, "ISO 2041:2018"),
    Feature("crest_factor", crest_factor, "1", 1, _INF, "ISO 2041:2018"),
    Feature("skewness", skewness, "1", -_INF, _INF, "Fisher-Pearson, biased"),
    Feature("kurtosis", kurtosis, "1", 1, _INF, "Pearson, biased, Gaussian = 3"),
    Feature("slope", slope, "same/s", -_INF, _INF, "least squares"),
    Feature("roughness", roughness, "same", 0, _INF, "von Neumann 1941, its root"),
    Feature("recent_roughness", recent_roughness, "same", 0, _INF, "as `roughness`"),
    Feature("spectral_centroid", spectral_centroid, "Hz", 0, _INF, "power-weighted"),
    Feature("spectral_entropy", spectral_entropy, "1", 0, 1, "Shannon 1948"),
    *(Feature(f"band{i + 1}", _band(i), "1", 0, 1, "") for i in range(BANDS)),
)
CATALOGUE = {row.name: row for row in _ROWS}
"""Every feature of one signal's window, by name."""


def correlation(first: Floats, second: Floats) -> Floats:
    """Pearson correlation of two signals over the same cells, window by window.

    Args:
        first: float64[n, m].
        second: float64[n, m].

    Returns:
        float64[n], -1 to 1; NaN where either does not move or half the cells lack one of them.

    >>> correlation(np.array([[1.0, 2.0, 3.0]]), np.array([[3.0, 2.0, 1.0]])).round(6)
    array([-1.])
    """
    gap = np.isnan(first) | np.isnan(second)
    a = Stack(np.where(gap, np.nan, first))
    b = Stack(np.where(gap, np.nan, second))
    both = np.einsum("nm,nm->n", a.centred, b.centred) / a.count
    out = _over(both, np.sqrt(a.variance * b.variance), a.steady | b.steady)
    return np.clip(out, -1.0, 1.0)
