"""A sensor that cannot be believed is a data-quality alarm, and no alarm on the machine."""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from gateway.core.alarm import Cause, Condition
from gateway.pipeline.assess import Judge
from gateway.pipeline.windows import Windows
from models.runtime import open_session
from models.training.anomaly import train
from tests.models.plants import NAMES, healthy

CELLS = 48


@pytest.fixture
def judge(tmp_path: Path) -> Judge:
    trained = train(healthy(6000), false_alarms="1/1h", created=datetime(2026, 1, 1, tzinfo=UTC))
    bundle = trained.write(tmp_path / "m.fwm")
    return Judge(bundle, open_session(bundle, "cpu"), ["press-1"], shadow=False)


def windows(value: np.ndarray) -> Windows:
    return Windows(
        rows=np.array([0]),
        end_ns=np.array([10**18]),
        value=value,
        coverage=1.0 - np.isnan(value).mean(axis=2),
        full=np.array([True]),
    )


def doubts(judge: Judge, seen: Windows) -> list[Condition]:
    told = judge.conditions(seen, judge.judge(seen, np.array([0.5])))
    return [condition for condition in told if condition.cause is Cause.DATA_QUALITY]


def test_a_stuck_sensor_is_told_once_it_is_stuck_and_once_it_moves_again(judge: Judge) -> None:
    rows = healthy(2000, 5).values
    good = windows(rows[500 : 500 + CELLS].T[None].copy())
    stuck = windows(good.value.copy())
    stuck.value[0, 3] = stuck.value[0, 3, 0]
    assert doubts(judge, good) == []
    seen = judge.judge(stuck, np.array([0.5]))
    (doubt,) = doubts(judge, stuck)
    assert doubt.alarm == f"{NAMES[3]}.sensor"
    assert doubt.active
    assert doubt.text == "vibration of press-1 does not move any more"
    assert seen.assessments.severity[0] < 1
    (again,) = doubts(judge, good)
    assert again.active is False
    assert doubts(judge, good) == []
