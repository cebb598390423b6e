"""Small dense nets, averaged, that end as part of a graph."""

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import block_diag
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier, MLPRegressor
from threadpoolctl import threadpool_limits

from models.graph import Graph

Floats = NDArray[np.float64]
Features = NDArray[np.float32]

NET_CLIP = 6.0
"""Standardised features beyond this look the same to a net; also the range that int8 covers."""
NETS = 2
"""Nets that are averaged where they say whether."""
BATCHES = 48
"""Steps of a round, if a record has enough rows: few steps leave a net of few rows half learned."""
BATCH_ROWS = (32, 256)
WEIGHT_MIN = 1e-12
"""A smaller weight of a net is written as 0."""


@dataclass(frozen=True, slots=True, eq=False)
class Nets:
    """A few small dense nets, averaged; their target is scaled to about 1. A `Learner`."""

    members: list[list[tuple[Floats, Floats]]]
    scale: float

    def predict(self, z: Features) -> Floats:
        total = np.zeros(len(z))
        for layers in self.members:
            h: Floats = np.clip(z, -NET_CLIP, NET_CLIP).astype(np.float64)
            for weight, bias in layers[:-1]:
                h = np.maximum(h @ weight + bias, 0)
            weight, bias = layers[-1]
            total += (h @ weight + bias)[:, 0]
        out: Floats = total * self.scale / len(self.members)
        return out

    def emit(self, graph: Graph, z: str, weight: float, bias: Floats) -> str:
        clip = graph.constant(NET_CLIP)
        held = graph.node("Clip", z, graph.constant(-NET_CLIP), clip)
        graph.ranges[held] = NET_CLIP
        # Side by side as one net: a few wide layers cost less than many narrow ones, in int8 most.
        columns = list(zip(*self.members, strict=True))
        h = held
        for i, layer in enumerate(columns[:-1]):
            weights = [w for w, _ in layer]
            wide = np.concatenate(weights, axis=1) if i == 0 else block_diag(*weights)
            h = graph.dense(h, wide, np.concatenate([b for _, b in layer]))
        share = weight * self.scale / len(self.members)
        last = np.concatenate([w for w, _ in columns[-1]]) * share
        level = sum(float(b.item()) for _, b in columns[-1]) * share
        return graph.dense(h, np.repeat(last, len(bias), axis=1), level + bias, "")


def nets(z: Features, y: Floats, seed: int) -> Nets:
    """Dense nets that give a logit."""
    held = []
    for member in range(NETS):
        model = MLPClassifier(
            hidden_layer_sizes=(64, 32),
            alpha=1e-3,
            batch_size=min(128 if len(z) < 10_000 else 256, len(z)),
            learning_rate_init=2e-3,
            max_iter=_epochs(len(z), 40 if len(z) < 10_000 else 15),
            n_iter_no_change=1000,
            random_state=seed + member,
        )
        _fit(model, z, y > 0.5)
        held.append(_layers(model))
    return Nets(held, 1.0)


def regressed(
    z: Features,
    y: Floats,
    hidden: tuple[int, int],
    alpha: float,
    epochs: int,
    seed: int,
    members: int = 1,
) -> Nets:
    """Dense nets of `hidden` cells that give a value; `alpha` is the decay of their weights."""
    held = []
    scale = float(np.abs(y).max()) or 1.0
    for member in range(members):
        model = MLPRegressor(
            hidden_layer_sizes=hidden,
            alpha=alpha,
            batch_size=min(len(z), int(np.clip(len(z) // BATCHES, *BATCH_ROWS))),
            max_iter=_epochs(len(z), epochs),
            n_iter_no_change=1000,
            random_state=seed + member,
        )
        _fit(model, z, y / scale)
        held.append(_layers(model))
    return Nets(held, scale)


def _fit(model: Any, z: Features, y: NDArray[Any]) -> None:
    """Fit for a fixed number of rounds, which scikit-learn takes for a failure to converge.

    On one thread, as trees are: the products are small.
    """
    with warnings.catch_warnings(), threadpool_limits(1, user_api="blas"):
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(np.clip(z, -NET_CLIP, NET_CLIP), y)


def _layers(model: Any) -> list[tuple[Floats, Floats]]:
    """Weights and biases; what decay has made tiny is 0, for products of such numbers take a CPU
    ten times as long."""
    weights = [np.where(np.abs(each) < WEIGHT_MIN, 0.0, each) for each in model.coefs_]
    return list(zip(weights, model.intercepts_, strict=True))


def _epochs(rows: int, epochs: int) -> int:
    """Fewer rounds over a long record, more over a short one; 4 at least, 120 at most."""
    return int(np.clip(epochs * 20_000 / max(rows, 1), 4, 120)) if rows > 20_000 else epochs
