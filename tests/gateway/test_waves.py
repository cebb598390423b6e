"""Waveforms become signals, under the names that training uses; a bearing's defect is named."""

from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from structlog.testing import capture_logs

from gateway.core.batch import Batch, Quality, Waveform, make_batch
from gateway.core.signals import Signal, SignalTable
from gateway.pipeline.config import AssetConfig, BearingConfig, ShaftConfig
from gateway.pipeline.shaft import Shaft
from gateway.pipeline.waves import Waves, parts_wanted
from models.errors import RecordError

RATE_HZ = 12_000.0
T0_NS = 10**18
ORDERS = ("outer race", "inner race", "roller", "cage")
VIBRATION = Signal("motor", "vibration", "g")
SPEED = Signal("motor", "speed", "rpm")


def waves(speed_rpm: float | None = 1800.0, **asset: Any) -> tuple[Waves, SignalTable]:
    """What describes a motor's waveforms, and has heard its speed once, before all of them."""
    table = SignalTable([VIBRATION, SPEED])
    one = AssetConfig(id="motor", bearing=BearingConfig(number="6205", speed="speed"), **asset)
    made = Waves([one], table, lambda _asset, name: {"vibration": 0, "speed": 1}.get(name))
    if speed_rpm is not None:
        hear(made, -1.0, speed_rpm)
    return made, table


def hear(made: Waves, at_s: float, rpm: float, *, mono_s: float = 0.0) -> list[Batch]:
    """The speed at a time, counted from the begin of the burst."""
    quality = Quality.BAD if np.isnan(rpm) else Quality.GOOD
    batch = make_batch(
        "plc",
        np.array([1], np.int32),
        np.array([T0_NS + round(at_s * 1e9)]),
        np.array([rpm]),
        np.array([quality], np.uint8),
        T0_NS,
    )
    return made.hear(batch, round(mono_s * 1e9))


def burst(value: np.ndarray) -> Waveform:
    return Waveform("daq", 0, T0_NS, RATE_HZ, value.astype(np.float32), T0_NS)


def knocking(order: float, *, speed_rpm: float = 1800.0) -> np.ndarray:
    """A resonance at 3 kHz that is struck `order` times a turn."""
    random = np.random.default_rng(0)
    n = 24_000
    out = random.normal(0, 0.05, n)
    ring = np.exp(-np.arange(200) / 25) * np.sin(2 * np.pi * 3000 * np.arange(200) / RATE_HZ)
    for at in np.arange(0, n - 200, RATE_HZ / (order * speed_rpm / 60)).astype(int):
        out[at : at + 200] += ring
    return out


def named(batches: list[Batch], table: SignalTable) -> dict[str, float]:
    return {
        table[int(signal)].name: float(value)
        for batch in batches
        for signal, value in zip(batch.signal, batch.value, strict=True)
    }


def values(made: Waves, table: SignalTable, wave: Waveform) -> dict[str, float]:
    """All that is said of a burst, once its speed has been waited for."""
    batches = made.describe(wave, 0)
    assert len(batches) <= 1
    batches += made.due(2 * 10**9)
    ends = {int(t) for batch in batches for t in batch.t_ns}
    assert ends == {T0_NS + round(len(wave) / RATE_HZ * 1e9)}
    return named(batches, table)


def ramp() -> tuple[np.ndarray, np.ndarray]:
    """Four seconds of a struck outer race while the shaft runs up from 1,440 to 2,160 rpm, and the
    speed at each sample."""
    random = np.random.default_rng(1)
    n = round(4 * RATE_HZ)
    rpm = 1800 * (1 + 0.2 * np.linspace(-1, 1, n))
    struck = np.diff(np.floor(np.cumsum(rpm / 60 / RATE_HZ) * 3.585), prepend=0.0) > 0
    at = np.arange(200)
    ring = np.exp(-at / 25) * np.sin(2 * np.pi * 3000 * at / RATE_HZ)
    return np.convolve(struck, ring)[:n] + random.normal(0, 0.2, n), rpm


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
    orders = {d: got[f"vibration {d}"] for d in ORDERS}
    assert max(orders, key=lambda d: orders[d]) == defect
    assert orders[defect] > 8


def test_too_short_a_burst_is_counted() -> None:
    made, _ = waves()
    assert made.describe(burst(np.ones(8)), 0) == []
    assert made.too_short == 1


@pytest.mark.parametrize(
    ("speed_rpm", "why"),
    [
        (None, "no sample of it came yet"),
        (np.nan, "was BAD"),
        (0.0, "must stay above 0"),
        (60.0, "at least 20 turns"),
    ],
)
def test_no_orders_are_bad_and_said_once_with_why(speed_rpm: float | None, why: str) -> None:
    made, table = waves(speed_rpm)
    with capture_logs() as said:
        for _ in range(3):
            got = values(made, table, burst(knocking(3.585)))
            assert [d for d in ORDERS if np.isnan(got[f"vibration {d}"])] == list(ORDERS)
            assert np.isfinite(got["vibration rms"])
    assert [line["event"] for line in said] == ["waveform.orders_unknown"]
    assert why in said[0]["why"]
    assert made.without_orders == 3
    hear(made, -0.5, 1800.0)
    with capture_logs() as said:
        assert values(made, table, burst(knocking(3.585)))["vibration outer race"] > 8
    assert [line["event"] for line in said] == ["waveform.orders_known"]


