"""Limits over whole batches, against a rule that looks at one sample at a time."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from gateway.alarms.config import AlarmsConfig, LimitConfig, LimitList
from gateway.alarms.limits import LEVELS, Limits
from gateway.core.alarm import Cause, Condition, Priority
from gateway.core.batch import Batch, make_batch
from gateway.core.signals import Signal, SignalTable


def batch(signal: list[int], value: list[float], **more: Any) -> Batch:
    n = len(value)
    return make_batch(
        "s",
        np.array(signal, dtype=np.int32),
        np.arange(n, dtype=np.int64),
        np.array(value, dtype=np.float64),
        np.zeros(n, dtype=np.uint8),
        0,
        **more,
    )


def limits(**config: Any) -> tuple[Limits, SignalTable]:
    table = SignalTable([Signal("pump", "other"), Signal("pump", "t", "°C")])
    return Limits([("pump", LimitConfig(signal="t", **config))], table), table


def edges(conditions: list[Condition]) -> list[tuple[str, bool | None]]:
    return [(c.alarm.removeprefix("t."), c.active) for c in conditions]


def test_says_which_limit_by_how_much_and_in_which_unit() -> None:
    watch, _ = limits(high=80, high_high=90)
    outer, inner = watch.update(batch([1], [99.0]))
    assert (outer.alarm, inner.alarm) == ("t.high_high", "t.high")
    assert str(outer.text) == "t 99 °C is above its high-high limit of 90 °C"
    assert outer.severity == pytest.approx(1.1)
    assert (outer.priority, inner.priority) == (Priority.HIGH, Priority.MEDIUM)
    assert outer.cause is Cause.LIMIT
    assert str(outer.drivers[0].text) == "t 99 °C, high (limit 90)"


def test_a_vibration_is_held_against_the_zones_of_the_standard() -> None:
    watch, _ = limits(iso_20816="2 rigid")
    assert edges(watch.update(batch([1], [2.7]))) == [("high_high", False), ("high", False)]
    assert edges(watch.update(batch([1], [2.9]))) == [("high", True)]
    assert edges(watch.update(batch([1], [4.6])))[0] == ("high_high", True)
    assert LimitConfig(signal="t", iso_20816="1 flexible", high_high=9.0).high_high == 9.0
    with pytest.raises(ValidationError, match="2 flexible"):
        LimitConfig.model_validate({"signal": "t", "iso_20816": "3 rigid", "high": 1})


def test_deadband_holds_the_alarm() -> None:
    watch, _ = limits(high=80, deadband=5)
    assert edges(watch.update(batch([1], [81.0]))) == [("high", True)]
    assert edges(watch.update(batch([1], [76.0]))) == [("high", True)], "told again, weaker"
    assert watch.update(batch([1], [75.9])) == [], "hardly changed"
    assert edges(watch.update(batch([1], [74.9]))) == [("high", False)]


def test_a_peak_inside_one_batch_is_not_missed() -> None:
    watch, _ = limits(high=80)
    assert edges(watch.update(batch([1, 1, 1], [70.0, 85.0, 71.0]))) == [
        ("high", True),
        ("high", False),
    ]


def test_bad_is_unknown_and_history_alarms_nobody() -> None:
    watch, _ = limits(low=10)
    assert edges(watch.update(batch([1], [5.0]))) == [("low", True)]
    assert edges(watch.update(batch([1], [math.nan]))) == [("low", None)]
    assert watch.update(batch([1], [5.0], history=True)) == []
    assert edges(watch.update(batch([1], [5.0]))) == [("low", True)]


def test_a_signal_that_appears_later_is_watched_too() -> None:
    table = SignalTable()
    watch = Limits([("pump", LimitConfig(signal="t", high=1))], table)
    table.intern(Signal("x", "y"))
    assert watch.update(batch([0], [5.0])) == []
    table.intern(Signal("pump", "t"))
    assert edges(watch.update(batch([0, 1], [5.0, 5.0]))) == [("high", True)]


@given(
    st.lists(
        st.lists(
            st.sampled_from([math.nan, -20.0, -10.0, -9.0, -5.0, 0.0, 5.0, 9.0, 10.0, 20.0]),
            min_size=1,
            max_size=5,
        ),
        min_size=1,
        max_size=12,
    )
)
@settings(max_examples=150, deadline=None)
def test_agrees_with_one_sample_at_a_time(batches: list[list[float]]) -> None:
    """Where the batches end, the state of each level is what a plain loop says."""
    watch, _ = limits(high=8, high_high=15, low=-8, low_low=-15, deadband=2)
    threshold = {"high": 8, "high_high": 15, "low": -8, "low_low": -15}
    held: dict[str, bool | None] = dict.fromkeys(LEVELS)
    told: dict[str, bool | None] = dict.fromkeys(LEVELS)
    for values in batches:
        peaked = dict.fromkeys(LEVELS, False)
        start = dict(held)
        for level in LEVELS:
            sign = 1 if level.startswith("high") else -1
            # Within a batch the state at its start counts, as in the law of the module.
            for value in values:
                peaked[level] |= sign * value > sign * threshold[level]
            last = sign * values[-1]
            mark = sign * threshold[level]
            held[level] = (
                None
                if math.isnan(last)
                else last >= mark - 2
                if start[level] is True
                else last > mark
            )
        for condition in watch.update(batch([1] * len(values), values)):
            told[condition.alarm.removeprefix("t.")] = condition.active
            if condition.active:
                assert (
                    peaked[condition.alarm.removeprefix("t.")]
                    or start[condition.alarm.removeprefix("t.")]
                )
        assert told == held


@pytest.mark.parametrize(
    ("config", "rule"),
    [
        ({}, "at least one"),
        ({"high": 5, "high_high": 4}, "high must be below high_high"),
        ({"low": 5, "high": 5}, "low must be below high"),
        ({"low": 0, "high": 5, "deadband": 5}, "deadband must leave room"),
        ({"high": math.inf}, "finite"),
    ],
)
def test_impossible_limits_are_refused(config: dict[str, Any], rule: str) -> None:
    with pytest.raises(ValidationError, match=rule):
        LimitConfig(signal="t", **config)


def test_a_signal_listed_twice_is_refused() -> None:
    with pytest.raises(ValidationError, match="t is listed twice"):
        TypeAdapter(LimitList).validate_python([{"signal": "t", "high": 1}] * 2)


def test_a_delay_given_for_one_cause_keeps_the_defaults_of_the_others() -> None:
    config = AlarmsConfig.model_validate({"delays": {"anomaly": {"on_s": 1, "off_s": 2}}})
    assert config.delays[Cause.ANOMALY].on_s == 1
    assert set(config.delays) == set(Cause)
