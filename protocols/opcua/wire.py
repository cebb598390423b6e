"""Decodes data values off the wire into columns, and does no I/O.

The common case, numbers and Booleans with any mix of status and timestamps, is read by numpy: one
loop finds where each record begins, then each shape of record is gathered at once. A record of any
other shape (text, arrays, structures) is handed to a decoder that the caller brings.

Source: OPC UA Part 6, 5.2.2.16 (Variant), 5.2.2.17 (DataValue); Part 4, 7.25 (notifications).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from struct import Struct, error
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from gateway.core.errors import DataError

VALUE, STATUS, SOURCE_TIME, SERVER_TIME, SOURCE_PICO, SERVER_PICO = 1, 2, 4, 8, 16, 32
"""Bits of a DataValue's mask, in the order of Part 6."""

NUMBERS = {
    0: "",  # Null: a value that is not there.
    1: "?",
    2: "i1",
    3: "u1",
    4: "<i2",
    5: "<u2",
    6: "<i4",
    7: "<u4",
    8: "<i8",
    9: "<u8",
    10: "<f4",
    11: "<f8",
}
"""Variant type -> numpy type of the scalars that the fast path reads."""

SlowDecoder: TypeAlias = Callable[[bytes, int], tuple[Any, int]]
"""(message, offset of a DataValue) -> (the decoded value, offset after it)."""


