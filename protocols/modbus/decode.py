"""Turns the bytes of a whole cycle into values: one gather and one view per data type."""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from operator import itemgetter

import numpy as np
from numpy.typing import NDArray

from gateway.core.batch import Quality
from protocols.modbus.address import Address, Table
from protocols.modbus.plan import Limits, Request, Span
from protocols.modbus.signal import ModbusSignal
from protocols.modbus.values import TYPES, ValueType, marker_bits, wire_positions


class Image:
    """The last bytes of every address that a group reads, in one array.

    A register takes two bytes as on the wire, a coil or discrete input one byte, 0 or 1. Addresses
    that any request could ever read together lie together, so that a plan may change under it.
    """

    def __init__(self, spans: Sequence[Span], limits: Callable[[int], Limits]) -> None:
        self._runs: dict[tuple[int, int], list[tuple[int, int]]] = {}
        """(unit, function) -> (first address, index of its first byte), ordered."""
        size = 0
        key, end = (-1, -1), 0
        for span in sorted(spans, key=lambda s: (s.unit, s.table.value, s.start)):
            width = 1 if span.table.bits else 2
            own = (span.unit, span.table.value)
            if own != key or span.start - end > limits(span.unit).gap_max(span.table):
                self._runs.setdefault(own, []).append((span.start, size))
                key, end = own, span.start
            grown = max(end, span.end)
            size += width * (grown - end)
            end = grown
        self.data: NDArray[np.uint8] = np.zeros(size, dtype=np.uint8)
        self._bytes = self.data.data

    def at(self, unit: int, table: Table, address: int) -> int:
        """Index of the first byte of an address."""
        runs = self._runs[unit, table.value]
        start, at = runs[bisect_right(runs, address, key=itemgetter(0)) - 1]
        return at + (address - start) * (1 if table.bits else 2)

    def store(self, request: Request, payload: bytes) -> None:
        """Take the data bytes of a reply; they have the length that the request asked for."""
        at = self.at(request.unit, request.table, request.start)
        if request.table.bits:
            bits = np.frombuffer(payload, dtype=np.uint8)
            self.data[at : at + request.count] = np.unpackbits(
                bits, count=request.count, bitorder="little"
            )
        else:
            self._bytes[at : at + len(payload)] = payload


@dataclass(slots=True)
class _Kind:
    """Rows of one data type and the bytes that each gathers."""

    kind: ValueType
    rows: NDArray[np.intp]
    gather: NDArray[np.intp]
    shift: NDArray[np.uint64] | None = None
    mask: NDArray[np.uint64] | None = None
    marker_rows: NDArray[np.intp] | None = None
    """Index within the kind, one for each marker; with `marker_bits` beside it."""
    marker_bits: NDArray[np.uint64] | None = None


@dataclass(slots=True)
class _Text:
    row: int
    gather: NDArray[np.intp]
    states: dict[bytes, float]
    raw: bytes = b""
    value: float = field(default=float("nan"))


