"""A folder of bursts becomes one file, in order, of what swings, and that file is learned from."""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from gateway.cli import group

RATE_HZ = 20_000.0


def bursts(count: int, samples: int = 512) -> np.ndarray:
    """float64[count, samples, 2], of two axes, one of which is off its zero as such sensors are."""
    rng = np.random.default_rng(0)
    return rng.normal(size=(count, samples, 2)) * [0.1, 0.2] + [-0.1, 0.0]


def loaded(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as held:
        return dict(held)


def gather(folder: Path, out: Path, *options: str) -> Result:
    given = ["gather", str(folder), "--rate-hz", str(RATE_HZ), "--out", str(out), *options]
    return CliRunner().invoke(group, given)


def test_files_called_by_their_time_are_in_its_order_and_can_be_learned(tmp_path: Path) -> None:
    folder, out = tmp_path / "1st_test", tmp_path / "life.npz"
    folder.mkdir()
    made = bursts(24)
    for i in range(24):
        np.savetxt(folder / f"2003.10.22.{i:02d}.06.24", made[i], delimiter="\t", fmt="%.5f")
    done = gather(folder, out, "--name", "vibration_g")
    assert done.exit_code == 0, done.output
    assert "24 bursts of 512 samples (0.0256 s), 2 waveforms, by their names" in done.output
    held = loaded(out)
    np.testing.assert_allclose(held["vibration_g"], made, atol=1e-5)
    assert held["rate_hz"] == RATE_HZ
    assert held["t0"][1] == datetime(2003, 10, 22, 1, 6, 24, tzinfo=UTC).timestamp()
    model = str(tmp_path / "m.fwm")
    trained = CliRunner().invoke(group, ["train", "--data", str(out), "--out", model])
    assert trained.exit_code == 0, trained.output


def test_numbers_come_in_order_and_a_clock_among_the_columns_is_no_waveform(tmp_path: Path) -> None:
    folder, out = tmp_path / "Bearing1_1", tmp_path / "life.npz"
    folder.mkdir()
    made = bursts(11)
    for i in range(11):
        clock = np.column_stack([np.full(512, 9.0), np.arange(512) * 50.0])
        rows = np.column_stack([clock, made[i]])
        header = "hour,us,horizontal,vertical"
        np.savetxt(folder / f"acc_{i + 1}.csv", rows, "%.5f", ",", header=header, comments="")
    assert gather(folder, out, "--every", "10min").exit_code == 0
    held = loaded(out)
    np.testing.assert_allclose(held["waveform"], made, atol=1e-5)
    np.testing.assert_array_equal(held["t0"], np.arange(11) * 600.0)
    done = gather(folder, out, "--columns", "vertical,3")
    assert "without a time (--every)" in done.output
    held = loaded(out)
    np.testing.assert_allclose(held["waveform"], made[:, :, ::-1], atol=1e-5)
    assert "t0" not in held


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--columns", "sound"], "must be of c1, c2, or 1 to 2, was 'sound'"),
        (["--columns", "3"], "must be of c1, c2, or 1 to 2, was '3'"),
        (["--every", "soon"], "must be such as 10min or 30s, was 'soon'"),
    ],
)
def test_what_cannot_be_meant_is_refused(options: list[str], says: str, tmp_path: Path) -> None:
    folder = tmp_path / "bursts"
    folder.mkdir()
    np.savetxt(folder / "1.csv", bursts(1)[0], delimiter=",")
    done = gather(folder, tmp_path / "life.npz", *options)
    assert done.exit_code == 2
    assert says in " ".join(done.output.replace("│", " ").split())
    assert not (tmp_path / "life.npz").exists()


def test_files_that_are_no_bursts_are_named(tmp_path: Path) -> None:
    folder, out = tmp_path / "bursts", tmp_path / "life.npz"
    folder.mkdir()
    np.savetxt(folder / "1.csv", bursts(1)[0], delimiter=",")
    np.savetxt(folder / "2.csv", bursts(1)[0][:100], delimiter=",")
    done = gather(folder, out)
    assert done.exit_code == 1
    assert "2.csv: must be about as long as the others (512 rows), has 100" in done.output
    np.savetxt(folder / "2.csv", bursts(1)[0][:, :1], delimiter=",")
    assert "2.csv: must have 2 columns as the first file, has 1" in gather(folder, out).output
    (folder / "1.csv").unlink()
    np.savetxt(folder / "2.csv", np.arange(600.0)[:, None])
    assert "no column swings about its mean as a waveform does (c1)" in gather(folder, out).output
    (folder / "2.csv").unlink()
    assert gather(folder, out).exit_code == 2
    refused = CliRunner().invoke(group, ["train", "--data", str(folder), "--out", "m.fwm"])
    assert "a folder of bursts becomes one by forewarn gather" in str(refused.exception)
