"""Addresses, types and byte orders, by example and by property."""

import struct
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from gateway.core.batch import Quality
from protocols.modbus.address import Address, Table, parse_address, parse_url
from protocols.modbus.decode import Decoder, Image
from protocols.modbus.plan import Limits, Span, make_request
from protocols.modbus.signal import ModbusSignal
from protocols.modbus.values import letters

LIMITS = Limits(125, 2000, 16)


def signal(**fields: Any) -> ModbusSignal:
    return ModbusSignal.model_validate(
        {"asset": "a", "signal": "s", "address": "holding:0", **fields}
    )


def decode(wire: bytes, *rows: Mapping[str, Any]) -> tuple[list[float], list[int], dict[str, Any]]:
    """Values and qualities of signals in one block that starts at 0 and holds `wire`."""
    signals = [signal(**row) for row in rows]
    spans = [
        Span(i, 1, s.place().table, s.place().start, s.registers()) for i, s in enumerate(signals)
    ]
    image = Image(spans, lambda _: LIMITS)
    table = signals[0].place().table
    count = len(wire) * 8 if table.bits else len(wire) // 2
    whole = make_request([Span(0, 1, table, 0, min(count, max(s.end for s in spans)))])
    image.store(whole, wire[: whole.count * 2])
    decoder = Decoder(signals, spans, image)
    value, quality, faults = decoder.raw()
    return decoder.scaled(value).tolist(), quality.tolist(), faults


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("holding:100", Address(Table.HOLDING, 100)),
        ("holding:0x64.3", Address(Table.HOLDING, 100, 3, 3)),
        ("input:7.4-7", Address(Table.INPUT, 7, 4, 7)),
        ("coil:65535", Address(Table.COIL, 65535)),
        ("discrete:0", Address(Table.DISCRETE, 0)),
        ("40101", Address(Table.HOLDING, 100)),
        ("400101.15", Address(Table.HOLDING, 100, 15, 15)),
        ("465536", Address(Table.HOLDING, 65535)),
        ("30001", Address(Table.INPUT, 0)),
        ("00001", Address(Table.COIL, 0)),
        ("10009", Address(Table.DISCRETE, 8)),
    ],
)
def test_addresses(text: str, place: Address) -> None:
    assert parse_address(text) == place
    assert parse_address(str(place)) == place


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("holding:70000", "holding register number must be 0 to 65535"),
        ("40000", "classic holding register number must be 1 to 65536"),
        ("465537", "classic holding register number must be 1 to 65536"),
        ("50001", "must be a table and number"),
        ("hold:1", "must be a table and number"),
        ("", "must be a table and number"),
        ("coil:1.2", "one bit already"),
        ("holding:1.7-4", "bits must be LOW-HIGH"),
        ("holding:1.64", "bits must be LOW-HIGH"),
    ],
)
def test_wrong_addresses_say_the_rule(text: str, rule: str) -> None:
    with pytest.raises(ValueError, match=rule):
        parse_address(text)


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("tcp://plc", "tcp://plc:502"),
        ("modbus://10.0.0.1:1502", "tcp://10.0.0.1:1502"),
        ("modbus+tls://plc", "tls://plc:802"),
        ("udp://[::1]:502/", "udp://[::1]:502"),
        ("rtu:///dev/ttyUSB0", "rtu:///dev/ttyUSB0"),
        ("RTU-over-TCP://serial-server:4001", "rtu-over-tcp://serial-server:4001"),
    ],
)
def test_urls(url: str, text: str) -> None:
    assert str(parse_url(url)) == text


@pytest.mark.parametrize(
    "url",
    ["plc:502", "http://plc", "tcp://", "tcp://plc:99999", "tcp://plc/x", "rtu://", "tcp://a@b",
     "tcp://plc:0", "rtu:///dev/ttyS0?baudrate=9600"],
)  # fmt: skip
def test_wrong_urls_are_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"must|[Pp]ort"):
        parse_url(url)


CODES = {
    "int16": "h", "int32": "i", "int64": "q", "uint16": "H", "uint32": "I", "uint64": "Q",
    "float16": "e", "float32": "f", "float64": "d",
}  # fmt: skip


@given(st.sampled_from(sorted(CODES)), st.data())
def test_every_type_in_every_order(name: str, data: st.DataObject) -> None:
    straight = data.draw(st.binary(min_size=struct.calcsize(CODES[name]),
                                   max_size=struct.calcsize(CODES[name])))  # fmt: skip
    size = len(straight)
    order = data.draw(
        st.sampled_from(["big", "little", "word_swap", "byte_swap"])
        | st.permutations("ABCDEFGH"[:size]).map("".join)
    )
    wire = bytes(straight["ABCDEFGH".index(letter)] for letter in letters(order, size))
    (value,), _, _ = decode(wire, {"type": name, "order": order})
    (expected,) = struct.unpack(">" + CODES[name], straight)
    np.testing.assert_equal(value, float(expected))


@pytest.mark.parametrize(
    ("order", "wire"),
    [("big", "ABCD"), ("little", "DCBA"), ("word_swap", "CDAB"), ("byte_swap", "BADC")],
)
def test_named_orders_are_the_usual_letters(order: str, wire: str) -> None:
    assert letters(order, 4) == wire
    assert letters(wire.lower(), 4) == wire


@given(st.integers(0, 99_999_999))
def test_bcd(number: int) -> None:
    wire = bytes.fromhex(f"{number:08d}")
    assert decode(wire, {"type": "bcd32"})[:2] == ([number], [Quality.GOOD])


def test_bcd_with_a_digit_above_nine_is_bad() -> None:
    _, quality, faults = decode(bytes.fromhex("123a0042"), {"type": "bcd16"},
                                {"type": "bcd16", "address": "holding:1"})  # fmt: skip
    assert quality == [Quality.BAD, Quality.GOOD]
    assert faults["bcd"].tolist() == [0]


