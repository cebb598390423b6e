"""`forewarn evaluate --kind failure|rul`, as a reliability engineer runs it on files."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from gateway.cli.evaluate import command

pytestmark = pytest.mark.usefixtures("few_questions")


def _written(path: Path, names: str, rows: np.ndarray) -> str:
    lines = [names, *(",".join(f"{value:.6g}" for value in row) for row in rows.tolist())]
    path.write_text("\n".join(lines) + "\n")
    return str(path)


def test_a_failure_model_is_judged_beside_a_forest(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    values = random.normal(size=(500, 2))
    fails = (values[:, 0] * values[:, 1] > 1).astype(float)
    rows = np.column_stack([values, fails])
    train = _written(tmp_path / "train.csv", "a,b,fails", rows[:300])
    test = _written(tmp_path / "test.csv", "a,b,fails", rows[300:])
    page = tmp_path / "r.html"
    arguments = ["--kind", "failure", "--train", train, "--data", test, "--label", "fails"]
    done = CliRunner().invoke(command, [*arguments, "--json", "--out", str(page)])
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    ways = told["measures"]["fails"]
    assert set(ways) == {"int8", "fp32", "yardstick"}
    assert ways["int8"]["failures"] == int(rows[300:, 2].sum())
    assert ways["int8"]["average_precision"] > 0.8
    assert sum(row["rows"] for row in told["reliability"]["fails"]) == 200
    html = page.read_text()
    assert "fails: reliability" in html
    assert "fails: precision and recall" in html


def test_a_remaining_life_is_judged_in_the_last_rows_that_a_file_tells(tmp_path: Path) -> None:
    random = np.random.default_rng(2)

    def fleet(units: int, cut: int) -> np.ndarray:
        rows = []
        for unit in range(units):
            life = int(random.integers(40, 70))
            left = np.arange(life)[::-1]
            seen = slice(0, life - cut)
            wear = 10 * np.exp(-left / 15) + 0.3 * random.normal(size=life)
            one = np.column_stack([np.full(life, unit), np.arange(life), wear])
            rows.append(one[seen])
        return np.concatenate(rows)

    train = _written(tmp_path / "train.csv", "unit,cycle,wear", fleet(8, 0))
    test = _written(tmp_path / "test.csv", "unit,cycle,wear", fleet(5, 7))
    truth = tmp_path / "left.txt"
    truth.write_text("7\n" * 5)
    page = tmp_path / "r.html"
    common = [
        "--kind",
        "rul",
        "--train",
        train,
        "--data",
        test,
        "--group",
        "unit",
        "--time",
        "cycle",
    ]
    done = CliRunner().invoke(
        command, [*common, "--cap", "30", "--truth", str(truth), "--json", "--out", str(page)]
    )
    assert done.exit_code == 0, done.output
    ways = json.loads(done.stdout)["measures"]["remaining life"]
    assert ways["int8"]["rows"] == 5
    assert ways["int8"]["rmse"] < 8
    assert 0 <= ways["int8"]["interval_holds"] <= 1
    assert "Remaining life, rows" in page.read_text()
    truth.write_text("7\n" * 4)
    wrong = CliRunner().invoke(command, [*common, "--cap", "30", "--truth", str(truth)])
    assert wrong.exit_code == 2
    assert "must hold one number a sequence, 5, held 4" in wrong.output


def test_what_such_a_model_needs_is_said(tmp_path: Path) -> None:
    file = _written(tmp_path / "a.csv", "a,b", np.zeros((3, 2)))
    for arguments, says in (
        (["--kind", "rul", "--data", file], "needs --train FILES"),
        (["--kind", "failure", "--data", file, "--train", file], "needs --label"),
    ):
        done = CliRunner().invoke(command, arguments)
        assert done.exit_code == 2
        assert says in done.output
