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
    """Values of a group's rows out of its image: of all rows, or of those that are asked for."""

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
        self._kind_of = np.full(self._n, -1, dtype=np.int8)
        self._within = np.zeros(self._n, dtype=np.intp)
        for number, kind in enumerate(self._kinds):
            self._kind_of[kind.rows] = number
            self._within[kind.rows] = np.arange(len(kind.rows))

    def raw(
        self, rows: NDArray[np.intp] | None = None
    ) -> tuple[NDArray[np.float64], NDArray[np.uint8], dict[str, NDArray[np.intp]]]:
        """Values before scale and offset, their quality, and what is at fault by kind of fault.

        Args:
            rows: intp[m], ascending, the rows that are wanted; all n of them if not given.
        Returns:
            float64[m], uint8[m] and, for `invalid`, `bcd`, `state`, which of the m are at fault
            (absent where none is).
        """
        m = self._n if rows is None else len(rows)
        faults: dict[str, NDArray[np.intp]] = {}
        quality = np.zeros(m, dtype=np.uint8)
        value = np.full(m, np.nan)
        for number, kind in enumerate(self._kinds):
            if rows is None:
                at, within = kind.rows, None
            else:
                at = np.flatnonzero(self._kind_of[rows] == number)
                within = self._within[rows[at]]
                if not len(at):
                    continue
            part, bad = self._values(kind, within)
            if self._whole:
                value = part
            else:
                value[at] = part
            for name, which in bad.items():
                quality[at[which]] = Quality.BAD
                found = at[which]
                faults[name] = np.union1d(faults[name], found) if name in faults else found
        for text in self._texts:
            i = text.row if rows is None else int(np.searchsorted(rows, text.row))
            if i == m or (rows is not None and rows[i] != text.row):
                continue
            value[i] = self._state(text)
            if np.isnan(value[i]):
                quality[i] = Quality.BAD
                faults["state"] = np.append(faults.get("state", np.empty(0, np.intp)), i)
        return value, quality, faults

    def scaled(
        self, value: NDArray[np.float64], rows: NDArray[np.intp] | None = None
    ) -> NDArray[np.float64]:
        """Engineering units of the rows, as in `raw`: float64[m] * scale + offset."""
        if self._plain:
            return value
        at = slice(None) if rows is None else rows
        scaled: NDArray[np.float64] = value * self._scale[at] + self._offset[at]
        return scaled

    def _values(
        self, kind: _Kind, within: NDArray[np.intp] | None
    ) -> tuple[NDArray[np.float64], dict[str, NDArray[np.intp]]]:
        """Values of one kind, of all its rows or of those `within` it, and which are at fault."""
        data = self._image.data
        taken = data[kind.gather if within is None else kind.gather[within]]
        raw = taken.view(kind.kind.dtype)[:, 0]
        bits = taken.view(f"<u{kind.kind.size}")[:, 0]
        bad: dict[str, NDArray[np.intp]] = {}
        if kind.marker_rows is not None and kind.marker_bits is not None:
            marked = data[kind.gather[kind.marker_rows]].view(f"<u{kind.kind.size}")[:, 0]
            absent = np.zeros(len(kind.rows), dtype=np.bool_)
            absent[kind.marker_rows[marked == kind.marker_bits]] = True
            hit = np.flatnonzero(absent if within is None else absent[within])
            if len(hit):
                bad["invalid"] = hit
        if kind.kind.bcd:
            value, wrong = _bcd(bits.astype(np.uint64), 2 * kind.kind.size)
            if wrong.any():
                bad["bcd"] = np.flatnonzero(wrong)
            return value, bad
        if kind.shift is not None and kind.mask is not None:
            shift = kind.shift if within is None else kind.shift[within]
            mask = kind.mask if within is None else kind.mask[within]
            return ((bits.astype(np.uint64) >> shift) & mask).astype(np.float64), bad
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
