"""Packs columns of samples into one compressed block and back, exactly. Pure.

Samples of a block keep their order of arrival, because that order is their sequence number. Values
and, where it pays, times are coded in the order of their signal, which the decoder finds again by
sorting the signal column the same way.

    block := crc32 version n streams

Each signal's values take the cheapest form that gives every bit back: integers behind a decimal
factor (what converters and PLCs send), float32 widened to float64, or float64.
"""

import struct
import zlib
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from gateway.core.batch import BAD
from gateway.core.errors import DataError
from gateway.store.streams import StreamReader, StreamWriter

Columns: TypeAlias = tuple[
    NDArray[np.int32], NDArray[np.int64], NDArray[np.float64], NDArray[np.uint8]
]
"""signal, t_ns, value, quality: as in `Batch`."""

VERSION = 1
SAMPLES_MAX = 1 << 20
"""A block never holds more: a damaged length must not make the reader ask for all memory."""
WAVEFORM_POINTS_MAX = 1 << 28

_HEAD = struct.Struct("<IBI")

_DIVIDE, _MULTIPLY, _SINGLE, _DOUBLE = range(4)
_FORMS: tuple[tuple[int, float], ...] = (
    (_DIVIDE, 1.0),
    (_DIVIDE, 10.0),
    (_DIVIDE, 100.0),
    (_DIVIDE, 1000.0),
    (_MULTIPLY, 0.1),
    (_MULTIPLY, 0.01),
    (_MULTIPLY, 0.001),
    (_SINGLE, 0.0),
    (_DIVIDE, 1e4),
    (_DIVIDE, 1e5),
    (_DIVIDE, 1e6),
    (_MULTIPLY, 0.5),
    (_MULTIPLY, 0.25),
    (_MULTIPLY, 0.125),
    (_DOUBLE, 0.0),
)
"""Forms in the order in which they are tried. Part of the file format: append only."""
_FORM_UNKNOWN = 255
_INTEGER_MAX = float(1 << 53)
_TIME_UNITS = (1_000_000_000, 1_000_000, 1_000, 1)


def cut(columns: Columns, start: int, end: int) -> Columns:
    """Samples start to end of the columns."""
    signal, t_ns, value, quality = columns
    return signal[start:end], t_ns[start:end], value[start:end], quality[start:end]


def joined(parts: Sequence[Columns]) -> Columns:
    """Several lots of columns as one."""
    if len(parts) == 1:
        return parts[0]
    if not parts:
        return np.empty(0, np.int32), np.empty(0, np.int64), np.empty(0), np.empty(0, np.uint8)
    signal, t_ns, value, quality = zip(*parts, strict=True)
    return (
        np.concatenate(signal),
        np.concatenate(t_ns),
        np.concatenate(value),
        np.concatenate(quality),
    )


class FormMemory:
    """Remembers which form each signal took last, so that the search runs once a signal."""

    def __init__(self) -> None:
        self._form = np.full(0, _FORM_UNKNOWN, dtype=np.uint8)

    def get(self, signals: NDArray[np.int32]) -> NDArray[np.uint8]:
        """uint8[k], the form of each signal; 255 where none is known."""
        top = int(signals.max(initial=-1)) + 1
        if top > len(self._form):
            grown = np.full(max(top, 2 * len(self._form)), _FORM_UNKNOWN, dtype=np.uint8)
            grown[: len(self._form)] = self._form
            self._form = grown
        return self._form[signals]

    def put(self, signals: NDArray[np.int32], form: NDArray[np.uint8]) -> None:
        """Remember the form of each of the signals."""
        self._form[signals] = form


def encode(columns: Columns, memory: FormMemory | None = None) -> bytes:
    """Pack `n` samples, 1 <= n <= SAMPLES_MAX.

    Value NaN (BAD) is not stored: the quality says it. Signal numbers must be >= 0.
    """
    signal, t_ns, value, quality = columns
    n = len(signal)
    assert 1 <= n <= SAMPLES_MAX
    order = _order(signal)
    by_signal = signal[order]
    starts = np.flatnonzero(np.diff(by_signal, prepend=by_signal[0] - 1))

    good = quality != BAD
    dense = np.where(good, value, 0.0)[order]
    forms = _choose(dense, by_signal[starts], starts, memory or FormMemory())
    unique_forms = np.unique(forms)

    streams = StreamWriter()
    wide = signal.astype(np.int64)
    wide[1:] -= signal[:-1]
    streams.integers(wide)
    streams.put(b"" if not quality.any() else quality.tobytes())
    _put_time(streams, t_ns, order)
    streams.put(b"" if len(unique_forms) == 1 else forms.tobytes())
    streams.put(unique_forms.tobytes())
    lengths = np.diff(starts, append=n)
    for form in unique_forms.tolist():
        part = (
            dense if len(unique_forms) == 1 else dense[np.repeat(forms == np.uint8(form), lengths)]
        )
        _put_values(streams, part, *_FORMS[form])

    packed = _HEAD.pack(0, VERSION, n)[4:] + streams.packed()
    return struct.pack("<I", zlib.crc32(packed)) + packed


