"""What a bundle tells beside its graph: how far its signals spread, and what explains what."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.features.plan import FeaturePlan
from models.follow import LEVELS
from models.training.conditions import Conditions


def following(states: Conditions, plan: FeaturePlan) -> dict[str, Any]:
    """For `manifest.detail["follow"]`: what `models.follow.Bounds` reads.

    The spread of a signal is one residual standard deviation of its level, the smallest over the
    operating conditions and the two scales: the cautious one.
    """
    spread: dict[str, float] = {}
    each = [(part.own, part.scale) for part in states.parts]
    for index, name in enumerate(plan.names):
        signal, _, kind = name.rpartition(":")
        if kind not in LEVELS:
            continue
        for own, scale in each:
            if own[index] > 0:
                one = float(scale[index] / own[index])
                spread[signal] = min(spread.get(signal, np.inf), one)
    norm = int(states.whole.blocks[0].sum())
    return {"spread": {name: float(f"{s:.6g}") for name, s in spread.items()}, "norm": norm}


def explained(states: Conditions, plan: FeaturePlan) -> NDArray[np.float64]:
    """float64[k], share of the variance of each signal's level that the other signals explain."""
    out = np.zeros(len(plan.signals))
    # One over the variance that is left.
    certain = states.whole.certain
    for index, name in enumerate(plan.names):
        signal, _, kind = name.rpartition(":")
        if kind == "mean":
            out[plan.signals.index(signal)] = 1.0 - 1.0 / max(1.0, float(certain[index]))
    return out


def operating(states: Conditions, plan: FeaturePlan) -> dict[str, Any]:
    """For `manifest.detail["operating"]`: where each operating condition lies, level by level."""
    at = [i for i, name in enumerate(plan.names) if name.endswith(":mean")]
    return {
        "features": [plan.names[i] for i in at],
        "scale": [float(f"{v:.6g}") for v in states.whole.scale[at]],
        "centre": [[float(f"{v:.6g}") for v in part.centre[at]] for part in states.parts],
        "share": [round(share, 4) for share in states.share],
    }
