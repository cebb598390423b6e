"""Numbers that stand where a logger or an instrument has no value."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

NONE = (-99_999.0, -32_768.0, -9999.0, -999.25, -999.0)
"""What loggers write among numbers where they have none."""
HUGE, HUGE_MAX = 1e30, 4
"""Larger numbers are none either; so many different ones are remembered."""


def measured(values: Floats) -> tuple[Floats, tuple[float, ...]]:
    """The column with NaN for numbers that mean none, and which these were.

    Such a number lies further below all others than these lie apart.

    >>> measured(np.array([20.0, 21.0, -9999.0, 1e31]))
    (array([20., 21., nan, nan]), (1e+31, -9999.0))
    >>> measured(np.array([20.0, -999.0, 1100.0]))[1]
    ()
    """
    huge = np.abs(values) >= HUGE
    told = np.unique(values[huge])[:HUGE_MAX].tolist()
    values = np.where(huge, np.nan, values)
    for none in NONE:
        here = values == none
        others = values[~here & np.isfinite(values)]
        if here.any() and len(others) and others.min() - none > np.ptp(others):
            told.append(none)
            values = np.where(here, np.nan, values)
    return values, tuple(told)


def hold_none(least: Floats, greatest: Floats) -> NDArray[np.bool_]:
    """bool[n], the buckets in which such a number lies, by the least and greatest of each.

    >>> hold_none(np.array([20.0, -9999.0, -9999.0]), np.array([21.0, 21.0, -9999.0]))
    array([False,  True,  True])
    """
    n = len(least)
    seen = measured(np.concatenate([least, greatest]))[0]
    return np.isnan(seen[:n]) | np.isnan(seen[n:])
