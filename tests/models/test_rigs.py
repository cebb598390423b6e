"""Rigs from milliseconds to minutes: healthy hours stay silent, planted faults are found."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray

from models.quantise import run
from models.record import Record
from models.score import held
from models.strays import remembered
from models.training.learn import Learned, learn
from models.windows import features
from tests.models.rigs import RIGS, Rig

SEED = 11


def record(rig: Rig, seed: int) -> Record:
    rng = np.random.default_rng(seed)
    n = rig.rows + rig.fresh
    values = rig.make(rng, n) + rng.normal(size=(n, len(rig.noise))) * rig.noise
    names = tuple(f"s{i}" for i in range(values.shape[1]))
    return Record(values, names, time_s=np.arange(n, dtype=np.float64) * rig.period_s)


@cache
def taught(name: str) -> tuple[Rig, Record, Learned]:
    """A rig, its whole record, and what was learned of the first part; once for all tests."""
    rig = RIGS[name]
    whole = record(rig, SEED)
    return rig, whole, learn(whole.rows(slice(0, rig.rows)))


def verdicts(learned: Learned, whole: Record, first: int) -> NDArray[np.bool_]:
    """Of every row after `first`, by the float32 detector and what it remembers."""
    x, _ = features(whole, learned.plan, learned.grid.every_cell())
    alone, off = (told(x).astype(np.float32) for told in (learned.states.score, learned.states.off))
    score = remembered(alone, off, learned.ewma, learned.strays, 1.0)
    out: NDArray[np.bool_] = (score > held(score, learned.limit.value))[first:]
    return out


def agrees(learned: Learned, fp32: bytes, *tables: Record) -> None:
    """The graph scores what the detector scores."""
    for table in tables:
        x, _ = features(table, learned.plan, learned.grid)
        x = x[np.isfinite(x[:, : learned.plan.measured]).any(axis=1)]
        want = learned.states.score(x)
        np.testing.assert_allclose(run(fp32, x)["score"], want, rtol=2e-3, equal_nan=True)


@pytest.mark.parametrize("name", RIGS)
def test_healthy_hours_that_come_after_the_record_stay_silent(name: str) -> None:
    rig, whole, learned = taught(name)
    assert verdicts(learned, whole, rig.rows).mean() < 0.01


@pytest.mark.parametrize("name", ["recipes", "mains", "wide"])
def test_a_level_that_leaves_its_company_by_a_little_is_found(name: str) -> None:
    """Six times a signal's noise: within its range, but not for its conditions."""
    rig, whole, learned = taught(name)
    values = whole.values.copy()
    values[rig.rows + 500 :, 1] += 6 * rig.noise[1]
    late = verdicts(learned, replace(whole, values=values), rig.rows + 1500)
    assert late.mean() > 0.8


@pytest.mark.parametrize("name", ["recipes", "building", "loaded"])
def test_noise_that_grows_is_found_under_changing_load(name: str) -> None:
    rig, whole, learned = taught(name)
    values = whole.values.copy()
    late = slice(rig.rows + 500, None)
    values[late, 1] += np.random.default_rng(0).normal(0, 6 * rig.noise[1], len(values[late]))
    assert verdicts(learned, replace(whole, values=values), rig.rows + 1500).mean() > 0.5


@pytest.mark.parametrize(("name", "size"), [("recipes", 2), ("building", 4)])
def test_a_little_is_found_where_it_lasts(name: str, size: float) -> None:
    """Seldom past the limit by itself, whatever the window; past that of the average."""
    rig, whole, learned = taught(name)
    values = whole.values.copy()
    values[rig.rows + 500 :, 1] += size * rig.noise[1]
    fault = replace(whole, values=values)
    assert verdicts(replace(learned, ewma=None, strays=None), fault, rig.rows + 1500).mean() < 0.1
    assert verdicts(learned, fault, rig.rows + 1500).mean() > 0.5


def test_what_lasted_is_no_longer_told_when_it_is_over() -> None:
    """A window's length, as without a memory, and its deadband."""
    rig, whole, learned = taught("recipes")
    values = whole.values.copy()
    values[rig.rows + 500 : rig.rows + 1500, 1] += 2 * rig.noise[1]
    told = verdicts(learned, replace(whole, values=values), rig.rows)
    assert told[1000:1500].mean() > 0.8
    assert not told[1500 + 5 * learned.grid.cells // 2 :].any()
