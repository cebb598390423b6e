"""Machines that switch: what is off only while a set point jumps does not set the limit."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from models.quantise import run
from models.record import Record
from models.training import company, conditions, motion
from models.training.anomaly import train
from models.training.companies import Members
from models.training.company import Form
from models.training.folds import folds
from models.training.invented import Told
from models.training.learn import learn
from models.training.motion import stirred
from models.training.plan import _jumps
from models.windows import features
from tests.models.rigs import SWITCHED
from tests.models.test_rigs import record, verdicts


def test_a_residual_that_grows_with_another_signals_movement_is_excused_for_that() -> None:
    rng = np.random.default_rng(1)
    moves = np.abs(rng.normal(size=(4000, 3)))
    size = np.sqrt(1.0 + 9.0 * moves[:, 1] ** 2)
    held = rng.normal(size=(4000, 3)) * np.column_stack([size, np.ones(4000), size])
    own = np.zeros((3, 3), bool)
    own[1, 2] = True
    found = stirred(held, moves, own, list(folds([4000], 20)), [4000], 20)
    assert found[1, 0] > 2.0, "less than the 9 that are true: what is far counts no further"
    assert found[[0, 2], 0].max() < 0.5
    assert not found[:, 1].any(), "what does not move with it is not excused"
    assert found[1, 2] == 0.0, "nor is any signal by its own movement"


def test_few_windows_tell_nothing_of_movement() -> None:
    moves = np.ones((300, 1))
    moves[::7] = 5.0
    held = np.random.default_rng(1).normal(size=(300, 1)) * moves
    parts = list(folds([300], 20))
    assert not stirred(held, moves, np.zeros((1, 1), bool), parts, [300], 20).any()


def test_a_set_point_is_known_by_its_steps_and_a_rounded_temperature_is_not() -> None:
    rng = np.random.default_rng(3)
    n = 4000
    on = np.repeat(rng.integers(2, size=n // 100), 100).astype(float)
    point = np.repeat(rng.choice([40.0, 45.0, 55.0], n // 200), 200)
    slow = 20 + np.cumsum(rng.normal(0, 0.05, n))
    values = np.column_stack([on, point, slow.round(1), rng.normal(size=n)])
    assert [_jumps(column) for column in values.T] == [True, True, False, False]
    kinds = learn(Record(values, ("on", "point", "slow", "noise"))).plan.names
    assert {"on:roughness", "point:roughness", "noise:spread"} <= set(kinds)


def test_jumps_of_a_set_point_do_not_hide_a_small_lasting_fault(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rig = SWITCHED["heater"]
    whole = record(rig, 13)
    learned = learn(whole.rows(slice(0, rig.rows)))
    assert verdicts(learned, whole, rig.rows).mean() < 0.01
    values = whole.values.copy()
    values[rig.rows + 500 :, 2] += 6 * rig.noise[2]
    fault = replace(whole, values=values)
    assert verdicts(learned, fault, rig.rows + 1000).mean() > 0.8
    monkeypatch.setattr(motion, "MOVERS_MAX", 0)
    without = learn(whole.rows(slice(0, rig.rows)))
    assert without.limit.value > 1.3 * learned.limit.value
    alone = replace(without, strays=None)
    assert verdicts(alone, fault, rig.rows + 1000).mean() < 0.5


def test_the_graphs_excuse_movement_as_the_detector_does() -> None:
    rig = SWITCHED["heater"]
    whole = record(rig, 11).rows(slice(0, rig.rows))
    learned, made = learn(whole), train(whole, precision="fp32")
    assert any(
        company.felt[-len(whole.names) :].any() for company in learned.states.whole.companies
    )
    x, _ = features(whole, learned.plan, learned.grid)
    x = x[np.isfinite(x[:, : learned.plan.measured]).any(axis=1)]
    x[::5, [0, 7]] = np.nan
    want = learned.states.score(x)
    np.testing.assert_allclose(run(made.fp32, x)["score"], want, rtol=1e-3, equal_nan=True)


@pytest.mark.parametrize("worse", [Told(1.0, 0.0), Told(0.0, 1.0)])
def test_several_conditions_are_kept_only_if_they_tell_faults_better(
    monkeypatch: pytest.MonkeyPatch, worse: Told
) -> None:
    rig = SWITCHED["oven"]
    whole = record(rig, 11).rows(slice(0, rig.rows))
    assert len(learn(whole).states.parts) > 1
    tells = conditions.tells

    def ill(
        sequences: Sequence[NDArray[np.float32]],
        form: Form,
        count: int,
        reach: int,
        size: NDArray[np.float64],
    ) -> Told:
        told = tells(sequences, form, count, reach, size)
        off = count > 1
        return Told(told.auroc - off * worse.auroc, told.found - off * worse.found)

    monkeypatch.setattr(conditions, "tells", ill)
    assert len(learn(whole).states.parts) == 1


@pytest.mark.parametrize(("judged", "explains", "want"), [(64, 64, 8), (12, 188, 4), (300, 0, 0)])
def test_what_only_explains_counts_half_of_what_is_judged(
    monkeypatch: pytest.MonkeyPatch, judged: int, explains: int, want: int
) -> None:
    asked = []

    def held_out(
        sequences: Sequence[NDArray[np.float32]], form: Form, count: int, reach: int
    ) -> NDArray[np.float64]:
        asked.append(count)
        return np.array([count, count + 0.1])

    monkeypatch.setattr(conditions, "_held_out", held_out)
    monkeypatch.setattr(conditions, "sizes", lambda *_: None)
    monkeypatch.setattr(conditions, "tells", lambda *_: Told(0.0, 0.0))
    d, at = judged + explains, np.zeros(judged + explains, np.int64)
    form = Form(np.ones(d), (np.arange(d) < judged,), at, np.zeros(d), ())
    assert conditions.choose([np.zeros((1000, d), np.float32)], form, 1) == 1
    assert max(asked, default=0) == want


def test_what_is_left_counts_in_units_of_a_machine_at_rest() -> None:
    rng = np.random.default_rng(4)
    moves = np.where(rng.random(4000) < 0.1, 5.0, 0.1) * rng.uniform(0.5, 1.5, 4000)
    x = np.column_stack([rng.normal(size=4000) * np.sqrt(1 + 9 * moves**2), moves, np.zeros(4000)])
    at = np.arange(2)
    still = Form(np.full(2, 1e-9), (np.ones(2, bool),), 0 * at, np.zeros(2), (Members(at, 2),))
    own = []
    for form in (still, replace(still, motion=motion.Motion(at[1:], np.ones(1), at))):
        rows = form.motion.beside(x)
        one, _ = company.learn(rows, Members(at, 2), form, list(folds([4000], 20)), [4000], 20)
        own.append(one.own[0])
    assert own[1] > 2 * own[0]
