"""Tables as plants keep them: a row a value, several machines, any order, labels unnamed."""

import csv
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from gateway.cli import group
from gateway.cli.columns import Columns
from gateway.cli.files import read
from models.errors import RecordError
from models.record import Record
from models.training.label import run_length

ROWS = 60


def load(tmp_path: Path, text: str, columns: Columns | None = None) -> Record:
    path = tmp_path / "a.csv"
    path.write_text(text, encoding="utf-8")
    return read([path], columns or Columns())


@pytest.mark.parametrize("header", ["time,tag,value", "Zeit,TagName,Wert", "ts,sensor_id,reading"])
def test_a_row_for_each_value_becomes_one_for_each_moment(tmp_path: Path, header: str) -> None:
    text = f"{header}\n0,speed,1\n0,heat,20\n1,speed,2\n2,heat,21\n2,speed,3\n"
    record = load(tmp_path, text)
    assert record.names == ("speed", "heat")
    np.testing.assert_array_equal(record.values, [[1, 20], [2, np.nan], [3, 21]])
    assert record.time_s is not None
    assert record.time_s.tolist() == [0, 1, 2]
    assert "one row for each value" in record.notes[0]
    # As a model asks for its signals.
    assert load(tmp_path, text, Columns(signals=("heat",))).values.shape == (3, 1)


def test_a_row_for_each_value_keeps_machines_apart(tmp_path: Path) -> None:
    rows = "".join(f"{t},{m},{tag},{t + 10 * m}\n" for t in (0, 1) for m in (1, 2) for tag in "ab")
    record = load(tmp_path, "time,unit,tag,value\n" + rows, Columns(group="unit"))
    assert record.groups == ("1", "2")
    assert record.values.tolist() == [[10, 10], [11, 11], [20, 20], [21, 21]]


@pytest.mark.parametrize("names", [("1", "2", "3"), ("M1", "M2", "M3")])
def test_what_tells_rows_of_one_time_apart_is_a_machine(
    tmp_path: Path, names: tuple[str, ...]
) -> None:
    rows = [f"{t},{name},{t % 7},{t % 3}\n" for t in range(ROWS) for name in names]
    record = load(tmp_path, "time,machine,a,b\n" + "".join(rows))
    assert record.groups == names
    assert record.names == ("a", "b")
    assert record.notes == ("machine: tells apart rows of one time, so taken for --group",)
    one = load(tmp_path, "time,machine,a,b\n" + "".join(rows[::3]))
    assert len(one.groups) == 1


def test_rows_are_taken_in_order_of_time(tmp_path: Path) -> None:
    order = np.random.default_rng(1).permutation(ROWS)
    for at in (order, np.arange(ROWS)[::-1]):
        record = load(tmp_path, "time,a\n" + "".join(f"{t},{t * 2}\n" for t in at))
        assert record.time_s is not None
        assert record.time_s.tolist() == list(range(ROWS))
        assert record.values[:, 0].tolist() == [2.0 * t for t in range(ROWS)]
        np.testing.assert_array_equal(record.places, np.argsort(at))
    path = tmp_path / "b.csv"
    path.write_text("time,a\n" + "".join(f"{t},{t}\n" for t in range(ROWS)))
    both = read([path, tmp_path / "a.csv"], Columns())
    np.testing.assert_array_equal(both.places[ROWS:], ROWS + np.arange(ROWS)[::-1])


def test_a_clock_that_was_set_back_or_starts_anew_is_no_disorder(tmp_path: Path) -> None:
    for times in ([*range(100), *range(40, 140)], [*range(20)] * 10):
        record = load(tmp_path, "time,a\n" + "".join(f"{t},{i % 9}\n" for i, t in enumerate(times)))
        assert record.time_s is not None
        assert record.time_s.tolist() == times
        assert record.notes == ()


def test_rows_within_a_tick_of_the_clock_are_spread(tmp_path: Path) -> None:
    rows = [f"2026-03-02 06:{i // 6:02},{i % 5}\n" for i in range(3, 60)]
    record = load(tmp_path, "time,a\n" + "".join(rows))
    assert record.time_s is not None
    np.testing.assert_allclose(np.diff(record.time_s), 10.0)
    assert "share their time" in record.notes[0]


@pytest.mark.parametrize("name", ["anomaly", "Label", "is_fault", "Störung", "y"])
def test_a_label_is_no_signal_though_nobody_names_it(tmp_path: Path, name: str) -> None:
    rows = "".join(f"{i % 7},{int(i > 50)}\n" for i in range(ROWS))
    record = load(tmp_path, f"a,{name}\n{rows}")
    assert record.names == ("a",)
    assert record.labels[name].sum() == 9
    assert record.notes == (f"{name}: taken for --label by its name, so its 9 rows are left out",)
    assert load(tmp_path, f"a,{name}\n{rows}", Columns(signals=("a", name))).names == ("a", name)
    assert load(tmp_path, f"a,{name}\n{rows}", Columns(ignore=(name,))).labels == {}


def test_what_is_measured_is_no_label_by_its_name(tmp_path: Path) -> None:
    rows = "".join(f"{i % 7},{i % 3 * 15 + 40},{i / 7}\n" for i in range(ROWS))
    record = load(tmp_path, f"x,target,y\n{rows}")
    assert record.names == ("x", "target", "y")
    several = load(tmp_path, "a,class\n" + "".join(f"{i % 7},{i % 4}\n" for i in range(ROWS)))
    assert several.names == ("a",)
    assert several.labels == {}
    assert several.notes[0].startswith("class: left out, a label by its name")


