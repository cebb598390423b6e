"""One dense net for all failures of a record, taught by the trees and nets that learned each.

Trees find sharp edges that a net does not find by itself. So this one sees of each feature how far
it has come between the thresholds of its teachers (piecewise linear encoding, Gorishniy et al.
2022, arXiv:2203.05556), and learns what they say (distillation, Hinton et al. 2015,
arXiv:1503.02531) of the rows and of questions made from them, whose answers cost no failure.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from models.graph import Graph
from models.training.inputs import Inputs
from models.training.learners import Features, Floats, splits
from models.training.mixture import Found, Mix, weigh

RAMPS = ((256, 32), (576, 96))
"""Between thresholds of the teachers, and of how many features at most; the second where the first
say too little. A feature's share is the root of how many it has."""
WIDTH_MIN = 0.01
"""Of a ramp, in standard deviations: a stick that computes in half precision must see it."""
GATHERED_MIN = 2
"""To pick a column takes as long as to multiply it by all ramps: where there are fewer than so
many for each that is used, zeros are multiplied."""
HIDDEN = (256, 256)
QUESTIONS = 30_000
ROUNDS = 15
BATCH = 256
RATE = 2e-3
SURE = 7.0
"""Logits beyond this are alike."""
OFF = -128 / 127
"""A ramp that has not begun, in units of one that has ended: where int8 cuts by itself."""

Layers = list[tuple[NDArray[np.float32], NDArray[np.float32]]]


@dataclass(frozen=True, slots=True, eq=False)
class Net:
    """Ramps, then dense layers.

    Attributes:
        column: int64[t], the feature of each ramp.
        start, width: float64[t], where it begins, and how far it is to its end.
        layers: Weights and biases; the last ones give a logit for each of `m` failures.
    """

    column: NDArray[np.int64]
    start: Floats
    width: Floats
    layers: Layers

    def predict(self, z: Features) -> Floats:
        """float64[n, m], logits."""
        return self._through(self.ramps(z)).astype(np.float64)

    def ramps(self, z: Features) -> Features:
        """float32[n, t]."""
        slope, level = self._line()
        raised: Features = z[:, self.column] * slope.astype(np.float32) + level.astype(np.float32)
        return np.clip(raised, np.float32(OFF), np.float32(1))

    def calibrated(self, weight: Floats, bias: Floats) -> "Net":
        """With each logit times a weight, plus a bias."""
        last, level = self.layers[-1]
        layer = (last * weight).astype(np.float32), (level * weight + bias).astype(np.float32)
        return replace(self, layers=[*self.layers[:-1], layer])

    def emit(self, graph: Graph, z: str, columns: int, offset: float) -> str:
        """Name of float32[n, m], the logits plus `offset`; z is the name of float32[n, columns]."""
        slope, level = self._line()
        used = np.unique(self.column)
        if columns > GATHERED_MIN * len(used):
            z = graph.node("Gather", z, graph.constant(used, np.int64), axis=1)
        else:
            used = np.arange(columns)
        rise = np.zeros((len(used), len(slope)))
        rise[np.searchsorted(used, self.column), np.arange(len(slope))] = slope
        weights = graph.constant(rise), graph.constant(level)
        raised = graph.node("Gemm", z, *weights, name=graph.name_exact())
        h = graph.node("Clip", raised, graph.constant(OFF), graph.constant(1.0))
        graph.ranges[h] = 1.0
        for weight, bias in self.layers[:-1]:
            h = graph.dense(h, weight, bias)
        weight, bias = self.layers[-1]
        return graph.dense(h, weight, bias + offset, "")

    def _line(self) -> tuple[Floats, Floats]:
        slope = (1 - OFF) / self.width
        return slope, OFF - slope * self.start

    def _through(self, h: Features) -> Features:
        for weight, bias in self.layers[:-1]:
            h = np.maximum(h @ weight + bias, 0)
        weight, bias = self.layers[-1]
        return h @ weight + bias


