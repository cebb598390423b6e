"""The fast decoder says what the library's own says, and fails only by DataError."""

import math
import struct
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from asyncua import ua
from asyncua.common.utils import Buffer
from asyncua.ua.ua_binary import struct_from_binary, struct_to_binary
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.errors import DataError
from protocols.opcua.slow import decode_slowly, decode_whole
from protocols.opcua.status import (
    ClockRule,
    datetime_to_ns,
    ns_to_ticks,
    overflows,
    quality_of,
    ticks_to_ns,
)
from protocols.opcua.wire import NUMBERS, decode_publish, decode_read

T = ua.VariantType
INTEGERS = {
    T.SByte: (-(2**7), 2**7 - 1),
    T.Byte: (0, 2**8 - 1),
    T.Int16: (-(2**15), 2**15 - 1),
    T.UInt16: (0, 2**16 - 1),
    T.Int32: (-(2**31), 2**31 - 1),
    T.UInt32: (0, 2**32 - 1),
    T.Int64: (-(2**63), 2**63 - 1),
    T.UInt64: (0, 2**64 - 1),
}
numbers = st.one_of(
    st.builds(ua.Variant, st.booleans(), st.just(T.Boolean)),
    st.builds(ua.Variant, st.floats(width=32), st.just(T.Float)),
    st.builds(ua.Variant, st.floats(), st.just(T.Double)),
    *(st.builds(ua.Variant, st.integers(*span), st.just(kind)) for kind, span in INTEGERS.items()),
)
others = st.one_of(
    st.builds(ua.Variant, st.text(max_size=5), st.just(T.String)),
    st.builds(ua.Variant, st.lists(st.floats(), min_size=1, max_size=4), st.just(T.Double)),
)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
stamps = st.none() | st.timedeltas(timedelta(days=400), timedelta(days=80_000)).map(
    EPOCH.__add__
).map(lambda t: ua.DateTime(t.year, t.month, t.day, t.hour, t.minute, t.second, t.microsecond, UTC))


@st.composite
def data_values(draw: st.DrawFn, variants: st.SearchStrategy[ua.Variant]) -> ua.DataValue:
    return ua.DataValue(
        draw(variants | st.just(ua.Variant(None))),
        draw(
            st.sampled_from([0, 0x40000000, 0x80000000, 0x80340000, 0x480]).map(
                lambda n: ua.StatusCode(ua.UInt32(n))
            )
        ),
        draw(stamps),
        draw(stamps),
    )


def publish_response(
    values: list[ua.DataValue], *, sequence: int = 7, available: tuple[int, ...] = ()
) -> bytes:
    """As a server sends it; client handles count from 0."""
    response = ua.PublishResponse()
    response.ResponseHeader.Timestamp = ua.DateTime.now(UTC)
    result = response.Parameters
    result.SubscriptionId = ua.UInt32(42)
    result.AvailableSequenceNumbers = [ua.UInt32(n) for n in available]
    result.NotificationMessage.SequenceNumber = ua.UInt32(sequence)
    result.NotificationMessage.PublishTime = ua.DateTime(2026, 11, 1, tzinfo=UTC)
    if values:
        items = [ua.MonitoredItemNotification(ua.UInt32(i), v) for i, v in enumerate(values)]
        result.NotificationMessage.NotificationData = [ua.DataChangeNotification(items)]
    return struct_to_binary(response)


def number(value: Any) -> float:
    return math.nan if value is None else float(value)


@given(st.lists(data_values(st.one_of(numbers, others)), min_size=1, max_size=30))
def test_publications_decode_as_the_library_decodes_them(values: list[ua.DataValue]) -> None:
    data = publish_response(values, sequence=9, available=(8, 9))
    got = decode_publish(data, decode_slowly)
    want = struct_from_binary(ua.PublishResponse, Buffer(data)).Parameters
    assert got.subscription == 42
    assert got.sequence == 9
    assert got.values is not None
    wanted = {
        int(item.ClientHandle): item.Value
        for part in want.NotificationMessage.NotificationData or []
        for item in part.MonitoredItems
    }
    slow = dict(got.values.slow)
    assert {*got.values.handle.tolist(), *slow} == wanted.keys()
    columns = (
        got.values.handle,
        got.values.value,
        got.values.status,
        got.values.source_ticks,
        got.values.server_ticks,
    )
    for handle, value, status, source, server in zip(*(c.tolist() for c in columns), strict=True):
        data_value = wanted[handle]
        np.testing.assert_equal(value, number(data_value.Value.Value if data_value.Value else None))
        assert status == data_value.StatusCode.value
        for ticks, stamp in (
            (source, data_value.SourceTimestamp),
            (server, data_value.ServerTimestamp),
        ):
            assert (ticks == 0) == (stamp is None)
            if stamp is not None:
                assert abs(datetime_to_ns(stamp) - (ticks - ns_to_ticks(0)) * 100) <= 1000
    for handle, decoded in slow.items():
        assert str(decoded) == str(wanted[handle])


