"""Tables as they come: any delimiter, header or none, times of all kinds, and clear refusals."""

import gzip
import zipfile
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.cli.columns import Columns
from gateway.cli.files import read
from models.errors import RecordError
from models.formula import Formula
from models.record import Record


def load(tmp_path: Path, text: str, columns: Columns | None = None, name: str = "a.csv") -> Record:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return read([path], columns or Columns())


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_delimiter_is_found(tmp_path: Path, delimiter: str) -> None:
    text = "time;a;b\n2026-01-01 00:00:00;1;2.5\n2026-01-01 00:00:01;;-3e2\n"
    record = load(tmp_path, text.replace(";", delimiter))
    assert record.names == ("a", "b")
    np.testing.assert_array_equal(record.values, [[1, 2.5], [np.nan, -300]])
    assert record.time_s is not None
    assert np.diff(record.time_s).tolist() == [1.0]
    assert record.time_text[0] == "2026-01-01 00:00:00"


def test_whitespace_without_a_header_names_columns_by_number(tmp_path: Path) -> None:
    record = load(tmp_path, "1 10   2.5 \n1 11   2.6 \n2 10   2.7 \n", Columns(group="c1"))
    assert record.names == ("c2", "c3")
    assert record.groups == ("1", "2")
    assert record.group.tolist() == [0, 0, 1]


def test_columns_without_a_header_are_named_by_number(tmp_path: Path) -> None:
    text = "1 10 2.5 0\n1 11 2.6 0\n2 10 2.7 1\n"
    record = load(tmp_path, text, Columns(group="1", time="2", labels=("4",)))
    assert record.names == ("c3",)
    assert record.groups == ("1", "2")
    assert record.labels["c4"].tolist() == [0, 0, 1]


def test_a_decimal_comma_is_read_where_semicolons_cut(tmp_path: Path) -> None:
    record = load(tmp_path, "a;b\n1,5;2\n-0,25;3\n1.234,5;4\n1.234;5\n")
    np.testing.assert_array_equal(record.values[:, 0], [1.5, -0.25, 1234.5, 1234])
    with pytest.raises(RecordError, match=r"row 3, column a: must be a number, was '1\.25'"):
        load(tmp_path, "a;b\n1,5;2\n1.25;3\n")


def test_a_comma_that_may_part_thousands_is_not_guessed(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match=r"column a: 1,234 may be 1234 or 1\.234; write it so"):
        load(tmp_path, 'a,b\n"1,234",2\n999,3\n')
    record = load(tmp_path, 'a,b\n"1,234",2\n"12,5",3\n')
    np.testing.assert_array_equal(record.values[:, 0], [1.234, 12.5])
    assert load(tmp_path, "a;b\n1,234;2\n").values.tolist() == [[1.234, 2]]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("a;b\n65.912;1,5\n1.065.912;2,5\n", [65_912, 1_065_912]),
        ("a;b\n65.912;1\n66.5;2,5\n", [65.912, 66.5]),
        ('a,b\n"65,912",1.5\n"1,065,912",2.5\n', [65_912, 1_065_912]),
        ('a,b\n"1,725.5",1\n999.5,2\n', [1725.5, 999.5]),
        ("a;b\n65,912;1.5\n66,500;2\n", [65_912, 66_500]),
    ],
)
def test_what_parts_thousands_the_rest_of_the_file_tells(
    tmp_path: Path, text: str, wanted: list[float]
) -> None:
    assert load(tmp_path, text).values[:, 0].tolist() == wanted


def test_words_of_historians_and_excel_are_no_numbers(tmp_path: Path) -> None:
    words = ["Bad Input", "I/O Timeout", "#NV", "#DIV/0!", "--", "No Data"]
    rows = "".join(f"{i};{word}\n{i};2,5\n" for i, word in enumerate(words))
    values = load(tmp_path, "a;b\n" + rows).values[:, 1]
    np.testing.assert_array_equal(values, [np.nan, 2.5] * len(words))


def test_true_and_false_are_numbers(tmp_path: Path) -> None:
    record = load(tmp_path, "door,WAHR?,a\nTRUE,falsch,1\nFALSE,wahr,2\n")
    assert record.values.tolist() == [[1, 0, 1], [0, 1, 2]]