@dataclass(frozen=True, slots=True, eq=False)
class Taught:
    """A net in place of mixes.

    Attributes:
        net: Taught by all rows.
        unseen: float64[n, m], what it says of rows not seen, logits.
        more: The share by which its log loss there is above that of the mixes.
    """

    net: Net
    unseen: Floats
    more: float


def learn(
    found: Sequence[Found],
    inputs: Inputs,
    x: Features,
    y: Floats,
    folds: NDArray[np.int64],
    ramps: tuple[int, int],
    seed: int,
) -> Taught | None:
    """A net in place of the mixes; None where there are no trees to tell what it should see.

    Args:
        found: The mix of each of `m` failures, with its parts on `folds`.
        inputs: From features to what the learners see.
        x: float32[n, d], features.
        y: float64[n, m], 0 and 1.
        folds: int64[n], which rows are held out together.
        ramps: How many it may see, and of how many features.
        seed: Of everything random.
    """
    if not len(_thresholds([each.mix for each in found])[0]):
        return None
    said = np.zeros(y.shape)
    for fold in np.unique(folds):
        held = folds == fold
        parts = [each.parts[int(fold)] for each in found]
        said[held] = _net(parts, inputs, x[~held], ramps, seed).predict(inputs.standard(x[held]))
    fits = [weigh(said[:, [i]], y[:, i], "classify") for i in range(len(found))]
    weight, bias = np.array([fit[0][0] for fit in fits]), np.array([fit[1] for fit in fits])
    said = said * weight + bias
    theirs = np.stack([each.unseen for each in found], axis=1)
    net = _net([each.mix for each in found], inputs, x, ramps, seed).calibrated(weight, bias)
    return Taught(net, said, _loss(said, y) / _loss(theirs, y) - 1)


def _loss(logit: Floats, y: Floats) -> float:
    return float((np.logaddexp(0, logit) - y * logit).sum())


def _net(
    teachers: Sequence[Mix], inputs: Inputs, x: Features, ramps: tuple[int, int], seed: int
) -> Net:
    random = np.random.default_rng(seed)
    z = inputs.standard(x)
    told = _answers(teachers, z)
    asked = inputs.standard(_questions(inputs, x, told, random))
    told = np.concatenate([told, _answers(teachers, asked)])
    net = Net(*_ramps(teachers, *ramps), [])
    layers = _fitted(net.ramps(np.concatenate([z, asked])), told, random)
    return replace(net, layers=layers)


def _answers(teachers: Sequence[Mix], z: Features) -> NDArray[np.float32]:
    said = np.stack([each.predict(z) for each in teachers], axis=1)
    return np.clip(said, -SURE, SURE).astype(np.float32)


def _questions(
    inputs: Inputs, x: Features, told: NDArray[np.float32], random: np.random.Generator
) -> Features:
    """Rows of which some signals, a fifth or half, are those of another row, with all that a window
    tells of them; half of them begin with rows that the teachers are in doubt of. In every second
    window they go a part of the way to the other row, as no two machines are alike."""
    doubt = (1 / (2 + np.exp(told) + np.exp(-told))).max(axis=1).astype(np.float64)
    chance = 0.5 / len(x) + 0.5 * doubt / doubt.sum()
    own = x[random.choice(len(x), QUESTIONS, p=chance / chance.sum())]
    other = x[random.integers(len(x), size=QUESTIONS)]
    names = [name.rpartition(":")[0] for name in inputs.plan.names]
    signals = list(dict.fromkeys(names))
    signal = [signals.index(name) for name in names]
    windows, first = inputs.plan.cells > 1, (np.arange(QUESTIONS) % 2 == 0)[:, None]
    share = np.where(first, 0.3 if windows else 0.2, 0.5)
    goes = random.random((QUESTIONS, len(signals)))[:, signal] < share
    if not windows:
        return np.where(goes, other, own)
    way = np.where(first, random.random((QUESTIONS, len(signals)), np.float32)[:, signal], 1)
    way[:, list(inputs.words)] = 1
    return np.where(goes, np.where(way < 1, own + way * (other - own), other), own)