def decode(block: bytes) -> Columns:
    """Unpack what `encode` packed.

    Raises:
        DataError: The block is not one, or was altered.
    """
    if len(block) < _HEAD.size:
        raise DataError(f"sample block: must be {_HEAD.size} bytes or more, was {len(block)}")
    crc, version, n = _HEAD.unpack_from(block)
    if zlib.crc32(memoryview(block)[4:]) != crc:
        raise DataError("sample block: its checksum does not fit; the bytes were altered")
    if version != VERSION or not 1 <= n <= SAMPLES_MAX:
        raise DataError(f"sample block: version {version} with {n} samples is not known here")
    streams = StreamReader(block, _HEAD.size, bytes_max=SAMPLES_MAX)
    signal = np.cumsum(streams.integers(n)).astype(np.int32)
    raw_quality = streams.take()
    quality = np.frombuffer(raw_quality or bytes(n), dtype=np.uint8)
    order = _order(signal)
    t_ns = _take_time(streams, n, order)
    by_signal = signal[order]
    starts = np.flatnonzero(np.diff(by_signal, prepend=by_signal[0] - 1))
    raw_forms = streams.take()
    unique_forms = np.frombuffer(streams.take(), dtype=np.uint8)
    dense = np.empty(n)
    if len(unique_forms) == 1:
        dense[:] = _take_values(streams, n, *_FORMS[int(unique_forms[0])])
    else:
        forms = np.repeat(np.frombuffer(raw_forms, dtype=np.uint8), np.diff(starts, append=n))
        for form in unique_forms.tolist():
            here = forms == np.uint8(form)
            dense[here] = _take_values(streams, int(here.sum()), *_FORMS[form])
    value = np.empty(n)
    value[order] = dense
    value[quality == BAD] = np.nan
    return signal, t_ns, value, quality


def encode_waveform(value: NDArray[np.float32]) -> bytes:
    """Pack float32[n] of a waveform: the streams of a block without its columns."""
    streams = StreamWriter()
    bits = value.view(np.uint32)
    streams.planes(bits ^ np.concatenate(([np.uint32(0)], bits[:-1])))
    packed = streams.packed()
    return struct.pack("<II", zlib.crc32(packed), len(value)) + packed


def decode_waveform(block: bytes) -> NDArray[np.float32]:
    """Unpack what `encode_waveform` packed.

    Raises:
        DataError: The block is not one, or was altered.
    """
    if len(block) < 8:
        raise DataError(f"waveform: must be 8 bytes or more, was {len(block)}")
    crc, n = struct.unpack_from("<II", block)
    if zlib.crc32(memoryview(block)[8:]) != crc:
        raise DataError("waveform: its checksum does not fit; the bytes were altered")
    if n > WAVEFORM_POINTS_MAX:
        raise DataError(f"waveform: must be {WAVEFORM_POINTS_MAX} points or fewer, was {n}")
    bits = StreamReader(block, 8, bytes_max=n).planes(n, 4).view(np.uint32)
    return np.bitwise_xor.accumulate(bits).view(np.float32)


def _order(signal: NDArray[np.int32]) -> NDArray[np.intp]:
    """The stable order by signal; 16-bit keys take numpy's radix sort."""
    key: NDArray[np.uint16] | NDArray[np.int32] = signal
    if int(signal.max()) < 1 << 16:
        key = signal.astype(np.uint16)
    return np.argsort(key, kind="stable")


