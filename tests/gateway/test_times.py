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
        ("27.11.2026 14:05:00 MEZ", "27.11.2026 15:05:00 MESZ", "2026-11-27T13:05:00"),
        ("2026-11-27 14:05:00 UTC", "2026-11-27 14:05:01 UTC", "2026-11-27T14:05:00"),
        ("27-Nov-2026 14:05:00", "27-Nov-2026 14:05:01", "2026-11-27T14:05:00"),
        ("5. März 2026 14:05", "5. März 2026 14:06", "2026-03-05T14:05:00"),
        ("Mar 5, 2026 2:05 PM", "Mar 5, 2026 2:06 PM", "2026-03-05T14:05:00"),
        ("20261127140500", "20261127140501", "2026-11-27T14:05:00"),
        ("27/11/26 14", "28/11/26 00", "2026-11-27T14:00:00"),
        ("11/27/2026 2 PM", "11/27/2026 3 PM", "2026-11-27T14:00:00"),
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


def test_a_time_without_its_day_goes_on_past_midnight(tmp_path: Path) -> None:
    record = load(tmp_path, "Zeit;a\n22:00:00;1\n23:59:59,5;2\n06:00:00;3\n05:59:58;4\n")
    assert record.time_s is not None
    # A night is a day on; two seconds back are a clock that was set.
    assert np.diff(record.time_s).tolist() == [7199.5, 21_600.5, -2]
    assert "a time of day without its date" in record.notes[0]
    with pytest.raises(RecordError, match=r"row 3, column Zeit: must be a time .*was '25:00:00'"):
        load(tmp_path, "Zeit;a\n22:00:00;1\n25:00:00;2\n22:00:02;2\n")


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


@pytest.mark.parametrize("header", ["t", "unix_time", "c", "Zeit"])
@pytest.mark.parametrize("per_second", [1, 10**3, 10**6, 10**9])
def test_seconds_since_1970_are_a_time_whatever_they_are_called(
    tmp_path: Path, header: str, per_second: int
) -> None:
    rows = "".join(f"{i * i % 7},{(1_772_431_200 + 5 * i) * per_second}\n" for i in range(20))
    record = load(tmp_path, f"a,{header}\n{rows}")
    assert record.names == ("a",)
    assert record.time_s is not None
    np.testing.assert_allclose(record.time_s, 1_772_431_200 + 5.0 * np.arange(20), atol=1e-6)


def test_what_does_not_only_rise_is_no_time(tmp_path: Path) -> None:
    swinging = "".join(f"{1.5e9 + 1e8 * (i % 5)},{20 + i % 3}\n" for i in range(20))
    record = load(tmp_path, f"volume,t\n{swinging}")
    assert record.time_s is None
    assert record.names == ("volume", "t")


@pytest.mark.parametrize(
    ("header", "step_s"),
    [
        ("time_ms", 0.5),
        ("Zeit [us]", 5e-4),
        ("elapsed_s", 500),
        ("t_min", 30_000),
        ("Sekunden", 500),
        ("t", 500),
    ],
)
def test_the_unit_of_a_time_may_end_its_name(tmp_path: Path, header: str, step_s: float) -> None:
    record = load(tmp_path, f"{header},a\n0,1\n500,2\n1000,1\n")
    assert record.time_s is not None
    assert np.diff(record.time_s).tolist() == pytest.approx([step_s, step_s])


def test_excels_days_are_told_from_seconds(tmp_path: Path) -> None:
    days = "".join(f"{46083.25 + i / 1440:.8f};{i}\n" for i in range(5)).replace(".", ",")
    record = load(tmp_path, "Datum;a\n" + days)
    assert record.time_s is not None
    assert record.time_s[0] == of("2026-03-02T06:00:00")
    np.testing.assert_allclose(np.diff(record.time_s), 60.0, atol=2e-3)
    assert (
        "Excel's days since 1900, so 2026-03-02 06:00:00 to 2026-03-02 06:04:00" in record.notes[0]
    )
    seconds = load(
        tmp_path, "time,a\n" + "".join(f"{46083 + i / 1000:.3f},{i}\n" for i in range(5))
    )
    assert seconds.time_s is not None
    assert seconds.time_s[0] == 46_083
    assert seconds.notes == ()


@given(st.datetimes(min_value=datetime(1971, 1, 1), max_value=datetime(2099, 12, 31)))  # noqa: DTZ001
def test_any_moment_is_read_as_it_was_written(
    tmp_path_factory: pytest.TempPathFactory, moment: datetime
) -> None:
    folder = tmp_path_factory.getbasetemp()
    record = load(folder, f"Zeit;a\n{moment:%d.%m.%Y %H:%M:%S,%f};1\n{moment:%d.%m.%Y};2\n")
    assert record.time_s is not None
    assert record.time_s[0] == pytest.approx(moment.replace(tzinfo=UTC).timestamp(), abs=1e-6)
