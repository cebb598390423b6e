"""Framing by property: any cut, flipped bit and garbage, and against pymodbus's own framers."""

from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymodbus.framer import FramerAscii, FramerRTU, FramerSocket
from pymodbus.pdu import DecodePDU

from gateway.core.errors import DataError
from protocols.modbus.address import Table
from protocols.modbus.frame import (
    SERIAL_BUFFER_BYTES_MAX,
    Ascii,
    Framing,
    Mbap,
    Rtu,
)
from protocols.modbus.pdu import Outcome, data_bytes, request_pdu
from protocols.modbus.plan import Request, Span, make_request

FRAMERS = {Mbap: FramerSocket, Rtu: FramerRTU, Ascii: FramerAscii}


def ask_for(unit: int, table: Table, start: int, count: int) -> Request:
    return make_request([Span(0, unit, table, start, count)])


def reply_to(request: Request, data: bytes) -> bytes:
    """The PDU of the right reply."""
    return bytes([request.table.value, len(data)]) + data


def framed(kind: type[Framing], pdu: bytes, unit: int, transaction: int = 1) -> bytes:
    """A frame as pymodbus makes it."""
    return FRAMERS[kind](DecodePDU(is_server=True)).encode(pdu, unit, transaction)


def feed_in_pieces(
    framing: Framing, stream: bytes, cuts: Sequence[int]
) -> list[tuple[int, Outcome]]:
    ends = sorted({cut % (len(stream) + 1) for cut in cuts} | {len(stream)})
    settled = []
    start = 0
    for end in ends:
        settled += framing.feed(stream[start:end])
        start = end
    return settled


units = st.integers(1, 247)
tables = st.sampled_from(list(Table))
requests = st.builds(ask_for, units, tables, st.integers(0, 60000), st.integers(1, 125))
cuts = st.lists(st.integers(0, 400), max_size=8)
kinds: st.SearchStrategy[type[Framing]] = st.sampled_from([Mbap, Rtu, Ascii])


@given(kinds, requests)
def test_requests_are_framed_as_pymodbus_frames_them(kind: type[Framing], request: Request) -> None:
    framing: Framing = kind(Counter())  # type: ignore[call-arg]
    assert framing.ask(5, request) == framed(kind, request_pdu(request), request.unit)


@given(kinds, requests, st.data(), cuts)
def test_the_right_reply_is_found_however_it_is_cut(
    kind: type[Framing], request: Request, data: st.DataObject, cuts: list[int]
) -> None:
    size = data_bytes(request)
    payload = data.draw(st.binary(min_size=size, max_size=size))
    framing: Framing = kind(Counter())  # type: ignore[call-arg]
    framing.ask(5, request)
    stream = framed(kind, reply_to(request, payload), request.unit)
    assert feed_in_pieces(framing, stream, cuts) == [(5, Outcome(payload=payload))]


@given(kinds, requests, st.integers(1, 255), cuts)
def test_exceptions_are_found_however_they_are_cut(
    kind: type[Framing], request: Request, code: int, cuts: list[int]
) -> None:
    framing: Framing = kind(Counter())  # type: ignore[call-arg]
    framing.ask(5, request)
    stream = framed(kind, bytes([request.table.value | 0x80, code]), request.unit)
    assert feed_in_pieces(framing, stream, cuts) == [(5, Outcome(exception=code))]