def _thresholds(teachers: Sequence[Mix]) -> tuple[NDArray[np.int64], Floats]:
    """Of all their splits: the feature and the value."""
    asked = [splits(each) for mix in teachers for each in mix.learners]
    feature, edge = (np.concatenate(side) for side in zip(*asked, strict=True))
    return feature, edge


def _ramps(
    teachers: Sequence[Mix], most: int, features_max: int
) -> tuple[NDArray[np.int64], Floats, Floats]:
    """From one threshold to the next: the feature, the start and the width of each ramp."""
    feature, edge = _thresholds(teachers)
    share = np.sqrt(np.bincount(feature))
    share[np.argsort(share)[:-features_max]] = 0
    count = np.round(most * share / share.sum()).astype(int)
    column, start, width = [], [], []
    for j in np.flatnonzero(count):
        middle = (np.arange(count[j]) + 0.5) / count[j]
        edges = np.unique(np.quantile(edge[feature == j], middle, method="nearest"))
        gaps = np.diff(edges) if len(edges) > 1 else np.ones(1)
        column.append(np.full(len(edges), j))
        start.append(edges)
        width.append(np.maximum(np.append(gaps, gaps[-1])[: len(edges)], WIDTH_MIN))
    return np.concatenate(column), np.concatenate(start), np.concatenate(width)


def _fitted(h: Features, told: NDArray[np.float32], random: np.random.Generator) -> Layers:
    """Cross entropy against the teachers' probabilities, by Adam at a falling rate (Kingma and Ba
    2015, arXiv:1412.6980)."""
    target = 1 / (1 + np.exp(-told))
    sizes = [h.shape[1], *HIDDEN, told.shape[1]]
    layers = [
        (
            (random.standard_normal((into, out)) * np.sqrt(2 / into)).astype(np.float32),
            np.zeros(out, np.float32),
        )
        for into, out in pairwise(sizes)
    ]
    layers[-1] = layers[-1][0] * np.float32(0.3), told.mean(axis=0)
    held = [part for layer in layers for part in layer]
    mean, square = ([np.zeros_like(part) for part in held] for _ in range(2))
    steps = ROUNDS * (len(h) // BATCH)
    order = np.concatenate([random.permutation(len(h)) for _ in range(ROUNDS)])
    with threadpool_limits(1, user_api="blas"):
        for step in range(1, steps + 1):
            rows = order[(step - 1) * BATCH : step * BATCH]
            slopes = _slopes(layers, h[rows], target[rows])
            rate = RATE * min(1.0, 20 * step / steps) * (1 - step / (steps + 1))
            rate *= np.sqrt(1 - 0.999**step) / (1 - 0.9**step)
            for i, slope in enumerate(slopes):
                mean[i] += 0.1 * (slope - mean[i])
                square[i] += 0.001 * (slope * slope - square[i])
                held[i] -= np.float32(rate) * mean[i] / (np.sqrt(square[i]) + np.float32(1e-8))
    return layers


def _slopes(layers: Layers, h: Features, target: Features) -> list[NDArray[np.float32]]:
    """How the mean cross entropy changes with each weight and bias, in the layers' order."""
    seen = [h]
    for weight, bias in layers[:-1]:
        seen.append(np.maximum(seen[-1] @ weight + bias, 0))
    weight, bias = layers[-1]
    off = (1 / (1 + np.exp(-(seen[-1] @ weight + bias))) - target) / np.float32(len(h))
    out: list[NDArray[np.float32]] = []
    for (weight, _), below in zip(layers[::-1], seen[::-1], strict=True):
        out = [below.T @ off, off.sum(axis=0), *out]
        off = (off @ weight.T) * (below > 0)
    return out
