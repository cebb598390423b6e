"""The speed of a shaft by the pulses of its tachometer."""

import doctest

import numpy as np
import pytest
from numpy.typing import NDArray

from models.features import speed
from models.features.speed import at_samples, by_pulses, pulses

Floats = NDArray[np.float64]

RATE_HZ = 4000.0
SAMPLES = 8000


def turning(rpm: float | Floats) -> Floats:
    """Turns of the shaft at each sample."""
    return 0.3 + np.cumsum(np.broadcast_to(rpm, SAMPLES) / 60 / RATE_HZ)


def channel(turned: Floats, *, teeth: Floats | None = None, high: float = 5.0) -> Floats:
    """Volts of a tachometer with noise: a pulse of a 20th of a turn at each of its teeth."""
    edges = np.zeros(1) if teeth is None else teeth
    passed = ((turned[:, None] - edges) % 1 < 0.05).any(axis=1)
    return np.where(passed, high, 0.0) + np.random.default_rng(0).normal(0, 0.1, SAMPLES)


RAMP = 1800 * (1 + 0.2 * np.linspace(-1, 1, SAMPLES))


@pytest.mark.parametrize("rpm", [np.full(SAMPLES, 1470.0), RAMP], ids=["steady", "ramp"])
@pytest.mark.parametrize("high", [5.0, -5.0])
def test_a_keyphasor_of_either_polarity_tells_the_speed(rpm: Floats, high: float) -> None:
    told = at_samples(channel(turning(rpm), high=high), 1, SAMPLES, RATE_HZ)
    np.testing.assert_allclose(told, rpm, rtol=0.03)
    assert told.mean() == pytest.approx(rpm.mean(), rel=1e-3)


def test_times_of_pulses_tell_the_same() -> None:
    turned = turning(RAMP)
    begins = np.interp(np.arange(1, turned[-1]), turned, np.arange(SAMPLES) / RATE_HZ)
    padded = np.append(begins, [np.nan, np.nan])
    np.testing.assert_allclose(at_samples(padded, 1, SAMPLES, RATE_HZ), RAMP, rtol=0.02)


def test_teeth_that_are_cut_unevenly_make_no_speed_of_their_own() -> None:
    teeth = np.arange(8) / 8 + np.random.default_rng(1).uniform(-0.01, 0.01, 8)
    told = at_samples(channel(turning(1200.0), teeth=teeth), 8, SAMPLES, RATE_HZ)
    np.testing.assert_allclose(told, 1200.0, rtol=0.02)


@pytest.mark.parametrize("fault", ["missing", "double", "stopped"])
def test_a_pulse_too_few_or_too_many_is_no_speed(fault: str) -> None:
    turned = turning(1800.0)
    volts = channel(turned)
    half = SAMPLES // 2
    at = half + int(np.flatnonzero(volts[half:] > 2.5)[0])
    if fault == "missing":
        volts[at - 5 : at + 15] = 0.0
    elif fault == "double":
        volts[at + 30 : at + 34] = 5.0
    else:
        volts[at + 15 :] = 0.0
    told = at_samples(volts, 1, SAMPLES, RATE_HZ)
    wrong = np.isnan(told)
    assert wrong.any()
    assert np.nanmin(told) > 1700
    assert np.nanmax(told) < 1900
    if fault != "stopped":
        assert wrong.mean() < 0.1  # Three turns of sixty.


def test_a_spike_moves_no_level() -> None:
    volts = channel(turning(1800.0))
    volts[1000] = 500.0
    assert len(pulses(volts, RATE_HZ)) >= len(pulses(channel(turning(1800.0)), RATE_HZ))


@pytest.mark.parametrize("held", [np.zeros(SAMPLES), np.full(SAMPLES, np.nan)])
def test_no_pulse_is_no_speed(held: Floats) -> None:
    assert np.isnan(at_samples(held, 1, SAMPLES, RATE_HZ)).all()
    assert np.isnan(by_pulses(np.array([0.5]), 1, 1.0)[1]).all()


def test_the_examples_hold() -> None:
    found = doctest.testmod(speed, extraglobs={"np": np})
    assert found.attempted
    assert not found.failed
