"""Learners are weighed by what they say of rows not seen, and kept if they take something off."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pytest

from models.graph import Graph
from models.training import mixture
from models.training.learners import Features, Fit, Floats

RANDOM = np.random.default_rng(6)


@dataclass(frozen=True)
class _Column:
    """Says what one column holds."""

    at: int

    def predict(self, z: Features) -> Floats:
        return z[:, self.at].astype(float)

    def emit(self, graph: Graph, z: str, weight: float, bias: Floats) -> str:
        column = graph.node("Gather", z, graph.constant([self.at], np.int64), axis=1)
        return graph.node(
            "Add", graph.node("Mul", column, graph.constant(weight)), graph.constant(bias)
        )


def _fit(at: int) -> Fit:
    return lambda z, y, seed: _Column(at)


def _kept(
    columns: Floats, y: Floats, task: mixture.Task, earned_min: Mapping[str, float] | None = None
) -> tuple[str, ...]:
    candidates = {str(i): _fit(i) for i in range(columns.shape[1])}
    folds = np.arange(len(y)) % mixture.FOLDS
    z = columns.astype(np.float32)
    found = mixture.mix(candidates, z, y, folds, task=task, seed=0, earned_min=earned_min)
    return found.mix.names


@pytest.mark.parametrize("task", ["regress", "classify"])
def test_who_takes_too_little_off_is_left_out(task: mixture.Task) -> None:
    truth = RANDOM.normal(size=2000)
    y = truth if task == "regress" else (truth > 0).astype(float)
    noise = RANDOM.normal(size=(2000, 2)) * [1.0, 8.0]
    assert _kept(truth[:, None] + noise, y, task) == ("0",)


@pytest.mark.parametrize("task", ["regress", "classify"])
def test_who_errs_otherwise_stays(task: mixture.Task) -> None:
    truth = RANDOM.normal(size=2000)
    y = truth if task == "regress" else (truth > 0).astype(float)
    two = truth[:, None] + RANDOM.normal(size=(2000, 2))
    assert _kept(two, y, task) == ("0", "1")


def test_who_costs_more_must_take_off_more() -> None:
    y = RANDOM.normal(size=2000)
    two = y[:, None] + RANDOM.normal(size=(2000, 2)) * [1.0, 0.9]
    # Together they have a third less error than either.
    assert _kept(two, y, "regress", {"1": 0.2}) == ("0", "1")
    assert _kept(two, y, "regress", {"1": 0.6}) == ("0",)