@pytest.mark.parametrize(
    "above",
    [
        "# Rig 7, 2026\n",
        "Logger;DL-200\nSerial no.;1234\n\nStart: 2026\n",
        "% one\n% two\n",
    ],
)
@pytest.mark.parametrize("units", ["", "s;°C;-\n", ";[°C];\n"])
def test_lines_above_the_table_and_a_line_of_units(tmp_path: Path, above: str, units: str) -> None:
    record = load(
        tmp_path,
        above + "time;a;b\n" + units + "0;1,5;1\n1;2,5;x\n2;3,5;4\n3;1;2\n",
        Columns(ignore=("b",)),
    )
    assert record.names == ("a [°C]" if units else "a",)
    assert record.units == ("°C" if units else "",)
    assert record.values[:, 0].tolist() == [1.5, 2.5, 3.5, 1]
    line = 2 + above.replace("\n\n", "\n").count("\n") + bool(units) + 1
    with pytest.raises(RecordError, match=f"row {line}, column b: must be a number, was 'x'"):
        load(
            tmp_path,
            above
            + "time;a;b\n"
            + units.replace("[", "").replace("]", "")
            + "0;1,5;1\n1;2,5;x\n2;3,5;4\n3;1;2\n",
        )


def test_names_in_a_comment_are_names(tmp_path: Path) -> None:
    record = load(tmp_path, "# rig 7\n# time a b\n0.0 1.5 2\n0.1 1.6 3\n")
    assert record.names == ("a", "b")
    assert record.time_s is not None


def test_a_header_that_is_too_short_is_not_lost(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="row 2: must have 2 columns as the first row, had 3"):
        load(tmp_path, "a,b\n1,2,3\n2,3,4\n3,4,5\n")


def test_a_zip_of_one_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as packed:
        packed.writestr("folder/a.csv", "a,b\n1,2\n3,4\n")
    assert read([path], Columns()).values.tolist() == [[1, 2], [3, 4]]
    with zipfile.ZipFile(path, "a") as packed:
        packed.writestr("b.csv", "a,b\n1,2\n")
    with pytest.raises(RecordError, match=r"must hold one file, holds folder/a\.csv, b\.csv"):
        read([path], Columns())


def test_what_excel_writes_is_read(tmp_path: Path) -> None:
    text = "sep=;\r\nZeit;Druck [bar]\r\n27.11.2026 14:05:00;1,5\r\n27.11.2026 14:05:01;1,75\r\n"
    (tmp_path / "a.csv").write_bytes(text.encode("utf-16"))
    for record in (read([tmp_path / "a.csv"], Columns()), load(tmp_path, text)):
        assert record.names == ("Druck [bar]",)
        assert record.values.tolist() == [[1.5], [1.75]]


