"""Waveforms become signals, under the names that training uses; a bearing's defect is named."""

import numpy as np
import pytest
from pydantic import ValidationError

from gateway.core.batch import Waveform
from gateway.core.signals import Signal, SignalTable
from gateway.pipeline.config import AssetConfig, BearingConfig
from gateway.pipeline.waves import Waves, parts_wanted

RATE_HZ = 12_000.0
VIBRATION = Signal("motor", "vibration", "g")
SPEED = Signal("motor", "speed", "rpm")


def waves(speed_rpm: float = 1800.0) -> tuple[Waves, SignalTable]:
    table = SignalTable([VIBRATION, SPEED])
    asset = AssetConfig(id="motor", bearing=BearingConfig(number="6205", speed="speed"))
    made = Waves(
        [asset],
        table,
        lambda number: speed_rpm if number == 1 else float("nan"),
        lambda _asset, name: {"vibration": 0, "speed": 1}.get(name),
    )
    return made, table


def burst(value: np.ndarray) -> Waveform:
    return Waveform("daq", 0, 10**18, RATE_HZ, value.astype(np.float32), 10**18)


def knocking(order: float, *, speed_rpm: float = 1800.0) -> np.ndarray:
    """A resonance at 3 kHz that is struck `order` times a turn."""
    random = np.random.default_rng(0)
    n = 24_000
    out = random.normal(0, 0.05, n)
    ring = np.exp(-np.arange(200) / 25) * np.sin(2 * np.pi * 3000 * np.arange(200) / RATE_HZ)
    for at in np.arange(0, n - 200, RATE_HZ / (order * speed_rpm / 60)).astype(int):
        out[at : at + 200] += ring
    return out


def values(made: Waves, table: SignalTable, wave: Waveform) -> dict[str, float]:
    batch = made.describe(wave)
    assert batch is not None
    assert set(batch.t_ns.tolist()) == {10**18 + round(len(wave) / RATE_HZ * 1e9)}
    return {table[int(s)].name: float(v) for s, v in zip(batch.signal, batch.value, strict=True)}


def test_a_sine_has_its_textbook_values() -> None:
    made, table = waves()
    t = np.arange(12_000) / RATE_HZ
    got = values(made, table, burst(2 * np.sin(2 * np.pi * 100 * t)))
    assert got["vibration rms"] == pytest.approx(np.sqrt(2), rel=1e-4)
    assert got["vibration peak"] == pytest.approx(2, rel=1e-3)
    assert got["vibration kurtosis"] == pytest.approx(1.5, rel=1e-3)
    # 2 g at 100 Hz is a velocity of 2 * 9806.65 / (2 pi 100) / sqrt(2) mm/s RMS (ISO 20816).
    assert got["vibration velocity [mm/s]"] == pytest.approx(22.07, rel=0.01)
    units = {s.name: s.unit for s in table.signals()}
    assert (units["vibration rms"], units["vibration kurtosis"]) == ("g", "")


@pytest.mark.parametrize(("order", "defect"), [(3.585, "outer race"), (5.415, "inner race")])
def test_a_struck_race_stands_out(order: float, defect: str) -> None:
    made, table = waves()
    got = values(made, table, burst(knocking(order)))
    orders = {d: got[f"vibration {d}"] for d in ("outer race", "inner race", "roller", "cage")}
    assert max(orders, key=lambda d: orders[d]) == defect
    assert orders[defect] > 8


def test_no_speed_or_too_few_turns_means_no_orders_and_is_counted() -> None:
    made, table = waves(speed_rpm=0.0)
    assert "vibration outer race" not in values(made, table, burst(knocking(3.585)))
    slow, table = waves(speed_rpm=60.0)
    assert "vibration outer race" not in values(slow, table, burst(knocking(3.585)))
    assert slow.too_short == 1
    assert slow.describe(burst(np.ones(8))) is None
    assert slow.too_short == 2


def test_a_bundle_may_want_parts_that_no_source_lists() -> None:
    sources = {VIBRATION: "daq", SPEED: "plc"}
    there = {s.name: s for s in sources}
    wanted = parts_wanted(["vibration rms", "speed", "heat rms"], there, sources)
    assert wanted == {Signal("motor", "vibration rms", "g"): "daq"}


def test_a_bearing_needs_a_number_or_its_whole_geometry() -> None:
    with pytest.raises(ValidationError, match="not in the table"):
        BearingConfig(number="9999", speed="speed")
    with pytest.raises(ValidationError, match="needs a number"):
        BearingConfig(rollers=9, speed="speed")
    whole = BearingConfig(rollers=9, roller_mm=7.94, pitch_mm=39.04, speed="speed")
    assert whole.geometry().orders["outer race"] == pytest.approx(3.585, abs=1e-3)
