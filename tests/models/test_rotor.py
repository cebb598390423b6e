"""The orders of a shaft against vibrations whose orders are known."""

import doctest
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from models.errors import RecordError
from models.features import rotor
from models.features.rotor import ORDERS, amplitudes
from models.features.speed import angle

Floats = NDArray[np.float64]

RATE_HZ = 4000.0
TRUE = {"0.5x": 0.2, "1x": 1.0, "2x": 0.4, "3x": 0.1}


def shaking(
    speed_rpm: float | Floats, samples: int, *, rate_hz: float = RATE_HZ, seed: int = 0
) -> Floats:
    """The true orders with any phases, on a level and a drift."""
    rng = np.random.default_rng(seed)
    turned = angle(samples, rate_hz, np.atleast_1d(np.asarray(speed_rpm, np.float64)))
    out = 3.0 + np.linspace(0, 0.5, samples)
    for name, amplitude in TRUE.items():
        phase = rng.uniform(0, 2 * np.pi)
        out += math.sqrt(2) * amplitude * np.cos(2 * np.pi * ORDERS[name] * turned + phase)
    return out


@settings(max_examples=40, deadline=None)
@given(
    rpm=st.floats(600, 6000),
    turns=st.floats(4.5, 60),
    ramp=st.sampled_from([0.0, 0.0, 0.2, -0.2]),
    seed=st.integers(0, 99),
)
def test_each_order_is_told_at_any_speed_and_while_it_changes(
    rpm: float, turns: float, ramp: float, seed: int
) -> None:
    rate_hz = 25_600.0
    samples = round(turns * 60 / rpm * rate_hz)
    speed = rpm * (1 + ramp * np.linspace(-1, 1, samples))
    told, why = amplitudes(shaking(speed, samples, rate_hz=rate_hz, seed=seed), rate_hz, speed)
    assert why == ""
    for name, true in TRUE.items():
        assert told[name] == pytest.approx(true, rel=0.02, abs=0.005), name


@pytest.mark.parametrize(
    ("turns", "lacks", "why"),
    [
        (1.5, {"0.5x", "1x", "2x", "3x"}, "at least 2 turns of the shaft, held 1.5"),
        (2.5, {"0.5x"}, "at least 4 turns of the shaft for 0.5x, held 2.5"),
        (4.0, set(), ""),
    ],
)
def test_a_short_burst_lacks_orders_and_says_why(turns: float, lacks: set[str], why: str) -> None:
    """2.5 turns are 0.1 s at 1,500 rpm."""
    samples = round(turns / 25 * RATE_HZ)
    told, said = amplitudes(shaking(1500, samples), RATE_HZ, 1500.0)
    assert {name for name, value in told.items() if math.isnan(value)} == lacks
    assert why in said
    assert bool(said) is bool(lacks)
    if not lacks:
        assert told == pytest.approx(TRUE, rel=0.01)


def test_what_2_5_turns_tell_is_near() -> None:
    """Half orders that are there and cannot be fitted are what is wrong with it."""
    samples = round(2.5 / 25 * RATE_HZ)
    errors = []
    for seed in range(30):
        told, _ = amplitudes(shaking(1500, samples, seed=seed), RATE_HZ, 1500.0)
        errors.append([told[name] - TRUE[name] for name in ("1x", "2x", "3x")])
    assert np.sqrt(np.mean(np.square(errors), axis=0)).max() < 0.12


@pytest.mark.parametrize("wrong", [0.99, 1.01])
@pytest.mark.parametrize("turns", [8, 15.9, 150])
def test_a_speed_that_is_a_percent_wrong_costs_little_however_long_the_burst(
    turns: float, wrong: float
) -> None:
    samples = round(turns / 30 * RATE_HZ)
    told, _ = amplitudes(shaking(1800, samples), RATE_HZ, 1800.0 * wrong)
    assert told == pytest.approx(TRUE, rel=0.05)
    assert told["1x"] == pytest.approx(TRUE["1x"], rel=0.01)


def test_what_goes_by_another_clock_is_told_apart() -> None:
    """A cage, a line frequency, a mesh: twice as strong as 1x, and none of it in any order."""
    samples = round(20 / 30 * RATE_HZ)
    turned = np.arange(samples) / RATE_HZ * 30
    for other in (1.45, 3.39, 7.0, 61.2, 66.6):
        told, _ = amplitudes(2 * np.cos(2 * np.pi * other * turned), RATE_HZ, 1800.0)
        assert max(told.values()) < 0.03, other


def test_noise_shows_no_order() -> None:
    noise = np.random.default_rng(0).normal(0, 1, 48_000)
    told, _ = amplitudes(noise, 12_000.0, 1800.0)
    assert max(told.values()) < 0.06


def test_orders_above_what_was_sampled_are_not_told() -> None:
    samples = 1200
    told, why = amplitudes(shaking(1800, samples, rate_hz=200.0), 200.0, 1800.0)
    assert {name for name, value in told.items() if math.isnan(value)} == {"3x"}
    assert "rate_hz: must be at least 2.56 times" in why


@pytest.mark.parametrize("speed", [0.0, math.nan])
def test_a_shaft_that_stands_or_is_not_known_has_no_orders(speed: float) -> None:
    with pytest.raises(RecordError, match="speed: must"):
        amplitudes(np.ones(4000), RATE_HZ, speed)


def test_the_examples_hold() -> None:
    found = doctest.testmod(rotor)
    assert found.attempted
    assert not found.failed