def test_gzip_and_parquet_are_read_by_their_content(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    packed = tmp_path / "a.bin"
    packed.write_bytes(gzip.compress(b"a,b\n1,2\n3,4\n"))
    np.testing.assert_array_equal(read([packed], Columns()).values, [[1, 2], [3, 4]])
    table = pyarrow.table(
        {
            "time": np.array(["2026-01-01T00:00:00", "2026-01-01T00:00:02"], "datetime64[ns]"),
            "a": [1.5, None],
            "word": ["on", "off"],
        }
    )
    path = tmp_path / "b"
    parquet.write_table(table, path)
    record = read([path], Columns(signals=("a", "word")))
    assert record.time_s is not None
    assert np.diff(record.time_s).tolist() == [2.0]
    np.testing.assert_array_equal(record.values, [[1.5, 1], [np.nan, 0]])
    assert record.categories == {"word": ("off", "on")}
    # Times by what the file says of them, wherever they stand; and whatever else it may hold.
    days = np.array(["2026-01-01", "2026-01-02"], "datetime64[D]")
    rest = {"b": [True, None], "list": [[1], None], "none": [None, None], "taken": days}
    parquet.write_table(pyarrow.table({"a": [1, 2], **rest}), path)
    record = read([path], Columns())
    assert record.names == ("a", "b", "none")
    assert record.time_s is not None
    assert np.diff(record.time_s).tolist() == [86_400]


@pytest.mark.parametrize(
    ("first", "second", "seconds"),
    [
        ("2026-01-01T00:00:00Z", "2026-01-01T00:00:01.5Z", 1.5),
        ("2026-01-01T00:00:00+02:00", "2026-01-01T00:00:00+01:00", 3600),
        ("1767225600000", "1767225601000", 1.0),
        ("1767225600000000000", "1767225602000000000", 2.0),
        ("0", "0.01", 0.01),
    ],
)
def test_times_of_all_kinds(tmp_path: Path, first: str, second: str, seconds: float) -> None:
    record = load(tmp_path, f"ts,a\n{first},1\n{second},2\n")
    assert record.time_s is not None
    assert float(np.diff(record.time_s)[0]) == pytest.approx(seconds)


def test_text_in_a_number_column_names_row_and_column(tmp_path: Path) -> None:
    rows = "".join(f"{i},{i * 2}\n" for i in range(10))
    with pytest.raises(RecordError, match=r"row 12, column b: must be a number, was 'oops'"):
        load(tmp_path, "a,b\n" + rows + "10,oops\n")


def test_text_columns_are_left_out_unless_they_are_named(tmp_path: Path) -> None:
    text = "Type,speed [rpm],x\nL,1500,1\nM,1600,2\nL,,3\n"
    record = load(tmp_path, text)
    assert record.names == ("speed [rpm]", "x")
    assert record.units == ("rpm", "")
    assert record.notes == ("left out, text: Type; --signals takes one as a category",)
    chosen = load(tmp_path, text, Columns(signals=("Type", "x")))
    assert chosen.values[:, 0].tolist() == [0, 1, 0]
    again = load(tmp_path, text, Columns(signals=("Type",), words={"Type": ("M", "H")}))
    np.testing.assert_array_equal(again.values[:, 0], [np.nan, 0, np.nan])


def test_a_text_column_of_a_few_words_is_taken_where_that_is_asked(tmp_path: Path) -> None:
    rows = [f"L{i},{'MLH'[i % 3]},{'ab'[i == 4]},{i}" for i in range(90)]
    text = "\n".join(["id,type,rare,x", *rows]) + "\n"
    record = load(tmp_path, text, Columns(few_words=True))
    assert "left out, text: id, rare; --signals takes one as a category" in record.notes
    assert record.names == ("type", "x")
    assert record.categories == {"type": ("H", "L", "M")}
    assert load(tmp_path, text).names == ("x",)
    assert load(tmp_path, text, Columns(few_words=True, signals=("x",))).names == ("x",)
    assert load(tmp_path, text, Columns(few_words=True, ignore=("type",))).names == ("x",)


def test_labels_ignored_columns_groups_and_rows(tmp_path: Path) -> None:
    text = "t,unit,a,b,fault\n" + "".join(f"{i},{i // 3},{i},{-i},{i % 2}\n" for i in range(6))
    columns = Columns(time="t", group="unit", ignore=("b",), labels=("fault",), rows=(1, 5))
    record = load(tmp_path, text, columns)
    assert record.names == ("a",)
    assert record.values[:, 0].tolist() == [1, 2, 3, 4]
    assert record.labels["fault"].tolist() == [1, 0, 1, 0]
    assert record.group.tolist() == [0, 0, 1, 1]


def test_each_file_is_a_sequence_of_its_own(tmp_path: Path) -> None:
    for name in ("x.csv", "y.csv"):
        (tmp_path / name).write_text("a,b\n1,2\n")
    record = read([tmp_path / "x.csv", tmp_path / "y.csv"], Columns())
    assert record.groups == ("x.csv", "y.csv")
    (tmp_path / "y.csv").write_text("a,c\n1,2\n")
    with pytest.raises(RecordError, match="same signals"):
        read([tmp_path / "x.csv", tmp_path / "y.csv"], Columns())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "was empty"),
        ("\n \n", "was empty"),
        ("a,b\n", "below its header, had none"),
        ("a,b\n1,2\n3\n", "row 3: must have 2 columns"),
        ("sep=,\na,b\n1,2\n3\n", "row 4: must have 2 columns"),
        ("sep=,\n", "had none"),
        ("a,a\n1,2\n", "a is there twice"),
        ("a,b\nx,y\nz,w\n", "no column of numbers"),
        ("\0\1\2", "was binary"),
        ('{"a": 1}\n{"a": 2}\n', "was JSON"),
    ],
)
def test_a_file_that_is_no_table_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(RecordError, match=message):
        load(tmp_path, text)


