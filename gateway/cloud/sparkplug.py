"""Sparkplug B payloads, as far as summaries need them: numbers and texts, written, never read.

Source: Eclipse Sparkplug 3.0, `sparkplug_b.proto` (field numbers) and chapter 6 (births, deaths,
sequence numbers, the historical flag).
"""

import struct
from collections.abc import Mapping

INT64, DOUBLE, BOOLEAN, STRING = 4, 10, 11, 12
NAMESPACE = "spBv1.0"


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _key(number: int, wire: int) -> bytes:
    return _varint(number << 3 | wire)


def _number(number: int, value: int) -> bytes:
    return _key(number, 0) + _varint(value)


def _bytes(number: int, value: bytes) -> bytes:
    return _key(number, 2) + _varint(len(value)) + value


def metric(name: str, value: float | str, t_ms: int, *, historical: bool) -> bytes:
    """One metric: name, timestamp, datatype, the historical flag where it holds, and the value."""
    out = _bytes(1, name.encode()) + _number(3, t_ms)
    if isinstance(value, str):
        kind, body = STRING, _bytes(15, value.encode())
    elif isinstance(value, bool):
        kind, body = BOOLEAN, _number(14, value)
    elif isinstance(value, int):
        kind, body = INT64, _number(11, value)
    else:
        kind, body = DOUBLE, _key(13, 1) + struct.pack("<d", value)
    out += _number(4, kind)
    if historical:
        out += _number(5, 1)
    return out + body


def payload(
    metrics: Mapping[str, float | str], t_ms: int, seq: int | None, *, historical: bool = False
) -> bytes:
    """A payload; `seq` is None in a death certificate, which has none."""
    out = _number(1, t_ms)
    for name, value in metrics.items():
        out += _bytes(2, metric(name, value, t_ms, historical=historical))
    return out if seq is None else out + _number(3, seq)
