"""Waveform features against signals whose answer is known, and against real bearings."""

import doctest
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from models.errors import RecordError
from models.features import bearing as bearings
from models.features import waveform
from models.features.bearing import Bearing, bearing, diagnose
from tests.real_data import folder

Floats = NDArray[np.float64]

RATE_HZ = 12_000.0


def knocking(order: float, *, speed_rpm: float = 1800.0, seed: int = 0) -> NDArray[np.float64]:
    """Four seconds of noise and a resonance that is struck `order` times a turn."""
    rng = np.random.default_rng(seed)
    n = int(4 * RATE_HZ)
    every = RATE_HZ / (order * speed_rpm / 60)
    strikes = np.zeros(n)
    strikes[
        (np.arange(0, n, every) + rng.normal(0, 1, len(np.arange(0, n, every)))).astype(int) % n
    ] = 1
    t = np.arange(200) / RATE_HZ
    ring = np.exp(-t * 800) * np.sin(2 * np.pi * 3000 * t)
    return np.convolve(strikes, ring)[:n] + rng.normal(0, 0.05, n)


@pytest.mark.parametrize("module", [waveform, bearings])
def test_the_examples_hold(module: Any) -> None:
    found = doctest.testmod(module, extraglobs={"np": np})
    assert found.attempted
    assert not found.failed


@pytest.mark.parametrize("samples", [999, 1000])
def test_bands_hold_all_the_energy(samples: int) -> None:
    burst = np.random.default_rng(0).normal(size=(3, samples))
    parts = waveform.bands(burst, 1000.0, 8)
    np.testing.assert_allclose((parts**2).sum(axis=1), waveform.rms(burst) ** 2, rtol=1e-9)


def test_a_still_burst_has_no_crest_and_no_kurtosis() -> None:
    still = np.full((2, 64), 3.0)
    assert np.isnan(waveform.crest_factor(still)).all()
    assert np.isnan(waveform.kurtosis(still)).all()
    assert waveform.rms(still).tolist() == [0, 0]


def test_the_envelope_spectrum_shows_the_modulation_and_not_the_carrier() -> None:
    t = np.arange(12_000) / RATE_HZ
    burst = (1 + 0.5 * np.sin(2 * np.pi * 90 * t)) * np.sin(2 * np.pi * 3000 * t)
    orders, lines = waveform.envelope_orders(burst, RATE_HZ, np.array([1800.0]), 2000, 4000)
    assert orders[np.argmax(lines)] == pytest.approx(3, abs=0.03)


def test_orders_stand_still_while_the_shaft_runs_up() -> None:
    t = np.arange(48_000) / RATE_HZ
    rpm = 600 + 300 * t
    turns = np.cumsum(rpm / 60 / RATE_HZ)
    burst = np.sin(2 * np.pi * 3.585 * turns)
    even = waveform.by_order(burst, RATE_HZ, rpm, 32)
    power = np.abs(np.fft.rfft(even * np.hanning(len(even))))
    orders = np.fft.rfftfreq(len(even), 1 / 32)
    assert orders[np.argmax(power)] == pytest.approx(3.585, abs=0.03)
    in_time = np.abs(np.fft.rfft(burst * np.hanning(len(burst))))
    assert power.max() / power.sum() > 5 * in_time.max() / in_time.sum()


@pytest.mark.parametrize("defect", ["outer race", "inner race", "roller"])
def test_a_struck_resonance_is_named_by_its_order(defect: str) -> None:
    geometry = bearing("6205-2RS")
    found = diagnose(knocking(geometry.orders[defect]), RATE_HZ, 1800.0, geometry)
    assert found.defect == defect
    assert found.prominence[defect] == max(found.prominence.values())


def ramped(order: float, *, swing: float = 0.2, seed: int = 0) -> tuple[Floats, Floats]:
    """Four seconds in which a shaft runs up from 1,800 rpm less `swing` to as much more, and its
    speed at each sample; a resonance is struck `order` times a turn (never where that is 0)."""
    rng = np.random.default_rng(seed)
    n = int(4 * RATE_HZ)
    rpm = 1800.0 * (1 + swing * np.linspace(-1, 1, n))
    knocks = np.cumsum(rpm / 60 / RATE_HZ) * order
    strikes = np.diff(np.floor(knocks + 0.01 * rng.normal(size=n).cumsum() / n), prepend=0.0) > 0
    t = np.arange(200) / RATE_HZ
    ring = np.exp(-t * 800) * np.sin(2 * np.pi * 3000 * t)
    return np.convolve(strikes, ring)[:n] + rng.normal(0, 0.3, n), rpm


@pytest.mark.parametrize("defect", ["outer race", "inner race", "roller"])
def test_a_defect_is_named_while_the_speed_changes(defect: str) -> None:
    geometry = bearing("6205")
    burst, rpm = ramped(geometry.orders[defect])
    found = diagnose(burst, RATE_HZ, rpm, geometry)
    assert found.defect == defect
    # By one speed for all of the burst its lines are smeared into nothing.
    smeared = diagnose(burst, RATE_HZ, float(rpm.mean()), geometry)
    assert smeared.defect == ""
    assert found.prominence[defect] > 3 * smeared.prominence[defect]


