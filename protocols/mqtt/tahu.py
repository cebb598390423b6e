"""Decodes the protocol buffers of a Sparkplug B payload, as far as metrics need; nothing else.

Field numbers are those of sparkplug_b.proto in the Eclipse Sparkplug specification 3.0.0. Unknown
fields are passed over, as protocol buffers ask. Nesting is two deep, so nothing recurses.
"""

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from gateway.core.errors import DataError

Value: TypeAlias = float | int | bool | str | NDArray[np.float64] | None
METRICS_MAX = 100_000
VARINT_BYTES_MAX = 10
_VARINT, _FIXED_64, _BYTES, _FIXED_32 = 0, 1, 2, 5
"""Wire types of protocol buffers."""
_FLOAT, _DOUBLE = struct.Struct("<f"), struct.Struct("<d")


class DataType(IntEnum):
    """`DataType` of the specification, as far as it is a number or a text."""

    INT8 = 1
    INT16 = 2
    INT32 = 3
    INT64 = 4
    UINT8 = 5
    UINT16 = 6
    UINT32 = 7
    UINT64 = 8
    FLOAT = 9
    DOUBLE = 10
    BOOLEAN = 11
    STRING = 12
    DATETIME = 13
    TEXT = 14


_SIGNED_BITS: dict[int, int] = {
    DataType.INT8: 8,
    DataType.INT16: 16,
    DataType.INT32: 32,
    DataType.INT64: 64,
}
_ARRAYS = {
    22: "<i1",
    23: "<i2",
    24: "<i4",
    25: "<i8",
    26: "<u1",
    27: "<u2",
    28: "<u4",
    29: "<u8",
    30: "<f4",
    31: "<f8",
}


@dataclass(slots=True)
class Metric:
    """One metric as it stands in the payload.

    Attributes:
        name: "" where only the alias is given.
        alias: None where only the name is given.
        t_ms: UTC ms; None where the metric has no time of its own.
        datatype: 0 where it is not given; the birth said it then.
        value: None where it is null, or of a kind that we do not read.
        quality: The property "Quality" (192 good, 0 bad, 500 stale); None where there is none.
    """

    name: str = ""
    alias: int | None = None
    t_ms: int | None = None
    datatype: int = 0
    is_historical: bool = False
    is_null: bool = False
    raw: int | float | bool | str | bytes | None = None
    quality: int | None = None

    def value(self, datatype: int) -> Value:
        """The value as the type says, which the birth gives where the metric does not."""
        kind = self.datatype or datatype
        raw = self.raw
        if self.is_null or raw is None:
            return None
        if isinstance(raw, bytes):
            return _array(raw, kind)
        bits = _SIGNED_BITS.get(kind)
        if bits is not None and isinstance(raw, int):
            raw &= (1 << bits) - 1
            return raw - (1 << bits) if raw >> (bits - 1) else raw
        return raw


@dataclass(slots=True)
class Payload:
    """A Sparkplug B payload.

    Attributes:
        t_ms: UTC ms at which it was sent; None where it does not say.
        seq: 0 to 255; None where there is none (deaths).
    """

    t_ms: int | None = None
    seq: int | None = None
    metrics: list[Metric] = field(default_factory=list)


def decode(data: bytes) -> Payload:
    """Decode one payload.

    Raises:
        DataError: It is none.
    """
    payload = Payload()
    for key, raw in _fields(data):
        if key == 2 << 3 | _BYTES:
            if len(payload.metrics) >= METRICS_MAX:
                raise DataError(f"more than {METRICS_MAX} metrics in one payload")
            payload.metrics.append(_metric(_bytes(raw)))
        elif key == 1 << 3 | _VARINT:
            payload.t_ms = _int(raw)
        elif key == 3 << 3 | _VARINT:
            payload.seq = _int(raw)
    return payload


def _metric(data: bytes) -> Metric:
    metric = Metric()
    for key, raw in _fields(data):
        read = _METRIC_FIELDS.get(key)
        if read is not None:
            name, convert = read
            setattr(metric, name, convert(raw))
    return metric