def test_a_speed_that_is_too_old_is_not_known() -> None:
    made, table = waves(stale_s=0.5)
    with capture_logs() as said:
        assert np.isnan(values(made, table, burst(knocking(3.585)))["vibration outer race"])
    assert "must be known every 0.5 s (stale_s)" in said[0]["why"]


def test_speeds_sampled_during_a_burst_are_followed() -> None:
    made, table = waves(speed_rpm=None)
    value, rpm = ramp()
    out = []
    hear(made, -0.1, 0.8 * 1800)
    assert [len(b) for b in made.describe(burst(value), 0)] == [13]  # Its orders wait.
    for at_s in np.arange(0.0, 4.2, 0.1):
        out += hear(made, at_s, float(np.interp(at_s * RATE_HZ, np.arange(len(rpm)), rpm)))
    got = named(out, table)
    assert max(ORDERS, key=lambda d: got[f"vibration {d}"]) == "outer race"
    assert got["vibration outer race"] > 8
    # Speeds that come too late are not waited for, and one speed smears a ramp's lines.
    late, table = waves(speed_rpm=None)
    hear(late, -0.1, 0.8 * 1800)
    late.describe(burst(value), 0)
    smeared = named(late.due(2 * 10**9), table)["vibration outer race"]
    assert smeared < 0.3 * got["vibration outer race"]


@pytest.mark.parametrize("speed_first", [True, False])
@pytest.mark.parametrize("speed_hz", [RATE_HZ, 50.0])
def test_a_second_array_tells_the_speed(speed_hz: float, speed_first: bool) -> None:
    made, table = waves(speed_rpm=None)
    value, rpm = ramp()
    tacho = rpm[:: round(RATE_HZ / speed_hz)].astype(np.float32)
    arrays = [burst(value), Waveform("daq", 1, T0_NS, speed_hz, tacho, T0_NS)]
    out = [b for wave in arrays[:: -1 if speed_first else 1] for b in made.describe(wave, 0)]
    got = named(out, table)
    assert max(ORDERS, key=lambda d: got[f"vibration {d}"]) == "outer race"
    assert got["vibration outer race"] > 8
    # The array itself is told as one speed, which is heard by none that knows it better.
    assert got["speed"] == pytest.approx(1800, rel=0.01)
    assert "speed rms" not in got
    for each in out:
        made.hear(each, 0)
    again = burst(value)
    assert named(made.describe(again, 0), table)["vibration outer race"] == pytest.approx(
        got["vibration outer race"]
    )


def test_what_is_known_of_a_shaft_outlives_a_reload() -> None:
    before, _ = waves()
    before.describe(burst(knocking(3.585)), 0)
    after, table = waves(speed_rpm=None)
    after.carry(before)
    assert named(after.due(2 * 10**9), table)["vibration outer race"] > 8
    assert values(after, table, burst(knocking(3.585)))["vibration outer race"] > 8


def test_a_shaft_forgets_what_is_old_and_a_clock_that_was_set_back() -> None:
    shaft = Shaft()
    for minute in range(10):
        shaft.hear(np.array([minute * 60 * 10**9]), np.array([100.0 * minute]))
    wave = Waveform("daq", 0, 60 * 10**9, 10.0, np.zeros(20, np.float32), 0)
    with pytest.raises(RecordError, match="after the burst's begin"):
        shaft.over(wave, None)
    shaft.hear(np.array([60 * 10**9]), np.array([700.0]))
    assert shaft.over(wave, None).tolist() == [700.0] * 20


def test_a_bundle_may_want_parts_that_no_source_lists() -> None:
    sources = {VIBRATION: "daq", SPEED: "plc"}
    there = {s.name: s for s in sources}
    names = ["vibration rms", "vibration 1x", "speed", "heat rms", "speed speed [rpm]"]
    assert parts_wanted(names, there, sources) == {
        Signal("motor", "vibration rms", "g"): "daq",
        Signal("motor", "vibration 1x", "g"): "daq",
        Signal("motor", "speed speed [rpm]", "rpm"): "plc",
    }


def shaft_only(pulses_per_turn: int = 0) -> tuple[Waves, SignalTable]:
    """What describes the waveforms of a shaft whose bearing nobody knows."""
    table = SignalTable([VIBRATION, SPEED])
    shaft = ShaftConfig(speed="speed", pulses_per_turn=pulses_per_turn)
    one = AssetConfig(id="motor", shaft=shaft)
    return Waves([one], table, lambda _asset, name: {"vibration": 0, "speed": 1}.get(name)), table


