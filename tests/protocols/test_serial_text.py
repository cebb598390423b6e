"""Text records by property: any cut of the stream, any junk, every way to write a number."""

import math
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.serial.formats import TextFormat
from protocols.serial.settings import SerialSignal
from protocols.serial.text import Splitter, TextFields, to_value


def cuts(wire: bytes, data: st.DataObject) -> list[bytes]:
    """The same bytes in pieces."""
    pieces = []
    while wire:
        cut = data.draw(st.integers(1, len(wire)))
        pieces.append(wire[:cut])
        wire = wire[cut:]
    return pieces


def splitter(delimiter: bytes, record_bytes_max: int, errors: Counter[str]) -> Splitter:
    form = TextFormat(
        delimiter=delimiter.decode("latin-1"),
        encoding="latin-1",
        record_bytes_max=record_bytes_max,
    )
    return Splitter(form, errors)


@given(
    st.lists(st.binary(max_size=80)),
    st.binary(min_size=1, max_size=3),
    st.data(),
)
def test_splitter_does_not_care_how_bytes_are_cut(
    records: list[bytes], delimiter: bytes, data: st.DataObject
) -> None:
    wire = b"".join(record + delimiter for record in records)
    whole_errors: Counter[str] = Counter()
    whole = splitter(delimiter, 40, whole_errors).feed(wire)
    expected = wire.split(delimiter)[:-1]
    assert [record.data for record in whole] == [r for r in expected if len(r) <= 40]
    assert whole_errors["overlong"] == sum(len(r) > 40 for r in expected) + (
        len(wire.split(delimiter)[-1]) > 40 + len(delimiter) - 1
    )

    errors: Counter[str] = Counter()
    cutter = splitter(delimiter, 40, errors)
    pieces = cuts(wire, data)
    got = [record.data for piece in pieces for record in cutter.feed(piece)]
    assert got == [record.data for record in whole]
    assert errors == whole_errors


def test_the_age_of_a_record_is_what_came_after_it() -> None:
    cutter = splitter(b"\r\n", 40, Counter())
    assert cutter.feed(b"ab\r\ncdef\r\ng") == [(b"ab", 7), (b"cdef", 1)]
    assert cutter.feed(b"\r\n") == [(b"g", 0)]


def test_garbage_for_ever_is_bounded_and_counted_once() -> None:
    errors: Counter[str] = Counter()
    cutter = splitter(b"\r\n", 64, errors)
    for _ in range(1000):
        assert cutter.feed(b"\xff" * 1000) == []
        assert len(cutter._rest) <= 64 + 1
    assert errors == {"overlong": 1}
    assert cutter.feed(b"\r") == []
    assert cutter.feed(b"\nok\r\n") == [(b"ok", 0)]


@pytest.mark.parametrize(
    ("text", "value"),
    [("1", 1), (" -1.5 ", -1.5), ("+.5", 0.5), ("2.", 2), ("1e-3", 0.001), ("007", 7)],
)
def test_numbers(text: str, value: float) -> None:
    signal = SerialSignal(asset="a", signal="s")
    assert to_value(text, signal, decimal_comma=False) == value
    scaled = SerialSignal(asset="a", signal="s", scale=2, add=-1)
    assert to_value(text, scaled, decimal_comma=False) == 2 * value - 1
    comma = text.replace(".", ",")
    assert to_value(comma, signal, decimal_comma=True) == value


@pytest.mark.parametrize("text", ["", "nan", "inf", "1_0", "1,5", "0x10", "1 2", "٣", "-", "1e"])
def test_what_is_no_number(text: str) -> None:
    assert to_value(text, SerialSignal(asset="a", signal="s"), decimal_comma=False) is None


def test_states_and_invalid_marks() -> None:
    state = SerialSignal(asset="a", signal="s", states={"RUN": 1, "STOP": 0})
    assert [to_value(t, state, decimal_comma=False) for t in ("RUN", " STOP", "?")] == [1, 0, None]
    other = SerialSignal(asset="a", signal="s", states={"RUN": 1, "*": -1})
    assert to_value("ALARM 3", other, decimal_comma=False) == -1
    absent = SerialSignal(asset="a", signal="s", invalid=("---",))
    value = to_value(" --- ", absent, decimal_comma=False)
    assert value is not None
    assert math.isnan(value)  # The device says that it has no value.


@given(st.text(max_size=30))
def test_no_text_breaks_a_number(text: str) -> None:
    value = to_value(text, SerialSignal(asset="a", signal="s"), decimal_comma=True)
    assert value is None or isinstance(value, float)


def fields(record: bytes, **settings: Any) -> object:
    errors: Counter[str] = Counter()
    found = TextFields(TextFormat.model_validate(settings), errors).of(record)
    return dict(found) if found is not None else dict(errors)


def test_columns_between_separators() -> None:
    assert fields(b"1; 2 ;x", separator=";") == {"1": "1", "2": "2", "3": "x"}
    named = {"separator": ",", "columns": ["a", "", "b"]}
    assert fields(b"1,2,3\r", **named) == {"a": "1", "": "2", "b": "3"}
    assert fields(b"1,2", **named) == {"columns": 1}
    assert fields(b"1,2,3,4", **named) == {"columns": 1}


def test_columns_of_fixed_width() -> None:
    assert fields(b"12.5 RUN", widths=[5, 4]) == {"1": "12.5", "2": "RUN"}
    assert fields(b" 7.0 R", widths=[5, 4], columns=["v", "s"]) == {"v": "7.0", "s": "R"}
    assert fields(b" 7.0", widths=[5, 4]) == {"columns": 1}
    assert fields(b" 7.0 RUN   ", widths=[5, 4]) == {"1": "7.0", "2": "RUN"}
    assert fields(b" 7.0 RUNNING", widths=[5, 4]) == {"columns": 1}


@given(st.binary(max_size=60))
def test_no_record_breaks_a_format(record: bytes) -> None:
    for settings in ({"separator": ","}, {"widths": [3, 4]}, {"pattern": r"(?P<a>\d+)"}):
        assert isinstance(fields(record, **settings), dict)
