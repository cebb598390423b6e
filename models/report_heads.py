"""The figures of an evaluation of failure and remaining-life models, for `models.report`."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.metrics import precision_recall_curve

from models.evaluate_heads import Heard, reliability
from models.report import figure, thinned

ROWS_MAX = 3000


def figures(heard: Sequence[Heard]) -> list[dict[str, Any]]:
    """Reliability and precision-recall of each failure mode; predicted against true life."""
    out = []
    for each in heard:
        out += [_life(each)] if len(each.low) else _failure(each)
    return out


def _failure(heard: Heard) -> list[dict[str, Any]]:
    true = heard.true > 0.5
    even: list[dict[str, Any]] = []
    curves = []
    for way, said in heard.said.items():
        table = reliability(true, said)
        even.append(
            {
                "x": [round(row["said"], 5) for row in table],
                "y": [round(row["seen"], 5) for row in table],
                "text": [f"{row['rows']:.0f} rows" for row in table],
                "name": way,
                "mode": "lines+markers",
            }
        )
        if true.any():
            precision, recall, _ = precision_recall_curve(true, said)
            at = thinned(len(recall))
            curves.append(
                {
                    "x": recall[at].round(5).tolist(),
                    "y": precision[at].round(5).tolist(),
                    "name": way,
                }
            )
    # Last, so that each way of scoring has one colour in every figure.
    even.append(
        {"x": [0, 1], "y": [0, 1], "name": "exact", "line": {"dash": "dash"}, "mode": "lines"}
    )
    return [
        figure(even, f"{heard.name}: reliability", "probability said", "share that failed"),
        figure(curves, f"{heard.name}: precision and recall", "recall", "precision"),
    ]


def _life(heard: Heard) -> dict[str, Any]:
    order = np.argsort(heard.true, kind="stable")
    order = order[:: max(1, -(-len(order) // ROWS_MAX))]
    true = heard.true[order].tolist()
    said = heard.said["int8"][order]
    most = max(heard.true.max(), said.max())
    data: list[dict[str, Any]] = [
        {
            "x": true,
            "y": said.round(2).tolist(),
            "mode": "markers",
            "name": "int8, with its interval",
            "marker": {"size": 5},
            "error_y": {
                "type": "data",
                "symmetric": False,
                "array": np.maximum(np.minimum(heard.high[order], most) - said, 0)
                .round(2)
                .tolist(),
                "arrayminus": np.maximum(said - heard.low[order], 0).round(2).tolist(),
                "thickness": 0.6,
            },
        },
        {"x": [0, max(true)], "y": [0, max(true)], "mode": "lines", "name": "exact"},
    ]
    if "yardstick" in heard.said:
        data.append(
            {
                "x": true,
                "y": heard.said["yardstick"][order].round(2).tolist(),
                "mode": "markers",
                "name": "yardstick",
                "marker": {"size": 4, "opacity": 0.5},
            }
        )
    return figure(data, "Remaining life, rows", "true", "said")
