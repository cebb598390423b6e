"""What is remembered: live as in a replay, never more than is still so, not from too little."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.assessment import Abstained
from gateway.pipeline.assess import Judge
from gateway.pipeline.windows import Windows
from models.bundle import Bundle
from models.errors import BundleError
from models.ewma import Ewma
from models.runtime import open_session
from models.score import score
from models.training.anomaly import train
from models.training.limits import lasting
from models.windows import Grid, lay, windows
from tests.models.bundles import manifest
from tests.models.plants import NAMES, healthy, with_values

EWMA = Ewma(cells=40.0, usual=1.0, most=3.0, stretch=2.0)
SCORES = st.lists(st.floats(0, 50, width=32) | st.just(float("nan")), min_size=1, max_size=300)


@given(SCORES, st.floats(0.1, 10))
def test_one_after_the_other_and_all_at_once_are_the_same(
    values: list[float], cells: float
) -> None:
    scores = np.array(values, np.float32)
    level, other = EWMA.begin(1), EWMA.begin(1)
    live = np.concatenate([EWMA.next(level, scores[i : i + 1], cells) for i in range(len(scores))])
    np.testing.assert_allclose(EWMA.along(other, scores, cells), live, rtol=1e-4)
    np.testing.assert_allclose(level, other, atol=1e-9)


@given(SCORES)
def test_nothing_counts_more_than_it_is_still_so(values: list[float]) -> None:
    scores = np.array(values, np.float32)
    told = EWMA.along(EWMA.begin(1), scores)
    known = np.isfinite(scores)
    np.testing.assert_array_equal(np.isfinite(told), known)
    assert (told[known] >= scores[known]).all()
    assert (told[known] <= np.maximum(scores[known], 1) ** np.float32(EWMA.stretch * 1.0001)).all()
    usual = known & (scores <= EWMA.usual)
    np.testing.assert_array_equal(told[usual], scores[usual])


def test_what_is_told_at_once_leaves_nothing_behind_when_it_is_over() -> None:
    """The window still holds some of it then, which is strange, but below the limit."""
    level = EWMA.begin(1)
    told = EWMA.along(level, np.array([1.0] * 9 + [50.0] * 100 + [2.0] * 5, np.float32))
    assert (told[9:109] >= 50.0).all()
    np.testing.assert_array_equal(told[109:], 2.0)
    assert level < np.log(1.2)


def test_a_machine_with_no_score_keeps_what_is_remembered_of_it() -> None:
    level = EWMA.begin(2)
    EWMA.next(level, np.array([2.0, np.nan], np.float32))
    assert level[0] > level[1] == EWMA.begin(1)[0]


def lasts(scores: list[np.ndarray], windows: float, fewest: float) -> Ewma | None:
    return lasting(scores, 3.0, windows=windows, per_window=48, cells=48, fewest=fewest)


def test_a_drifting_signal_or_a_short_record_lets_less_count() -> None:
    rng = np.random.default_rng(0)
    scores = [np.exp(0.2 * rng.normal(size=4800))]
    steady, drifting = lasts(scores, 100, 80.0), lasts(scores, 100, 6.0)
    assert steady is not None
    assert drifting is not None
    assert 1 < drifting.stretch < steady.stretch
    assert lasts(scores, 100, 2.0) is None
    assert lasts([scores[0][:900]], 19, 80.0) is None


@pytest.mark.parametrize("held", [{"cells": 1.0}, {**EWMA.pack(), "cells": 0.0}, [1.0], "x"])
def test_a_bundle_that_holds_something_else_is_refused(held: object) -> None:
    assert Ewma.of(manifest(detail={"ewma": EWMA.pack()})) == EWMA
    with pytest.raises(BundleError, match=r"detail\.ewma"):
        Ewma.of(manifest(detail={"ewma": held}))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    trained = train(healthy(6000), false_alarms="1/1h")
    return trained.write(tmp_path_factory.mktemp("ewma") / "m.fwm")


def test_the_gateway_remembers_what_the_replay_does(made: Bundle) -> None:
    """Noise a little stronger for long: no window passes the limit by itself, both say so alike."""
    whole = healthy(1500, seed=5)
    values = whole.values.copy()
    values[500:, NAMES.index("vibration")] += np.random.default_rng(1).normal(0, 0.08, 1000)
    record = with_values(whole, values)
    replayed = score(made, record)
    assert replayed.anomalous[-200:].mean() > 0.9

    window = made.manifest.window
    grid = Grid(window.rows, window.period_s, window.cells)
    laid = lay(record.values, record.time_s, grid)
    at = np.arange(window.cells - 1, len(record))
    judge = Judge(made, open_session(made, "cpu"), ["motor-1"], shadow=False, hop_cells=1)
    told = []
    for number, cut in enumerate(windows(laid, at, window.cells)[0]):
        if number == 900:  # The gateway was reloaded.
            memory, strayed = judge.memory(), judge.straying.memory()
            both = ["new", "motor-1"]
            judge = Judge(made, open_session(made, "cpu"), both, shadow=False, hop_cells=1)
            judge.remember(memory)
            judge.straying.remember(strayed)
        seen = Windows(
            rows=np.array([len(judge.assets) - 1]),
            end_ns=np.array([0]),
            value=cut[None],
            coverage=np.ones((1, len(NAMES))),
            full=np.array([True]),
        )
        assessed = judge.judge(seen, np.array([0.5, 0.5])).assessments
        assert assessed.abstained == (Abstained.NO,)
        told.append(assessed.score[0])
    np.testing.assert_allclose(told, replayed.score[at], rtol=1e-3)
