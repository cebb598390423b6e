"""Wide machines: what is compared with what, that graphs say it too, and that cost stays linear."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from models.quantise import run
from models.record import Record
from models.score import score
from models.training import companies, learn, plan, sheets
from models.training.anomaly import train
from models.training.companies import Members
from models.training.detector_graph import graph_of
from models.training.explained import RIDGES, _Sums, axes, weights
from models.training.learn import Learned
from models.windows import some_features
from tests.models.rigs import wander

CAUSES = 5


def plant(signals: int, rows: int, seed: int = 0) -> Record:
    """Each signal follows one of a few causes, which change in seconds to minutes."""
    rng = np.random.default_rng(seed)
    causes = np.column_stack([wander(rng, rows, 5.0 + 15 * i) for i in range(CAUSES)])
    values = 50 + 3 * causes[:, np.arange(signals) % CAUSES] + rng.normal(size=(rows, signals))
    names = tuple(f"s{i:03d}" for i in range(signals))
    return Record(values, names, time_s=np.arange(rows, dtype=np.float64))


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Companies of so few that thirty signals are a wide machine."""
    monkeypatch.setattr(companies, "FEATURES_MAX", 24)
    monkeypatch.setattr(companies, "DELEGATES", 8)
    monkeypatch.setattr(plan, "EXPLAINING_MAX", 0)


def split(found: tuple[Members, ...], d: int) -> NDArray[np.int64]:
    """How often each feature is judged."""
    return np.bincount(np.concatenate([members.mine for members in found]), minlength=d)


def test_all_of_a_scale_are_one_company_on_a_machine_of_256_signals() -> None:
    x = [np.zeros((3, 1024), np.float32)]
    blocks = (np.arange(1024) < 512, np.arange(1024) >= 512)
    found = companies.companies(x, blocks, np.arange(1024) % 256)
    assert [len(members.at) for members in found] == [members.judged for members in found]
    assert [members.judged for members in found] == [512, 512]


def test_on_a_wider_one_each_feature_is_judged_once_among_those_like_it() -> None:
    rng = np.random.default_rng(0)
    causes = rng.normal(size=(2000, CAUSES))
    level = causes[:, np.arange(600) % CAUSES] + 0.3 * rng.normal(size=(2000, 600))
    x = np.hstack([level, rng.normal(size=(2000, 600))]).astype(np.float32)
    (blocks,) = (np.ones(1200, bool),)
    found = companies.companies([x], (blocks,), np.arange(1200) % 600)
    assert (split(found, 1200) == 1).all()
    for members in found:
        assert len(members.at) <= companies.FEATURES_MAX
        assert len(np.unique(members.at)) == len(members.at)
        levels = members.mine[members.mine < 600]
        assert (np.sort(members.mine[members.mine >= 600]) == levels + 600).all(), "one signal's"
        heard = np.unique(members.at[members.at < 600] % CAUSES)
        assert len(heard) == CAUSES, "a delegate tells of each cause"
    largest = max(found, key=lambda members: members.judged)
    kinds = np.bincount(largest.mine[largest.mine < 600] % CAUSES, minlength=CAUSES)
    assert np.sort(kinds)[-2:].sum() >= 0.9 * kinds.sum(), "companies are of few causes"


def test_what_each_ridge_leaves_is_what_its_weights_leave() -> None:
    rng = np.random.default_rng(3)
    z = rng.normal(size=(400, 6)) @ rng.normal(size=(6, 6))
    have = rng.random(z.shape) < 0.9
    z = np.where(have, z / z.std(axis=0), 0.0)
    sums = _Sums.of(z[:300], have[:300])
    quick = sums.lost(z[300:], have[300:])
    for index, ridge in enumerate(RIDGES):
        left = sums.left_over(z[300:], have[300:], np.full(6, ridge))
        np.testing.assert_allclose(quick[index], np.log(np.nansum(left**2, axis=0)), rtol=1e-9)
    whole = _Sums.of(z[:300], np.ones_like(have[:300]))
    counted = _Sums(whole.first, whole.second, whole.count, np.full((6, 6), 300.0))
    np.testing.assert_array_equal(whole.correlation()[0], counted.correlation()[0])
    assert (np.diag(weights(axes(whole.correlation()[0]), np.full(6, 0.1))) == 0).all()


def learned_of(record: Record) -> Learned:
    return learn.learn(record)


@pytest.mark.usefixtures("narrow")
def test_the_graphs_of_a_wide_machine_say_what_its_detector_says(tmp_path: Path) -> None:
    record = plant(30, 1500)
    learned = learned_of(record)
    whole = learned.states.whole
    assert len(whole.companies) > len(whole.blocks)
    assert (split(tuple(Members(c.at, c.judged) for c in whole.companies), 120) == 1).all()
    values = record.values.copy()
    values[np.random.default_rng(1).random(values.shape) < 0.2] = np.nan
    values[400:600, 3] = np.nan
    gappy = replace(record, values=values)
    _, x = some_features(gappy, learned.plan, learned.grid.every_cell(), 1)
    assert np.isnan(x).any()
    made = run(graph_of(learned.states, learned.plan), x)
    want = learned.states.score(x)
    np.testing.assert_allclose(made["score"], want, rtol=1e-3, equal_nan=True)
    np.testing.assert_allclose(made["contribution"].sum(axis=1), 1.0, rtol=1e-4)
    said: list[str] = []
    trained = train(record, say=said.append)
    assert "learning without part 8 of 8, and judging it" in said
    assert trained.manifest.parity["auroc_loss_worst"] <= 0.01
    bundle = trained.write(tmp_path / "wide.fwm")
    fresh = plant(30, 3000, seed=4)
    fresh.values[2000:, 7] += 8.0
    told = score(bundle, fresh)
    assert told.anomalous[:1990].mean() < 0.01
    assert told.anomalous[2060:].mean() > 0.95
    assert told.top(2500) == ("s007",)
    assert told.direction[2500, 7] == 1


@pytest.mark.usefixtures("narrow")
def test_the_sum_over_a_signals_features_is_the_same_with_and_without_a_matrix(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    learned = learned_of(plant(30, 1000))
    x = learned.sequences[0][:200]
    matrix = run(graph_of(learned.states, learned.plan), x)
    monkeypatch.setattr(sheets, "OWNERS_MAX", 0)
    gathered = run(graph_of(learned.states, learned.plan), x)
    np.testing.assert_allclose(gathered["contribution"], matrix["contribution"], rtol=1e-5)
    np.testing.assert_array_equal(gathered["direction"], matrix["direction"])


@pytest.mark.usefixtures("narrow")
def test_a_graph_grows_with_the_signals_not_with_their_square(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sheets, "OWNERS_MAX", 0)
    size = {}
    for signals in (30, 60):
        learned = learned_of(plant(signals, 800))
        size[signals] = graph_of(learned.states, learned.plan).ByteSize()
    assert size[60] < 3 * size[30], "with the square of the signals it would be four times"


def test_a_wide_record_is_thinned_so_that_memory_stays_bounded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(plan, "EXPLAINING_MAX", 0)
    record = plant(10, 2000)
    every = learned_of(record)
    assert sum(map(len, every.sequences)) > 1900
    monkeypatch.setattr(learn, "VALUES_MAX", 500 * len(every.plan.names))
    fewer = learned_of(record)
    assert 400 < sum(map(len, fewer.sequences)) <= 500
    assert fewer.limit.value == pytest.approx(every.limit.value, rel=0.25)
