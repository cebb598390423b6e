"""Judges the head of one label by what it says of rows that it has not seen."""

from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, precision_recall_curve

GAIN_MIN = 5.0
"""Log likelihood that a failure-long stretch of rows must gain over the mere share of failures:
weights of three learners, fitted to chance, gain 5.7 once in a hundred times."""

Floats = NDArray[np.float64]


def judge(
    y: Floats,
    said: Floats,
    told: dict[str, Floats],
    learners: dict[str, float],
    rate: float,
) -> dict[str, Any]:
    """What is known of one label's head from rows that it had not seen."""
    true = y > 0.5
    # Rows left out were negatives: each one kept stands for 1 / rate of them.
    weight = np.where(true, 1.0, 1 / rate)
    precision, recall, edge = precision_recall_curve(true, said, sample_weight=weight)
    both = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    best = int(np.argmax(both[:-1]))
    probability = 1 / (1 + np.exp(-said))
    alarm = probability > 0.5

    def ranked(told: Floats) -> float:
        return float(average_precision_score(true, told, sample_weight=weight))

    return {
        "positives": int(true.sum()),
        "average_precision": ranked(said),
        "average_precision_by_learner": {each: ranked(s) for each, s in told.items()},
        "f1": float(both[best]),
        "threshold": float(1 / (1 + np.exp(-edge[best]))),
        "share": float(np.average(true, weights=weight)),
        "found_at_half": float(alarm[true].mean()),
        "false_at_half": float(alarm[~true].mean()),
        "learners": learners,
        "brier": float(np.average((probability - true) ** 2, weights=weight)),
        "reliability": _reliability(true, probability, weight),
    }


def _reliability(
    true: NDArray[np.bool_], probability: Floats, weight: Floats
) -> list[dict[str, float]]:
    """Said against seen, in bins that widen towards the middle."""
    edges = np.array([0, 0.01, 0.03, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0 + 1e-9])
    out = []
    for low, high in pairwise(edges.tolist()):
        inside = (probability >= low) & (probability < high)
        if inside.any():
            w = weight[inside]
            out.append(
                {
                    "said": float(np.average(probability[inside], weights=w)),
                    "seen": float(np.average(true[inside], weights=w)),
                    "rows": float(w.sum()),
                }
            )
    return out


def gain(y: Floats, logit: Floats) -> float:
    """Log likelihood of rows not seen, above that of always saying the share of failures."""
    share = float(y.mean())
    always = share * np.log(share) + (1 - share) * np.log(1 - share)
    return float((y * logit - np.logaddexp(0, logit)).sum() - len(y) * always)


def told(metrics: dict[str, Any]) -> str:
    """A sentence for who trained it."""
    return (
        f"average precision {metrics['average_precision']:.2f} on rows not seen (by chance "
        f"{metrics['share']:.2g}); at 0.5 it finds {metrics['found_at_half']:.0%} of failing rows, "
        f"and alarms in {metrics['false_at_half']:.2%} of the others; F1 is best, "
        f"{metrics['f1']:.2f}, at {metrics['threshold']:.2f}"
    )
