"""`--events` and `--failures`: a plant's tables beside its telemetry, from train to score."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from gateway.cli import group
from gateway.cli.columns import Columns
from gateway.cli.event_tables import check, with_tables
from gateway.cli.files import read
from models.errors import RecordError

HOURS = 200
COLUMNS = Columns(group="machine")
pytestmark = pytest.mark.usefixtures("few_questions")


def _when(hour: float) -> str:
    return str(np.datetime64("2026-01-01T00:00:00") + np.timedelta64(round(hour * 60), "m"))


def _write(path: Path, header: str, rows: Sequence[tuple[object, ...]]) -> Path:
    path.write_text("\n".join([header, *(",".join(map(str, row)) for row in rows)]) + "\n")
    return path


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six machines: error e1 comes 6 h before each failure, e2 by chance, volt says nothing."""
    root = tmp_path_factory.mktemp("plant")
    random = np.random.default_rng(0)
    errors: list[tuple[object, ...]] = []
    failures: list[tuple[object, ...]] = []
    telemetry: dict[str, list[tuple[object, ...]]] = {"train": [], "test": []}
    for machine in range(6):
        for hour in (60 + machine, 120 + 2 * machine, 170):
            errors.append((_when(hour - 6), machine, "e1"))
            failures.append((_when(hour), machine, "belt" if hour < 100 else "motor"))
        errors += [(_when(h), machine, "e2") for h in random.integers(0, HOURS, 4)]
        telemetry["train" if machine < 4 else "test"] += [
            (_when(hour), machine, f"{random.normal():.4f}") for hour in range(HOURS)
        ]
    for name, rows in telemetry.items():
        _write(root / f"{name}.csv", "datetime,machine,volt", rows)
    _write(root / "errors.csv", "datetime,machine,errorID", errors)
    _write(root / "failures.csv", "datetime,machine,failure", failures)
    ages = [(m, f"model{m % 2}", 3 * m) for m in range(6)]
    _write(root / "machines.csv", "machine,model,age", ages)
    return root


def _call(*args: object) -> Result:
    return CliRunner().invoke(group, [str(a) for a in args])