class Decoder:
    """Values of every row of a group out of its image.

    `invalid`, `bcd` and `state` count rows whose value could not be used in the last call.
    """

    def __init__(
        self, signals: Sequence[ModbusSignal], spans: Sequence[Span], image: Image
    ) -> None:
        self._image = image
        self._n = len(signals)
        self._scale = np.array([s.scale for s in signals])
        self._offset = np.array([s.offset for s in signals])
        self._plain = bool(np.all(self._scale == 1) and np.all(self._offset == 0))
        by_kind: dict[tuple[str, bool], list[int]] = {}
        self._texts: list[_Text] = []
        places = [signal.place() for signal in signals]
        starts = [image.at(span.unit, span.table, span.start) for span in spans]
        for row, signal in enumerate(signals):
            if signal.type == "string":
                self._texts.append(_text(row, signal, starts[row]))
            else:
                by_kind.setdefault((signal.type, places[row].low >= 0), []).append(row)
        self._kinds = [
            _kind(
                TYPES[name],
                rows,
                [signals[row] for row in rows],
                [places[row] for row in rows],
                np.array([starts[row] for row in rows], dtype=np.intp),
            )
            for (name, _), rows in by_kind.items()
        ]
        # The usual case, one kind for all rows in order, needs no scatter.
        self._whole = (
            len(self._kinds) == 1
            and not self._texts
            and bool(np.array_equal(self._kinds[0].rows, np.arange(self._n)))
        )

    def raw(self) -> tuple[NDArray[np.float64], NDArray[np.uint8], dict[str, NDArray[np.intp]]]:
        """Values before scale and offset, their quality, and the rows at fault by kind of fault.

        Returns:
            float64[n], uint8[n] and, for `invalid`, `bcd`, `state`, the rows at fault (absent where
            there are none).
        """
        faults: dict[str, NDArray[np.intp]] = {}
        quality = np.zeros(self._n, dtype=np.uint8)
        value = np.empty(0) if self._whole else np.full(self._n, np.nan)
        for kind in self._kinds:
            part, bad = self._values(kind)
            if self._whole:
                value = part
            else:
                value[kind.rows] = part
            for name, rows in bad.items():
                at = kind.rows[rows]
                quality[at] = Quality.BAD
                faults[name] = np.union1d(faults[name], at) if name in faults else at
        for text in self._texts:
            value[text.row] = self._state(text)
            if np.isnan(value[text.row]):
                quality[text.row] = Quality.BAD
                faults["state"] = np.append(faults.get("state", np.empty(0, np.intp)), text.row)
        return value, quality, faults

    def scaled(self, value: NDArray[np.float64]) -> NDArray[np.float64]:
        """Engineering units: float64[n] * scale + offset."""
        return value if self._plain else value * self._scale + self._offset

    def _values(self, kind: _Kind) -> tuple[NDArray[np.float64], dict[str, NDArray[np.intp]]]:
        taken = self._image.data[kind.gather]
        raw = taken.view(kind.kind.dtype)[:, 0]
        bits = taken.view(f"<u{kind.kind.size}")[:, 0]
        bad: dict[str, NDArray[np.intp]] = {}
        if kind.marker_rows is not None and kind.marker_bits is not None:
            hit = kind.marker_rows[bits[kind.marker_rows] == kind.marker_bits]
            if len(hit):
                bad["invalid"] = np.unique(hit)
        if kind.kind.bcd:
            value, wrong = _bcd(bits.astype(np.uint64), 2 * kind.kind.size)
            if wrong.any():
                bad["bcd"] = np.flatnonzero(wrong)
            return value, bad
        if kind.shift is not None and kind.mask is not None:
            return ((bits.astype(np.uint64) >> kind.shift) & kind.mask).astype(np.float64), bad
        with np.errstate(invalid="ignore"):  # A signalling NaN is a NaN.
            return raw.astype(np.float64), bad

    def _state(self, text: _Text) -> float:
        raw = self._image.data[text.gather].tobytes()
        if raw != text.raw:
            text.raw = raw
            text.value = text.states.get(_stripped(raw), float("nan"))
        return text.value


def _kind(
    kind: ValueType,
    rows: Sequence[int],
    signals: Sequence[ModbusSignal],
    places: Sequence[Address],
    starts: NDArray[np.intp],
) -> _Kind:
    """What to gather for the signals of one type; `rows`, `places`, `starts` are one for each."""
    if kind.size == 1:
        positions = np.zeros((len(rows), 1), dtype=np.intp)
    else:
        positions = np.array([wire_positions(s.order, kind.size) for s in signals], dtype=np.intp)
    result = _Kind(kind, np.array(rows, dtype=np.intp), starts[:, None] + positions)
    if places[0].low >= 0:
        result.shift = np.array([p.low for p in places], dtype=np.uint64)
        result.mask = np.array([(1 << (p.high - p.low + 1)) - 1 for p in places], dtype=np.uint64)
    markers = [(i, marker_bits(m, kind)) for i, s in enumerate(signals) for m in s.invalid]
    if markers:
        result.marker_rows = np.array([i for i, _ in markers], dtype=np.intp)
        result.marker_bits = np.array([bits for _, bits in markers], dtype=np.uint64)
    return result


def _text(row: int, signal: ModbusSignal, at: int) -> _Text:
    gather = np.arange(at, at + 2 * signal.registers(), dtype=np.intp)
    if signal.order == "byte_swap":
        gather = gather.reshape(-1, 2)[:, ::-1].reshape(-1)
    return _Text(row, gather, {_stripped(k.encode()): v for k, v in signal.states.items()})


def _bcd(bits: NDArray[np.uint64], digits: int) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Packed decimal digits to numbers, and where a digit is more than 9."""
    shifts = np.arange(0, 4 * digits, 4, dtype=np.uint64)
    nibbles = (bits[:, None] >> shifts) & np.uint64(15)
    powers = 10 ** np.arange(digits, dtype=np.uint64)
    value: NDArray[np.float64] = (nibbles * powers).sum(axis=1).astype(np.float64)
    wrong: NDArray[np.bool_] = np.asarray((nibbles > 9).any(axis=1))
    return value, wrong


def _stripped(raw: bytes) -> bytes:
    """Text up to its first NUL, without the blanks around it."""
    return raw.partition(b"\0")[0].strip()