@dataclass(frozen=True, slots=True)
class Values:
    """`n` data values, column by column, in no promised order.

    Attributes:
        handle: uint32[n], client handle (or position, for the answer to a read).
        value: float64[n], NaN where there is none.
        status: uint32[n], OPC UA status code; 0 is Good.
        source_ticks, server_ticks: int64[n], 100 ns since 1601; 0 where the peer sent none.
        slow: (handle, decoded data value) of each record that is not a plain number.
    """

    handle: NDArray[np.uint32]
    value: NDArray[np.float64]
    status: NDArray[np.uint32]
    source_ticks: NDArray[np.int64]
    server_ticks: NDArray[np.int64]
    slow: list[tuple[int, Any]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Publication:
    """What one PublishResponse says.

    Attributes:
        subscription: Its identifier.
        sequence: Of the notification message; that of the next one where there is no data.
        values: None for a keep-alive.
        status: Set where the subscription itself changed state (it timed out at the server).
        publish_ticks: When the server sent it.
    """

    subscription: int
    sequence: int
    publish_ticks: int
    values: Values | None
    status: int | None = None


def join(parts: Sequence[Values]) -> Values:
    """One block of columns of several."""
    if len(parts) == 1:
        return parts[0]
    return Values(
        handle=np.concatenate([part.handle for part in parts]),
        value=np.concatenate([part.value for part in parts]),
        status=np.concatenate([part.status for part in parts]),
        source_ticks=np.concatenate([part.source_ticks for part in parts]),
        server_ticks=np.concatenate([part.server_ticks for part in parts]),
        slow=[record for part in parts for record in part.slow],
    )


_RESPONSE_HEAD = Struct("<qIIB")
_U32 = Struct("<I")
_I32 = Struct("<i")
_MESSAGE_HEAD = Struct("<?Iqi")
_PUBLISH_RESPONSE = b"\x01\x00\x3d\x03"
_READ_RESPONSE = b"\x01\x00\x7a\x02"
_DATA_CHANGE = b"\x01\x00\x2b\x03\x01"
_STATUS_CHANGE = b"\x01\x00\x34\x03\x01"
_NO_EXTENSION = b"\x00\x00\x00"


def decode_publish(data: bytes, slow: SlowDecoder) -> Publication:
    """Decode the body of a PublishResponse, from its type id on.

    Raises:
        DataError: It is not one, it is cut short, or it uses a part of the standard that this
            decoder leaves to a complete one (diagnostics, events).
    """
    try:
        return _decode_publish(data, slow)
    except (error, IndexError, ValueError) as cause:
        raise DataError(f"publish response: {cause}") from cause


def decode_read(data: bytes, slow: SlowDecoder) -> Values:
    """Decode the body of a ReadResponse; `handle` is the position in the request.

    Raises:
        DataError: As `decode_publish`.
    """
    try:
        if not data.startswith(_READ_RESPONSE):
            raise DataError("not a ReadResponse")
        pos = _skip_response_header(data, len(_READ_RESPONSE))
        (n,) = _I32.unpack_from(data, pos)
        values, _ = _decode_values(data, pos + 4, n, slow, handles=False)
    except (error, IndexError, ValueError) as cause:
        raise DataError(f"read response: {cause}") from cause
    return values


def _decode_publish(data: bytes, slow: SlowDecoder) -> Publication:
    if not data.startswith(_PUBLISH_RESPONSE):
        raise DataError("not a PublishResponse")
    pos = _skip_response_header(data, len(_PUBLISH_RESPONSE))
    (subscription,) = _U32.unpack_from(data, pos)
    (available,) = _I32.unpack_from(data, pos + 4)
    pos += 8 + 4 * max(0, available)
    _, sequence, publish_ticks, parts = _MESSAGE_HEAD.unpack_from(data, pos)
    pos += _MESSAGE_HEAD.size
    if parts <= 0:
        return Publication(subscription, sequence, publish_ticks, None)
    decoded: list[Values] = []
    for _ in range(parts):
        kind = data[pos : pos + 5]
        (length,) = _I32.unpack_from(data, pos + 5)
        pos += 9
        if length < 0 or pos + length > len(data):
            raise DataError(f"a notification of {length} bytes in {len(data) - pos}")
        if kind == _STATUS_CHANGE:
            (status,) = _U32.unpack_from(data, pos)
            return Publication(subscription, sequence, publish_ticks, None, status)
        if kind != _DATA_CHANGE:
            raise DataError(f"notification of type {kind.hex()}")
        (n,) = _I32.unpack_from(data, pos)
        values, end = _decode_values(data[: pos + length], pos + 4, n, slow, handles=True)
        if end > pos + length:
            raise DataError("a record longer than its notification")
        decoded.append(values)
        pos += length
    return Publication(subscription, sequence, publish_ticks, join(decoded))


def _skip_response_header(data: bytes, pos: int) -> int:
    """Offset after a response header that is Good and says nothing else; else DataError."""
    _, _, status, diagnostics = _RESPONSE_HEAD.unpack_from(data, pos)
    pos += _RESPONSE_HEAD.size
    (strings,) = _I32.unpack_from(data, pos)
    pos += 4
    if status or diagnostics or strings > 0 or data[pos : pos + 3] != _NO_EXTENSION:
        raise DataError("a response header with more in it than usual")
    return pos + 3


def _decode_values(
    data: bytes, pos: int, n: int, slow: SlowDecoder, *, handles: bool
) -> tuple[Values, int]:
    head = 4 if handles else 0
    n = max(n, 0)
    if n > len(data) - pos:
        raise DataError(f"{n} records in {len(data) - pos} bytes")
    sizes = _SIZES
    offsets: list[int] = []
    positions: list[int] = []
    keys: list[int] = []
    slowly: list[tuple[int, Any]] = []
    for i in range(n):
        at = pos + head
        mask = data[at]
        key = mask | data[at + 1] << 8 if mask & 1 else mask
        size = sizes.get(key)
        if size is None:
            decoded, after = slow(data, at)
            handle = _U32.unpack_from(data, pos)[0] if handles else i
            slowly.append((handle, decoded))
            pos = after
            continue
        offsets.append(pos)
        positions.append(i)
        keys.append(key)
        pos = at + size
    if pos > len(data):
        raise DataError(f"{pos - len(data)} bytes are missing")
    return _gather(data, head, offsets, positions, keys, slowly), pos


def _gather(
    data: bytes,
    head: int,
    offsets: list[int],
    positions: list[int],
    keys: list[int],
    slowly: list[tuple[int, Any]],
) -> Values:
    m = len(offsets)
    at = np.array(offsets, dtype=np.int64)
    shape = np.array(keys, dtype=np.int32)
    values = Values(
        handle=np.array(positions, dtype=np.uint32),
        value=np.full(m, np.nan),
        status=np.zeros(m, dtype=np.uint32),
        source_ticks=np.zeros(m, dtype=np.int64),
        server_ticks=np.zeros(m, dtype=np.int64),
        slow=slowly,
    )
    raw = np.frombuffer(data, dtype=np.uint8)
    for key in set(keys):
        rows = np.flatnonzero(shape == key)
        dtype = _record(key, head)
        records = raw[at[rows, None] + np.arange(dtype.itemsize)].view(dtype)[:, 0]
        names = dtype.names or ()
        if "handle" in names:
            values.handle[rows] = records["handle"]
        if "value" in names:
            values.value[rows] = records["value"]
        if "status" in names:
            values.status[rows] = records["status"]
        if "source" in names:
            values.source_ticks[rows] = records["source"]
        if "server" in names:
            values.server_ticks[rows] = records["server"]
    return values


@cache
def _record(key: int, head: int) -> np.dtype[np.void]:
    """The packed numpy record of one shape; `head` is 4 where a client handle stands before it."""
    mask, number = key & 0xFF, NUMBERS[key >> 8]
    fields: list[tuple[str, str]] = [("handle", "<u4")] if head else []
    fields.append(("mask", "u1"))
    if mask & VALUE:
        fields.append(("type", "u1"))
        if number:
            fields.append(("value", number))
    if mask & STATUS:
        fields.append(("status", "<u4"))
    if mask & SOURCE_TIME:
        fields.append(("source", "<i8"))
    if mask & SOURCE_PICO:
        fields.append(("source_pico", "<u2"))
    if mask & SERVER_TIME:
        fields.append(("server", "<i8"))
    if mask & SERVER_PICO:
        fields.append(("server_pico", "<u2"))
    return np.dtype(fields)


_SIZES = {
    (mask | number << 8 if mask & VALUE else mask): _record(
        mask | number << 8 if mask & VALUE else mask, 0
    ).itemsize
    for mask in range(64)
    for number in (NUMBERS if mask & VALUE else (0,))
}
"""Shape (mask, variant type) -> bytes of a data value of that shape."""
