"""`forewarn train` and `forewarn score` as a user calls them."""

import csv
import json
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from gateway.cli import group
from models.bundle import read
from models.errors import ModelError
from tests.models.plants import healthy
from tests.real_data import folder


def call(*args: object) -> Result:
    return CliRunner().invoke(group, [str(a) for a in args])


def table(path: Path, delimiter: str = ",") -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file, delimiter=delimiter))


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A healthy file and one whose vibration rises."""
    root = tmp_path_factory.mktemp("plant")
    for name, seed in (("good.csv", 0), ("bad.csv", 1)):
        record = healthy(1500, seed)
        values = record.values.copy()
        fault = np.zeros(1500, int)
        if name == "bad.csv":
            values[1000:, 3] += 2
            fault[1000:] = 1
        assert record.time_s is not None
        with (root / name).open("w") as file:
            print("time", *record.names, "fault", sep=",", file=file)
            for t, row, f in zip(record.time_s, values, fault, strict=True):
                print(f"{t:.0f}", *(f"{v:.6g}" for v in row), f, sep=",", file=file)
    return root


def test_train_then_score_writes_one_row_per_row(plant: Path, tmp_path: Path) -> None:
    made = call(
        "train", "--data", plant / "good.csv", "--label", "fault", "--out", tmp_path / "m.fwm"
    )
    assert made.exit_code == 0, made.output
    assert "state shadow" in made.output
    scored = call(
        "score", tmp_path / "m.fwm", "--data", plant / "bad.csv", "--out", tmp_path / "s.csv"
    )
    assert scored.exit_code == 0, scored.output
    assert re.search(r"times its limit: vibration [\d.]+, high", scored.output), scored.output
    rows = table(tmp_path / "s.csv")
    assert list(rows[0]) == [
        "time", "group", "score", "limit", "anomalous", "coverage", "top_signals",
    ]  # fmt: skip
    assert len(rows) == 1500
    assert rows[10]["score"] == rows[10]["anomalous"] == ""
    assert rows[47]["score"] != ""
    assert rows[1200]["anomalous"] == "1"
    assert rows[1200]["top_signals"].split("|")[0] == "vibration"
    for row in rows[47:]:
        assert (float(row["score"]) > float(row["limit"])) == (row["anomalous"] == "1")


def test_the_worst_stretch_is_told_first(plant: Path, tmp_path: Path) -> None:
    model, twice = tmp_path / "m.fwm", tmp_path / "twice.csv"
    assert call("train", "--data", plant / "good.csv", "--out", model).exit_code == 0
    rows = table(plant / "good.csv")
    for more, start in ((2.0, 400), (6.0, 1000)):
        for row in rows[start : start + 200]:
            row["vibration"] = f"{float(row['vibration']) + more:.6g}"
    with twice.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    scored = call("score", model, "--data", twice, "--out", tmp_path / "s.csv", "--json")
    told = json.loads(scored.stdout.splitlines()[-1])["verdicts"]
    assert len(told) == 2
    assert told[0]["severity"] > told[1]["severity"] > 1
    assert float(told[0]["from"]) > float(told[1]["to"])
    assert all(each["why"].startswith("vibration") for each in told)


def test_several_files_after_one_data_option_and_json(plant: Path, tmp_path: Path) -> None:
    made = call(
        "train", "--data", plant / "good.csv", plant / "bad.csv", "--rows", "0:900",
        "--ignore", "fault", "--out", tmp_path / "m.fwm", "--json",
    )  # fmt: skip
    assert made.exit_code == 0, made.output
    told = json.loads(made.stdout)
    assert told["kind"] == "anomaly"
    assert told["metrics"]["sequences"] == 2
    assert told["parity"]["auroc_loss_worst"] <= 0.01
    scored = call(
        "score", tmp_path / "m.fwm", "--data", plant / "good.csv", plant / "bad.csv",
        "--out", tmp_path / "s.csv", "--json", "--precision", "fp32",
    )  # fmt: skip
    assert json.loads(scored.stdout)["rows"] == 3000


def test_rows_of_a_label_are_not_learned(plant: Path, tmp_path: Path) -> None:
    out = tmp_path / "m.fwm"
    call("train", "--data", plant / "bad.csv", "--label", "fault", "--out", out)
    scored = call("score", out, "--data", plant / "bad.csv", "--out", tmp_path / "s.csv")
    assert scored.exit_code == 0
    rows = table(tmp_path / "s.csv")
    assert np.mean([row["anomalous"] == "1" for row in rows[1060:]]) > 0.95


def test_what_meant_no_value_in_training_means_none_when_scored(
    plant: Path, tmp_path: Path
) -> None:
    head, *rows = (plant / "good.csv").read_text().splitlines()
    cut = [row.rsplit(",", 2) for row in rows]
    holed = (f"{a},{-999.25 if i % 90 == 7 else b},{c}" for i, (a, b, c) in enumerate(cut))
    (tmp_path / "holed.csv").write_text("\n".join([head, *holed]))
    made = call(
        "train", "--data", tmp_path / "holed.csv", "--label", "fault", "--out", tmp_path / "m.fwm"
    )
    assert "vibration: -999.25 lies apart" in " ".join(made.output.split())
    bundle = read(tmp_path / "m.fwm")
    assert bundle.manifest.detail["no_value"] == {"vibration": [-999.25]}
    # There is no other value by which the file itself would tell.
    (tmp_path / "none.csv").write_text("\n".join([head, *(f"{a},-999.25,{c}" for a, _, c in cut)]))
    call("score", tmp_path / "m.fwm", "--data", tmp_path / "none.csv", "--out", tmp_path / "s.csv")
    scored = table(tmp_path / "s.csv")
    assert {row["coverage"] for row in scored[100:]} == {"0.750"}
    assert sum(row["anomalous"] == "1" for row in scored) < 0.02 * len(scored)


def test_what_never_changed_in_training_is_told_of_where_it_has(
    plant: Path, tmp_path: Path
) -> None:
    head, *rows = (plant / "good.csv").read_text().splitlines()

    def file(name: str, *columns: tuple[str, Sequence[object]]) -> Path:
        parts = (",".join([row, *(str(c[i]) for _, c in columns)]) for i, row in enumerate(rows))
        path = tmp_path / name
        path.write_text("\n".join([",".join([head, *(n for n, _ in columns)]), *parts]))
        return path

    n, out = len(rows), tmp_path / "m.fwm"
    valve, late = ("valve [%]", [40.5] * n), [0.0] * (n - 200) + [1.0] * 200
    taught = file("taught.csv", valve, ("standby", [0] * n))
    made = call("train", "--data", taught, "--label", "fault", "--out", out)
    assert "standby: left out, it never changes (always 0)" in made.output
    assert read(out).manifest.detail["fixed"] == {"valve [%]": 40.5, "standby": 0.0}

    def notes(*paths: Path, more: Sequence[str] = ()) -> list[str]:
        data = [part for path in paths for part in ("--data", path)]
        scored = call("score", out, *data, *more, "--out", tmp_path / "s.csv", "--json")
        assert scored.exit_code == 0, scored.output
        told: list[str] = json.loads(scored.stdout)["notes"]
        return [note for note in told if "always" in note]

    assert notes(taught) == notes(plant / "good.csv") == []
    assert notes(file("words.csv", ("standby", ["on"] * n))) == []
    moved = file("moved.csv", ("standby", late), valve)
    first = rows[n - 200].split(",")[0]
    expected = (
        f"standby: always 0 while the model learned, here 1 at {first} (200 rows differ); it is"
        " in no score, and what it changes is not known: if it may be so, train anew with rows of"
        " both"
    )
    assert notes(moved) == notes(plant / "good.csv", moved) == notes(moved, taught) == [expected]
    assert notes(moved, more=("--ignore", "standby")) == []
    assert notes(file("one.csv", ("standby", late)), moved)[0].endswith("rows of both")


def test_a_derived_signal_is_computed_again_when_scoring(plant: Path, tmp_path: Path) -> None:
    out = tmp_path / "m.fwm"
    made = call(
        "train", "--data", plant / "good.csv", "--signals", "speed,vibration", "--derive",
        "load = current * speed", "--out", out, "--json",
    )  # fmt: skip
    assert json.loads(made.stdout)["signals"] == ["speed", "vibration", "load"]
    assert call("score", out, "--data", plant / "bad.csv", "--out", tmp_path / "s").exit_code == 0


def test_wrong_use_is_a_clear_error(plant: Path, tmp_path: Path) -> None:
    (tmp_path / "empty.csv").write_text("")
    out = tmp_path / "m.fwm"
    with pytest.raises(ModelError, match="was empty"):
        raise_from(call("train", "--data", tmp_path / "empty.csv", "--out", out))
    wrong = call("train", "--data", plant / "good.csv", "--rows", "first", "--out", out)
    assert wrong.exit_code == 2
    assert "0:400" in wrong.output
    with pytest.raises(ModelError, match="not a bundle"):
        raise_from(call("score", plant / "good.csv", "--data", plant / "good.csv", "--out", out))
    assert not out.exists()


def raise_from(result: Result) -> None:
    """Errors made on purpose pass through the command; `main` turns them into exit code 2."""
    assert result.exception is not None
    raise result.exception


def test_skab_heads_give_a_model_that_finds_every_valve(tmp_path: Path) -> None:
    files = sorted((folder("skab") / "valve1").glob("*.csv"))
    out = tmp_path / "m.fwm"
    made = call(
        "train", "--data", *files, "--rows", "0:400", "--label", "anomaly",
        "--ignore", "changepoint", "--out", out, "--json",
    )  # fmt: skip
    told = json.loads(made.stdout)
    assert told["state"] == "shadow"
    assert "not enough" in told["limit"]["reason"]
    assert call("score", out, "--data", *files, "--out", tmp_path / "s.csv").exit_code == 0
    label = [row["anomaly"] for f in files for row in table(f, ";")]
    rows = table(tmp_path / "s.csv")
    assert len(rows) == len(label)
    hit = {row["group"] for row, y in zip(rows, label, strict=True)
           if y == "1.0" and row["anomalous"] == "1"}  # fmt: skip
    wrong = [row["anomalous"] == "1" for row, y in zip(rows, label, strict=True) if y == "0.0"]
    assert len(hit) == 16
    assert np.mean(wrong) < 0.08