def test_a_shaft_alone_has_its_own_orders_in_the_unit_of_the_vibration() -> None:
    made, table = shaft_only()
    hear(made, -1.0, 1800.0)
    turned = np.arange(12_000) / RATE_HZ * 30
    shaking = np.sin(2 * np.pi * turned) + 0.2 * np.sin(4 * np.pi * turned)
    got = values(made, table, burst(shaking))
    assert got["vibration 1x"] == pytest.approx(1 / np.sqrt(2), rel=0.01)
    assert got["vibration 2x"] == pytest.approx(0.2 / np.sqrt(2), rel=0.02)
    assert max(got["vibration 0.5x"], got["vibration 3x"]) < 0.01
    assert not [name for name in got if name.endswith(ORDERS)]
    assert {s.unit for s in table.signals() if s.name == "vibration 1x"} == {"g"}
    assert made.without_orders == 0


def test_a_burst_of_few_turns_lacks_what_they_do_not_tell_and_says_so_once() -> None:
    made, table = shaft_only()
    hear(made, -1.0, 1500.0)
    short = burst(np.sin(2 * np.pi * np.arange(1200) / RATE_HZ * 25))
    with capture_logs() as said:
        values(made, table, short)
        got = values(made, table, short)
    assert np.isnan(got["vibration 0.5x"])
    assert got["vibration 1x"] == pytest.approx(1 / np.sqrt(2), rel=0.05)
    (line,) = said
    assert "at least 4 turns of the shaft for 0.5x, held 2.5" in line["why"]
    assert made.without_orders == 2


@pytest.mark.parametrize("speed_first", [True, False])
def test_a_keyphasor_tells_the_speed(speed_first: bool) -> None:
    made, table = shaft_only(pulses_per_turn=1)
    value, rpm = ramp()
    turned = np.cumsum(rpm / 60 / RATE_HZ)
    volts = np.where(turned % 1 < 0.05, -8.0, 0.0)
    arrays = [
        burst(value + np.sin(2 * np.pi * turned)),
        Waveform("daq", 1, T0_NS, RATE_HZ, volts.astype(np.float32), T0_NS),
    ]
    out = [b for wave in arrays[:: -1 if speed_first else 1] for b in made.describe(wave, 0)]
    got = named(out, table)
    assert got["vibration 1x"] == pytest.approx(1 / np.sqrt(2), rel=0.1)
    assert got["speed speed [rpm]"] == pytest.approx(1800, rel=0.01)
    assert {s.unit for s in table.signals() if s.name == "speed speed [rpm]"} == {"rpm"}
    # A shaft that stands has no pulses, so no speed, which is not 0.
    still = Waveform("daq", 1, T0_NS + 5 * 10**9, RATE_HZ, np.zeros(24_000, np.float32), T0_NS)
    assert np.isnan(named(made.describe(still, 0), table)["speed speed [rpm]"])


def test_a_missing_pulse_is_said() -> None:
    made, table = shaft_only(pulses_per_turn=1)
    volts = np.where(np.arange(24_000) / RATE_HZ * 30 % 1 < 0.05, 5.0, 0.0)
    volts[12_000:12_400] = 0.0
    with capture_logs() as said:
        made.describe(Waveform("daq", 1, T0_NS, RATE_HZ, volts.astype(np.float32), T0_NS), 0)
        got = named(made.describe(burst(knocking(3.585)), 0), table)
    assert np.isnan(got["vibration 1x"])
    assert "a pulse is missing, or one too many" in said[0]["why"]


def test_the_speed_of_a_shaft_is_given_once() -> None:
    bearing = BearingConfig(number="6205", speed="speed")
    for wrong in (
        {"bearing": bearing, "shaft": ShaftConfig(speed="speed")},
        {"bearing": BearingConfig(number="6205")},
    ):
        with pytest.raises(ValidationError, match="give the signal of the shaft's speed once"):
            AssetConfig(id="motor", **wrong)
    both = AssetConfig(
        id="motor", bearing=BearingConfig(number="6205"), shaft=ShaftConfig(speed="speed")
    )
    assert both.rotor == AssetConfig(id="motor", bearing=bearing).rotor
    assert AssetConfig(id="motor").rotor is None


def test_a_bearing_needs_a_number_or_its_whole_geometry() -> None:
    with pytest.raises(ValidationError, match="not in the table"):
        BearingConfig(number="9999", speed="speed")
    with pytest.raises(ValidationError, match="needs a number"):
        BearingConfig(rollers=9, speed="speed")
    whole = BearingConfig(rollers=9, roller_mm=7.94, pitch_mm=39.04, speed="speed")
    assert whole.geometry().orders["outer race"] == pytest.approx(3.585, abs=1e-3)
