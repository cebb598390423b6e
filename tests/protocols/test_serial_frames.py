"""Binary frames by property: any cut, any noise, any flipped bit; nothing unproven comes out."""

import struct
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from protocols.serial.binary import FieldReader, permutation
from protocols.serial.checks import find
from protocols.serial.formats import BinaryField, BinaryFormat, TextFormat
from protocols.serial.frames import EscapedFramer, SizedFramer, framer
from protocols.serial.text import Splitter

FIELDS = [{"name": "v", "offset": 2, "type": "u8"}]
CHECK = {"name": "CRC-16/MODBUS", "order": "little"}
crc = find("CRC-16/MODBUS")[1]


def form(**settings: Any) -> BinaryFormat:
    return BinaryFormat.model_validate({"fields": FIELDS} | settings)


def proven(head: bytes) -> bytes:
    return head + crc(head).to_bytes(2, "little")


FIXED = form(start="AA 55", length=8, check=CHECK)
COUNTED = form(
    start="02", end="03", count={"offset": 1, "adds": 5}, check=CHECK, frame_bytes_max=64
)
HDLC = form(start="7E", end="7E", escape="7D", escape_xor=0x20, check=CHECK, frame_bytes_max=64)
DLE = form(start="10 02", end="10 03", escape="10", check=CHECK, frame_bytes_max=64)
BEHIND = form(
    start="10 02",
    end="10 03",
    escape="10",
    check=CHECK | {"after_end": True},
    frame_bytes_max=64,
)
SLIP = form(
    start="C0",
    end="C0",
    escape="DB",
    escape_map={"DC": "C0", "DD": "DB"},
    check=CHECK,
    frame_bytes_max=64,
)


def wire_of(kind: str, payload: bytes) -> tuple[bytes, bytes]:
    """A payload as it goes over the wire, and the frame as the framer must give it."""
    match kind:
        case "fixed":
            frame = proven(b"\xaa\x55" + payload[:4].ljust(4, b"\0"))
            return frame, frame
        case "counted":
            frame = proven(b"\x02" + bytes([len(payload)]) + payload)
            return frame + b"\x03", frame
        case "hdlc":
            frame = proven(b"\x7e" + payload)
            body = frame[1:].replace(b"\x7d", b"\x7d\x5d").replace(b"\x7e", b"\x7d\x5e")
            return b"\x7e" + body + b"\x7e", frame
        case "dle" | "behind":
            frame = proven(b"\x10\x02" + payload)
            wire = b"\x10\x02" + frame[2:].replace(b"\x10", b"\x10\x10") + b"\x10\x03"
            # A second check proves the end bytes too, and is not escaped.
            again = proven(frame + b"\x10\x03")[-2:] if kind == "behind" else b""
            return wire + again, frame
        case _:
            frame = proven(b"\xc0" + payload)
            body = frame[1:].replace(b"\xdb", b"\xdb\xdd").replace(b"\xc0", b"\xdb\xdc")
            return b"\xc0" + body + b"\xc0", frame


FORMS = {
    "fixed": FIXED,
    "counted": COUNTED,
    "hdlc": HDLC,
    "dle": DLE,
    "behind": BEHIND,
    "slip": SLIP,
}
kinds = pytest.mark.parametrize("kind", FORMS)
payloads = st.lists(st.binary(min_size=1, max_size=20), max_size=8)


def feed_in_pieces(kind: str, wire: bytes, data: st.DataObject) -> tuple[list[bytes], Counter[str]]:
    errors: Counter[str] = Counter()
    cutter = framer(FORMS[kind], errors)
    got = []
    while wire:
        cut = data.draw(st.integers(1, len(wire)))
        got += [record.data for record in cutter.feed(wire[:cut])]
        wire = wire[cut:]
    got += [record.data for record in cutter.flush()]
    return got, errors


@kinds
@given(payloads=payloads, data=st.data())
def test_framer_does_not_care_how_bytes_are_cut(
    kind: str, payloads: list[bytes], data: st.DataObject
) -> None:
    pairs = [wire_of(kind, payload) for payload in payloads]
    got, errors = feed_in_pieces(kind, b"".join(wire for wire, _ in pairs), data)
    assert got == [frame for _, frame in pairs]
    assert not errors


