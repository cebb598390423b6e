"""The simulated machines: exact kernels, plausible lives, faults that move what they should."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from gateway.demo.layout import PlannedFault, lathe_line
from gateway.demo.machine import Machine
from gateway.demo.machines import CLASSES
from gateway.demo.physics import FAULTS, Fault, Lag, Wander
from gateway.demo.record import failing, healthy, lives

Rows = NDArray[np.float64]
PAIRS = [(kind, fault) for kind, machine in CLASSES.items() for fault in machine.faults]
HIDDEN = {"energy"}
"""Counters only ever rise; a model of the present does not look at them."""


@settings(max_examples=60, deadline=None)
@given(
    u=st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=80),
    tau_s=st.floats(0.05, 500.0),
    dt_s=st.floats(0.01, 60.0),
    cut=st.integers(0, 80),
)
def test_a_lag_is_its_recurrence_however_it_is_cut(
    u: list[float], tau_s: float, dt_s: float, cut: int
) -> None:
    column, expected, y = np.array(u), [], u[0]
    for value in u:
        y += (value - y) * -np.expm1(-dt_s / tau_s)
        expected.append(y)
    lag = Lag(tau_s)
    got = np.concatenate([lag.follow(column[:cut], dt_s), lag.follow(column[cut:], dt_s)])
    np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-8)


SHOWN = {
    "pump": "bearing_wear",
    "compressor": "blocked_outlet",
    "conveyor": "imbalance",
    "lathe": "overheating",
}
"""The fault of each class that shows within a minute: what a demonstration would take."""


@pytest.mark.parametrize("dt_s", [0.1, 1.0, 20.0])
def test_wander_has_the_same_spread_at_any_step(dt_s: float) -> None:
    column = Wander(10.0, 2.0).take(200_000, dt_s, np.random.default_rng(1))
    assert np.std(column) == pytest.approx(2.0, rel=0.1)
    lag_steps = max(1, round(10.0 / dt_s))
    correlation = np.corrcoef(column[:-lag_steps], column[lag_steps:])[0, 1]
    assert correlation == pytest.approx(np.exp(-lag_steps * dt_s / 10.0), abs=0.06)


@pytest.mark.parametrize("kind", CLASSES)
def test_a_healthy_life_has_its_regimes_its_idle_times_and_its_meter(kind: str) -> None:
    life = healthy(kind, hours=12, seed=3)
    speed, energy = life["speed"], life["energy"]
    rated = np.quantile(speed, 0.99)
    assert len(speed) == 12 * 3600 * 4
    assert 0.02 < np.mean(speed < 0.58 * rated) < 0.9
    assert len(np.unique(np.round(speed / rated, 1))) >= 5
    assert np.all(np.diff(energy) >= 0)
    hours_kwh = np.trapezoid(life["power"], dx=0.25 / 3600)
    assert energy[-1] - energy[0] == pytest.approx(hours_kwh, rel=0.02)
    for name, sensor in CLASSES[kind].sensors.items():
        inside = (life[name] >= sensor.low) & (life[name] <= sensor.high)
        assert inside.all(), name
        steps = life[name] / sensor.resolution
        np.testing.assert_allclose(steps, np.round(steps), atol=1e-6, err_msg=name)


@pytest.mark.parametrize("kind", CLASSES)
def test_a_cold_machine_warms_up_and_a_warm_one_is_warm(kind: str) -> None:
    hot = CLASSES[kind].hot
    cold = Machine(CLASSES[kind], np.random.default_rng(4), warm=False).advance(2400, 0.25)[hot]
    warm = Machine(CLASSES[kind], np.random.default_rng(4), warm=True).advance(2400, 0.25)[hot]
    assert cold[:40].mean() < 27 < cold[-400:].mean()
    assert abs(warm[:40].mean() - warm[-400:].mean()) < 0.7 * (cold[-400:].mean() - cold[0])


@pytest.mark.parametrize(("kind", "fault"), PAIRS)
def test_a_fault_moves_what_it_says_and_little_else(kind: str, fault: str) -> None:
    machine = CLASSES[kind]
    spread = {name: np.std(column) for name, column in healthy(kind, hours=4, seed=9).items()}
    sound = Machine(machine, np.random.default_rng(5))
    sick = Machine(machine, np.random.default_rng(5))
    sick.inject(Fault(fault, 20.0, 30.0))
    before, after = sound.advance(480, 0.25), sick.advance(480, 0.25)
    for name, column in before.items():
        np.testing.assert_array_equal(column[:80], after[name][:80], err_msg=name)
    shift = {
        name: float(np.mean((after[name] - before[name])[300:]) / spread[name]) for name in before
    }
    moves = machine.faults[fault]
    for name, direction in moves.items():
        noise = np.std((before[name] - np.mean(before[name]))[300:]) / spread[name] / 30
        assert shift[name] * direction > 0.05 + noise, (name, shift)
    strongest = max(set(shift) - HIDDEN, key=lambda name: abs(shift[name]))
    assert strongest in moves, shift
    assert abs(shift[strongest]) > 1.0, shift


def window_features(columns: dict[str, NDArray[np.float64]], names: list[str]) -> Rows:
    """Mean and log spread of each signal over 16 s, float64[n, 2 k]."""
    block = np.stack([columns[name] for name in names], axis=1)
    block = block[: len(block) // 64 * 64].reshape(-1, 64, len(names))
    floor = 0.02 * block.std(axis=(0, 1)) + 1e-9
    return np.concatenate([block.mean(axis=1), np.log(block.std(axis=1) + floor)], axis=1)


@pytest.mark.parametrize("kind", CLASSES)
def test_faults_stand_out_from_every_regime_and_fresh_health_does_not(kind: str) -> None:
    """The plainest judge that knows correlations: distance to the nearest whitened window."""
    names = [name for name in CLASSES[kind].sensors if name not in HIDDEN]
    train = window_features(healthy(kind, hours=72, seed=1), names)
    centre = train.mean(axis=0)
    variance, axes = np.linalg.eigh(np.cov(train.T))
    whiten = axes / np.sqrt(variance)
    train = ((train - centre) @ whiten)[::2]

    def distance(columns: dict[str, NDArray[np.float64]]) -> NDArray[np.float64]:
        rows = (window_features(columns, names) - centre) @ whiten
        squared = (rows**2).sum(1)[:, None] + (train**2).sum(1)[None, :] - 2 * rows @ train.T
        nearest: NDArray[np.float64] = np.maximum(squared, 0).min(axis=1)
        return np.sqrt(nearest)

    limit = 1.3 * np.quantile(distance(healthy(kind, hours=12, seed=2)), 0.999)
    # A judge of one window, without delay or hysteresis: one in a thousand is its own price.
    assert np.mean(distance(healthy(kind, hours=12, seed=7)) > limit) <= 0.002
    for fault in CLASSES[kind].faults:
        sick = distance(failing(kind, Fault(fault, 40.0, 30.0), hours=240 / 3600, seed=8)) / limit
        assert np.median(sick[-5:]) > 1, (fault, sick)
        if fault == SHOWN[kind]:
            assert (sick[5:7] > 1).all(), (fault, sick)


def test_the_same_seed_is_the_same_life() -> None:
    one, two = (healthy("pump", hours=0.2, seed=4) for _ in range(2))
    for name, column in one.items():
        np.testing.assert_array_equal(column, two[name])
    assert not np.array_equal(one["power"], healthy("pump", hours=0.2, seed=5)["power"])


def test_lives_end_at_zero_hours_and_full_severity() -> None:
    table = lives("conveyor", "bearing_wear", machines=4, seed=1)
    for number in range(4):
        life = table["machine"] == number
        assert table["rul_h"][life][-1] == pytest.approx(0, abs=0.05)
        assert table["severity"][life][-1] == pytest.approx(1, abs=0.01)
        assert np.all(np.diff(table["rul_h"][life]) < 0)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("pump-1:bearing_wear", "asset:kind:at_s"),
        ("press-1:bearing_wear:3", "fault.asset: must be one of pump-1"),
        ("lathe-1:blocked_outlet:3", "a lathe can have bearing_wear"),
        ("pump-1:bearing_wear:-3", "at_s 0 or more"),
        ("pump-1:bearing_wear:3:0", "grow_s and power must be above 0"),
    ],
)
def test_a_wrong_fault_is_refused_with_the_rule(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        PlannedFault.parse(text)


def test_a_fault_is_written_as_it_is_read() -> None:
    assert str(PlannedFault.parse("pump-1:imbalance:35")) == "pump-1:imbalance:35:30:1"
    assert {kind for _, kind in PAIRS} == set(FAULTS)


def test_the_lathe_prints_each_sensor_at_its_resolution() -> None:
    reading = dict.fromkeys(CLASSES["lathe"].sensors, 12.0)
    assert lathe_line(reading) == b"S 12 L 12.0 P 12.00 E 12.00 T 12.0 C 12.0 V 12.00\r\n"
