"""Columns of time: found by name or content, and read as people write them, or refused."""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.cli.columns import Columns
from gateway.cli.files import read
from models.errors import RecordError
from models.record import Record


def load(folder: Path, text: str, columns: Columns | None = None) -> Record:
    path = folder / "a.csv"
    path.write_text(text, encoding="utf-8")
    return read([path], columns or Columns())


def of(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("first", "second", "wanted"),
    [
        ("27.11.2026 14:05:00", "27.11.2026 14:05:01", "2026-11-27T14:05:00"),
        ("27.11.26 14:05", "27.11.26 14:06", "2026-11-27T14:05:00"),
        ("5.3.2026, 4:05:00,25", "5.3.2026, 4:05:01,25", "2026-03-05T04:05:00.250"),
        ("05/11/2026 14:05", "27/11/2026 14:05", "2026-11-05T14:05:00"),
        ("11/05/2026 2:05 PM", "11/27/2026 12:05 AM", "2026-11-05T14:05:00"),
        ("05-11-2026T14:05", "27-11-2026T14:05", "2026-11-05T14:05:00"),
        ("2026/11/5 14:05", "2026/11/5 14:06", "2026-11-05T14:05:00"),
        ("2026-11-05 14:05:00,250", "2026-11-05 14:05:01,250", "2026-11-05T14:05:00.250"),
        ("05/05/2026 14:05", "05/05/2026 14:06", "2026-05-05T14:05:00"),
        ("27.11.2026 14:05:00+00:00", "27.11.2026 15:05:00+01:00", "2026-11-27T14:05:00"),
    ],
)
@pytest.mark.parametrize("name", ["Zeit", "stamp"])
def test_dates_as_people_write_them(
    tmp_path: Path, name: str, first: str, second: str, wanted: str
) -> None:
    record = load(tmp_path, f"Druck;{name};n\n1,5;{first};1\n1,6;{second};2\n1,7;;3\n")
    assert record.names == ("Druck", "n")
    assert record.time_s is not None
    assert record.time_s[0] == of(wanted)
    assert record.time_s[1] >= record.time_s[0]
    assert np.isnan(record.time_s[2])
    assert record.time_text[0] == first


def test_a_german_file_without_a_header(tmp_path: Path) -> None:
    record = load(tmp_path, "27.11.2026 14:05:00;1,5;2,5\n27.11.2026 14:05:10;1,6;2,6\n")
    assert record.names == ("c2", "c3")
    assert record.time_s is not None
    assert np.diff(record.time_s).tolist() == [10]


@pytest.mark.parametrize("order", ["Datum;Uhrzeit;a", "Uhrzeit;Datum;a", "a;Datum;Uhrzeit"])
def test_a_date_and_the_time_of_day_beside_it_are_one(tmp_path: Path, order: str) -> None:
    said = {"Datum": "27.11.2026", "a": "1"}
    rows = [
        ";".join((said | {"Uhrzeit": clock})[name] for name in order.split(";"))
        for clock in ("23:59:59", "23:59:59,5")
    ]
    record = load(tmp_path, "\n".join([order, *rows]) + "\n")
    assert record.names == ("a",)
    assert record.time_s is not None
    assert record.time_s.tolist() == [of("2026-11-27T23:59:59"), of("2026-11-27T23:59:59.5")]


@pytest.mark.parametrize(
    ("days", "message"),
    [
        (["05/11/2026", "06/11/2026"], "05/11/2026 may be 5 November or 11 May, and no row tells"),
        (["05-11-2026", "05-11-2026"], "say --day-first or --month-first"),
        (["27/11/2026", "11/27/2026"], "27/11/2026 has its day first and 11/27/2026 its month"),
        (["27.11.2026", "31.02.2026"], r"row 3, column Zeit: must be a time .*31\.02\.2026"),
        (["27.11.2026", "soon"], r"row 3, column Zeit: must be a time .*was 'soon'"),
    ],
)
def test_what_may_be_read_in_two_ways_is_not_guessed(
    tmp_path: Path, days: list[str], message: str
) -> None:
    text = f"Zeit;a\n{days[0]};1\n{days[1]};2\n{days[0]};3\n"
    with pytest.raises(RecordError, match=message):
        load(tmp_path, text)


def test_what_is_unclear_can_be_said(tmp_path: Path) -> None:
    text = "Zeit;a\n05/11/2026;1\n06/11/2026;2\n"
    for day_first, step in ((True, 1), (False, 31)):
        record = load(tmp_path, text, Columns(day_first=day_first))
        assert record.time_s is not None
        assert np.diff(record.time_s).tolist() == [step * 86_400]
    with pytest.raises(RecordError, match=r"must be --day-first, as 27/11/2026 shows"):
        load(tmp_path, "Zeit;a\n27/11/2026;1\n", Columns(day_first=False))


def test_a_time_without_its_day_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match=r"column Zeit: must be a time .*needs a column of dates"):
        load(tmp_path, "Zeit;a\n14:05:00;1\n14:05:01;2\n")
    record = load(tmp_path, "Zeit;a\n14:05:00;1\n14:05:01;2\n", Columns(ignore=("Zeit",)))
    assert record.time_s is None


def test_of_several_dates_one_must_be_named(tmp_path: Path) -> None:
    text = "a;made;sold\n1;2026-01-01;2026-02-01\n2;2026-01-02;2026-02-03\n"
    with pytest.raises(RecordError, match=r"columns made, sold hold times; name the one .*--time"):
        load(tmp_path, text)
    record = load(tmp_path, text, Columns(time="sold"))
    assert record.time_s is not None
    assert np.diff(record.time_s).tolist() == [2 * 86_400]


def test_what_only_looks_like_a_date_is_none(tmp_path: Path) -> None:
    assert load(tmp_path, "firmware;a\n1.2.10;1\n1.2.11;2\n").time_s is None
    assert load(tmp_path, "temps;a\n20;1\n21;2\n").names == ("temps", "a")


@pytest.mark.parametrize(("unit", "step"), [("ms", 0.5), ("s", 500), ("h", 1_800_000), ("", 500)])
def test_numbers_are_of_the_unit_in_brackets(tmp_path: Path, unit: str, step: float) -> None:
    record = load(tmp_path, f"Time [{unit}],a\n0,1\n500,2\n")
    assert record.time_s is not None
    assert np.diff(record.time_s).tolist() == [step]


@given(st.datetimes(min_value=datetime(1971, 1, 1), max_value=datetime(2099, 12, 31)))  # noqa: DTZ001
def test_any_moment_is_read_as_it_was_written(
    tmp_path_factory: pytest.TempPathFactory, moment: datetime
) -> None:
    folder = tmp_path_factory.getbasetemp()
    record = load(folder, f"Zeit;a\n{moment:%d.%m.%Y %H:%M:%S,%f};1\n{moment:%d.%m.%Y};2\n")
    assert record.time_s is not None
    assert record.time_s[0] == pytest.approx(moment.replace(tzinfo=UTC).timestamp(), abs=1e-6)
