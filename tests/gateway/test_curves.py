"""The past of a machine that several models judge: each curve is of one, and none has holes."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from gateway.core.assessment import ModelKind
from gateway.latest import Verdict
from gateway.store.trend_reader import AssessmentHistory
from gateway.view.curves import curves

N = 40


class Past:
    """Every second a verdict of the detector, of a candidate beside it, and of a remaining life."""

    def assessments(self, asset: str, start_ns: int, end_ns: int) -> AssessmentHistory:
        nan = np.full(N, np.nan)
        score, hours = np.full(N, 2.0), np.linspace(90, 51, N)
        score[17] = 30.0
        life = np.stack([hours, hours - 9, hours + 9], axis=1)
        output = np.full((N, 3, 4), np.nan, np.float32)
        output[:, 2, :3] = life
        output[:, 1, 3] = 0.25
        return AssessmentHistory(
            t_ns=np.repeat(np.arange(N, dtype=np.int64), 3),
            bundle=("old", "new", "life") * N,
            score=np.stack([score, np.full(N, 99.0), nan], axis=1).ravel(),
            limit=np.stack([np.full(N, 10.0), np.full(N, 10.0), nan], axis=1).ravel(),
            coverage=np.ones(3 * N),
            abstained=("",) * (3 * N),
            signals=(),
            contribution=np.zeros((3 * N, 0), np.float32),
            direction=np.zeros((3 * N, 0), np.int8),
            outputs=("hours", "low", "high", "seal"),
            output=output.reshape(3 * N, 4),
        )


def draw(*names: str, points_max: int = 100) -> dict[str, Any]:
    verdicts = {
        "old": Verdict(ModelKind.ANOMALY, "old", shadow=False),
        "new": Verdict(ModelKind.ANOMALY, "new", shadow=True),
        "life": Verdict(ModelKind.RUL, "life", shadow=False),
    }
    past: Any = Past()
    found = curves(past, "press", names, {}, verdicts, start_ns=0, end_ns=N, points_max=points_max)
    return {curve.name: curve for curve in found}


def test_a_remaining_life_beside_it_tears_no_hole_and_a_candidate_is_not_mixed_in() -> None:
    drawn = draw("@severity", "@score", "@limit")
    assert drawn["@severity"].value.tolist() == [3.0 if i == 17 else 0.2 for i in range(N)]
    assert drawn["@score"].value.max() == 30.0
    assert set(drawn["@limit"].value.tolist()) == {10.0}


def test_what_is_thinned_keeps_its_worst() -> None:
    severity = draw("@severity", points_max=4)["@severity"]
    assert len(severity.value) == 4
    assert severity.value.max() == 3.0


def test_remaining_life_has_its_band_and_failures_are_per_cent() -> None:
    drawn = draw("@rul", "@failure:seal", "@failure:none", "@nothing")
    assert set(drawn) == {"@rul", "@failure:seal"}
    life = drawn["@rul"]
    assert (life.value[0], life.low[0], life.high[0]) == pytest.approx((90, 81, 99))
    assert set(drawn["@failure:seal"].value.tolist()) == {25.0}


def test_an_outage_breaks_a_curve_and_a_slow_signal_does_not() -> None:
    class Trends:
        def series(self, number: int, start_ns: int, end_ns: int, points_max: int) -> Any:
            steps_s = {1: [0, 10, 20, 30, 400, 410, 420], 2: [0, 600, 1200, 1800]}[number]
            t_ns = np.array(steps_s, np.int64) * 10**9
            value = np.arange(len(t_ns), dtype=float)
            return SimpleNamespace(t_ns=t_ns, mean=value, least=value - 1, greatest=value + 1)

    past: Any = Trends()
    names = {"fast": (1, "mm"), "slow": (2, "mm")}
    drawn = curves(past, "press", [*names], names, {}, start_ns=0, end_ns=N, points_max=100)
    fast, slow = drawn
    assert (fast.t_ns // 10**9).tolist() == [0, 10, 20, 30, 40, 400, 410, 420]
    for column in (fast.value, fast.low, fast.high):
        assert np.flatnonzero(np.isnan(column)).tolist() == [4]
    assert not np.isnan(slow.value).any()
