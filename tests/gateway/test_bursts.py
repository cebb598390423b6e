"""Recordings of vibration and speed become bursts with a bearing's orders."""

import csv
import doctest
import json
import re
from dataclasses import asdict, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from gateway.cli import cells, group, shaft
from gateway.cli.bursts import taken_as_rows
from gateway.cli.columns import Columns
from gateway.cli.files import read, settled
from gateway.cli.shaft import Orders, geometry_of
from models.bundle import read as read_bundle
from models.errors import RecordError
from models.features.bearing import bearing
from models.record import Record
from tests.models import motors
from tests.real_data import folder

ORDERS = ("outer race", "inner race", "roller", "cage")


def npz(path: Path, n: int, *, worn: bool, seed: int) -> Path:
    g, rpm = motors.bursts(n, worn=worn, seed=seed)
    t0 = 1.2 * np.arange(n)
    np.savez(path, vibration_g=g, rpm=rpm, rate_hz=motors.RATE_HZ, t0=t0)
    return path


def recording(path: Path, *, seconds_between: float = 0.0) -> Path:
    """Two worn bursts one after the other as a CSV, with a label and a temperature."""
    g, rpm = motors.bursts(2, worn=True, seed=5)
    at = np.arange(g.size) / motors.RATE_HZ
    at[motors.SAMPLES :] += seconds_between
    label = np.arange(g.size) >= g.size - 10
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["time", "vibration [g]", "rpm", "oil [°C]", "fault"])
        writer.writerows(
            zip(at, g.ravel(), rpm.ravel(), at * 0 + 40, label.astype(int), strict=True)
        )
    return path


def of(name: str = "6205", speed: str | None = None, samples: int = motors.SAMPLES) -> Orders:
    return Orders(bearing(name), speed, samples)


def test_a_csv_gives_what_the_same_bursts_give(tmp_path: Path) -> None:
    g, rpm = motors.bursts(2, worn=True, seed=5)
    np.savez(tmp_path / "a.npz", vibration_g=g, rpm=rpm, rate_hz=motors.RATE_HZ)
    one = read([tmp_path / "a.npz"], Columns(orders=of()))
    columns = Columns(orders=of(), labels=("fault",), ignore=("oil [°C]",))
    other = read([recording(tmp_path / "a.csv")], columns)
    assert len(one) == len(other) == 2
    assert [n.replace("vibration [g]", "vibration_g") for n in other.names[1:]] == [
        n for n in one.names if n != "rpm"
    ]
    for name in one.names:
        wanted = name.replace("vibration_g", "vibration [g]")
        np.testing.assert_allclose(
            other.select([wanted]).values, one.select([name]).values, rtol=1e-3
        )
    assert other.labels["fault"].tolist() == [0, 1]
    strongest = max(ORDERS, key=lambda d: one.select([f"vibration_g {d}"]).values.min())
    assert strongest == "outer race"


def test_a_long_recording_is_cut_by_the_turns_of_its_shaft(tmp_path: Path) -> None:
    g, rpm = motors.bursts(6, worn=False, seed=0)
    np.savez(tmp_path / "long.npz", vibration_g=g.ravel(), rpm=rpm.ravel(), rate_hz=motors.RATE_HZ)
    for path in (tmp_path / "long.npz", recording(tmp_path / "long.csv")):
        columns = settled(path, Columns(orders=of(samples=0)))
        assert columns.orders is not None
        assert columns.orders.samples == 8192  # 32 turns at 1,800 rpm are 4,267 samples.
        record = read([path], columns)
        assert len(record) == (3 if path.suffix == ".npz" else 1)
        assert record.time_s is not None
        assert record.time_s[0] == pytest.approx(8192 / motors.RATE_HZ, abs=1e-3)


def test_what_a_model_knows_one_value_of_is_read_from_a_recording_too(tmp_path: Path) -> None:
    made = "vibration [g] kurtosis"
    columns = Columns(
        orders=of(), signals=("rpm", f"{made}"), also=("valve", "oil [°C]", "vibration [g] rms")
    )
    record = read([recording(tmp_path / "a.csv")], columns)
    assert record.names == ("rpm", made, *columns.also)
    assert np.isnan(record.values[:, 2]).all(), "there is none"
    assert record.values[:, 3] == pytest.approx(40)
    assert np.isfinite(record.values[:, [1, 4]]).all(), "what describes a burst is made of it"


def test_a_burst_never_spans_a_gap(tmp_path: Path) -> None:
    path = recording(tmp_path / "gap.csv", seconds_between=5.0)
    assert len(read([path], Columns(orders=of()))) == 2
    with pytest.raises(RecordError, match=r"gap\.csv: .*must hold a burst of 8192 rows"):
        read([path], Columns(orders=of(samples=8192)))