def test_wrong_names_are_answered_with_those_that_are_there(tmp_path: Path) -> None:
    for columns in (
        Columns(time="when"),
        Columns(signals=("q",)),
        Columns(labels=("q",)),
        Columns(group="q"),
    ):
        with pytest.raises(RecordError, match="there are a, b"):
            load(tmp_path, "a,b\n1,2\n", columns)
    with pytest.raises(RecordError, match="leaves none"):
        load(tmp_path, "a,b\n1,2\n", Columns(rows=(5, 9)))
    with pytest.raises(RecordError, match=r"no such file in .*, which holds a\.csv$"):
        read([tmp_path / "none.csv"], Columns())
    with pytest.raises(RecordError, match=r"no such file \(did you mean .*/a\.csv\?\)"):
        read([tmp_path / "aa.csv"], Columns())
    with pytest.raises(RecordError, match="there is no folder"):
        read([tmp_path / "no" / "a.csv"], Columns())
    with pytest.raises(RecordError, match=r"is a folder, must be a file, which holds a\.csv"):
        read([tmp_path], Columns())
    (tmp_path / "cut.gz").write_bytes(gzip.compress(b"a,b\n1,2\n")[:-6])
    with pytest.raises(RecordError, match="damaged"):
        read([tmp_path / "cut.gz"], Columns())


def test_derived_signals_are_arithmetic_on_columns(tmp_path: Path) -> None:
    text = "Torque [Nm],Rotational speed [rpm]\n40,1500\n50,1000\n"
    formula = Formula.parse("power_w = torque * `Rotational speed [rpm]` * 0.1047")
    record = load(tmp_path, text, Columns(derive=(formula,)))
    assert record.names[-1] == "power_w"
    np.testing.assert_allclose(record.values[:, -1], [6282, 5235])
    ratio = Formula.parse("r = max(torque, 45) / (torque - 40) ** 2 + -1 * abs(torque)")
    values = load(tmp_path, text, Columns(derive=(ratio,))).values[:, -1]
    np.testing.assert_allclose(values, [np.nan, 50 / 100 - 50])


@pytest.mark.parametrize(
    "text",
    [
        "no equals",
        "= a",
        "x = ",
        "x = a.b",
        "x = __import__('os')",
        "x = a[0]",
        "x = a if b else c",
        "x = 'text'",
        "x = abs(a, b)",
        "x = min(a)",
        "x = (lambda: 1)()",
        "x = " + "+".join(["a"] * 500),
        "x = a @ b",
    ],
)
def test_anything_but_arithmetic_is_refused(text: str) -> None:
    with pytest.raises(RecordError, match="derive"):
        Formula.parse(text)


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=200))
def test_no_bytes_end_in_anything_but_a_record_or_a_clear_error(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "any"
    path.write_bytes(data)
    with suppress(RecordError):
        assert len(read([path], Columns())) > 0


def test_recorded_bursts_are_a_row_each(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    path = tmp_path / "bursts.npz"
    stamps = np.array([[9, 0, s, 0] for s in (0, 10, 20)], float)
    np.savez(path, acc=rng.normal(size=(3, 256, 2)).astype(np.float32), t0=stamps)
    record = read([path], Columns())
    assert len(record) == 3
    assert record.names[:4] == ("acc_1 rms", "acc_1 peak", "acc_1 crest factor", "acc_1 kurtosis")
    assert len(record.names) == 24
    assert record.time_s is not None
    assert np.diff(record.time_s).tolist() == [10, 10]
    np.savez(path, drive_g=rng.normal(size=20_000), rate_hz=12_000)
    long = read([path], Columns())
    assert len(long) == 4
    assert "drive_g velocity [mm/s]" in long.names
    assert "mm/s" in long.units


@pytest.mark.parametrize(
    "arrays", [{"none": np.zeros(0)}, {"a": np.zeros(5)}, {"word": np.array(["x"])}]
)
def test_arrays_that_are_no_bursts_are_refused(
    tmp_path: Path, arrays: dict[str, np.ndarray]
) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, allow_pickle=False, **arrays)
    with pytest.raises(RecordError, match="must hold bursts"):
        read([path], Columns())
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(RecordError, match="cannot be read"):
        read([path], Columns())


def test_a_workbook_is_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "a.xlsx"
    with zipfile.ZipFile(path, "w") as book:
        book.writestr("xl/workbook.xml", "<workbook/>")
    with pytest.raises(RecordError, match=r"a\.xlsx: is an Excel workbook; save its sheet as CSV"):
        read([path], Columns())
