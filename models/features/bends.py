"""How far signals lie above levels of theirs: it explains what follows along a bend; not judged.

Power follows the wind by a curve and ends at what the machine is rated for; a pump's pressure falls
with the square of its flow. A mean of such a curve is no function of the mean of what it follows,
but a sum of these means, however the signal moved within the window.

Source:
    Friedman 1991, Multivariate adaptive regression splines: a curve as a sum of hinges.
"""

from collections.abc import Mapping

import numpy as np

from models.features.stack import Floats, Stack

SHARES = (0.25, 0.5, 0.75)
"""Of the healthy samples, those that lie below each of the levels."""
ABOVE = ("above_low", "above_middle", "above_high")
"""Each kind, by the name that stands after the colon in `signal:above_low`: of the whole window."""
RECENT_ABOVE = tuple(f"recent_{kind}" for kind in ABOVE)
"""The same of its newest part."""
BENDS: Mapping[str, tuple[int, bool]] = {kind: (i, False) for i, kind in enumerate(ABOVE)} | {
    kind: (i, True) for i, kind in enumerate(RECENT_ABOVE)
}
"""Kind -> which of the levels, and whether of the newest part."""


def levels_of(values: Floats) -> tuple[tuple[float, ...], ...]:
    """float[k, 3], the levels of each signal; 0 where nothing is known of it.

    Args:
        values: float64[n, k], NaN where missing.
    """
    out = []
    for column in values.T:
        known = column[~np.isnan(column)]
        told = np.quantile(known, SHARES) if len(known) else np.zeros(len(SHARES))
        out.append(tuple(told.tolist()))
    return tuple(out)


def above(stack: Stack, levels: Floats, kind: str) -> Floats:
    """Mean of how far each cell lies above a level, 0 below it.

    Args:
        stack: Windows of `k` signals, in turn.
        levels: float64[k, 3].
        kind: Of `BENDS`.

    >>> above(Stack(np.array([[0.0, 1.0, 2.0, 4.0]])), np.array([[0.5, 1.0, 2.0]]), "above_middle")
    array([1.])
    """
    which, newest = BENDS[kind]
    part = stack.recent if newest else stack
    level = np.tile(levels[:, which], len(part.values) // len(levels))
    over = part.values - level[:, None]
    np.maximum(over, 0.0, out=over)
    if part.missing is not None:
        over[part.missing] = 0.0
    return np.asarray(over.sum(axis=1) / part.count)