@pytest.mark.parametrize(
    ("arrays", "why"),
    [
        ({"rate_hz": 4000.0}, "must name the column of the shaft's speed"),
        ({"rpm": 1800.0}, "needs the sampling rate"),
        ({"rpm": 0.0, "rate_hz": 4000.0}, "2 of 2 bursts lack orders; speed: must stay"),
        ({"rpm": 300.0, "rate_hz": 4000.0}, "at least 20 turns"),
        ({"rpm": np.ones(7), "rate_hz": 4000.0}, r"one a sample \(\(2, 4800\)\), was \(7,\)"),
    ],
)
def test_no_orders_in_a_whole_file_are_refused_with_why(
    tmp_path: Path, arrays: dict[str, Any], why: str
) -> None:
    g, _ = motors.bursts(2, worn=False, seed=0)
    np.savez(tmp_path / "a.npz", vibration_g=g, **arrays)
    with pytest.raises(RecordError, match=why):
        read([tmp_path / "a.npz"], Columns(orders=of()))


@pytest.mark.parametrize(
    ("head", "lacks"),
    [
        ("n,vibration_g,rpm", "needs a time column; name it with --time; there are"),
        ("time,oil,rpm", r"needs a vibration in g, called so \(vibration_g, vibration \[g\]\); th"),
        ("n,oil,rpm", r"a vibration in g, called so .*, and a time column; name it with --time"),
    ],
)
@pytest.mark.parametrize("orders", [of(), Orders(speed="rpm")], ids=["bearing", "speed"])
def test_a_table_that_is_no_recording_is_refused_with_what_it_lacks(
    tmp_path: Path, head: str, lacks: str, orders: Orders
) -> None:
    path = tmp_path / "table.csv"
    rows = np.random.default_rng(0).normal(0, 1, (50, 3)) + 40
    rows[:, 0] = np.arange(50) / 1000 if head.startswith("time") else rows[:, 0]
    np.savetxt(path, rows, delimiter=",", header=head, comments="")
    option = "--bearing" if orders.geometry else "--speed"
    columns = Columns(orders=replace(orders, samples=0))
    with pytest.raises(RecordError, match=f"{option}: .*{lacks}"):
        read([path], columns)
    with pytest.raises(RecordError, match=f"{option}: .*{lacks}"):
        settled(path, columns)


def test_a_burst_whose_speed_is_not_known_has_no_orders_and_keeps_the_rest(tmp_path: Path) -> None:
    g, rpm = motors.bursts(3, worn=True, seed=5)
    rpm[1, 100] = np.nan
    np.savez(tmp_path / "a.npz", vibration_g=g, rpm=rpm, rate_hz=motors.RATE_HZ)
    record = read([tmp_path / "a.npz"], Columns(orders=of()))
    orders = record.select([f"vibration_g {d}" for d in ORDERS]).values
    assert np.isnan(orders).all(axis=1).tolist() == [False, True, False]
    assert np.isfinite(record.select(["vibration_g rms"]).values).all()


def test_a_geometry_is_read_or_refused() -> None:
    assert geometry_of("9,7.94,39.04") == bearing("6205")
    for wrong in ("9,7.94", "0,7.94,39", "9,40,39", "9,7,39,95", "a,b,c", "1,2,3,4,5", "NU 9"):
        with pytest.raises(RecordError, match="ROLLERS,ROLLER_MM,PITCH_MM"):
            geometry_of(wrong)
    assert Orders.kept(of("6203", "n", 5).detail()) == of("6203", "n", 5)
    # As bundles have it from before the shaft's own orders.
    held = {"geometry": asdict(bearing("6203")), "speed": "n", "samples": 5}
    assert Orders.kept({"bearing": held}) == of("6203", "n", 5)
    assert Orders.kept({}) is None


def test_a_worn_race_of_a_shaft_that_ramps_is_named_and_a_healthy_one_is_silent(
    tmp_path: Path,
) -> None:
    healthy = npz(tmp_path / "healthy.npz", 400, worn=False, seed=0)
    fresh = npz(tmp_path / "fresh.npz", 100, worn=False, seed=1)
    worn = npz(tmp_path / "worn.npz", 40, worn=True, seed=2)
    options = f"--bearing {motors.BEARING} --window 12rows --false-alarms 1/5min"
    result = CliRunner().invoke(
        group,
        f"evaluate --train {healthy} --data {fresh} --data {worn} {options} --fault-from 0"
        " --healthy fresh --json".split(),
    )
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    quiet, told = report["files"]
    assert quiet["false_alarm_rate"] == 0
    assert told["missed_alarm_rate"] == 11 / 40  # Its first window is full with its 12th burst.
    assert told["drivers"].split(", ")[0] == "vibration_g outer race"
    assert report["states"] == ["active"]


