"""A signal that a model has not seen for long is named, with since when and why."""

from pathlib import Path

import numpy as np
import pytest

from gateway.pipeline.assess import Judge
from gateway.pipeline.unseen import Gone
from gateway.pipeline.windows import Windows
from models.bundle import Bundle
from models.record import Record
from models.runtime import open_session
from models.training.anomaly import train
from tests.models.plants import NAMES, healthy

CELLS, HOP = 48, 12
SECOND_NS = 10**9
VIBRATION = NAMES.index("vibration")


def judge_of(press: Bundle, *assets: str) -> Judge:
    return Judge(press, open_session(press, "cpu"), assets, shadow=False, hop_cells=HOP)


def unseen(
    judge: Judge, values: np.ndarray, end: int, *, row: int = 0, runs: int = 1
) -> tuple[Gone, ...]:
    """What is said of the window before row `end` of `values`, float64[n, k], a second each."""
    value = values[end - CELLS : end].T[None].copy()
    windows = Windows(
        rows=np.array([row]),
        end_ns=np.array([end * SECOND_NS]),
        value=value,
        coverage=1.0 - np.isnan(value).mean(axis=2),
        full=np.array([True]),
        running=np.array([runs], np.int8),
    )
    said = judge.judge(windows, np.array([0.5] * len(judge.assets))).unseen
    return said[0] if said else ()


def test_a_signal_that_is_missing_for_long_is_named_and_one_that_was_away_is_not(
    press: Bundle,
) -> None:
    values = healthy(600, 5).values.copy()
    values[200:400, VIBRATION] = np.nan
    judge = judge_of(press, "press-1")
    told = {end: unseen(judge, values, end) for end in range(CELLS, 600, HOP)}
    # An eighth of the window leaves it out; for long is a window's length from then on.
    first, last = 216, 441
    for end, said in told.items():
        why = "missing" if end <= 400 else "sparse"
        missing = (Gone("vibration", first * SECOND_NS, why),)
        assert said == (missing if first + CELLS <= end <= last else ()), end
    passing = healthy(600, 5).values.copy()
    passing[200:212, VIBRATION] = np.nan
    judge = judge_of(press, "press-1")
    others = {unseen(judge, passing, end) for end in range(CELLS, 600, HOP)}
    assert others == {()}
    assert judge.unseen.memory() == {}


@pytest.mark.parametrize(("held", "why"), [(None, "stuck"), (-9999.0, "no_value")])
def test_what_is_hidden_as_a_fault_of_its_sensor_is_not_seen_for_that(
    press: Bundle, held: float | None, why: str
) -> None:
    values = healthy(600, 5).values.copy()
    values[200:, VIBRATION] = values[200, VIBRATION] if held is None else held
    judge = judge_of(press, "press-1")
    said = [unseen(judge, values, end) for end in range(CELLS, 600, HOP)][-1]
    assert [(gone.signal, gone.why) for gone in said] == [("vibration", why)]


def test_a_machine_that_stands_keeps_what_was_not_seen_and_a_new_judge_knows_it(
    press: Bundle,
) -> None:
    values = healthy(600, 5).values.copy()
    values[200:, VIBRATION] = np.nan
    judge = judge_of(press, "press-1")
    for end in range(CELLS, 300, HOP):
        said = unseen(judge, values, end)
    assert said == (Gone("vibration", 216 * SECOND_NS, "missing"),)
    whole = healthy(600, 5).values
    assert unseen(judge, whole, 312, runs=0) == said
    other = judge_of(press, "press-2", "press-1")
    other.unseen.remember(judge.unseen.memory())
    assert unseen(other, values, 324, row=1) == said
    assert unseen(other, values, 324, row=0) == ()
    assert unseen(other, whole, 336, row=1) == ()
    assert "press-1" not in other.unseen.memory()


def test_a_waveform_of_which_nothing_is_seen_has_one_name(tmp_path: Path) -> None:
    record = healthy(6000)
    parts = ("speed", "current", "case rms", "case kurtosis")
    named = Record(record.values, parts, ("rpm", "A", "mm/s", ""), time_s=record.time_s)
    trained = train(named, false_alarms="1/1h")
    judge = judge_of(trained.write(tmp_path / "m.fwm"), "press-1")
    values = healthy(600, 5).values.copy()
    values[200:, 3] = np.nan
    assert [g.signal for g in [unseen(judge, values, e) for e in range(60, 300, 12)][-1]] == [
        "case kurtosis"
    ]
    values[200:, 2] = np.nan
    assert [g.signal for g in unseen(judge, values, 312)] == ["case kurtosis"]
    assert [g.signal for g in unseen(judge, values, 384)] == ["case"]