def test_a_changing_speed_alone_names_no_defect() -> None:
    geometry = bearing("6205")
    for seed in range(20):
        burst, rpm = ramped(0.0, seed=seed)
        shaft = 5 * np.sin(2 * np.pi * np.cumsum(rpm / 60 / RATE_HZ))
        assert diagnose(burst + shaft, RATE_HZ, rpm, geometry).defect == ""


def test_a_speed_told_at_each_sample_is_as_good_as_one_number() -> None:
    burst, _ = ramped(3.585, swing=0.0)
    geometry = bearing("6205")
    once = diagnose(burst, RATE_HZ, 1800.0, geometry)
    each = diagnose(burst, RATE_HZ, np.full(len(burst), 1800.0), geometry)
    assert once == each
    wavering = 1800.0 + np.resize([0.0, 0.001], len(burst))
    tracked = diagnose(burst, RATE_HZ, wavering, geometry)
    assert tracked.prominence["outer race"] == pytest.approx(once.prominence["outer race"], rel=0.1)


@pytest.mark.parametrize(
    ("speed", "why"),
    [
        (np.append(np.full(47_999, 1800.0), np.nan), "known all through"),
        (np.zeros(48_000), "was 0 to 0 rpm"),
        (np.linspace(100, 1800, 48_000), "was 100 to 1800 rpm"),
    ],
)
def test_a_speed_that_gives_no_orders_is_refused_with_why(speed: Floats, why: str) -> None:
    with pytest.raises(RecordError, match=why):
        diagnose(np.ones(48_000), RATE_HZ, speed, bearing("6205"))


def test_noise_and_the_shaft_itself_name_no_defect() -> None:
    geometry = bearing("6205")
    for seed in range(3):
        noise = np.random.default_rng(seed).normal(size=48_000)
        t = np.arange(48_000) / RATE_HZ
        shaft = noise + 5 * np.sin(2 * np.pi * 30 * t) + np.sin(2 * np.pi * 60 * t)
        assert diagnose(shaft, RATE_HZ, 1800.0, geometry).defect == ""


def struck(at_s: Floats, force: Floats, *, seed: int) -> Floats:
    """Ten seconds of noise in which a resonance is struck at these times, with these forces."""
    rng = np.random.default_rng(seed)
    strikes = np.zeros(int(10 * RATE_HZ))
    at = (at_s * RATE_HZ).astype(int)
    inside = (at >= 0) & (at < len(strikes))
    np.add.at(strikes, at[inside], force[inside])
    t = np.arange(200) / RATE_HZ
    rung = np.convolve(strikes, np.exp(-t * 800) * np.sin(2 * np.pi * 3000 * t))[: len(strikes)]
    return np.asarray(rung / rung.std() + rng.normal(size=len(strikes)))


@pytest.mark.parametrize("seed", range(3))
def test_a_loose_shaft_damages_no_bearing_whose_orders_lie_near_whole_ones(seed: int) -> None:
    """Of a 6203 the roller's order is 1.99, that of the inner race 4.95."""
    rng = np.random.default_rng(seed)
    once_a_turn = np.arange(301) / 30.0 + rng.normal(0, 0.002 / 30, 301)
    burst = struck(once_a_turn, np.ones(301), seed=seed)
    assert diagnose(burst, RATE_HZ, 1800.0, bearing("6203")).defect == ""


@pytest.mark.parametrize("seed", range(3))
def test_a_roller_that_strikes_both_races_is_named(seed: int) -> None:
    """Twice in each of its turns, and harder where the cage carries it through the load."""
    rng = np.random.default_rng(seed)
    orders = bearing("6205").orders
    turns = np.cumsum(1 + rng.normal(0, 0.006, 1500)) / (2 * orders["roller"])
    force = np.maximum(0.05, 0.35 + np.cos(2 * np.pi * orders["cage"] * turns))
    burst = struck(turns / 30.0, force * rng.lognormal(0, 0.25, 1500), seed=seed)
    assert diagnose(burst, RATE_HZ, 1800.0, bearing("6205")).defect == "roller"


def test_a_short_burst_or_an_unknown_number_is_refused_with_what_to_do() -> None:
    with pytest.raises(RecordError, match="at least 20 turns"):
        diagnose(np.zeros(1200), RATE_HZ, 600.0, bearing("6205"))
    with pytest.raises(RecordError, match="give its geometry"):
        bearing("NU 2212")
    assert bearing("SKF 6205-2RS") == bearing("6205")
    assert Bearing(8, 10.0, 50.0, 30.0).orders["outer race"] == pytest.approx(
        4 * (1 - 0.2 * np.cos(np.pi / 6))
    )


@pytest.mark.parametrize(
    ("file", "defect"),
    [
        ("normal_0hp", ""),
        ("inner_race_007_0hp", "inner race"),
        ("outer_race_007_0hp", "outer race"),
        ("ball_007_0hp", "roller"),
    ],
)
def test_real_bearings_are_named_by_their_envelope(file: str, defect: str) -> None:
    with np.load(folder("cwru") / f"{file}.npz") as held:
        burst, rate = held["drive_end_g"].astype(float), float(held["rate_hz"])
        rpm = float(held["rpm"])
    assert diagnose(burst, rate, rpm, bearing("6205-2RS")).defect == defect
