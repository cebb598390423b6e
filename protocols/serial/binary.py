"""Fields of a proven frame as numbers. Does no I/O and knows no clock."""

import struct
from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from protocols.serial.formats import BinaryField, Order, to_bytes

Raw: TypeAlias = float | str | NDArray[np.float64] | None
"""What a field holds: a number, text, an array, or None where the frame is too short for it."""

_FLOATS = {"f32": struct.Struct(">f"), "f64": struct.Struct(">d")}


def width_of(field: BinaryField) -> int:
    """Bytes of one element."""
    if field.type == "text":
        return field.size
    return int(field.type.lstrip("abcdefiu")) // 8


def permutation(width: int, order: Order) -> tuple[int, ...]:
    """Which byte, as sent, stands where in big-endian order.

    `word_swapped` is what Modbus people call CDAB, `byte_swapped` BADC.
    """
    places = list(range(width))
    match order:
        case "little":
            places.reverse()
        case "word_swapped":
            places = [p for word in reversed(range(0, width, 2)) for p in places[word : word + 2]]
        case "byte_swapped":
            places = [p for word in range(0, width, 2) for p in reversed(places[word : word + 2])]
        case "big":
            pass
    return tuple(places)


class FieldReader:
    """Reads one field out of frames."""

    def __init__(self, field: BinaryField, order: Order) -> None:
        self.name = field.name
        self._field = field
        self._width = width_of(field)
        self._places = permutation(self._width, field.order or order)
        self._straight = self._places == tuple(range(self._width))
        self._when = to_bytes(field.when_bytes)
        self._number = _number_of(field)

    def read(self, frame: bytes) -> tuple[bool, Raw]:
        """Whether frames of this kind have the field at all, and what it holds."""
        field = self._field
        if self._when:
            at = _place(frame, field.when_offset or 0)
            if at < 0 or frame[at : at + len(self._when)] != self._when:
                return False, None
        at = _place(frame, field.offset)
        if field.count != 1:
            return True, self._array(frame, at)
        data = frame[at : at + self._width] if at >= 0 else b""
        if len(data) != self._width:
            return True, None
        if field.type == "text":
            return True, data.decode("latin-1").strip(" \0")
        if not self._straight:
            data = bytes([data[place] for place in self._places])
        return True, self._number(data)

    def _array(self, frame: bytes, at: int) -> NDArray[np.float64] | None:
        n = self._field.count or max(0, len(frame) - at) // self._width
        if at < 0 or n == 0 or len(frame) < at + n * self._width:
            return None
        raw = np.frombuffer(frame, dtype=np.uint8, count=n * self._width, offset=at)
        columns = raw.reshape(n, self._width)[:, self._places]
        kind = self._field.type[0]
        if kind == "f":
            return np.ascontiguousarray(columns).view(f">f{self._width}")[:, 0].astype(np.float64)
        if kind == "b":
            return np.array([self._number(row.tobytes()) for row in columns], dtype=np.float64)
        if self._width == 3:
            sign = np.where((columns[:, :1] >= 128) & (kind == "i"), 255, 0).astype(np.uint8)
            columns = np.hstack([sign, columns])
        dtype = f">{kind}{columns.shape[1]}"
        return np.ascontiguousarray(columns).view(dtype)[:, 0].astype(np.float64)


def _place(frame: bytes, offset: int) -> int:
    """Where an offset points; negative where that is before the frame."""
    return offset if offset >= 0 else len(frame) + offset


def _number_of(field: BinaryField) -> Callable[[bytes], float]:
    """From the bytes in big-endian order to a number; NaN where they hold none."""
    kind = field.type[0]
    if kind == "f":
        unpack = _FLOATS[field.type].unpack
        return lambda data: float(unpack(data)[0])
    if kind == "b":
        return _bcd
    signed = kind == "i"
    if field.bit is not None:
        bit, mask = field.bit, (1 << field.bits) - 1
        return lambda data: float(int.from_bytes(data, "big") >> bit & mask)
    return lambda data: float(int.from_bytes(data, "big", signed=signed))


def _bcd(data: bytes) -> float:
    digits = data.hex()
    return float(digits) if digits.isdecimal() else float("nan")
