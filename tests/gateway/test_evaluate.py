"""`forewarn evaluate` as a user calls it."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from gateway.cli import group
from tests.models.plants import healthy
from tests.real_data import folder


def call(*args: object) -> Result:
    return CliRunner().invoke(group, [str(a) for a in args])


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("runs")
    for seed in range(3):
        record = healthy(1200, seed)
        values = record.values.copy()
        fault = np.zeros(1200, int)
        if seed:
            values[900:1100, 3] += 2
            fault[900:1100] = 1
        lines = [",".join([*record.names, "fault"])]
        lines += [
            ",".join([*(f"{v:.5g}" for v in row), str(f)])
            for row, f in zip(values, fault, strict=True)
        ]
        (root / f"run{seed}.csv").write_text("\n".join(lines))
    return root


@pytest.mark.parametrize("more", [[], ["--each", "--compare"]])
def test_a_folder_becomes_a_page_and_all_measures(
    runs: Path, tmp_path: Path, more: list[str]
) -> None:
    done = call(
        "evaluate", "--data", runs, "--train-rows", "0:600", "--label", "fault",
        "--out", tmp_path / "r.html", "--json", *more,
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["measures"]["int8"]["events_hit"] == 2
    assert (
        abs(told["measures"]["int8"]["auroc_mean"] - told["measures"]["fp32"]["auroc_mean"]) < 0.01
    )
    assert told["files"][1]["drivers"].startswith("vibration")
    assert told["files"][1]["why"].startswith("vibration ")
    assert (
        ", high (usually" in told["files"][1]["why"]
        or ", high for these" in told["files"][1]["why"]
    )
    page = (tmp_path / "r.html").read_text("utf-8")
    assert f"<li>run1.csv: {told['files'][1]['why']}" in page
    assert [f["rows"] for f in told["files"]] == [600] * 3
    assert ("autoencoder" in told["measures"]) == bool(more)
    assert (tmp_path / "r.html").stat().st_size > 1_000_000


def test_faults_by_row_number_and_healthy_files(runs: Path) -> None:
    done = call(
        "evaluate", "--train", runs / "run0.csv", "--data", runs, "--ignore", "fault",
        "--fault-from", "900", "--healthy", "run0", "--json",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert [round(f["anomalous"], 2) for f in told["files"]] == [0, 0.25, 0.25]
    shown = call(
        "evaluate", "--train", runs / "run0.csv", "--data", runs, "--ignore", "fault",
        "--fault-from", "900", "--healthy", "run0.csv",
    )  # fmt: skip
    assert "everything anomalous" in shown.output


def test_a_label_is_known_by_its_name_and_that_is_said(runs: Path) -> None:
    args = ("evaluate", "--data", runs, "--train-rows", "0:600", "--json")
    named, found = (json.loads(call(*args, *more).stdout) for more in (["--label", "fault"], []))
    assert found["notes"][0] == "fault: taken for --label by its name; 400 rows are anomalous by it"
    assert found["measures"] == named["measures"]


def test_which_of_two_labels_is_meant_must_be_said(runs: Path, tmp_path: Path) -> None:
    head, *rows = (runs / "run1.csv").read_text().splitlines()
    twice = tmp_path / "twice.csv"
    twice.write_text("\n".join([f"{head},changepoint", *(f"{row},0" for row in rows)]))
    bare = tmp_path / "bare.csv"
    bare.write_text("\n".join(row.rpartition(",")[0] for row in [head, *rows]))
    for data, was in (([twice], "changepoint, fault"), ([runs, bare], "none")):
        done = call("evaluate", *(f"--data={each}" for each in data), "--train-rows", "0:600")
        text = str(done.exception)
        assert f"{data[-1]}: one label must be known by its name" in text
        assert f"was {was}; name it with --label, or give --fault-from ROW" in text


def test_a_label_in_the_training_files_is_no_signal(runs: Path, tmp_path: Path) -> None:
    odd = tmp_path / "odd.csv"
    odd.write_text((runs / "run1.csv").read_text().replace("fault", "worn", 1))
    done = call("evaluate", "--train", odd, "--data", odd, "--label", "worn", "--json")
    assert done.exit_code == 0, done.output


def test_wrong_use_says_what_is_missing(runs: Path, tmp_path: Path) -> None:
    for args in (
        ["--data", runs, "--label", "fault"],
        ["--data", runs, "--train-rows", "0:9", "--label", "fault", "--fault-from", "9"],
        ["--data", tmp_path, "--train-rows", "0:9", "--label", "fault"],
    ):
        done = call("evaluate", *args)
        assert done.exit_code == 2
        assert "give either" in done.output or "no file" in done.output


def test_the_process_with_feedback_is_judged_better_than_by_pca(tmp_path: Path) -> None:
    tep = folder("tep")
    for name in ("d00_te", "d01_te", "d05_te", "d10_te"):
        (tmp_path / f"{name}.csv.gz").symlink_to((tep / f"{name}.csv.gz").resolve())
    done = call(
        "evaluate", "--train", tep / "d00.csv.gz", "--data", tmp_path, "--fault-from", "160",
        "--healthy", "d00_te", "--compare", "--json",
    )  # fmt: skip
    told = json.loads(done.stdout)["measures"]
    assert told["int8"]["false_alarm_rate"] <= 0.01
    assert told["int8"]["detection_at_1_percent"] > 0.8
    assert (
        told["int8"]["detection_at_1_percent"] > told["PCA T2/Q on rows"]["detection_at_1_percent"]
    )


def test_bearings_wear_out_without_a_false_alarm_in_their_first_half() -> None:
    done = call(
        "evaluate", "--data", folder("femto"), "--each", "--train-rows", "0:25%",
        "--fault-from", "50%", "--json",
    )  # fmt: skip
    told = json.loads(done.stdout)
    assert told["measures"]["int8"]["false_alarm_rate"] == 0
    assert all(0.5 < f["first_sustained"] < 0.97 for f in told["files"])