@given(st.booleans(), st.booleans(), st.sampled_from(["d", "text"]))
def test_picoseconds_stand_after_their_own_timestamp(
    source_pico: bool, server_pico: bool, kind: str
) -> None:
    """By hand: the library has another order than the standard, and is no judge here."""
    body = b"\x0b" + struct.pack("<d", 1.5) if kind == "d" else b"\x0c\x02\x00\x00\x00on"
    mask = 0x0D | source_pico << 4 | server_pico << 5
    one = bytes([mask]) + body + struct.pack("<q", 1001)
    one += b"\x07\x00" * source_pico + struct.pack("<q", 2002) + b"\x09\x00" * server_pico
    head = b"\x01\x00\x7a\x02" + bytes(16) + b"\x00" + struct.pack("<i", -1) + bytes(3)
    data = head + struct.pack("<i", 2) + one + one + struct.pack("<i", -1)
    got = decode_read(data, decode_slowly)
    if kind == "d":
        assert got.value.tolist() == [1.5, 1.5]
        assert got.source_ticks.tolist() == [1001, 1001]
        assert got.server_ticks.tolist() == [2002, 2002]
    else:
        assert [value.Value.Value for _, value in got.slow] == ["on", "on"]
        assert all(value.SourceTimestamp < value.ServerTimestamp for _, value in got.slow)


@given(st.lists(data_values(numbers), min_size=0, max_size=30))
def test_numbers_never_need_the_library(values: list[ua.DataValue]) -> None:
    response = ua.ReadResponse()
    response.ResponseHeader.Timestamp = ua.DateTime.now(UTC)
    response.Results = values
    got = decode_read(struct_to_binary(response), _not_needed)
    assert got.handle.tolist() == list(range(len(values)))
    for value, want in zip(got.value.tolist(), values, strict=True):
        np.testing.assert_equal(value, number(want.Value.Value if want.Value else None))


def _not_needed(data: bytes, at: int) -> tuple[Any, int]:
    raise AssertionError("the library was asked")


@given(st.lists(data_values(st.one_of(numbers, others)), min_size=1, max_size=5), st.data())
def test_a_broken_publication_is_a_data_error_and_nothing_else(
    values: list[ua.DataValue], data: st.DataObject
) -> None:
    whole = bytearray(publish_response(values))
    for _ in range(data.draw(st.integers(0, 3))):
        whole[data.draw(st.integers(0, len(whole) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    broken = bytes(whole[: data.draw(st.integers(0, len(whole)))])
    for decode in (lambda d: decode_publish(d, decode_slowly), decode_whole):
        try:
            decode(broken)
        except DataError:
            pass


@given(st.lists(data_values(st.one_of(numbers, others)), min_size=1, max_size=5), st.data())
def test_a_broken_read_is_a_data_error_and_nothing_else(
    values: list[ua.DataValue], data: st.DataObject
) -> None:
    response = ua.ReadResponse()
    response.Results = values
    whole = bytearray(struct_to_binary(response))
    for _ in range(data.draw(st.integers(0, 3))):
        whole[data.draw(st.integers(0, len(whole) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    try:
        decode_read(bytes(whole[: data.draw(st.integers(0, len(whole)))]), decode_slowly)
    except DataError:
        pass


@given(st.binary(max_size=200))
def test_junk_is_a_data_error_and_nothing_else(junk: bytes) -> None:
    for decode in (
        lambda d: decode_publish(d, decode_slowly),
        lambda d: decode_read(d, decode_slowly),
        decode_whole,
    ):
        with pytest.raises(DataError):
            decode(junk)


def test_a_keep_alive_has_no_values() -> None:
    got = decode_publish(publish_response([], sequence=3), decode_slowly)
    assert got.values is None
    assert got.sequence == 3


def test_every_number_type_has_its_own_shape() -> None:
    assert set(NUMBERS) == {
        kind.value for kind in (T.Null, T.Boolean, *INTEGERS, T.Float, T.Double)
    }


@given(st.integers(0, 2**32 - 1))
def test_severity_is_quality(code: int) -> None:
    quality = quality_of(np.array([code], dtype=np.uint32))[0]
    status = ua.StatusCode(ua.UInt32(code))
    assert (quality == 0) == status.is_good()
    assert (quality == 1) == status.is_uncertain()


def test_overflow_is_seen_only_where_the_info_bits_are_of_a_value() -> None:
    codes = np.array([0x480, 0x80, 0x400, 0x80000480, 0], dtype=np.uint32)
    assert overflows(codes) == 2


@given(st.integers(0, 2**63 - 1))
def test_ticks_never_overflow(ticks: int) -> None:
    t_ns = int(ticks_to_ns(np.array([ticks], dtype=np.int64))[0])
    assert t_ns >= 0
    assert t_ns == 0 or ns_to_ticks(t_ns) == ticks


def test_a_clock_that_is_off_gives_way_to_the_next() -> None:
    def ns(when: datetime) -> int:
        return datetime_to_ns(when)

    now = datetime(2026, 11, 1, tzinfo=UTC)
    rule = ClockRule(
        "source", oldest_ns=ns(datetime(2015, 1, 1, tzinfo=UTC)), ahead_ns_max=60 * 10**9
    )
    source = [
        datetime(2000, 1, 1, tzinfo=UTC),
        now + timedelta(hours=1),
        now - timedelta(days=400),
        None,
        None,
    ]
    server = [now, datetime(1970, 1, 1, tzinfo=UTC), now, now, None]
    t_ns, off = rule.apply(
        np.array([datetime_to_ns(t) for t in source]),
        np.array([datetime_to_ns(t) for t in server]),
        ns(now) + 5,
    )
    assert t_ns.tolist() == [
        ns(now),
        ns(now) + 5,
        ns(now - timedelta(days=400)),
        ns(now),
        ns(now) + 5,
    ]
    assert off == 2