def test_bits_and_bit_fields() -> None:
    values, _, _ = decode(
        bytes.fromhex("a5f0 8000 0001"),
        {"address": "holding:0.0"},
        {"address": "holding:0.15"},
        {"address": "holding:0.4-7"},
        {"address": "holding:1.31", "type": "uint32"},
        {"address": "holding:1.0-1", "type": "uint32"},
    )
    assert values == [0, 1, 15, 1, 1]


def test_coils_are_the_least_significant_bit_first() -> None:
    rows = [{"address": f"coil:{i}"} for i in range(10)]
    assert decode(b"\x05\x02", *rows)[0] == [1, 0, 1, 0, 0, 0, 0, 0, 0, 1]


def test_absent_is_bad_whatever_the_marker_is_written_like() -> None:
    wire = bytes.fromhex("8000 7fff 0005")
    rows: list[dict[str, Any]] = [
        {"address": "holding:0", "type": "int16", "invalid": 0x8000},
        {"address": "holding:0", "type": "int16", "invalid": [-32768, 1]},
        {"address": "holding:1", "type": "int16", "invalid": [0x8000, 0x7FFF]},
        {"address": "holding:2", "type": "int16", "invalid": [0x8000]},
    ]
    _, quality, faults = decode(wire, *rows)
    assert quality == [2, 2, 2, 0]
    assert faults["invalid"].tolist() == [0, 1, 2]


def test_a_float_marker_is_compared_as_a_float() -> None:
    wire = struct.pack(">f", -9999.0)
    assert decode(wire, {"type": "float32", "invalid": -9999})[1] == [Quality.BAD]


def test_scale_and_offset() -> None:
    wire = struct.pack(">h", -40)
    assert decode(wire, {"type": "int16", "scale": 0.5, "offset": 3})[0] == [-17]


def test_texts_become_states() -> None:
    row = {"type": "string", "length": 3, "states": {"RUN": 1, "STOP": 0}}
    assert decode(b"RUN\0\0\0", row)[0] == [1]
    assert decode(b"STOP  ", row)[0] == [0]
    assert decode(b"TSPO  ", {**row, "order": "byte_swap"})[0] == [0]
    _, quality, faults = decode(b"FAULT\0", row)
    assert quality == [Quality.BAD]
    assert faults["state"].tolist() == [0]


@pytest.mark.parametrize(
    ("fields", "rule"),
    [
        ({"type": "bool"}, "read as"),
        ({"address": "coil:1", "type": "uint16"}, "read as bool"),
        ({"address": "holding:65535", "type": "uint32"}, "ends beyond 65535"),
        ({"type": "uint32", "order": "AB"}, "letters ABCD"),
        ({"type": "int16", "invalid": 70000}, "cannot hold"),
        ({"address": "holding:1.3", "type": "int16"}, "bits are of"),
        ({"address": "holding:1.16"}, "has bits 0 to 15"),
        ({"counter": True, "type": "float32"}, "whole unsigned"),
        ({"rollover": 1000}, "only a counter"),
        ({"type": "string"}, "needs both"),
        ({"length": 3}, "only a string"),
        ({"type": "string", "length": 2, "states": {"A": 1}, "order": "little"}, "is big or"),
        ({"poll_s": 0}, "greater than"),
    ],
)  # fmt: skip
def test_wrong_signals_say_the_rule(fields: dict[str, Any], rule: str) -> None:
    with pytest.raises(ValidationError, match=rule):
        signal(**fields)


MIXED: list[dict[str, Any]] = [
    {"address": "holding:0", "scale": 0.1},
    {"address": "holding:1", "type": "int16", "invalid": [0, 0x8000]},
    {"address": "holding:2.4-7"},
    {"address": "holding:2.15", "type": "uint32"},
    {"address": "holding:3", "type": "bcd16"},
    {"address": "holding:4", "type": "float32", "order": "word_swap", "invalid": 0},
    {"address": "holding:6", "type": "string", "length": 1, "states": {"A": 1, "B": 2}},
    {"address": "holding:7", "type": "int16", "offset": 5},
    {"address": "holding:8", "type": "bcd32"},
    {"address": "holding:8", "type": "string", "length": 2, "states": {"": 7}},
]


@given(
    st.lists(st.sampled_from([b"\0\0", b"\x80\0", b"A\0", b"\x12\x34", b"\xfa\x99"]),
             min_size=10, max_size=10),
    st.sets(st.integers(0, len(MIXED) - 1), min_size=1),
)  # fmt: skip
def test_some_rows_say_what_they_say_among_all(words: list[bytes], chosen: set[int]) -> None:
    signals = [signal(**row) for row in MIXED]
    spans = [
        Span(i, 1, s.place().table, s.place().start, s.registers()) for i, s in enumerate(signals)
    ]
    image = Image(spans, lambda _: LIMITS)
    image.store(make_request([Span(0, 1, Table.HOLDING, 0, 10)]), b"".join(words))
    decoder = Decoder(signals, spans, image)
    value, quality, faults = decoder.raw()
    rows = np.array(sorted(chosen), dtype=np.intp)
    some, some_quality, some_faults = decoder.raw(rows)
    bad = some_quality == Quality.BAD
    assert some_quality.tolist() == quality[rows].tolist()
    assert decoder.scaled(some, rows)[~bad].tolist() == decoder.scaled(value)[rows][~bad].tolist()
    for name in ("invalid", "bcd", "state"):
        among_all = set(faults.get(name, np.empty(0)).tolist()) & chosen
        assert set(rows[some_faults.get(name, np.empty(0, np.intp))].tolist()) == among_all
