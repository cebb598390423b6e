"""Slow change at the judge: what was followed is taken off, told, logged, and kept."""

import json

import numpy as np
import pytest

from gateway.core.assessment import Abstained, Assessments, ModelKind
from gateway.pipeline.assess import Judge
from gateway.pipeline.findings import Findings
from gateway.pipeline.following import Following
from gateway.pipeline.windows import Windows
from models.bundle import Bundle
from models.follow import Bounds, Held
from models.runtime import open_session
from tests.models.plants import NAMES, healthy

HOUR_NS = 3600 * 10**9
CELLS = 48
HEAT = NAMES.index("temperature")


def judge(press: Bundle, **more: object) -> Judge:
    session = open_session(press, "cpu")
    return Judge(press, session, ["press-1", "press-2"], **({"shadow": False} | more))  # type: ignore[arg-type]


def verdicts(t_ns: int, row: int, severity: float = 0.3) -> Assessments:
    """Temperature lies high, calmly."""
    k = len(NAMES)
    direction = np.zeros((1, k), np.int8)
    direction[0, HEAT] = 1
    return Assessments(
        kind=ModelKind.ANOMALY,
        bundle="b",
        shadow=False,
        assets=(f"press-{row + 1}",),
        t_ns=np.array([t_ns]),
        score=np.array([severity], np.float32),
        limit=np.ones(1, np.float32),
        coverage=np.ones(1, np.float32),
        abstained=(Abstained.NO,),
        signals=NAMES,
        contribution=np.full((1, k), 1 / k, np.float32),
        direction=direction,
    )


def live(following: Following, days: float, *, row: int = 1, ails: bool = False) -> list[bytes]:
    kept = []
    for hour in range(round(24 * days)):
        rows, alarmed = np.array([row]), np.array([ails])
        kept += [state for _, state in following.saw(rows, verdicts(hour * HOUR_NS, row), alarmed)]
    return kept


def test_what_was_followed_is_taken_off_for_that_machine_alone(press: Bundle) -> None:
    one = judge(press)
    assert one.following is not None
    spread = Bounds.of(press.manifest).spread[HEAT]  # type: ignore[union-attr]
    assert live(one.following, 30)
    values = healthy(2000, 5).values[500 : 500 + CELLS].T[None].repeat(2, axis=0).copy()
    values[:, HEAT] += 4 * spread
    seen = Windows(
        rows=np.array([0, 1]),
        end_ns=np.array([10**18] * 2),
        value=values,
        coverage=np.ones((2, len(NAMES))),
        full=np.array([True, True]),
    )
    judged = one.judge(seen, np.array([0.5, 0.5]))
    severity = judged.assessments.severity
    assert severity[1] < severity[0]
    np.testing.assert_array_equal(judged.features[0], judged.features[1], "told as measured")
    findings = Findings(one)
    context = findings.context(judged, 1)
    assert str(context.followed[0]).startswith("temperature +")
    assert findings.context(judged, 0).followed == ()


def test_it_is_kept_for_a_restart_and_a_damaged_state_begins_anew(press: Bundle) -> None:
    one, two = judge(press).following, judge(press).following
    assert one is not None
    assert two is not None
    state = live(one, 20)[-1]
    two.restore("press-2", state)
    assert two.followed("press-2") == one.followed("press-2") != ()
    assert two.followed("press-1") == ()
    three = judge(press).following
    assert three is not None
    three.restore("press-2", b"{}")
    assert three.followed("press-2") == ()


def test_an_alarm_on_the_machine_holds_it(press: Bundle) -> None:
    one = judge(press).following
    assert one is not None
    live(one, 20, ails=True)
    assert one.followed("press-2") == ()
    assert one.held("press-2") is Held.ALARM


def test_a_shadow_and_whoever_does_not_want_it_are_not_followed(press: Bundle) -> None:
    assert judge(press, shadow=True).following is None
    assert judge(press, follow=(False, False)).following is None
    some = judge(press, follow=(True, False)).following
    assert some is not None
    assert live(some, 20, row=1) == []
    assert live(some, 20, row=0)


def test_every_step_that_moved_is_logged(press: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    one = judge(press).following
    assert one is not None
    state = json.loads(live(one, 3)[-1])
    told = [line for line in capsys.readouterr().out.splitlines() if "model.followed" in line]
    assert told
    assert "press-2" in told[0]
    assert "temperature" in told[-1]
    assert state["offset"][HEAT] > 0
