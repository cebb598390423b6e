"""Signals of one unit that a healthy record lets compare: what their levels are, and how alike."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

ROWS_MAX = 4000
"""Windows by which they are compared."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Neighbours:
    """The `m` signals of one unit that move.

    Attributes:
        at: int64[m], their numbers.
        z: float64[n, m], the levels, standardised.
        centre, spread: float64[m], of each level.
        alike: float64[m, m], correlation.
        usual: float64[m, 2], 1st and 99th percentile of each level.
    """

    at: NDArray[np.int64]
    z: Floats
    centre: Floats
    spread: Floats
    alike: Floats
    usual: Floats


def neighbours(levels: Floats, units: Sequence[str], *, least: int) -> Iterator[Neighbours]:
    """Those of each unit of which at least so many signals move, units in their order.

    Args:
        levels: float64[n, k], the level of each signal, window by window.
        units: The `k` units; "" where unknown, and then there is no neighbour.
        least: Fewer signals are left out.
    """
    for unit in sorted(set(units) - {""}):
        at = np.flatnonzero(np.array(units) == unit)
        seen = levels[:, at]
        seen = seen[np.isfinite(seen).all(axis=1)]
        seen = seen[:: max(1, len(seen) // ROWS_MAX)]
        spread = np.asarray(seen.std(axis=0)) if len(seen) > 1 else np.zeros(len(at))
        at, seen, spread = at[spread > 0], seen[:, spread > 0], spread[spread > 0]
        if len(at) < least:
            continue
        centre = np.asarray(seen.mean(axis=0))
        z = (seen - centre) / spread
        usual = np.quantile(seen, [0.01, 0.99], axis=0).T
        yield Neighbours(at, z, centre, spread, z.T @ z / len(z), usual)
