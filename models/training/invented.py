"""Faults that are invented in healthy windows, to compare models by how well they tell them."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

SHIFTS = (1.0, 2.0, 4.0, 8.0)
"""Standard deviations by which invented faults move a few features, up and down."""
FEW = 0.05
"""Share of the healthy windows, the strangest, that faults must pass to be found at few alarms."""


class Told(NamedTuple):
    """How well faults are told from healthy windows.

    Attributes:
        auroc: How surely a fault scores higher than a healthy window.
        found: Mean share of faults found, over limits that flag up to `FEW` healthy windows.
    """

    auroc: float
    found: float

    @classmethod
    def by(cls, well: NDArray[np.floating], ill: NDArray[np.floating]) -> "Told":
        """Of the scores of healthy windows and of faulty ones; NaN where not known."""
        well, ill = well[np.isfinite(well)], ill[np.isfinite(ill)]
        label = np.arange(len(well) + len(ill)) >= len(well)
        limits = np.sort(well)[-max(1, round(FEW * len(well))) :]
        found = 1.0 - np.searchsorted(np.sort(ill), limits, side="right") / max(1, len(ill))
        return cls(auroc(np.concatenate([well, ill]), label), float(found.mean()))

    def better(self, other: "Told", by: float = 0.0) -> bool:
        """Whether faults are told better (AUROC) by so much, and no worse where alarms are few."""
        return self.auroc > other.auroc + by and self.found >= other.found


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