@kinds
@given(before=st.binary(max_size=30), payload=st.binary(min_size=1, max_size=20), data=st.data())
def test_noise_costs_at_most_what_it_hides(
    kind: str, before: bytes, payload: bytes, data: st.DataObject
) -> None:
    wire, frame = wire_of(kind, payload)
    # A false start in the noise may swallow the first one's; none of the others'.
    got, _ = feed_in_pieces(kind, before + wire * 3, data)
    assert got[-2:] == [frame] * 2
    assert all(crc(seen[:-2]).to_bytes(2, "little") == seen[-2:] for seen in got)


@kinds
@given(payloads=payloads, data=st.data())
def test_a_flipped_bit_never_makes_a_value(
    kind: str, payloads: list[bytes], data: st.DataObject
) -> None:
    pairs = [wire_of(kind, payload) for payload in payloads]
    wire = bytearray(b"".join(wire for wire, _ in pairs))
    if wire:
        bit = data.draw(st.integers(0, 8 * len(wire) - 1))
        wire[bit // 8] ^= 1 << bit % 8
    got, _ = feed_in_pieces(kind, bytes(wire), data)
    # A frame that shows has passed its check, and at most one was hit (a flag between two frames
    # may belong to both).
    assert all(crc(seen[:-2]).to_bytes(2, "little") == seen[-2:] for seen in got)
    good = [frame for _, frame in pairs]
    assert len([frame for frame in got if frame in good]) >= len(good) - 2


@kinds
@given(junk=st.binary(max_size=400), data=st.data())
def test_what_comes_out_of_junk_does_not_depend_on_cuts(
    kind: str, junk: bytes, data: st.DataObject
) -> None:
    errors: Counter[str] = Counter()
    cutter = framer(FORMS[kind], errors)
    whole = [record.data for record in [*cutter.feed(junk), *cutter.flush()]]
    assert feed_in_pieces(kind, junk, data) == (whole, errors)


@kinds
def test_garbage_for_ever_is_bounded(kind: str) -> None:
    errors: Counter[str] = Counter()
    cutter = framer(FORMS[kind], errors)
    assert isinstance(cutter, SizedFramer | EscapedFramer)
    rng = np.random.default_rng(7)
    for _ in range(200):
        cutter.feed(rng.bytes(500))
        assert len(cutter._rest) <= 2 * 64 + 8
    assert errors["noise_bytes"] + errors["checksum"] > 0
    for start in (b"\xaa\x55", b"\x02", b"\x7e", b"\x10\x02", b"\xc0"):
        cutter.feed(start * 500)
        assert len(cutter._rest) <= 2 * 64 + 8


def test_a_text_record_is_proven_too() -> None:
    nmea = TextFormat.model_validate(
        {
            "delimiter": "\r\n",
            "pattern": "x",
            "check": {"name": "XOR", "form": "hex", "at": -2, "covers_from": 1, "covers_to": -3},
        }
    )
    errors: Counter[str] = Counter()
    good = b"$GPGLL,5057.970,N,00146.110,E,142451,A*27\r\n"
    got = Splitter(nmea, errors).feed(good + good.replace(b"5057", b"5058") + b"$*\r\n")
    assert [record.data for record in got] == [good[:-2]]
    assert errors == {"checksum": 2}


ORDERS = {"big": "ABCD", "little": "DCBA", "word_swapped": "CDAB", "byte_swapped": "BADC"}


@pytest.mark.parametrize(("order", "letters"), ORDERS.items())
def test_orders_as_modbus_people_write_them(order: Any, letters: str) -> None:
    sent = b"ABCD"
    arranged = bytes(sent[place] for place in permutation(4, order))
    assert bytes(arranged[place] for place in permutation(4, order)) == sent
    assert arranged == letters.encode()


@given(
    st.sampled_from(["u8", "i8", "u16", "i16", "u24", "i24", "u32", "i32", "u64", "i64"]),
    st.sampled_from(list(ORDERS)),
    st.data(),
)
def test_integers_go_there_and_back(kind: Any, order: Any, data: st.DataObject) -> None:
    width, signed = int(kind[1:]) // 8, kind[0] == "i"
    if width % 2 and order in ("word_swapped", "byte_swapped"):
        order = "little"
    low = -(1 << 8 * width - 1) if signed else 0
    numbers = data.draw(
        st.lists(st.integers(low, low + (1 << 8 * width) - 1), min_size=2, max_size=5)
    )
    places = permutation(width, order)
    sent = b""
    for number in numbers:
        big = number.to_bytes(width, "big", signed=signed)
        swapped = bytearray(width)
        for at, place in enumerate(places):
            swapped[place] = big[at]
        sent += bytes(swapped)
    one = FieldReader(BinaryField(name="v", offset=3, type=kind), order)
    assert one.read(b"xyz" + sent) == (True, float(numbers[0]))
    every = FieldReader(BinaryField(name="v", offset=0, type=kind, count=0), order)
    _, array = every.read(sent)
    assert isinstance(array, np.ndarray)
    assert array.tolist() == [float(number) for number in numbers]


def test_the_other_types() -> None:
    def read(data: bytes, **settings: Any) -> object:
        field = BinaryField.model_validate({"name": "v", "offset": 0} | settings)
        return FieldReader(field, "big").read(data)[1]

    assert read(struct.pack(">f", 1.5), type="f32") == 1.5
    assert read(struct.pack("<d", -2.5), type="f64", order="little") == -2.5
    assert read(b"\x12\x34", type="bcd16") == 1234
    assert str(read(b"\x1a\x34", type="bcd16")) == "nan"
    assert read(b" 12.5\0", type="text", size=6) == "12.5"
    assert read(b"\xb4", type="u8", bit=2) == 1
    assert read(b"\xb4", type="u8", bit=4, bits=4) == 11
    assert read(b"\x00\x07", type="u8", offset=-1) == 7
    assert read(b"\x07", type="u16") is None
    assert read(b"", type="u8", offset=-1) is None
    array = read(struct.pack("<3f", 1, 2, 3), type="f32", count=3, order="little")
    assert isinstance(array, np.ndarray)
    assert array.tolist() == [1, 2, 3]
    when = BinaryField(name="v", offset=1, type="u8", when_offset=0, when_bytes="07")
    assert FieldReader(when, "big").read(b"\x07\x01") == (True, 1.0)
    assert FieldReader(when, "big").read(b"\x08\x01") == (False, None)


@given(st.binary(max_size=40), st.integers(-50, 50), st.sampled_from([0, 1, 3]))
def test_no_frame_breaks_a_field(frame: bytes, offset: int, count: int) -> None:
    for kind in ("u8", "i24", "f32", "bcd16", "u64"):
        field = BinaryField.model_validate(
            {"name": "v", "offset": offset, "type": kind, "count": count}
        )
        with np.errstate(invalid="ignore"):
            present, value = FieldReader(field, "big").read(frame)
        assert present
        assert value is None or isinstance(value, float | np.ndarray)


@pytest.mark.parametrize(
    ("settings", "rule"),
    [
        ({}, "length: must be given"),
        ({"start": "zz", "length": 4}, "must be bytes in hexadecimal"),
        ({"length": 4}, "start: must be given where there is no check"),
        ({"start": "AA", "length": 4, "count": {"offset": 1}}, "count: must not be set beside"),
        ({"start": "AA", "escape": "7D"}, "must stand with start and end"),
        ({"start": "10 02 05", "end": "10 03", "escape": "10"}, "start: must be two bytes"),
        ({"start": "10", "end": "11", "escape": "10"}, "start: must be two bytes"),
        ({"start": "02", "end": "02 03", "escape": "10"}, "end: must not begin with start"),
        ({"start": "AA", "length": 2000}, "frame_bytes_max: must not be less"),
        ({"start": "AA", "length": 4, "check": {"name": "CRC-9"}}, "must be one of CRC-8"),
        ({"start": "AA", "length": 4, "fields": FIELDS * 2}, "must be unique"),
        ({"start": "AA", "length": 4, "check": CHECK | {"after_end": True}}, "stand with escape"),
    ],
)
def test_a_format_that_cannot_work_is_refused(settings: dict[str, Any], rule: str) -> None:
    with pytest.raises(ValidationError, match=rule):
        form(**settings)
