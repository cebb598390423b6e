"""Learners of standardised features that end as part of a graph: a forest, boosted trees, nets."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
)
from threadpoolctl import threadpool_limits

from models.graph import Graph
from models.training.nets import nets, regressed
from models.training.trees import NEVER, Trees, of_boosting, of_forest

Floats = NDArray[np.float64]
Features = NDArray[np.float32]

TEACHERS = 3
"""Nets beside the trees that teach one."""
MIXTURES = 2
"""Mixed rows for each row that a net is taught by."""
FOREST_TREES = 100
SELDOM = -6.0
"""The logit where no row to learn from fails."""
FOREST_SAMPLES_MAX = 8_000
"""Rows that one tree sees; of windows that overlap, more say little."""
FOREST_COLUMNS_MAX = 32
"""Columns that a split chooses among: of a wide table half of all cost minutes and tell no more."""


class Learner(Protocol):
    """One fitted learner: a logit for `classify`, the value itself for `regress`."""

    def predict(self, z: Features) -> Floats:
        """float64[n]."""
        ...

    def emit(self, graph: Graph, z: str, weight: float, bias: Floats) -> str:
        """Name of float32[n, m]: what it says times `weight`, plus each of `m` biases."""
        ...


Fit = Callable[[Features, Floats, int], Learner]


@dataclass(frozen=True, slots=True, eq=False)
class _Grown:
    """Trees as a net; a forest's share of votes becomes a logit."""

    trees: Trees
    votes: float = 0.0
    """Half a vote, that keeps the logit of 0 and 1 finite; 0 where trees give a logit already."""

    def predict(self, z: Features) -> Floats:
        raw = self.trees.predict(z)[:, 0]
        if not self.votes:
            return raw
        e = self.votes
        out: Floats = np.log((np.clip(raw, 0, 1) + e) / (1 - np.clip(raw, 0, 1) + e))
        return out

    def emit(self, graph: Graph, z: str, weight: float, bias: Floats) -> str:
        if not self.votes:
            value = np.repeat(self.trees.value * weight, len(bias), axis=2)
            return replace(self.trees, value=value, base=self.trees.base * weight + bias).emit(
                graph, z
            )
        raw = self.trees.emit(graph, z)
        share = graph.node("Clip", raw, graph.constant(0.0), graph.constant(1.0))
        up = graph.node("Add", share, graph.constant(self.votes))
        down = graph.node("Sub", graph.constant(1.0 + self.votes), share)
        logit = graph.node("Sub", graph.node("Log", up), graph.node("Log", down))
        weighed = graph.node("Mul", logit, graph.constant(weight))
        return graph.node("Add", weighed, graph.constant(bias))


def never() -> Learner:
    """Says that nothing fails, as is learned from rows where nothing does."""
    still = Trees(
        np.zeros((1, 1), np.int64),
        np.full((1, 1), NEVER),
        np.zeros((1, 1, 1)),
        np.zeros((1, 1)),
        np.zeros((1, 1, 1)),
        np.full(1, SELDOM),
    )
    return _Grown(still)


def splits(learner: Learner) -> tuple[NDArray[np.int64], Floats]:
    """Of all splits of a learner's trees: the feature and the value; none of other learners."""
    if not isinstance(learner, _Grown):
        return np.zeros(0, np.int64), np.zeros(0)
    live = learner.trees.threshold < NEVER
    return learner.trees.feature[live], learner.trees.threshold[live]


def forest(z: Features, y: Floats, seed: int) -> Learner:
    """A random forest classifier, bounded in leaves so that its net stays small."""
    model = _forest(z, y, seed, FOREST_TREES)
    return _Grown(of_forest(model, 1), 0.5 / FOREST_TREES)


def importance(z: Features, y: Floats, seed: int) -> Floats:
    """float64[d], how much a forest leans on each column; sums to 1."""
    model = _forest(z, y, seed, 60)
    return np.asarray(model.feature_importances_, float)


def _forest(z: Features, y: Floats, seed: int, trees: int) -> Any:
    model = RandomForestClassifier(
        trees,
        max_leaf_nodes=64,
        max_features=min(0.5, FOREST_COLUMNS_MAX / z.shape[1]),
        max_samples=FOREST_SAMPLES_MAX if len(z) > FOREST_SAMPLES_MAX else None,
        random_state=seed,
        n_jobs=1,
    )
    model.fit(z, y > 0.5)
    return model


def boosted(z: Features, y: Floats, seed: int) -> Learner:
    """Gradient boosted trees with strong regularisation, for rare classes."""
    model = HistGradientBoostingClassifier(
        max_iter=150,
        max_leaf_nodes=8,
        learning_rate=0.06,
        l2_regularization=5.0,
        max_features=0.5,
        early_stopping=False,
        random_state=seed,
    )
    _grow(model, z, y > 0.5)
    return _checked(model, z, model.decision_function)


def boosted_value(z: Features, y: Floats, seed: int) -> Learner:
    """Gradient boosted regression trees."""
    model = HistGradientBoostingRegressor(
        max_iter=250,
        max_leaf_nodes=12,
        min_samples_leaf=40,
        learning_rate=0.05,
        l2_regularization=5.0,
        max_features=0.4,
        early_stopping=False,
        random_state=seed,
    )
    _grow(model, z, y)
    return _checked(model, z, model.predict)


def taught_value(z: Features, y: Floats, seed: int) -> Learner:
    """One dense net that gives a value, taught by trees and other nets.

    Beside the rows it sees their mixtures (mixup, Zhang et al. 2018, arXiv:1710.09412), which its
    teachers, the trees and the nets together, have marked: so it learns from them what no single
    net finds (distillation, Hinton et al. 2015, arXiv:1503.02531).
    """
    teachers = boosted_value(z, y, seed), regressed(z, y, (64, 32), 1.0, 20, seed, TEACHERS)
    random = np.random.default_rng(seed)
    mixed = [_mixed(z, random) for _ in range(MIXTURES)]
    seen = np.concatenate([z, *mixed])
    told = np.mean([each.predict(seen) for each in teachers], axis=0)
    told[: len(z)] = (told[: len(z)] + y) / 2
    return regressed(seen, told, (256, 160), 0.1, 10 * (1 + MIXTURES), seed)


def _mixed(z: Features, random: np.random.Generator) -> Features:
    """Each row with some of another, and a little noise."""
    share = random.beta(0.4, 0.4, (len(z), 1))
    other = z[random.permutation(len(z))]
    noise = random.normal(0, 0.05, z.shape)
    return (share * z + (1 - share) * other + noise).astype(np.float32)


CLASSIFIERS: dict[str, Fit] = {"forest": forest, "boosted": boosted, "nets": nets}
REGRESSORS: dict[str, Fit] = {"boosted": boosted_value, "net": taught_value}


def _grow(model: Any, z: Features, y: NDArray[Any]) -> None:
    """Fit on one thread: on a box that does other work, threads that wait for each other cost more
    than they bring (twice the CPU time and more, measured beside a busy gateway)."""
    with threadpool_limits(1, user_api="openmp"):
        model.fit(z, y)


def _checked(model: Any, z: Features, reference: Callable[[Features], Floats]) -> Learner:
    """The model's trees, proven to be what the model computes (its trees are not public)."""
    trees = of_boosting(model)
    rows = z[:: max(1, len(z) // 200)]
    if not np.allclose(trees.predict(rows)[:, 0], reference(rows), rtol=1e-4, atol=1e-4):
        raise AssertionError("scikit-learn changed the form of its boosted trees")
    return _Grown(trees)
