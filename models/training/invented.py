"""Faults that are invented in healthy windows, to compare models by how well they tell them."""

import numpy as np
from numpy.typing import NDArray

SHIFTS = (1.0, 2.0, 4.0, 8.0)
"""Standard deviations by which invented faults move a few features, up and down."""


def invent(
    x: NDArray[np.float32], scale: NDArray[np.float64], random: np.random.Generator
) -> NDArray[np.float32]:
    """The same windows with a few features moved by 1 to 8 standard deviations."""
    n, d = len(x), len(scale)
    moved = random.random((n, d)) < max(1.0, 0.05 * d) / d
    size = random.choice(SHIFTS, (n, 1)) * random.choice([-1.0, 1.0], (n, d))
    out = x.astype(np.float32)
    out[:, :d] = x[:, :d] + moved * size * scale
    return out


def auroc(score: NDArray[np.floating], label: NDArray[np.bool_]) -> float:
    """Probability that a labelled row scores higher than another one; 0.5 where one kind is absent.

    >>> auroc(np.array([1.0, 2.0, 2.0, 3.0]), np.array([False, False, True, True]))
    0.875
    """
    ones = int(label.sum())
    zeros = len(label) - ones
    if not ones or not zeros:
        return 0.5
    _, inverse, counts = np.unique(score, return_inverse=True, return_counts=True)
    rank = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    return float((rank[label].sum() - ones * (ones + 1) / 2) / (ones * zeros))
