"""A sensor that cannot be believed is a data-quality alarm, and no alarm on the machine."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view

from gateway.core.alarm import Condition
from gateway.pipeline.assess import Judge
from gateway.pipeline.doubts import Doubts
from gateway.pipeline.windows import Windows
from models.bundle import Bundle
from models.record import Record
from models.runtime import open_session
from models.training.anomaly import train
from tests.models.plants import NAMES, UNITS, healthy
from tests.models.rigs import wander

CELLS = 48
NO, YES = "of press-1 no longer agree", "lets expect"


@pytest.fixture
def judge(press: Bundle) -> Judge:
    return Judge(press, open_session(press, "cpu"), ["press-1"], shadow=False)


def windows(value: np.ndarray) -> Windows:
    return Windows(
        rows=np.array([0]),
        end_ns=np.array([10**18]),
        value=value,
        coverage=1.0 - np.isnan(value).mean(axis=2),
        full=np.array([True]),
    )


def told(judge: Judge, doubts: Doubts, seen: Windows) -> list[Condition]:
    return doubts.conditions(seen, judge.judge(seen, np.array([0.5])))


def test_a_stuck_sensor_is_told_once_it_is_stuck_and_once_it_moves_again(judge: Judge) -> None:
    rows = healthy(2000, 5).values
    good = windows(rows[500 : 500 + CELLS].T[None].copy())
    stuck = windows(good.value.copy())
    stuck.value[0, 3] = stuck.value[0, 3, 0]
    doubts = Doubts(judge)
    assert told(judge, doubts, good) == []
    seen = judge.judge(stuck, np.array([0.5]))
    (doubt,) = told(judge, doubts, stuck)
    assert doubt.alarm == f"{NAMES[3]}.sensor"
    assert doubt.active
    assert str(doubt.text) == "vibration of press-1 does not move any more"
    assert seen.assessments.severity[0] < 1
    (again,) = told(judge, doubts, good)
    assert again.active is False
    assert told(judge, doubts, good) == []


def test_a_doubt_ends_under_another_judge_too(judge: Judge) -> None:
    """After a restart or a reload, where the sensor was mended meanwhile."""
    good = windows(healthy(2000, 5).values[500 : 500 + CELLS].T[None].copy())
    alarm = f"{NAMES[3]}.sensor"
    new = Doubts(judge)
    new.recall({("press-1", alarm), ("press-1", "anomaly"), ("press-2", f"{NAMES[1]}.sensor")})
    stands = replace(good, running=np.zeros(1, np.int8))
    assert told(judge, new, stands) == [], "what stands says nothing of its sensors"
    (ended,) = told(judge, new, good)
    assert (ended.alarm, ended.active) == (alarm, False)
    assert told(judge, new, good) == []


@pytest.fixture(scope="module")
def twins(tmp_path_factory: pytest.TempPathFactory) -> Judge:
    """A machine whose heat is measured twice."""
    trained = train(doubled(6000, 0), false_alarms="1/1h")
    bundle = trained.write(tmp_path_factory.mktemp("twins") / "m.fwm")
    return Judge(bundle, open_session(bundle, "cpu"), ["press-1"], shadow=False)


def doubled(n: int, seed: int) -> Record:
    one = healthy(n, seed)
    twin = one.values[:, 2] + np.random.default_rng(seed + 1).normal(0, 0.05, n)
    values = np.column_stack([one.values, twin])
    return Record(values, (*NAMES, "oil"), (*UNITS, "°C"), time_s=one.time_s)


@pytest.mark.parametrize(("moved", "alarms"), [((2,), ["temperature.sensor"]), ((2, 4), [])])
def test_a_sensor_that_drifts_from_its_neighbour_is_told_and_the_model_judges_on(
    twins: Judge, moved: tuple[int, ...], alarms: list[str]
) -> None:
    rows = doubled(2000, 5).values
    value = rows[500 : 500 + CELLS].T[None].copy()
    value[0, list(moved)] += 6.0
    seen = windows(value)
    judged = twins.judge(seen, np.array([0.5]))
    doubts = Doubts(twins)
    doubted = doubts.conditions(seen, judged)
    assert all(c.active for c in doubted)
    assert [c.alarm for c in doubted] == alarms
    assert judged.assessments.severity[0] > 1, "it may be the machine: nothing is hidden"
    for doubt in doubted:
        # Which of two that measure the same is wrong, a model may leave open.
        text = str(doubt.text)
        assert "strays alone while its neighbours stay" in text or "no longer agree" in text
    good = windows(rows[500 : 500 + CELLS].T[None].copy())
    assert [c.active for c in told(twins, doubts, good)] == [False] * len(alarms)


def test_two_parts_of_one_waveform_are_no_neighbours(tmp_path: Path) -> None:
    """One of them straying alone is what an order of a shaft does, not what its sensor does."""
    parts = {"temperature": "case 1x", "oil": "case rms"}
    record = doubled(6000, 0)
    record = replace(record, names=tuple(parts.get(name, name) for name in record.names))
    trained = train(record, false_alarms="1/1h")
    bundle = trained.write(tmp_path / "m.fwm")
    judge = Judge(bundle, open_session(bundle, "cpu"), ["press-1"], shadow=False)
    seen = windows(doubled(2000, 5).values[500 : 500 + CELLS].T[None].copy())
    seen.value[0, 2] += 6.0
    assert judge.judge(seen, np.array([0.5])).assessments.severity[0] > 1
    assert told(judge, Doubts(judge), seen) == []
    assert not judge.pairs


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Judge:
    """A machine of two bearings, the heat of which nothing else foretells."""
    trained = train(bearings(3000, 0))
    bundle = trained.write(tmp_path_factory.mktemp("pair") / "m.fwm")
    return Judge(bundle, open_session(bundle, "cpu"), ["press-1"], shadow=False)


def bearings(n: int, seed: int, sensors: int = 2) -> Record:
    one, random = healthy(n, seed), np.random.default_rng(seed + 1)
    heat = 60 + 3 * wander(random, n, 100)
    seen = heat[:, None] * (1.0, 1.1, 0.9)[:sensors] + (0.0, -4.0, 6.0)[:sensors]
    values = np.column_stack([one.values, seen + random.normal(0, 0.05, seen.shape)])
    names = (*NAMES, *("front", "rear", "oil")[:sensors])
    return Record(values, names, (*UNITS, *["°C"] * sensors), time_s=one.time_s)


@pytest.mark.parametrize(
    ("moved", "by", "says"),
    [
        (
            (4,),
            8.0,
            rf"front and rear {NO}: front is \d\.\d °C higher than rear {YES}, which is as",
        ),
        ((4,), -0.5, rf"front and rear {NO}: front is 0\.\d\d °C lower than rear {YES} \(one of"),
        (
            (5,),
            8.0,
            rf"rear and front {NO}: rear is \d\.\d °C higher than front {YES}, which is as",
        ),
        ((3, 4), 6.0, ""),
        ((3,), 6.0, ""),
    ],
)
def test_two_sensors_that_part_are_told_as_a_pair_and_neither_is_hidden(
    pair: Judge, moved: tuple[int, ...], by: float, says: str
) -> None:
    middle = bearings(2000, 5).values
    at = int(np.argmin(np.abs(sliding_window_view(middle[:, 4], CELLS).mean(axis=1) - 60)))
    value = middle[at : at + CELLS].T[None].copy()
    doubts, good = Doubts(pair), windows(value.copy())
    assert told(pair, doubts, good) == []
    value[0, list(moved)] += by
    judged = pair.judge(windows(value), np.array([0.5]))
    assert judged.assessments.severity[0] > 1
    doubted = doubts.conditions(windows(value), judged)
    assert [c.alarm for c in doubted if "agree" in str(c.text)] == ["front.sensor"] * bool(says)
    assert not says or re.match(says, str(doubted[0].text)), doubted[0].text
    ended = told(pair, doubts, good)
    assert [c.active for c in ended] == [False] * len(doubted)


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Judge:
    """A machine of three bearings."""
    trained = train(bearings(3000, 0, 3))
    bundle = trained.write(tmp_path_factory.mktemp("three") / "m.fwm")
    return Judge(bundle, open_session(bundle, "cpu"), ["press-1"], shadow=False)


@pytest.mark.parametrize(
    ("moved", "by", "alarms"),
    [((4,), 1.5, ["front"]), ((5,), -1.5, ["rear"]), ((6,), 8.0, ["oil"]), ((4, 5, 6), 40.0, [])],
)
def test_one_of_three_that_parts_from_two_is_told_and_not_hidden(
    three: Judge, moved: tuple[int, ...], by: float, alarms: list[str]
) -> None:
    middle = bearings(2000, 5, 3).values
    at = int(np.argmin(np.abs(sliding_window_view(middle[:, 4], CELLS).mean(axis=1) - 60)))
    value = middle[at : at + CELLS].T[None].copy()
    doubts, good = Doubts(three), windows(value.copy())
    assert told(three, doubts, good) == []
    value[0, list(moved)] += by
    judged = three.judge(windows(value), np.array([0.5]))
    assert judged.assessments.severity[0] > 1
    heat = [c for c in doubts.conditions(windows(value), judged) if "noisier" not in str(c.text)]
    assert [c.alarm for c in heat] == [f"{name}.sensor" for name in alarms]
    for doubt in heat:
        assert "no longer agrees with" in str(doubt.text)
        assert str(doubt.text).endswith(
            ", which agree with each other (its sensor, or the machine?)"
        )
    assert np.isfinite(judged.features).all()
