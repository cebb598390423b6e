"""Features that mean something in a window that is only partly filled, and features of events.

A machine that has run for ten cycles can have a remaining life before a window of sixty is full,
and an error log is empty most of the time: the catalogue's rule "half the cells or NaN" fits
neither. Here one sample is enough for a level, and a trend is damped by the share of cells present.
"""

from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray

from models.features.stack import Stack

Floats = NDArray[np.float64]

TREND_SAMPLES_MIN = 4


def _late(stack: Stack, share: int) -> Floats:
    """float64[n, m'], the newest 1/share of the cells, one at least."""
    m = stack.values.shape[1]
    return stack.values[:, m - max(1, m // share) :]


def level(stack: Stack, share: int = 1) -> Floats:
    """Mean of the samples there are among the newest 1/share of the cells.

    >>> level(Stack(np.array([[np.nan, np.nan, np.nan, 2.0]])))
    array([2.])
    """
    values = _late(stack, share)
    have = ~np.isnan(values)
    count = have.sum(axis=1)
    total = np.where(have, values, 0.0).sum(axis=1)
    out = np.full(len(values), np.nan)
    return np.asarray(np.divide(total, count, out=out, where=count > 0))


def rise(stack: Stack, share: int = 1) -> Floats:
    """Least-squares change over the newest 1/share of the window, in the signal's unit.

    Multiplied by the share of cells present, so that few samples cannot make a steep trend; 0 below
    four samples.

    >>> rise(Stack(np.array([[0.0, 1.0, 2.0, 3.0, 4.0]])))
    array([4.])
    """
    values = _late(stack, share)
    m = values.shape[1]
    have = ~np.isnan(values)
    count = have.sum(axis=1).astype(float)
    x = np.arange(m, dtype=float)
    safe = np.maximum(count, 1.0)
    x_mean = (have @ x) / safe
    y = np.where(have, values, 0.0)
    y_mean = y.sum(axis=1) / safe
    both = y @ x - count * x_mean * y_mean
    below = have @ (x * x) - count * x_mean**2
    enough = (count >= TREND_SAMPLES_MIN) & (below > 0)
    out = np.zeros(len(values))
    np.divide(both * (m - 1), below, out=out, where=enough)
    return np.asarray(np.where(count > 0, out * count / m, np.nan))


def noise(stack: Stack) -> Floats:
    """Standard deviation of the samples there are; 0 for one sample.

    >>> noise(Stack(np.array([[np.nan, 1.0, 3.0]])))
    array([1.])
    """
    have = ~np.isnan(stack.values)
    count = have.sum(axis=1)
    mean = level(stack)
    off = np.where(have, stack.values - mean[:, None], 0.0)
    out = np.full(len(stack.values), np.nan)
    np.divide((off * off).sum(axis=1), count, out=out, where=count > 0)
    return np.asarray(np.sqrt(out))


def total(stack: Stack, share: int = 1) -> Floats:
    """Sum over the newest 1/share of the cells: how many events there were.

    >>> total(Stack(np.array([[0.0, 1.0, np.nan, 2.0]])))
    array([3.])
    """
    values = _late(stack, share)
    out: Floats = np.where(np.isnan(values), 0.0, values).sum(axis=1)
    return out


def since(stack: Stack) -> Floats:
    """Cells since the newest one that was not 0; the window's length where there is none.

    >>> since(Stack(np.array([[0.0, 1.0, 0.0], [0.0, 0.0, 0.0]])))
    array([1., 3.])
    """
    happened = np.nan_to_num(stack.values) != 0
    ago = np.argmax(happened[:, ::-1], axis=1).astype(float)
    out: Floats = np.where(happened.any(axis=1), ago, float(stack.values.shape[1]))
    return out


PARTIAL: dict[str, Callable[[Stack], Floats]] = {
    "level": level,
    "level_4": partial(level, share=4),
    "level_16": partial(level, share=16),
    "rise": rise,
    "rise_2": partial(rise, share=2),
    "noise": noise,
    "total": total,
    "total_4": partial(total, share=4),
    "since": since,
}
"""By the name that stands after the colon in `signal:name`."""