@given(requests, st.data(), st.lists(st.integers(0, 10**6), min_size=1, max_size=3, unique=True))
def test_rtu_takes_no_frame_with_flipped_bits(
    request: Request, data: st.DataObject, flips: list[int]
) -> None:
    size = data_bytes(request)
    payload = data.draw(st.binary(min_size=size, max_size=size))
    framing = Rtu(Counter())
    framing.ask(5, request)
    stream = bytearray(framed(Rtu, reply_to(request, payload), request.unit))
    for bit in {flip % (8 * len(stream)) for flip in flips}:
        stream[bit // 8] ^= 1 << bit % 8
    # Up to three flipped bits are always seen by this CRC at these lengths.
    assert all(outcome.payload is None for _, outcome in framing.feed(bytes(stream)))


@given(requests, st.data(), st.integers(0, 10**6))
def test_ascii_takes_no_frame_with_a_changed_digit(
    request: Request, data: st.DataObject, where: int
) -> None:
    size = data_bytes(request)
    payload = data.draw(st.binary(min_size=size, max_size=size))
    framing = Ascii(Counter())
    framing.ask(5, request)
    stream = bytearray(framed(Ascii, reply_to(request, payload), request.unit))
    at = 1 + where % (len(stream) - 3)
    digit = data.draw(st.sampled_from([d for d in b"0123456789ABCDEF" if d != stream[at]]))
    stream[at] = digit
    assert all(outcome.payload is None for _, outcome in framing.feed(bytes(stream)))


@given(requests, st.data(), st.binary(max_size=60), st.binary(max_size=60), cuts)
def test_rtu_finds_its_reply_amid_noise(
    request: Request, data: st.DataObject, before: bytes, after: bytes, cuts: list[int]
) -> None:
    size = data_bytes(request)
    payload = data.draw(st.binary(min_size=size, max_size=size))
    # What looks like the beginning of the very reply hides it until its length has passed.
    head = bytes([request.unit, request.table.value])
    if head[:1] in before[-2:] or head in before:
        before = b""
    framing = Rtu(Counter())
    framing.ask(5, request)
    stream = before + framed(Rtu, reply_to(request, payload), request.unit) + after
    got = [outcome.payload for _, outcome in feed_in_pieces(framing, stream, cuts)]
    assert got == [payload]


@given(kinds, requests, st.lists(st.binary(max_size=300), max_size=20))
def test_garbage_is_never_an_answer_and_never_hoarded(
    kind: type[Framing], request: Request, pieces: list[bytes]
) -> None:
    errors: Counter[str] = Counter()
    framing: Framing = kind(errors)  # type: ignore[call-arg]
    framing.ask(5, request)
    settled = []
    try:
        for piece in pieces:
            settled += framing.feed(piece)
    except DataError:
        assert errors["framing"] == 1
    assert all(outcome.payload is None for _, outcome in settled)
    rest = framing._rest if isinstance(framing, Mbap) else framing._buffer  # type: ignore[attr-defined]
    assert len(rest) <= SERIAL_BUFFER_BYTES_MAX


@given(kinds, requests, requests, st.data())
def test_a_late_reply_is_not_taken_for_the_next(
    kind: type[Framing], first: Request, second: Request, data: st.DataObject
) -> None:
    if kind is not Mbap and (first.unit, first.table, data_bytes(first)) == (
        (second.unit, second.table, data_bytes(second))
    ):
        return  # These two look the same on the wire; the session sends a decoy between them.
    old = data.draw(st.binary(min_size=data_bytes(first), max_size=data_bytes(first)))
    new = data.draw(st.binary(min_size=data_bytes(second), max_size=data_bytes(second)))
    errors: Counter[str] = Counter()
    framing: Framing = kind(errors)  # type: ignore[call-arg]
    framing.ask(1, first)
    framing.forget(1)
    framing.ask(2, second)
    assert framing.feed(framed(kind, reply_to(first, old), first.unit, 1)) == []
    assert sum(errors.values()) == 1
    assert framing.feed(framed(kind, reply_to(second, new), second.unit, 2)) == [
        (2, Outcome(payload=new))
    ]


@pytest.mark.parametrize(
    ("pdu", "fault"),
    [
        (b"\x03", "short_frame"),
        (b"\x04\x04\0\0\0\0", "wrong_function"),
        (b"\x03\x06\0\0\0\0\0\0", "wrong_count"),
        (b"\x03\x02\0\0\0\0", "wrong_count"),
        (b"\x03\x02\0\0", "too_few"),
        (b"\x03\0", "too_few"),
        (b"\x03\x04\0\0\0", "short_frame"),
        (b"\x03\x04\0\0\0\0\0", "long_frame"),
        (b"\x83\x02\0", "malformed"),
        (b"\x83\0", "malformed"),
    ],
)
def test_wrong_replies_over_tcp_are_named(pdu: bytes, fault: str) -> None:
    framing = Mbap(Counter())
    framing.ask(1, ask_for(1, Table.HOLDING, 0, 2))
    assert framing.feed(framed(Mbap, pdu, 1)) == [(1, Outcome(fault=fault))]


def test_another_unit_over_tcp_is_named() -> None:
    framing = Mbap(Counter())
    framing.ask(1, ask_for(1, Table.HOLDING, 0, 1))
    assert framing.feed(framed(Mbap, b"\x03\x02\0\0", 9)) == [(1, Outcome(fault="wrong_unit"))]


def test_replies_in_any_order_find_their_requests() -> None:
    framing = Mbap(Counter())
    for n in range(3):
        framing.ask(n, ask_for(1, Table.HOLDING, 0, 1))
    stream = b"".join(framed(Mbap, b"\x03\x02\0" + bytes([t]), 1, t) for t in (3, 1, 2))
    assert [(n, o.payload) for n, o in framing.feed(stream)] == [
        (2, b"\0\x03"),
        (0, b"\0\x01"),
        (1, b"\0\x02"),
    ]


def test_a_damaged_datagram_costs_only_itself() -> None:
    errors: Counter[str] = Counter()
    framing = Mbap(errors, datagrams=True)
    framing.ask(1, ask_for(1, Table.HOLDING, 0, 1))
    right = framed(Mbap, b"\x03\x02\0\x07", 1)
    assert framing.feed(b"\0\x01\xff\xff\0\x05\x01\x03\x02\0\x07") == []
    assert framing.feed(right[:5]) == []
    assert framing.feed(right) == [(1, Outcome(payload=b"\0\x07"))]
    assert errors == {"malformed": 1, "short_frame": 1}
