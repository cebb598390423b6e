"""KPIs against counting by hand, and against a plain loop."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.alarms.metrics import kpis
from gateway.core.alarm import AlarmView, Cause, Priority, Transition

MINUTE = 60 * 10**9


def transition(minute: float, event: str = "active", alarm: str = "a", n: int = 1) -> Transition:
    state = {"active": "active_unacked", "ack": "active_acked"}.get(event, "normal")
    return Transition(
        asset="pump",
        alarm=alarm,
        cause=Cause.LIMIT,
        state=state,
        event=event,
        occurrence=n,
        t_ns=round(minute * MINUTE),
        active_since_ns=0,
        severity=1.0,
        priority=Priority.HIGH if alarm == "b" else Priority.LOW,
        text="",
    )


def test_a_day_counted_by_hand() -> None:
    flood = [transition(100 + i / 10, n=i) for i in range(12)]
    log = [*flood, transition(500, alarm="b"), transition(502, "ack", "b"), transition(503, "gone")]
    log += [transition(504, "feedback.false", "b"), transition(505, "feedback.real", "b")]
    standing = AlarmView(
        "pump", "b", Cause.LIMIT, "active_acked", "active_acked", 1, 1, 1, 1.0, Priority.HIGH, ""
    )
    day = kpis(log, [standing], start_ns=0, end_ns=1440 * MINUTE)
    assert day.annunciated == 13
    assert day.per_hour == pytest.approx(13 / 24)
    assert day.peak_10min == 12
    assert day.flood_share == pytest.approx(10 / 1440)
    assert day.priorities == pytest.approx((12 / 13, 0, 1 / 13))
    assert day.acked_s_median == 120
    assert day.top == (("pump", "a", 12), ("pump", "b", 1))
    assert day.top_share == 1.0
    assert (day.standing, day.stale, day.shelved) == (1, 0, 0)
    assert (day.judged_real, day.judged_false) == (1, 0), "the last word counts"


def test_bad_actors_are_weighed_against_all() -> None:
    log = [transition(i, alarm=f"a{i % 30}", n=i) for i in range(40)]
    assert kpis(log, [], start_ns=0, end_ns=1440 * MINUTE).top_share == 20 / 40


def test_chatter_is_found_even_when_it_has_stopped() -> None:
    log = [transition(10 + i / 3, n=i) for i in range(4)]
    log += [transition(5 * i, alarm="slow", n=i) for i in range(9)]
    day = kpis(log, [], start_ns=0, end_ns=1440 * MINUTE)
    assert (day.chattering, day.chatterers) == (1, (("pump", "a", 4),))
    assert kpis(log, [], start_ns=0, end_ns=1440 * MINUTE, chattering_s=19.9).chattering == 0


def test_nothing_happened() -> None:
    quiet = kpis([], [], start_ns=0, end_ns=MINUTE)
    assert (quiet.annunciated, quiet.peak_10min, quiet.flood_share) == (0, 0, 0.0)
    assert quiet.top_share == 0.0
    assert math.isnan(quiet.acked_s_median)


@given(st.lists(st.integers(0, 100), max_size=60))
def test_peak_agrees_with_a_plain_loop(minutes: list[int]) -> None:
    log = [transition(m, n=i) for i, m in enumerate(minutes)]
    slow = max((sum(m - 10 < other <= m for other in minutes) for m in minutes), default=0)
    assert kpis(log, [], start_ns=0, end_ns=101 * MINUTE).peak_10min == slow
