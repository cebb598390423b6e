"""Decodes the protocol buffers of a Sparkplug B payload, as far as metrics need; nothing else.

Field numbers are those of sparkplug_b.proto in the Eclipse Sparkplug specification 3.0.0. Unknown
fields are passed over, as protocol buffers ask. Nesting is two deep, so nothing recurses.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from gateway.core.errors import DataError

Value: TypeAlias = float | int | bool | str | NDArray[np.float64] | None
METRICS_MAX = 100_000
VARINT_BYTES_MAX = 10


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
    for number, wire, raw in _fields(data):
        match number, wire:
            case 1, 0:
                payload.t_ms = _int(raw)
            case 2, 2:
                if len(payload.metrics) >= METRICS_MAX:
                    raise DataError(f"more than {METRICS_MAX} metrics in one payload")
                payload.metrics.append(_metric(_bytes(raw)))
            case 3, 0:
                payload.seq = _int(raw)
            case _:
                pass
    return payload


def _metric(data: bytes) -> Metric:
    metric = Metric()
    for number, wire, raw in _fields(data):
        match number, wire:
            case 1, 2:
                metric.name = _text(raw)
            case 2, 0:
                metric.alias = _int(raw)
            case 3, 0:
                metric.t_ms = _int(raw)
            case 4, 0:
                metric.datatype = _int(raw)
            case 5, 0:
                metric.is_historical = bool(raw)
            case 7, 0:
                metric.is_null = bool(raw)
            case 9, 2:
                metric.quality = _quality(_bytes(raw))
            case ((10 | 11), 0):
                metric.raw = _int(raw)
            case 12, 5:
                metric.raw = float(struct.unpack("<f", _bytes(raw))[0])
            case 13, 1:
                metric.raw = float(struct.unpack("<d", _bytes(raw))[0])
            case 14, 0:
                metric.raw = bool(raw)
            case 15, 2:
                metric.raw = _text(raw)
            case 16, 2:
                metric.raw = _bytes(raw)
            case _:
                pass
    return metric


def _quality(data: bytes) -> int | None:
    """The property named "Quality" of a property set."""
    keys: list[str] = []
    values: list[int | None] = []
    for number, wire, raw in _fields(data):
        match number, wire:
            case 1, 2:
                keys.append(_text(raw))
            case 2, 2:
                numbers = [_int(r) for n, w, r in _fields(_bytes(raw)) if n in (3, 4) and w == 0]
                values.append(numbers[-1] if numbers else None)
            case _:
                pass
    return dict(zip(keys, values, strict=False)).get("Quality")


def _array(data: bytes, kind: int) -> NDArray[np.float64] | None:
    form = _ARRAYS.get(kind)
    if form is None or len(data) % int(form[2]):
        return None
    return np.frombuffer(data, dtype=form).astype(np.float64)


def _fields(data: bytes) -> Iterator[tuple[int, int, int | bytes]]:
    """Every field of a message: its number, its wire type, its content."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        number, wire = key >> 3, key & 7
        match wire:
            case 0:
                value, at = _varint(data, at)
                yield number, wire, value
                continue
            case 1:
                size = 8
            case 2:
                size, at = _varint(data, at)
            case 5:
                size = 4
            case _:
                raise DataError(f"wire type {wire} is not one of protocol buffers 3")
        if number == 0 or at + size > len(data):
            raise DataError("a field runs past the end of its message")
        yield number, wire, data[at : at + size]
        at += size


def _varint(data: bytes, at: int) -> tuple[int, int]:
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