@pytest.fixture(scope="module")
def bundle(plant: Path) -> Path:
    done = _call(
        "train", "--kind", "failure", "--data", plant / "train.csv", "--group", "machine",
        "--events", plant / "errors.csv", "--events", plant / "machines.csv",
        "--failures", plant / "failures.csv", "--within", "6h", "--window", "6rows",
        "--out", plant / "fails.fwm", "--json",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    signals = json.loads(done.stdout)["signals"]
    assert {"errorID.e1", "errorID.e1.ago_h", "volt"} <= set(signals)
    return plant / "fails.fwm"


def _scores(bundle: Path, data: Path, errors: Path, out: Path) -> list[dict[str, str]]:
    done = _call(
        "score", bundle, "--data", data, "--group", "machine", "--events", errors,
        "--events", errors.with_name("machines.csv"), "--out", out,
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    with out.open() as file:
        return list(csv.DictReader(file))


def test_an_error_that_announces_failures_is_learned_and_later_events_change_nothing(
    plant: Path, bundle: Path, tmp_path: Path
) -> None:
    whole = _scores(bundle, plant / "test.csv", plant / "errors.csv", tmp_path / "s.csv")
    assert [row["group"] for row in whole] == ["4"] * HOURS + ["5"] * HOURS
    assert whole[HOURS]["time"] == _when(0)
    said = np.array([float(row["probability"] or "nan") for row in whole]).reshape(2, HOURS)
    assert said[0, 58:64].min() > 0.5  # e1 at hour 58, the failure at 64
    assert np.nanmax(said[0, 10:58]) < 0.5

    lines = (plant / "errors.csv").read_text().splitlines()
    early = [lines[0], *(line for line in lines[1:] if line.split(",")[0] <= _when(60))]
    cut = tmp_path / "errors.csv"
    cut.write_text("\n".join(early) + "\n")
    (tmp_path / "machines.csv").write_text((plant / "machines.csv").read_text())
    some = _scores(bundle, plant / "test.csv", cut, tmp_path / "c.csv")
    until = [i for i in range(2 * HOURS) if i % HOURS <= 60]
    assert [some[i] for i in until] == [whole[i] for i in until]
    assert some != whole


def test_score_without_the_tables_says_which_signals_are_lacking(
    plant: Path, bundle: Path, tmp_path: Path
) -> None:
    done = _call(
        "score", bundle, "--data", plant / "test.csv", "--group", "machine",
        "--out", tmp_path / "s.csv",
    )  # fmt: skip
    assert done.exit_code != 0
    assert "errorID.e1" in str(done.exception or done.output)
    assert "--events" in str(done.exception or done.output)


def test_score_says_what_it_could_not_use(plant: Path, bundle: Path, tmp_path: Path) -> None:
    errors = _write(tmp_path / "e.csv", "datetime,machine,errorID", [(_when(3), "M4", "e9")])
    done = _call(
        "score", bundle, "--data", plant / "test.csv", "--group", "machine", "--events", errors,
        "--events", plant / "machines.csv", "--out", tmp_path / "s.csv",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "nothing of errorID.e1, errorID.e1.ago_h" in done.stderr
    assert "codes that the model did not learn: e9" in done.stderr


def test_evaluate_takes_the_same_tables(plant: Path) -> None:
    done = _call(
        "evaluate", "--kind", "failure", "--train", plant / "train.csv", "--data",
        plant / "test.csv", "--group", "machine", "--events", plant / "errors.csv",
        "--failures", plant / "failures.csv", "--within", "6h", "--window", "6rows", "--json",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    measures = json.loads(done.stdout)["measures"]["failure"]["int8"]
    assert measures["failures"] == 2 * 3 * 6
    assert measures["average_precision"] > 0.8


def test_labels_pick_failure_modes(plant: Path) -> None:
    def labels(*modes: str) -> list[str]:
        columns = with_tables(
            Columns(group="machine", labels=modes), [], failures=plant / "failures.csv", within="6h"
        )
        return list(read([plant / "train.csv"], columns).labels)

    assert labels() == ["failure"]
    assert labels("motor", "belt") == ["belt", "motor"]
    with pytest.raises(RecordError, match=r"no failure pump; there are belt, motor"):
        labels("pump")


def test_what_a_table_of_failures_says_beside_matters_only_for_modes(
    plant: Path, tmp_path: Path
) -> None:
    rows = [line.split(",") for line in (plant / "failures.csv").read_text().split()[1:]]
    told = [(*row, f"new {row[2]}, {i}") for i, row in enumerate(rows)]
    wordy = tmp_path / "wordy.csv"
    with wordy.open("w", newline="") as file:
        csv.writer(file).writerows([("datetime", "machine", "part", "remark"), *told])
    bare = _write(tmp_path / "bare.csv", "datetime,machine", [tuple(row[:2]) for row in rows])

    def labels(path: Path, *modes: str) -> dict[str, np.ndarray]:
        columns = Columns(group="machine", labels=modes)
        columns = with_tables(columns, [], failures=path, within="6h")
        return dict(read([plant / "train.csv"], columns).labels)

    want = labels(plant / "failures.csv")["failure"]
    for path in (wordy, bare):
        np.testing.assert_array_equal(labels(path)["failure"], want)
    belt = labels(plant / "failures.csv", "belt")["belt"]
    np.testing.assert_array_equal(labels(wordy, "belt")["belt"], belt)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("datetime,errorID\n2026-01-01,e1\n", r"must have the column machine of --group"),
        (
            "datetime,machine,a,b\n2026-01-01,1,x,y\n",
            r"one column of codes .* has a, b; .*--ignore",
        ),
        ("datetime,machine,a\n2026-01-01,1,\n2026-01-02,1,x\n", r"row 2: must have a time and a c"),
        ("machine,age\n1,3\n1,4\n", r"must have one row a machine, has several of 1"),
        ("machine,volt\n1,3\n2,4\n", r"--events: volt is a column of the file as well"),
        ("datetime,machine,a\n2026-01-01,M1,x\n", r"is of a machine and time .* machines are 0, 1"),
    ],
)
def test_tables_that_do_not_fit_are_refused(
    plant: Path, tmp_path: Path, text: str, message: str
) -> None:
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(RecordError, match=message):
        columns = with_tables(COLUMNS, [tmp_path / "t.csv"])
        check(read([plant / "train.csv"], columns), columns)


def test_more_codes_than_a_model_can_use_are_refused(tmp_path: Path) -> None:
    path = _write(
        tmp_path / "e.csv", "datetime,machine,msg", [(_when(i), 1, f"m{i}") for i in range(65)]
    )
    with pytest.raises(RecordError, match=r"column msg: must have at most 64 codes, had 65"):
        with_tables(COLUMNS, [path])


def test_failures_need_a_horizon(plant: Path) -> None:
    with pytest.raises(RecordError, match="needs --within"):
        with_tables(COLUMNS, [], failures=plant / "failures.csv")
    with pytest.raises(RecordError, match=r"must be a time such as 24h, was '9rows'"):
        with_tables(COLUMNS, [], failures=plant / "failures.csv", within="9rows")
    done = _call("train", "--data", plant / "train.csv", "--out", "m", "--events", "e.csv")
    assert done.exit_code == 2
    assert "failure and rul models" in done.output
