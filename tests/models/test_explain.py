"""What an operator is told of a score."""

import numpy as np

from models.explain import Driven, Healthy, drivers, healthy_of

RANGES = (
    Healthy("vibration:mean", "mm/s", 1.8, 2.6),
    Healthy("vibration:spread", "mm/s", 0.1, 0.3),
    Healthy("flow:mean", "l/min", 30.0, 33.0),
)
SIGNALS = ("vibration", "flow")


def say(
    contribution: list[float], features: list[float], direction: tuple[int, int] = (1, -1)
) -> tuple[Driven, ...]:
    return drivers(
        np.array(contribution, np.float32),
        np.array(direction, np.int8),
        SIGNALS,
        np.array(features, np.float32),
        RANGES,
    )


def test_the_driver_is_named_with_value_unit_direction_and_usual_range() -> None:
    assert say([0.95, 0.05], [7.9, 0.2, 31.0]) == (
        Driven("vibration", "mean", "high", "7.90 mm/s", "1.80", "2.60"),
    )


def test_the_feature_furthest_outside_its_range_speaks_for_the_signal() -> None:
    (driven,) = say([1.0, 0.0], [2.0, 1.4, 31.0])
    assert driven == Driven("vibration", "spread", "high", "1.40 mm/s", "0.10", "0.30")


def test_several_drivers_come_in_order_and_small_ones_are_left_out() -> None:
    found = say([0.3, 0.7], [3.0, 0.2, 25.0])
    assert [driven.signal for driven in found] == ["flow", "vibration"]
    assert (found[0].how, found[0].low, found[0].high) == ("low", "30.0", "33.0")


def test_a_value_inside_its_range_is_unusual_only_for_the_conditions() -> None:
    (driven,) = say([1.0, 0.0], [2.5, 0.2, 31.0])
    assert driven.how == "high_here"


def test_a_signal_without_numbers_still_has_a_name() -> None:
    assert say([1.0, 0.0], [np.nan, np.nan, 31.0]) == (Driven("vibration"),)
    assert say([np.nan, 0.0], [1.0, 1.0, 31.0]) == ()


def test_ranges_are_read_from_a_manifest_or_are_none() -> None:
    row = {"feature": "flow:mean", "unit": "l/min", "low": 30, "high": 33}
    assert healthy_of({"healthy": [row]}) == (RANGES[2],)
    assert healthy_of({}) == healthy_of(None) == ()
