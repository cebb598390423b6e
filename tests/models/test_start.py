"""A start is learned for what it is: no fault, not what healthy is like, and not judged."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.pipeline.assess import Judge
from gateway.pipeline.windows import Windows
from models.bundle import Bundle
from models.errors import BundleError
from models.record import RUNNING, Record, join
from models.runtime import open_session
from models.score import score
from models.start import Start
from models.training.anomaly import train
from models.windows import Grid, lay, windows
from tests.models.bundles import manifest
from tests.models.plants import NAMES, healthy, with_values

CURRENT, TEMPERATURE = NAMES.index("current"), NAMES.index("temperature")
SCORES = st.lists(
    st.tuples(st.floats(0, 5, width=32) | st.just(float("nan")), st.booleans()), min_size=1
)


def started(rows: int, seed: int) -> Record:
    """The motor of `healthy`, switched on cold: it warms up, and the grease is stiff."""
    record = healthy(rows, seed)
    values, cold = record.values.copy(), np.exp(-np.arange(rows) / 150.0)
    values[:, TEMPERATURE] -= 25 * cold
    values[:, CURRENT] += 3 * cold
    return with_values(record, values)


@pytest.fixture(scope="module")
def motor(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return train(started(4000, 1)).write(tmp_path_factory.mktemp("start") / "m.fwm")


@given(SCORES, st.lists(st.floats(1, 20), min_size=1), st.floats(0.1, 10), st.floats(0.1, 10))
def test_one_after_the_other_and_all_at_once_are_the_same(
    seen: list[tuple[float, bool]], factors: list[float], step: float, cells: float
) -> None:
    start = Start(step, tuple(sorted(factors, reverse=True)), 2.0)
    scores = np.array([value for value, _ in seen], np.float32)
    begins = np.array([begin for _, begin in seen])
    since, each = np.full(1, np.inf), []
    for value, begin in seen:
        if begin:
            since[:] = 0.0
        each.append(start.next(since, np.array([value], np.float32), cells)[0])
    carried, halves = np.full(1, np.inf), []
    for part in np.array_split(np.arange(len(seen)), 2):
        halves += start.along(carried, scores[part], begins[part], cells).tolist()
    np.testing.assert_array_equal(halves, each)


def test_what_a_start_may_score_only_falls() -> None:
    start = Start.seen([np.array([10.0, 2.0, 8.0, 1.0])], 1.25, reach=1, cells=2.0)
    assert start is not None
    assert start.factors == (15.0, 15.0, 15.0, 12.0, 12.0)
    assert Start.seen([np.array([1.0, 0.5])], 1.25, reach=1, cells=2.0) is None


def test_each_start_after_a_standstill_is_judged_as_one(motor: Bundle) -> None:
    first, again = started(500, 2), started(700, 3)
    values = np.concatenate([first.values, 0 * first.values[:100], again.values])
    runs = np.repeat([1.0, 0.0, 1.0], [500, 100, 700])
    time_s = 1e9 + np.arange(1300.0)
    record = Record(np.column_stack([values, runs]), (*NAMES, RUNNING), time_s=time_s)
    detail = {**motor.manifest.detail, "running": "speed > 50"}
    ruled = replace(motor, manifest=motor.manifest.model_copy(update={"detail": detail}))
    made = score(ruled, record)
    assert np.isnan(made.score[500:600]).all()
    assert not made.anomalous.any()
    plain = score(motor, Record(values, NAMES, time_s=time_s))
    assert plain.anomalous[650:750].mean() > 0.9


def test_a_start_blinds_no_model_and_a_note_says_so(motor: Bundle) -> None:
    limit = motor.manifest.limit
    settled = train(healthy(4000, 1).rows(np.arange(700, 4000))).manifest.limit
    assert limit is not None
    assert settled is not None
    assert limit.value < 1.5 * settled.value
    said = [note for note in motor.manifest.detail["notes"] if "start" in note]
    assert len(said) == 1
    assert said[0].startswith("the record begins with a start, still settling (")
    assert "fault" not in limit.reason


def test_a_start_as_it_was_learned_is_healthy_and_a_fault_in_it_is_told(motor: Bundle) -> None:
    fresh = started(1500, 2)
    fresh.values[1000:, TEMPERATURE] += 2
    made = score(motor, fresh)
    assert not made.anomalous[:1000].any()
    assert made.anomalous[1050:].mean() > 0.9
    ill = started(600, 2)
    ill.values[200:, TEMPERATURE] += 30
    made = score(motor, ill)
    assert not made.anomalous[:200].any()
    assert made.anomalous[250:].mean() > 0.9


def test_a_file_that_begins_in_the_middle_of_a_run_is_judged_as_ever(motor: Bundle) -> None:
    other = healthy(600, 3)
    other.values[100:, TEMPERATURE] += 6
    detail = {**motor.manifest.detail, "start": None}
    ever = replace(motor, manifest=motor.manifest.model_copy(update={"detail": detail}))
    np.testing.assert_array_equal(score(motor, other).score, score(ever, other).score)


def test_a_fault_that_is_there_from_the_start_is_told_when_the_start_is_over(
    motor: Bundle,
) -> None:
    hot = healthy(2000, 4)
    hot.values[:, TEMPERATURE] += 6
    made = score(motor, hot)
    start = Start.of(motor.manifest)
    assert start is not None
    over = motor.manifest.window.cells + round(start.cells * len(start.factors))
    assert not made.anomalous[:100].any()
    assert made.anomalous[over:].mean() > 0.9


def test_each_of_several_runs_may_begin_with_a_start(motor: Bundle) -> None:
    runs = [started(1200, 5), healthy(1200, 6), started(1200, 7)]
    trained = train(join(runs))
    said = " ".join(trained.notes)
    assert "2 of 3 runs begin with a start" in said


def test_a_step_to_another_product_is_no_start() -> None:
    record = healthy(4000, 8)
    record.values[:600, CURRENT] += 3
    trained = train(record)
    assert trained.manifest.detail["start"] is None


def test_the_gateway_waits_for_a_start_as_the_replay_does(motor: Bundle) -> None:
    record = started(700, 9)
    replayed = score(motor, record)
    window = motor.manifest.window
    laid = lay(record.values, record.time_s, Grid(window.rows, window.period_s, window.cells))
    at = np.arange(window.cells - 1, len(record))
    judge = Judge(motor, open_session(motor, "cpu"), ["motor-1"], shadow=False, hop_cells=1)

    def judged(cut: np.ndarray, *, full: bool = True, runs: int = 1) -> float:
        seen = Windows(
            rows=np.array([0]),
            end_ns=np.array([0]),
            value=cut[None],
            coverage=np.ones((1, len(NAMES))),
            full=np.array([full]),
            running=np.array([runs], np.int8),
        )
        return float(judge.judge(seen, np.array([0.5])).assessments.score[0])

    cuts = windows(laid, at, window.cells)[0]
    assert np.isnan(judged(cuts[0], full=False))
    told = [judged(cut) for cut in cuts[:200]]
    before = judge
    judge = Judge(motor, open_session(motor, "cpu"), ["motor-1"], shadow=False, hop_cells=1)
    judge.remember(before.memory())  # The gateway was reloaded.
    judge.starting.remember(before.starting.memory())
    judge.straying.remember(before.straying.memory())
    told += [judged(cut) for cut in cuts[200:]]
    np.testing.assert_allclose(told, replayed.score[at], rtol=1e-3)
    assert judge.starting.memory() == {}
    # Strange in the middle of a run is no start; after a standstill it is.
    limit = motor.manifest.limit
    assert limit is not None
    assert judged(cuts[0]) > 5 * limit.value
    assert np.isnan(judged(cuts[0], runs=0))
    assert judged(cuts[0]) < limit.value


@pytest.mark.parametrize(
    "held",
    [
        "long",
        {"cells": 2.0},
        {"cells": 0.0, "factors": [2.0]},
        {"cells": 1.0, "factors": []},
        {"cells": 1.0, "factors": [2.0, 3.0]},
        {"cells": 1.0, "factors": [2.0, 0.5]},
        {"cells": 1.0, "factors": [float("nan")]},
    ],
)
def test_a_bundle_with_another_start_is_refused(held: object) -> None:
    with pytest.raises(BundleError, match=r"detail\.start must be cells"):
        Start.of(manifest(detail={"start": held}))