def _quality(raw: int | bytes) -> int | None:
    """The property named "Quality" of a property set."""
    keys: list[str] = []
    values: list[int | None] = []
    for key, part in _fields(_bytes(raw)):
        if key == 1 << 3 | _BYTES:
            keys.append(_text(part))
        elif key == 2 << 3 | _BYTES:
            numbers = [_int(r) for k, r in _fields(_bytes(part)) if k in _PROPERTY_INTEGERS]
            values.append(numbers[-1] if numbers else None)
    return dict(zip(keys, values, strict=False)).get("Quality")


def _array(data: bytes, kind: int) -> NDArray[np.float64] | None:
    form = _ARRAYS.get(kind)
    if form is None or len(data) % int(form[2]):
        return None
    return np.frombuffer(data, dtype=form).astype(np.float64)


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Every field of a message: its key (number and wire type, as they are sent), its content."""
    at, end = 0, len(data)
    while at < end:
        # Nearly every number is of one byte: that way is short, for it is taken most of the time.
        key = data[at]
        at += 1
        if key >= 0x80:
            key, at = _varint(data, at - 1)
        wire = key & 7
        if key < 8:
            raise DataError("a field has the number 0")
        if wire == _VARINT:
            value, at = _varint(data, at)
            yield key, value
            continue
        if wire == _BYTES:
            size, at = _varint(data, at)
        elif wire == _FIXED_32:
            size = 4
        elif wire == _FIXED_64:
            size = 8
        else:
            raise DataError(f"wire type {wire} is not one of protocol buffers 3")
        if at + size > end:
            raise DataError("a field runs past the end of its message")
        yield key, data[at : at + size]
        at += size


def _varint(data: bytes, at: int) -> tuple[int, int]:
    if at < len(data) and data[at] < 0x80:
        return data[at], at + 1
    value = 0
    for i in range(VARINT_BYTES_MAX):
        if at + i >= len(data):
            break
        byte = data[at + i]
        value |= (byte & 0x7F) << 7 * i
        if byte < 0x80:
            return value & 0xFFFF_FFFF_FFFF_FFFF, at + i + 1
    raise DataError("a number runs past the end of its message")


def _int(raw: int | bytes) -> int:
    assert isinstance(raw, int)
    return raw


def _bytes(raw: int | bytes) -> bytes:
    assert isinstance(raw, bytes)
    return raw


def _text(raw: int | bytes) -> str:
    return _bytes(raw).decode(errors="replace")


def _float(raw: int | bytes) -> float:
    return float(_FLOAT.unpack(_bytes(raw))[0])


def _double(raw: int | bytes) -> float:
    return float(_DOUBLE.unpack(_bytes(raw))[0])


_METRIC_FIELDS: dict[int, tuple[str, Callable[[int | bytes], object]]] = {
    1 << 3 | _BYTES: ("name", _text),
    2 << 3 | _VARINT: ("alias", _int),
    3 << 3 | _VARINT: ("t_ms", _int),
    4 << 3 | _VARINT: ("datatype", _int),
    5 << 3 | _VARINT: ("is_historical", bool),
    7 << 3 | _VARINT: ("is_null", bool),
    9 << 3 | _BYTES: ("quality", _quality),
    10 << 3 | _VARINT: ("raw", _int),
    11 << 3 | _VARINT: ("raw", _int),
    12 << 3 | _FIXED_32: ("raw", _float),
    13 << 3 | _FIXED_64: ("raw", _double),
    14 << 3 | _VARINT: ("raw", bool),
    15 << 3 | _BYTES: ("raw", _text),
    16 << 3 | _BYTES: ("raw", _bytes),
}
"""Key of a field of `Metric` in the specification -> ours, and how it is read."""
_PROPERTY_INTEGERS = (3 << 3 | _VARINT, 4 << 3 | _VARINT)
