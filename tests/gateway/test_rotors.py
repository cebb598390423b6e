"""The orders of a shaft, by its speed or its keyphasor, through `train`, `score` and `evaluate`."""

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray

from gateway.cli import group
from gateway.cli.columns import Columns
from gateway.cli.files import read
from gateway.cli.shaft import Orders
from models.bundle import read as read_bundle
from models.errors import RecordError
from models.features.rotor import ORDERS
from tests.models import rotors
from tests.models.rotors import RATE_HZ, SAMPLES, Bursts

SPEED = Orders(speed="rpm")
KEYPHASOR = Orders(speed="keyphasor", pulses_per_turn=1)
OPTIONS = "--window 12rows --false-alarms 1/5min"
NAMES = [f"vibration_g {order}" for order in ORDERS]


def save(path: Path, made: Bursts, *names: str) -> Path:
    arrays = {name: getattr(made, name) for name in names}
    at_s = SAMPLES / RATE_HZ * np.arange(len(made.g))
    np.savez(path, vibration_g=made.g, rate_hz=RATE_HZ, t0=at_s, **arrays)
    return path


def run(command: str) -> str:
    result = CliRunner().invoke(group, command.split())
    assert result.exit_code == 0, result.output
    return result.stdout


def orders(path: Path, told: Orders | None) -> NDArray[np.float64]:
    return read([path], Columns(orders=told)).select(NAMES).values


def test_speed_channel_and_times_of_pulses_tell_the_same_orders(tmp_path: Path) -> None:
    made = rotors.bursts(6, seed=5, unbalance=3, misalignment=4, looseness=2)
    by_speed = orders(save(tmp_path / "a.npz", made, "rpm"), SPEED)
    assert (by_speed[:, 1] > 3 * by_speed[:, 3]).all()
    channel = save(tmp_path / "b.npz", made, "keyphasor")
    times = save(tmp_path / "c.npz", made, "pulses_s")
    np.testing.assert_allclose(orders(channel, KEYPHASOR), by_speed, rtol=0.05, atol=2e-3)
    by_times = orders(times, Orders(speed="pulses_s", pulses_per_turn=1))
    np.testing.assert_allclose(by_times, by_speed, rtol=0.05, atol=2e-3)
    speed = read([channel], Columns(orders=KEYPHASOR)).select(["keyphasor speed [rpm]"])
    np.testing.assert_allclose(speed.values[:, 0], made.rpm.mean(axis=1), rtol=2e-3)
    assert speed.units == ("rpm",)


def test_bursts_with_a_speed_beside_them_have_orders_without_being_asked(tmp_path: Path) -> None:
    made = rotors.bursts(4, seed=5)
    record = read([save(tmp_path / "a.npz", made, "rpm")], Columns())
    assert np.isfinite(record.select(NAMES).values).all()
    assert record.select(NAMES).units == ("g",) * 4
    assert set(NAMES).isdisjoint(read([save(tmp_path / "b.npz", made)], Columns()).names)


def test_a_short_burst_lacks_the_half_order_and_the_note_says_why(tmp_path: Path) -> None:
    made = rotors.bursts(4, seed=5)
    np.savez(tmp_path / "a.npz", vibration_g=made.g[:, :160], rpm=1800.0, rate_hz=RATE_HZ)
    record = read([tmp_path / "a.npz"], Columns(orders=SPEED))
    lacks = np.isnan(record.select(NAMES).values).all(axis=0)
    assert lacks.tolist() == [True, False, False, False]
    (note,) = [note for note in record.notes if "orders" in note]
    assert note == (
        "vibration_g: 4 of 4 bursts lack orders; "
        "burst: must hold at least 4 turns of the shaft for 0.5x, held 2.4"
    )


def test_a_recording_with_a_keyphasor_is_cut_and_told(tmp_path: Path) -> None:
    made = rotors.bursts(3, seed=6)
    at_s = np.arange(made.g.size) / RATE_HZ
    with (tmp_path / "a.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["time", "vibration [g]", "tacho"])
        writer.writerows(zip(at_s, made.g.ravel(), made.keyphasor.ravel(), strict=True))
    told = Orders(speed="tacho", pulses_per_turn=1, samples=SAMPLES)
    record = read([tmp_path / "a.csv"], Columns(orders=told))
    assert len(record) == 3
    speed = record.select(["tacho speed [rpm]"]).values[:, 0]
    np.testing.assert_allclose(speed, made.rpm.mean(axis=1), rtol=0.01)
    by_speed = orders(save(tmp_path / "b.npz", made, "rpm"), SPEED)
    wanted = record.select([f"vibration [g] {order}" for order in ORDERS]).values
    np.testing.assert_allclose(wanted, by_speed, rtol=0.1, atol=5e-3)


def test_pulses_need_the_column_that_they_are_in() -> None:
    with pytest.raises(RecordError, match="--pulses-per-turn: needs --speed"):
        Orders.asked("6205", None, 1)
    assert Orders.asked(None, None, None) is None


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Trained on a good rotor at many speeds, by its keyphasor."""
    folder = tmp_path_factory.mktemp("trained")
    healthy = save(folder / "healthy.npz", rotors.bursts(400, seed=0), "keyphasor")
    options = f"--speed keyphasor --pulses-per-turn 1 {OPTIONS}"
    assert "state active" in run(f"train --data {healthy} {options} --out {folder / 'fan.fwm'}")
    return folder / "fan.fwm"


FAULTS = {
    "unbalance": rotors.bursts(40, seed=2, unbalance=2.0),
    "misalignment": rotors.bursts(40, seed=3, misalignment=2.5),
    "looseness": rotors.bursts(40, seed=4, looseness=1.0),
}


def test_a_bundle_keeps_its_keyphasor_and_has_its_units(bundle: Path) -> None:
    manifest = read_bundle(bundle).manifest
    units = {signal.name: signal.unit for signal in manifest.signals}
    assert [units[name] for name in NAMES] == ["g"] * 4
    assert units["keyphasor speed [rpm]"] == "rpm"
    assert manifest.detail["orders"]["pulses_per_turn"] == 1


@pytest.mark.parametrize("fault", FAULTS)
def test_a_rotors_fault_is_told_at_any_speed(bundle: Path, tmp_path: Path, fault: str) -> None:
    data = save(tmp_path / "bad.npz", FAULTS[fault], "keyphasor")
    told = json.loads(run(f"score {bundle} --data {data} --out {tmp_path / 's.csv'} --json"))
    (one,) = told["verdicts"]
    assert (one["from"], one["to"], one["rows"]) == ("11.264", "39.936", 29)
    assert re.search(f", in keeping with .*{fault}", one["why"]), one["why"]
    with (tmp_path / "s.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["anomalous"] for row in rows] == [""] * 11 + ["1"] * 29


def test_a_good_rotor_at_any_speed_is_silent(bundle: Path, tmp_path: Path) -> None:
    fresh = save(tmp_path / "fresh.npz", rotors.bursts(100, seed=1), "keyphasor")
    told = json.loads(run(f"score {bundle} --data {fresh} --out {tmp_path / 's.csv'} --json"))
    assert told["anomalous"] == 0
    assert told["verdicts"] == []
    assert told["judged"] == 89