def test_a_label_in_words_tells_healthy_from_not(tmp_path: Path) -> None:
    text = "a,state\n1,NORMAL\n2,RECOVERING\n3,\n4,BROKEN\n"
    label = load(tmp_path, text, Columns(labels=("state",))).labels["state"]
    np.testing.assert_array_equal(label, [0, 1, np.nan, 1])
    text = "a,state\n1,rot\n2,blau\n"
    with pytest.raises(RecordError, match="column state: must be 0 where healthy, or hold one of"):
        load(tmp_path, text, Columns(labels=("state",)))


def test_a_label_may_be_one_class_of_a_column(tmp_path: Path) -> None:
    text = "a,valve,kind\n1,100,ok\n2,73,worn\n3,,torn\n4,80,\n"
    columns = Columns(labels=("valve=73", "kind=torn"))
    record = load(tmp_path, text, columns)
    np.testing.assert_array_equal(record.labels["valve=73"], [0, 1, np.nan, 0])
    np.testing.assert_array_equal(record.labels["kind=torn"], [0, 0, 1, np.nan])
    assert record.names == ("a",)
    with pytest.raises(RecordError, match="--label: no column pump"):
        load(tmp_path, text, Columns(labels=("pump=1",)))


def test_of_minus_one_and_one_the_one_fails(tmp_path: Path) -> None:
    label = load(tmp_path, "a,test\n1,-1\n2,1\n3,\n", Columns(labels=("test",))).labels["test"]
    np.testing.assert_array_equal(label, [0, 1, np.nan])
    words = load(tmp_path, "a,class\n1,neg\n2,pos\n", Columns(labels=("class",))).labels["class"]
    np.testing.assert_array_equal(words, [0, 1])


def test_rows_of_several_machines_by_turns_are_taken_machine_by_machine(tmp_path: Path) -> None:
    """A daily list of disks: what holds for a week must not look as if it held for one row."""
    rows = "".join(f"{d},{m},{d * 10 + m},{int(d > 6)}\n" for d in range(10) for m in (2, 1, 3))
    columns = Columns(time="day", group="disk", labels=("soon",))
    record = load(tmp_path, f"day,disk,x,soon\n{rows}", columns)
    assert record.groups == ("2", "1", "3")
    np.testing.assert_array_equal(record.group, np.repeat([0, 1, 2], 10))
    np.testing.assert_array_equal(record.values[10:20, 0], np.arange(10) * 10 + 1)
    np.testing.assert_array_equal(record.places[:3], [0, 3, 6])
    assert run_length(record.labels["soon"][:, None], record.group) == 3


@pytest.mark.parametrize("none", ["-9999", "-999.25", "1e31", "-32768"])
def test_a_number_that_means_none_is_missing(tmp_path: Path, none: str) -> None:
    rows = "".join(f"{none if i == 5 else i % 7},{i % 3}\n" for i in range(ROWS))
    record = load(tmp_path, f"a,b\n{rows}")
    assert np.flatnonzero(np.isnan(record.values[:, 0])).tolist() == [5]
    assert record.notes == (
        f"a: {float(none):g} lies apart from all others and means that there is none",
    )
    assert record.no_value == {"a": (float(none),)}


def test_a_number_among_others_is_a_value(tmp_path: Path) -> None:
    record = load(tmp_path, "a,b\n-999,1\n900,2\n-300,3\n")
    assert record.values[0, 0] == -999
    assert record.notes == ()


def test_arrays_beside_a_time_are_columns(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    stamps = np.datetime64("2026-03-02T06:00") + np.arange(ROWS) * np.timedelta64(1, "s")
    np.savez(path, time=stamps, a=np.arange(ROWS) % 7, b=np.arange(ROWS) / 3)
    record = read([path], Columns())
    assert record.names == ("a", "b")
    assert record.time_s is not None
    assert np.diff(record.time_s).tolist() == [1] * (ROWS - 1)


def test_scores_stand_in_the_order_of_the_file(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    noise = rng.normal(size=(3000, 2))
    lines = [f"{t},{a:.3f},{b:.3f}\n" for t, (a, b) in enumerate(noise)]
    train, turned = tmp_path / "train.csv", tmp_path / "turned.csv"
    train.write_text("time,a,b\n" + "".join(lines))
    turned.write_text("time,a,b\n" + "".join(lines[:400][::-1]))
    model, run = tmp_path / "m.fwm", CliRunner().invoke
    made = run(group, ["train", "--data", str(train), "--out", str(model)])
    assert made.exit_code == 0, made.output
    said = {}
    (tmp_path / "right.csv").write_text("time,a,b\n" + "".join(lines[:400]))
    for name in ("turned", "right"):
        out = tmp_path / f"{name}-scores.csv"
        made = run(
            group, ["score", str(model), "--data", str(tmp_path / f"{name}.csv"), "--out", str(out)]
        )
        assert made.exit_code == 0, made.output
        with out.open() as file:
            said[name] = [(row["time"], row["score"]) for row in csv.DictReader(file)]
    assert said["turned"] == said["right"][::-1]
