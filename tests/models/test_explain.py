"""What an operator is told of a score."""

import numpy as np
import pytest

from models.explain import Driven, Healthy, bearing_fault, drivers, healthy_of, rotor_fault
from models.features.bearing import DEFECTS

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


def test_within_all_ranges_a_side_is_the_levels_and_no_side_is_the_fluctuations() -> None:
    features = [2.2, 0.25, 31.0]
    (level,) = say([1.0, 0.0], features, (-1, 0))
    assert (level.feature, level.how) == ("mean", "low_here")
    (wobble,) = say([1.0, 0.0], features, (0, 0))
    assert (wobble.feature, wobble.how) == ("spread", "unusual_here")
    (flow,) = say([0.0, 1.0], features, (0, 0))
    assert (flow.feature, flow.how) == ("mean", "unusual_here"), "it has nothing else"


def test_a_signal_without_numbers_still_has_a_name() -> None:
    assert say([1.0, 0.0], [np.nan, np.nan, 31.0]) == (Driven("vibration"),)
    assert say([np.nan, 0.0], [1.0, 1.0, 31.0]) == ()


def test_ranges_are_read_from_a_manifest_or_are_none() -> None:
    row = {"feature": "flow:mean", "unit": "l/min", "low": 30, "high": 33}
    assert healthy_of({"healthy": [row]}) == (RANGES[2],)
    assert healthy_of({}) == healthy_of(None) == ()


ORDERS = ("0.5x", "1x", "2x", "3x")
ROTOR = tuple(Healthy(f"fan_g {order}:mean", "g", 0.1, 0.3) for order in ORDERS)
SHAKES = (Driven("fan_g rms", "mean", "high", "0.9 g", "0.3", "0.5"),)


@pytest.mark.parametrize(
    ("amplitudes", "lead", "fault"),
    [
        ((0.2, 0.8, 0.2, 0.2), "1x", "unbalance"),
        ((0.2, 0.4, 0.9, 0.2), "2x", "misalignment"),
        ((0.2, 0.4, 0.9, 0.8), "2x", "misalignment_or_looseness"),
        ((0.5, 0.9, 0.2, 0.2), "1x", "looseness_or_rub"),
    ],
)
def test_orders_that_are_high_are_told_whatever_carries_the_score(
    amplitudes: tuple[float, ...], lead: str, fault: str
) -> None:
    found = rotor_fault(SHAKES, np.array(amplitudes, np.float32), ROTOR)
    assert found is not None
    order, said = found
    assert (order.signal, order.how, said) == (f"fan_g {lead}", "high", fault)
    assert order.value.endswith(" g")


def test_no_order_is_told_that_is_barely_high_low_or_of_another_vibration() -> None:
    for amplitudes in ((0.2, 0.34, 0.2, 0.2), (0.0, 0.0, 0.0, 0.0), (np.nan,) * 4):
        assert rotor_fault(SHAKES, np.array(amplitudes, np.float32), ROTOR) is None
    high = np.array((0.9, 0.9, 0.9, 0.9), np.float32)
    assert rotor_fault((Driven("oil", "mean", "high"),), high, ROTOR) is None
    assert rotor_fault((Driven("pump_g rms", "mean", "high"),), high, ROTOR) is None
    spreads = tuple(Healthy(f"fan_g {order}:spread", "g", 0.1, 0.3) for order in ORDERS)
    assert rotor_fault(SHAKES, high, spreads) is None


def test_an_order_a_hundred_times_as_faint_as_the_strongest_is_not_told() -> None:
    tight = Healthy("fan_g 2x:mean", "g", 0.1, 0.12)
    healthy = (Healthy("fan_g 1x:mean", "g", 10.0, 30.0), tight)
    for value, told in ((0.15, None), (0.4, "misalignment")):
        found = rotor_fault(SHAKES, np.array((20.0, value), np.float32), healthy)
        assert (found and found[1]) == told


@pytest.mark.parametrize(("speed", "unit"), [("rpm", ""), ("drive speed", "rpm")])
def test_orders_are_told_where_the_speed_carries_the_score_as_all_shake_more_than_at_it(
    speed: str, unit: str
) -> None:
    healthy = (Healthy(f"{speed}:mean", unit, 1200.0, 1400.0), *ROTOR)
    found = rotor_fault(
        (Driven(speed, "mean", "low_here"),),
        np.array((1210.0, 0.2, 0.8, 0.2, 0.2), np.float32),
        healthy,
    )
    assert found is not None
    assert (found[0].signal, found[1]) == ("fan_g 1x", "unbalance")
    others = (Healthy("load:mean", "kN", 1200.0, 1400.0), *ROTOR)
    high = np.array((1210.0, 0.2, 0.8, 0.2, 0.2), np.float32)
    assert rotor_fault((Driven("load", "mean", "low_here"),), high, others) is None


BEARING = tuple(Healthy(f"fan_g {part}:mean", "", 1.2, 2.2) for part in DEFECTS)


@pytest.mark.parametrize(
    ("prominence", "lead", "part"),
    [
        ((9.0, 2.0, 2.0, 3.0), "outer race", "outer race"),
        ((2.0, 4.5, 2.0, 1.5), "inner race", "inner race"),
        ((2.0, 2.0, 6.0, 5.0), "roller", "roller"),
        ((9.0, 7.0, 2.0, 4.5), "outer race", "roller"),
        ((1.5, 1.5, 1.5, 6.0), "cage", "cage"),
    ],
)
def test_a_bearings_part_is_told_whatever_carries_the_score(
    prominence: tuple[float, ...], lead: str, part: str
) -> None:
    found = bearing_fault(SHAKES, np.array(prominence, np.float32), BEARING)
    assert found is not None
    order, said = found
    assert (order.signal, order.how, said) == (f"fan_g {lead}", "high", part)


def test_no_part_is_told_by_chance_by_habit_or_where_two_stand_out_alike() -> None:
    for prominence in ((3.9, 2.0, 2.0, 1.5), (9.0, 7.0, 2.0, 1.5), (np.nan,) * 4):
        assert bearing_fault(SHAKES, np.array(prominence, np.float32), BEARING) is None
    noisy = tuple(Healthy(f"fan_g {part}:mean", "", 1.2, 9.0) for part in DEFECTS)
    assert bearing_fault(SHAKES, np.array((9.5, 2.0, 2.0, 1.5), np.float32), noisy) is None
