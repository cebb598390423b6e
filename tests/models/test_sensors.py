"""Sensor faults are told from machine faults, and only the certain ones hide a signal."""

import doctest
import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from numpy.typing import NDArray

from models import pairs, sensors
from models.score import score
from models.sensors import SensorFault, Sensors
from models.training.anomaly import train
from tests.models.plants import healthy, with_values

CELLS = 48


@pytest.fixture(scope="module")
def learned() -> Sensors:
    return Sensors.learn([healthy(3000).values], CELLS)


def window(seed: int = 9) -> np.ndarray:
    return healthy(CELLS, seed).values.T[None].copy()


def test_a_healthy_machine_has_healthy_sensors(learned: Sensors) -> None:
    values = healthy(3000, 7).values
    cut = np.lib.stride_tricks.sliding_window_view(values, CELLS, axis=0)[::10]
    assert not learned.faults(cut).any()


def test_a_frozen_reading_is_stuck_while_the_machine_runs(learned: Sensors) -> None:
    stuck = window()
    stuck[0, 2] = stuck[0, 2, 0]
    assert learned.faults(stuck)[0].tolist() == [0, 0, SensorFault.STUCK, 0]
    hidden, found = learned.masked(stuck)
    assert np.isnan(hidden[0, 2]).all()
    assert found[0, 2] == SensorFault.STUCK
    assert np.isfinite(hidden[0, [0, 1, 3]]).all()


def test_a_machine_that_stands_still_has_no_stuck_sensor(learned: Sensors) -> None:
    still = np.repeat(window()[:, :, :1], CELLS, axis=2)
    assert not learned.faults(still).any()
    pinned = window()
    pinned[0, 1] = 99.0
    assert learned.faults(pinned)[0, 1] != SensorFault.STUCK


def test_a_code_for_no_value_is_taken_out(learned: Sensors) -> None:
    broken = window()
    broken[0, 1, 20:] = -9999
    hidden, found = learned.masked(broken)
    assert found[0].tolist() == [0, SensorFault.NO_VALUE, 0, 0]
    assert np.isnan(hidden[0, 1]).all()


def test_clipping_and_noise_are_told_and_hide_nothing(learned: Sensors) -> None:
    odd = window()
    top = learned.high[3] + 1
    odd[0, 3, ::2] = top
    odd[0, 2] += np.random.default_rng(0).choice([-8.0, 8.0], CELLS)
    odd[0, 2] += 0.5 * (learned.low[2] + learned.high[2]) - odd[0, 2].mean()
    hidden, found = learned.masked(odd)
    assert found[0, 3] == SensorFault.CLIPPED
    assert found[0, 2] == SensorFault.NOISY
    np.testing.assert_array_equal(hidden, odd)


def test_what_was_learned_survives_the_manifest(learned: Sensors) -> None:
    again = Sensors.unpack(json.loads(json.dumps(learned.pack())))
    np.testing.assert_array_equal(again.noise, learned.noise)


def test_a_long_wide_record_is_looked_at_in_parts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    table = np.random.default_rng(0).normal(size=(500, 3))
    table[100:130, 1] = np.nan
    whole = Sensors.learn([table, table[:60]], 48)
    sizes: list[int] = []
    noise = sensors._noise

    def seen(windows: NDArray[np.float64]) -> NDArray[np.float64]:
        sizes.append(len(windows))
        return noise(windows)

    monkeypatch.setattr(sensors, "CHUNK_CELLS", 4 * 3 * 48)
    monkeypatch.setattr(sensors, "_noise", seen)
    parts = Sensors.learn([table, table[:60]], 48)
    assert max(sizes) == 4
    np.testing.assert_array_equal(parts.edge, whole.edge)
    np.testing.assert_allclose(parts.noise, whole.noise, rtol=1e-12)


def test_a_frozen_sensor_raises_no_machine_alarm(tmp_path: Path) -> None:
    bundle = train(healthy(6000), false_alarms="1/1h").write(tmp_path / "m.fwm")
    fresh = healthy(2000, 3)
    values = fresh.values.copy()
    values[1000:, 3] = values[1000, 3]
    made = score(bundle, with_values(fresh, values))
    assert made.anomalous[1000 + CELLS :].mean() < 0.02
    assert made.coverage[1500] == pytest.approx(0.75)


@pytest.mark.parametrize("module", [sensors, pairs])
def test_the_examples_hold(module: ModuleType) -> None:
    found = doctest.testmod(module, extraglobs={"np": np})
    assert found.attempted
    assert not found.failed
