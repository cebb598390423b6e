"""Earlier alarms are recognised by what carried them, with what people said of them."""

from datetime import UTC, datetime

import numpy as np
import pytest

from gateway.core.alarm import Cause, Priority, Transition
from gateway.core.assessment import Abstained, Assessments, ModelKind
from gateway.pipeline.past import EPISODES_MAX, Past, signature

SIGNALS = ("speed", "current", "heat", "vibration")
T_NS = round(datetime(2026, 11, 12, 14, 5, tzinfo=UTC).timestamp() * 1e9)
BEARING = ([0.0, 0.02, 0.2, 0.78], [0, 0, 1, 1])
JAM = ([0.3, 0.7, 0.0, 0.0], [-1, 1, 0, 0])


def told(event: str, occurrence: int, *, t_ns: int = T_NS, note: str = "") -> Transition:
    return Transition(
        "press",
        "anomaly",
        Cause.ANOMALY,
        "x",
        event,
        occurrence,
        t_ns,
        t_ns,
        2.0,
        Priority.HIGH,
        "",
        note=note,
    )


def verdicts(look: tuple[list[float], list[int]], severity: float) -> Assessments:
    return Assessments(
        kind=ModelKind.ANOMALY,
        bundle="b",
        shadow=False,
        assets=("press",),
        t_ns=np.array([T_NS]),
        score=np.array([severity], np.float32),
        limit=np.ones(1, np.float32),
        coverage=np.ones(1, np.float32),
        abstained=(Abstained.NO,),
        signals=SIGNALS,
        contribution=np.array([look[0]], np.float32),
        direction=np.array([look[1]], np.int8),
    )


def like(past: Past, look: tuple[list[float], list[int]]) -> str:
    share, direction = np.array(look[0], np.float32), np.array(look[1], np.int8)
    alike = past.like("press", signature(SIGNALS, share, direction))
    return "" if alike is None else str(alike)


def episode(past: Past, occurrence: int, look: tuple[list[float], list[int]]) -> list[bytes]:
    kept = []
    kept += list(past.heard(told("active", occurrence)))
    past.saw(verdicts(look, 1.5))
    past.saw(verdicts(look, 3.0))
    kept += list(past.heard(told("gone", occurrence)))
    return [data for _, data in kept]


def test_the_like_is_named_with_what_was_said_of_it() -> None:
    past = Past()
    assert like(past, BEARING) == ""
    episode(past, 1, BEARING)
    assert like(past, BEARING) == "the alarm of 2026-11-12 14:05 UTC, which nobody judged"
    list(past.heard(told("feedback.real", 1, note="bearing")))
    assert (
        like(past, BEARING) == "the alarm of 2026-11-12 14:05 UTC, which was judged real: bearing"
    )
    assert like(past, JAM) == ""
    # The same signals the other way are something else.
    assert like(past, (BEARING[0], [0, 0, -1, -1])) == ""


def test_an_alarm_that_lasts_is_not_like_itself() -> None:
    past = Past()
    list(past.heard(told("active", 1)))
    past.saw(verdicts(BEARING, 2.0))
    assert like(past, BEARING) == ""


def test_what_was_judged_goes_before_what_is_only_nearer() -> None:
    past = Past()
    episode(past, 1, ([0.0, 0.1, 0.2, 0.7], [0, 0, 1, 1]))
    list(past.heard(told("feedback.false", 1, note="door open")))
    episode(past, 2, BEARING)
    assert like(past, BEARING).endswith("which was judged a false alarm: door open")


def test_memory_is_bounded_and_the_judged_stay() -> None:
    past = Past()
    episode(past, 1, BEARING)
    list(past.heard(told("feedback.real", 1, note="bearing")))
    for occurrence in range(2, EPISODES_MAX + 20):
        (data,) = episode(past, occurrence, JAM)
    assert like(past, BEARING).endswith("judged real: bearing")
    assert len(data) < 40_000
    again = Past()
    again.restore("press", data)
    assert like(again, BEARING) == like(past, BEARING)
    assert like(again, JAM) != ""


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b'{"t_ns": [1], "ways": ["a+"], "look": []}'])
def test_what_cannot_be_read_is_refused(data: bytes) -> None:
    with pytest.raises((ValueError, KeyError, TypeError)):
        Past().restore("press", data)
