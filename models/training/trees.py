"""Writes an ensemble of decision trees as a small dense network, which int8 runs exactly.

A tree is two dense layers: each split is a neuron that says +1 or -1, each leaf is a neuron that
fires when every split on its path agrees. The second layer's weights are -1, 0 and +1, so eight
bits hold them and their inputs without any loss; only the comparisons and the leaf values stay
float32. (Sethi 1990, "Entropy nets"; Biau, Scornet and Welbl 2019, "Neural random forests".)
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from models.graph import Graph

Floats = NDArray[np.float64]
HEAVY_SPLITS = 32
NEVER = 3.0e38
"""Threshold of a split that pads a small tree: everything lies below it."""


@dataclass(frozen=True, slots=True, eq=False)
class Trees:
    """`t` trees padded to `k` splits and `l` leaves.

    Attributes:
        feature: int64[t, k], the column that a split reads.
        threshold: float64[t, k]; a row goes left where its value is <= this.
        route: float64[t, k, l], +1 where the leaf lies right of the split, -1 left, 0 elsewhere.
        depth: float64[t, l], splits on the way to the leaf; larger than that for padding.
        value: float64[t, l, m], what the leaf adds to each of `m` outputs.
        base: float64[m], added to the sum of all trees.
    """

    feature: NDArray[np.int64]
    threshold: Floats
    route: Floats
    depth: Floats
    value: Floats
    base: Floats

    def predict(self, z: NDArray[np.float32]) -> Floats:
        """float64[n, m], as the graph computes it; for checking, not for speed."""
        out = np.repeat(self.base[None], len(z), axis=0)
        edges = _below(self.threshold)
        for tree in range(len(self.feature)):
            side = np.where(z[:, self.feature[tree]] > edges[tree], 1.0, -1.0)
            fired = np.maximum(side @ self.route[tree] + 1 - self.depth[tree], 0.0)
            out += fired @ self.value[tree]
        return out

    def emit(self, graph: Graph, z: str) -> str:
        """Add the trees to a graph.

        Args:
            graph: Under construction.
            z: Name of float32[n, d], the features that the trees were grown on.

        Returns:
            Name of float32[n, m].
        """
        t, k, leaves = self.route.shape
        which, edges, pick = self._splits()
        # Column by column, because gathering rows of the transpose copies whole lines of memory.
        columns = graph.node("Transpose", z, perm=[1, 0])
        picked = graph.node("Gather", columns, graph.constant(which, np.int64), axis=0)
        right = graph.node("Greater", picked, graph.constant(edges[:, None]))
        told = graph.node("Cast", right, to=TensorProto.FLOAT)
        split = graph.node("Gather", told, graph.constant(pick, np.int64), axis=0)
        # A leaf agrees with its path when all its rights are 1 and all its lefts are 0; the split
        # that always holds takes away what is needed for that, all but one.
        rights = (self.route > 0).sum(axis=1)
        needed = np.where(self.depth > k, -1.0, 1.0 - rights)
        route = np.concatenate([self.route, needed[:, None, :]], axis=1)
        if k < HEAVY_SPLITS:
            return self._emit_light(graph, split, route)
        turned = graph.node("Transpose", split, perm=[0, 2, 1])
        graph.ranges[turned] = 1.0
        fired = graph.node("Relu", graph.node("MatMul", turned, graph.constant(route)))
        # As one flat product, since OpenVINO 2021.4 (the stick's) breaks on a batch of them; left
        # out of int8 by `models.quantise`, because errors of many trees' leaves add up.
        rows = graph.node("Transpose", fired, perm=[1, 0, 2])
        flat = graph.node("Reshape", rows, graph.constant([-1, t * leaves], np.int64))
        weight = graph.constant(self.value.reshape(t * leaves, -1))
        total = graph.node("MatMul", flat, weight, name=graph.name_exact())
        return graph.node("Add", total, graph.constant(self.base))

    def _splits(self) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.int64]]:
        """Each split that differs once, and one that always holds: feature and threshold; and
        int64[t, k + 1], which of them a tree asks, the last always holding."""
        asked = np.stack([self.feature.ravel(), _below(self.threshold).ravel()], axis=1)
        asked = np.concatenate([asked, [[0.0, -NEVER]]])
        unique, at = np.unique(asked, axis=0, return_inverse=True)
        at = at.ravel()
        t, k = self.feature.shape
        pick = np.concatenate([at[:-1].reshape(t, k), np.full((t, 1), at[-1])], axis=1)
        return unique[:, 0].astype(np.int64), unique[:, 1].astype(np.float32), pick

    def _emit_light(self, graph: Graph, split: str, route: Floats) -> str:
        """Few splits a tree are no heavy product, and int8 would cost more than it saves: all stays
        with the rows as columns, so that nothing wide is turned (half the time of turning it)."""
        t, _, leaves = route.shape
        agreed = graph.node("MatMul", graph.constant(route.transpose(0, 2, 1)), split)
        fired = graph.node("Relu", agreed)
        flat = graph.node("Reshape", fired, graph.constant([t * leaves, -1], np.int64))
        weight = graph.constant(self.value.reshape(t * leaves, -1).T)
        total = graph.node("Transpose", graph.node("MatMul", weight, flat), perm=[1, 0])
        return graph.node("Add", total, graph.constant(self.base))


def _below(threshold: Floats) -> NDArray[np.float32]:
    """The largest float32 that is not above a threshold: the same float32 values lie above both."""
    near = threshold.astype(np.float32)
    above = near.astype(np.float64) > threshold
    return np.where(above, np.nextafter(near, np.float32(-np.inf)), near)


def of_forest(model: Any, columns: int) -> Trees:
    """The trees of a scikit-learn random forest classifier, averaged.

    Args:
        model: RandomForestClassifier or ExtraTreesClassifier with two classes.
        columns: Which class's share is the output.
    """
    held = [estimator.tree_ for estimator in model.estimators_]
    parts = []
    for tree in held:
        leaf = tree.children_left < 0
        value = tree.value[:, 0, :]
        share = value[:, columns] / value.sum(axis=1)
        parts.append(
            _flat(
                tree.feature,
                tree.threshold,
                tree.children_left,
                tree.children_right,
                leaf,
                share[:, None] / len(held),
            )
        )
    return _pad(parts, np.zeros(1))


def of_boosting(model: Any) -> Trees:
    """The trees of a scikit-learn histogram gradient boosting model with one output.

    Its trees have no public form; `learners` compares this with `predict` whenever it is used.
    """
    parts = []
    for (grown,) in model._predictors:  # noqa: SLF001 - see above
        nodes = grown.nodes
        leaf = nodes["is_leaf"].astype(bool)
        parts.append(
            _flat(
                nodes["feature_idx"].astype(np.int64),
                nodes["num_threshold"],
                nodes["left"].astype(np.int64),
                nodes["right"].astype(np.int64),
                leaf,
                nodes["value"][:, None],
            )
        )
    base = np.asarray(model._baseline_prediction, float).ravel()  # noqa: SLF001 - see above
    return _pad(parts, base)


_Part = tuple[NDArray[np.int64], Floats, Floats, Floats, Floats]


def _flat(
    feature: NDArray[Any],
    threshold: NDArray[Any],
    left: NDArray[Any],
    right: NDArray[Any],
    leaf: NDArray[np.bool_],
    value: Floats,
) -> _Part:
    """Splits, and for each leaf the splits on its way, by a walk without recursion."""
    splits = np.flatnonzero(~leaf)
    leaves = np.flatnonzero(leaf)
    split_at = {int(node): i for i, node in enumerate(splits)}
    leaf_at = {int(node): i for i, node in enumerate(leaves)}
    route = np.zeros((len(splits), len(leaves)))
    todo: list[tuple[int, list[tuple[int, float]]]] = [(0, [])]
    while todo:
        node, way = todo.pop()
        if leaf[node]:
            for split, side in way:
                route[split, leaf_at[node]] = side
            continue
        at = split_at[node]
        todo.append((int(left[node]), [*way, (at, -1.0)]))
        todo.append((int(right[node]), [*way, (at, 1.0)]))
    return (
        np.asarray(feature, np.int64)[splits],
        np.asarray(threshold, float)[splits],
        route,
        np.abs(route).sum(axis=0),
        value[leaves],
    )


def _pad(parts: list[_Part], base: Floats) -> Trees:
    """All trees in one block; what pads is never reached, or adds 0."""
    t = len(parts)
    k = max(1, *(len(part[0]) for part in parts)) if t > 1 else max(1, len(parts[0][0]))
    leaves = max(part[2].shape[1] for part in parts)
    m = parts[0][4].shape[1]
    out = Trees(
        np.zeros((t, k), np.int64),
        np.full((t, k), NEVER),
        np.zeros((t, k, leaves)),
        np.full((t, leaves), float(k + 2)),
        np.zeros((t, leaves, m)),
        base,
    )
    for i, (feature, threshold, route, depth, value) in enumerate(parts):
        splits, grown = route.shape
        out.feature[i, :splits] = feature
        out.threshold[i, :splits] = threshold
        out.route[i, :splits, :grown] = route
        out.depth[i, :grown] = depth
        out.value[i, :grown] = value
    return out