def _choose(
    dense: NDArray[np.float64],
    signals: NDArray[np.int32],
    starts: NDArray[np.intp],
    memory: FormMemory,
) -> NDArray[np.uint8]:
    """uint8[k]: for each signal's run the first form that gives back all its bits."""
    guess = memory.get(signals)
    forms = np.full(len(starts), _FORM_UNKNOWN, dtype=np.uint8)
    lengths = np.diff(starts, append=len(dense))
    for form in np.unique(guess).tolist():
        if form != _FORM_UNKNOWN:
            _try(form, np.flatnonzero(guess == np.uint8(form)), forms, dense, starts, lengths)
    for form in range(len(_FORMS)):
        open_runs = np.flatnonzero(forms == np.uint8(_FORM_UNKNOWN))
        if not len(open_runs):
            break
        _try(form, open_runs, forms, dense, starts, lengths)
    if not np.array_equal(forms, guess):
        memory.put(signals, forms)
    return forms


def _try(
    form: int,
    runs: NDArray[np.intp],
    forms: NDArray[np.uint8],
    dense: NDArray[np.float64],
    starts: NDArray[np.intp],
    lengths: NDArray[np.intp],
) -> None:
    """Give `form` to those of the runs that it represents exactly."""
    if len(runs) == len(starts):
        part, at = dense, starts
    else:
        wanted = np.zeros(len(starts), dtype=bool)
        wanted[runs] = True
        part = dense[np.repeat(wanted, lengths)]
        at = np.cumsum(lengths[runs]) - lengths[runs]
    forms[runs[np.logical_and.reduceat(_fits(part, *_FORMS[form]), at)]] = form


def _fits(value: NDArray[np.float64], kind: int, factor: float) -> NDArray[np.bool_]:
    if kind == _DOUBLE:
        return np.ones(len(value), dtype=bool)
    if kind == _SINGLE:
        with np.errstate(over="ignore"):
            back = value.astype(np.float32).astype(np.float64)
        same: NDArray[np.bool_] = back.view(np.int64) == value.view(np.int64)
        return same
    with np.errstate(over="ignore", invalid="ignore"):
        # Adding nothing makes -0.0 into 0.0: an integer has no sign of zero to give back.
        whole = np.rint(value * factor if kind == _DIVIDE else value / factor) + 0.0
        back = whole / factor if kind == _DIVIDE else whole * factor
    # Bits, not values, are compared: -0.0 equals 0.0 and is not the same.
    exact: NDArray[np.bool_] = back.view(np.int64) == value.view(np.int64)
    return exact & (np.abs(whole) < _INTEGER_MAX)


def _put_values(
    streams: StreamWriter, value: NDArray[np.float64], kind: int, factor: float
) -> None:
    if kind == _DOUBLE:
        bits = value.view(np.uint64)
        streams.planes(bits ^ np.concatenate(([np.uint64(0)], bits[:-1])))
    elif kind == _SINGLE:
        single = value.astype(np.float32).view(np.uint32)
        streams.planes(single ^ np.concatenate(([np.uint32(0)], single[:-1])))
    else:
        whole = np.rint(value * factor if kind == _DIVIDE else value / factor).astype(np.int64)
        streams.integers(np.diff(whole, prepend=0))


def _take_values(streams: StreamReader, n: int, kind: int, factor: float) -> NDArray[np.float64]:
    if kind == _DOUBLE:
        bits = streams.planes(n, 8).view(np.uint64)
        return np.bitwise_xor.accumulate(bits).view(np.float64)
    if kind == _SINGLE:
        single = streams.planes(n, 4).view(np.uint32)
        return np.bitwise_xor.accumulate(single).view(np.float32).astype(np.float64)
    whole = np.cumsum(streams.integers(n)).astype(np.float64)
    return whole / factor if kind == _DIVIDE else whole * factor


def _put_time(streams: StreamWriter, t_ns: NDArray[np.int64], order: NDArray[np.intp]) -> None:
    """Times by arrival (polled blocks share one time) or by signal (each has its own rhythm)."""
    arrival = np.diff(t_ns, prepend=0)
    rhythm = np.diff(np.diff(t_ns[order], prepend=0), prepend=0)
    by_signal = int(np.count_nonzero(rhythm)) < int(np.count_nonzero(arrival))
    steps = rhythm if by_signal else arrival
    unit = next(unit for unit in _TIME_UNITS if unit == 1 or not (steps % unit).any())
    streams.put(struct.pack("<BI", by_signal, unit))
    streams.integers(steps // unit)


def _take_time(streams: StreamReader, n: int, order: NDArray[np.intp]) -> NDArray[np.int64]:
    by_signal, unit = struct.unpack("<BI", streams.take())
    steps = streams.integers(n) * unit
    if not by_signal:
        return np.cumsum(steps)
    t_ns = np.empty(n, dtype=np.int64)
    t_ns[order] = np.cumsum(np.cumsum(steps))
    return t_ns
