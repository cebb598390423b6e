"""Tells of a signal that it is in another unit than the one that a model learned."""

import numpy as np
from numpy.typing import NDArray

UNITS = ((1.8, 32.0, "°C to °F"), (1000.0, 0.0, "times 1000"))
"""Changes of unit that are told by their exact numbers: factor, offset, name; and back."""
OUTSIDE_MIN = 0.9
"""Share of a signal's values outside of all that was learned, from which on it is told."""
ROOM = 0.1
"""Of the learned range, by which values in the right unit may miss it."""


def foreign(name: str, values: NDArray[np.float64], low: float, high: float) -> str:
    """What is odd about a signal nearly all of which lies far outside of its learned range, or "".

    Args:
        name: Of the signal.
        values: float64[n], NaN where missing.
        low: Lower end of what was learned.
        high: Upper end.

    >>> foreign("heat", np.array([104.0, 120.0]), 40, 50).partition(", as if ")[2]
    'it were in another unit (°C to °F)'
    """
    there = values[np.isfinite(values)]
    span = high - low
    if not len(there) or ((there >= low - span) & (there <= high + span)).mean() > 1 - OUTSIDE_MIN:
        return ""
    least, most = np.quantile(there, [0.01, 0.99])
    told = f"{name}: {least:.4g} to {most:.4g} here, {low:.4g} to {high:.4g} in what was learned"
    for factor, offset, what in UNITS:
        up = low * factor + offset, high * factor + offset
        down = (low - offset) / factor, (high - offset) / factor
        back = " to ".join(reversed(what.split(" to "))) if " to " in what else f"{what} down"
        for (first, last), label in ((up, what), (down, back)):
            room = ROOM * (last - first)
            if first - room <= least and most <= last + room:
                return f"{told}, as if it were in another unit ({label})"
    return f"{told}: another unit, another machine, or it stands?"
