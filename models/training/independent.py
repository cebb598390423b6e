"""How many independent values a column holds, and how much wider few of them make a limit."""

import numpy as np
from numpy.typing import NDArray
from scipy.fft import irfft, next_fast_len, rfft
from scipy.stats import norm, t

TAIL = 0.01
"""Every feature's own tail is brought to the Gaussian's here, and Student's t compared with it."""
TREND = 2.0
"""A level that only rises is one value, and counts as 2.9 (`effective`): what is compared with a
trend has spent two."""
COLUMNS = 16
"""Whose correlation times are found at once."""

Floats = NDArray[np.float64]


def inflation(independent: Floats, spent: float = 1.0) -> Floats:
    """How much wider a limit must be for so few independent values than for infinitely many.

    Args:
        independent: float64[d].
        spent: How many of them went into what the values are compared with.

    >>> inflation(np.array([3.0, 20.0, 1e6])).round(2)
    array([2.99, 1.09, 1.  ])
    """
    freedom = np.clip(independent - spent, 1.0 if spent > 1.0 else 1.5, None)
    out: Floats = t.isf(TAIL, freedom) / norm.isf(TAIL)
    return out


def effective(x: Floats) -> Floats:
    """How many independent values a column holds: its length over its correlation time.

    Args:
        x: float64[n, d], NaN where missing. Sequences are read as one, in order, so that what
            changes from run to run counts as slow.

    Returns:
        float64[d], 1 to n.
    """
    n, d = x.shape
    have = ~np.isnan(x)
    count = np.maximum(have.sum(axis=0), 1)
    centre = np.where(have, x, 0.0).sum(axis=0) / count
    away = np.where(have, x - centre, 0.0)
    size = next_fast_len(2 * n - 1, real=True)
    out = np.ones(d)
    for start in range(0, d, COLUMNS):
        spectrum = rfft(np.ascontiguousarray(away[:, start : start + COLUMNS].T), size)
        power = spectrum.real**2 + spectrum.imag**2
        correlation = irfft(power, size)[:, :n]
        for column, each in enumerate(correlation, start):
            # Up to its first zero, beyond which it is noise (Sokal's window, in its simplest form).
            below = each <= 0
            until = int(below.argmax()) if below.any() else n
            time = 1.0 + 2.0 * float(each[1:until].sum()) / each[0] if each[0] > 0 else 1.0
            out[column] = n / time
    return np.clip(out, 1.0, n)
