"""Files as they should not be: what `forewarn train` and `forewarn score` say of them."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from numpy.typing import NDArray

from gateway.cli import group
from models.errors import ModelError

Floats = NDArray[np.float64]
NAMES = ("speed [rpm]", "temperature [°C]", "current [A]")
ROWS = 1200


def machine(rows: int = ROWS) -> Floats:
    """A load that moves on and on, and what follows it."""
    rng = np.random.default_rng(3)
    load = 50 + 20 * np.sin(np.arange(rows) / 60) + rng.normal(0, 1, rows)
    clean = np.stack([1450 + 2 * load, 40 + 0.3 * load, 5 + 0.1 * load], axis=1)
    return clean + rng.normal(size=clean.shape) * (2, 0.3, 0.05)


def write(path: Path, values: Floats, names: tuple[str, ...] = NAMES) -> Path:
    lines = [
        ",".join([str(row), *("" if np.isnan(v) else f"{v:.4f}" for v in line)])
        for row, line in enumerate(values)
    ]
    path.write_text("\n".join([",".join(["time", *names]), *lines]) + "\n")
    return path


def call(*args: object) -> Result:
    return CliRunner().invoke(group, [str(a) for a in args])


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    out = folder / "m.fwm"
    made = call("train", "--data", write(folder / "healthy.csv", machine()), "--out", out)
    assert made.exit_code == 0, made.output
    return out


def scored(model: Path, folder: Path, values: Floats) -> tuple[dict[str, int], list[str]]:
    data = write(folder / "a.csv", values)
    result = call("score", model, "--data", data, "--out", folder / "s.csv", "--json")
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert told["rows"] == len(values)
    assert all(f"note: {note}" in result.stderr for note in told["notes"])
    return told, told["notes"]


def test_a_healthy_file_has_no_note(model: Path, tmp_path: Path) -> None:
    told, notes = scored(model, tmp_path, machine())
    assert told["judged"] > ROWS - 60
    assert told["anomalous"] == 0
    assert notes == []


@pytest.mark.parametrize(
    ("column", "change", "words"),
    [
        (0, lambda x: x / 1000, "as if it were in another unit (times 1000 down)"),
        (2, lambda x: x * 1000, "as if it were in another unit (times 1000)"),
        (1, lambda x: x * 1.8 + 32, "as if it were in another unit (°C to °F)"),
        (0, lambda x: x * 0, "another unit, another machine, or it stands?"),
    ],
)
def test_another_unit_than_learned_is_said(
    model: Path, tmp_path: Path, column: int, change: Callable[[Floats], Floats], words: str
) -> None:
    values = machine()
    values[:, column] = change(values[:, column])
    _, (note,) = scored(model, tmp_path, values)
    assert note.startswith(f"{NAMES[column]}: ")
    assert note.endswith(words)


@pytest.mark.parametrize(
    ("column", "change", "words"),
    [
        (0, lambda x: x * 1000, "speed [rpm]: changes as if its unit did (times 1000 up)"),
        (1, lambda x: x * 1.8 + 32, "temperature [°C]: changes as if its unit did (°C to °F)"),
    ],
)
def test_a_unit_that_changes_in_the_middle_of_a_load_is_not_learned(
    tmp_path: Path, column: int, change: Callable[[Floats], Floats], words: str
) -> None:
    values = machine()
    values[700:, column] = change(values[700:, column])
    made = call("train", "--data", write(tmp_path / "a.csv", values), "--out", tmp_path / "m.fwm")
    assert f"{words} at row 701; rows 701 to 1200 are left out" in made.output


def test_where_nothing_can_be_judged_the_reason_is_said(model: Path, tmp_path: Path) -> None:
    for values, words in (
        (machine() * np.nan, "no row could be judged: 100% of the values are missing"),
        (machine(20), "samples, one each 1 s; the longest sequence here has 20 rows"),
    ):
        told, notes = scored(model, tmp_path, values)
        assert told["judged"] == told["anomalous"] == 0
        assert notes[-1].endswith(words)


def test_infinite_is_missing(model: Path, tmp_path: Path) -> None:
    values = machine()
    values[::7, 2] = np.inf
    told, _ = scored(model, tmp_path, values)
    assert told["judged"] > ROWS - 60
    assert told["anomalous"] < 0.02 * ROWS


def test_other_signals_are_refused_by_name(model: Path, tmp_path: Path) -> None:
    names = (NAMES[0], "temperature [°F]", NAMES[2])
    data = write(tmp_path / "a.csv", machine(), names)
    result = call("score", model, "--data", data, "--out", tmp_path / "s.csv")
    assert isinstance(result.exception, ModelError)
    assert "the model: no column temperature [°C]; there are time, speed [rpm], " in str(
        result.exception
    )


def test_an_idle_record_teaches_nothing(tmp_path: Path) -> None:
    data = write(tmp_path / "a.csv", machine() * 0)
    result = call("train", "--data", data, "--out", tmp_path / "m.fwm")
    assert isinstance(result.exception, ModelError)
    assert "nothing to learn (an idle machine, or a dead link?)" in str(result.exception)
    assert not (tmp_path / "m.fwm").exists()