def test_a_bundle_keeps_its_bearing_for_score(tmp_path: Path) -> None:
    healthy = npz(tmp_path / "healthy.npz", 100, worn=False, seed=0)
    bundle, out = tmp_path / "m.fwm", tmp_path / "out.csv"
    options = f"--bearing {motors.BEARING} --window 12rows"
    made = CliRunner().invoke(group, f"train --data {healthy} {options} --out {bundle}".split())
    assert made.exit_code == 0, made.output
    names = [signal.name for signal in read_bundle(bundle).manifest.signals]
    assert {f"vibration_g {defect}" for defect in ORDERS} < set(names)
    scored = CliRunner().invoke(group, f"score {bundle} --data {healthy} --out {out}".split())
    assert scored.exit_code == 0, scored.output
    assert len(out.read_text().splitlines()) == 101


def test_score_says_which_race_of_a_real_bearing_is_damaged(tmp_path: Path) -> None:
    data, bundle = folder("cwru"), tmp_path / "m.fwm"
    options = f"train --data {data / 'normal_0hp.npz'} --bearing 6205 --out {bundle}"
    made = CliRunner().invoke(group, options.split())
    assert made.exit_code == 0, made.output
    for race in ("inner", "outer"):
        file = data / f"{race}_race_007_0hp.npz"
        options = f"score {bundle} --data {file} --out {tmp_path / 's.csv'} --json"
        scored = CliRunner().invoke(group, options.split())
        assert scored.exit_code == 0, scored.output
        told = json.loads(scored.stdout)
        (verdict,) = told["verdicts"]
        assert f"in keeping with damage to the {race} race of the bearing" in verdict["why"]
        assert [note.partition(":")[0] for note in told["notes"]] == ["drive_end_g rms"]


@pytest.mark.parametrize("module", [cells, shaft])
def test_the_examples_hold(module: ModuleType) -> None:
    found = doctest.testmod(module)
    assert found.attempted
    assert not found.failed


def phases(n: int, rate_hz: float, seed: int) -> Record:
    """A time, three phases of 50 Hz and the pressure that their pump makes."""
    random, at = np.random.default_rng(seed), np.arange(n) / rate_hz
    load = 8 + 0.5 * np.sin(2 * np.pi * 0.3 * at)
    turned = 2 * np.pi * (50 * at[:, None] + np.arange(3) / 3)
    current = load[:, None] * np.sin(turned) + random.normal(0, 0.05, (n, 3))
    pressure = load / 2 + random.normal(0, 0.1, n)
    names = ("ia", "ib", "ic", "pressure")
    return Record(np.column_stack([current, pressure]), names, ("", "", "", ""), time_s=at)


def test_a_waveform_that_is_taken_row_by_row_is_told_with_what_to_do() -> None:
    (note,) = taken_as_rows(phases(20_000, 10_000.0, 0))
    assert note.startswith("ia, ib, ic: swings about zero at 10000 rows a second, a waveform?")
    assert "[bursts, 4096, 3] beside rate_hz=10000" in note
    assert taken_as_rows(phases(20_000, 500.0, 0)) == (), "too slow"
    assert taken_as_rows(phases(4_000, 10_000.0, 0)) == (), "too short"
    (note,) = taken_as_rows(replace(phases(20_000, 1e4, 0), time_s=None))
    assert note.startswith("ia, ib, ic: swings about zero from row to row, a waveform?")
    assert "[bursts, 4096, 3] beside rate_hz=N" in note
    assert taken_as_rows(phases(20_000, 10_000.0, 0).select(["pressure"])) == ()


def test_the_page_cuts_a_csv_into_bursts_that_are_learned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = Path(taken_as_rows.__code__.co_filename).parents[2] / "models" / "vibration.md"
    (script,) = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    record = phases(10 * 4096 + 100, 10_000.0, 0).select(["ia", "ib", "ic"])
    table = np.column_stack([np.arange(len(record)) / 10_000.0, record.values])
    monkeypatch.chdir(tmp_path)
    np.savetxt("healthy.csv", table, delimiter=",", header="time_s,ia,ib,ic", fmt="%.5f")
    exec(script)
    cut = read([tmp_path / "healthy.npz"], Columns())
    assert len(cut) == 10
    assert {"current_1 rms", "current_3 crest factor"} <= set(cut.names)
    assert cut.time_s is not None
    assert np.allclose(np.diff(cut.time_s), 0.4096)
    assert taken_as_rows(cut) == ()
    twice = "--kind rul --data healthy.csv --data healthy.csv --rows 0:2100 --cap 20 --window 5rows"
    for what in ("--data healthy.csv --rows 0:4100 --window 64rows", twice):
        said = CliRunner().invoke(group, f"train {what} --signals ia --out m.fwm".split())
        assert said.exit_code == 0, said.output
        assert "note: ia: swings about zero at 10000 rows a second" in said.output
