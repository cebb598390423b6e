"""Columns of samples as rows of mean, least and greatest, and rows as packed pages. Pure."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gateway.core.batch import BAD
from gateway.store.blocks import Columns, decode, encode

WIDTHS_S = (10, 60, 600, 3600)
"""Widths of trend, each a whole number of the one before."""
PAGE_BUCKETS = 360

Rows = tuple[
    NDArray[np.int64],
    NDArray[np.int64],
    NDArray[np.int64],
    NDArray[np.float64],
    NDArray[np.float64],
    NDArray[np.float64],
]
"""signal, start of the bucket in s, count, total, least, greatest."""


def bucket(columns: Columns) -> Rows:
    """Samples as rows of the narrowest width, by signal and time; BAD ones do not count."""
    signal, t_ns, value, quality = columns
    usable = quality != BAD
    signal, t_ns, value = signal[usable], t_ns[usable], value[usable]
    width = WIDTHS_S[0]
    start_s = t_ns // (width * 1_000_000_000) * width
    one = np.ones(len(value), dtype=np.int64)
    return _reduce((signal.astype(np.int64), start_s, one, value, value, value))


def widen(rows: Rows, width_s: int) -> Rows:
    """The same rows at a greater width."""
    signal, t_s, n, total, least, greatest = rows
    return _reduce((signal, t_s // width_s * width_s, n, total, least, greatest))


def join(parts: Iterable[Rows]) -> Rows:
    """Several lots of rows as one, equal buckets merged."""
    signal, t_s, n, total, least, greatest = (np.concatenate(c) for c in zip(*parts, strict=True))
    return _reduce((signal, t_s, n, total, least, greatest))


def _reduce(rows: Rows) -> Rows:
    signal, t_s, n, total, least, greatest = rows
    if not len(signal):
        return rows
    order = np.lexsort((t_s, signal))
    signal, t_s = signal[order], t_s[order]
    new = np.ones(len(signal), dtype=bool)
    new[1:] = (np.diff(signal) != 0) | (np.diff(t_s) != 0)
    at = np.flatnonzero(new)
    return (
        signal[at],
        t_s[at],
        np.add.reduceat(n[order], at),
        np.add.reduceat(total[order], at),
        np.minimum.reduceat(least[order], at),
        np.maximum.reduceat(greatest[order], at),
    )


def pack_page(rows: Rows) -> bytes:
    """The buckets of one signal as a block; the mean keeps 7 digits, the rest every bit."""
    _, t_s, n, total, least, greatest = rows
    mean = (total / n).astype(np.float32).astype(np.float64)
    columns = (n.astype(np.float64), mean, least, greatest)
    k = len(t_s)
    return encode(
        (
            np.repeat(np.arange(4, dtype=np.int32), k),
            np.tile(t_s, 4),
            np.concatenate(columns),
            np.zeros(4 * k, dtype=np.uint8),
        )
    )


def unpack_page(signal: int, body: bytes) -> Rows:
    """The buckets of a page again. Raises DataError."""
    _, t_s, value, _ = decode(body)
    k = len(t_s) // 4
    n, mean, least, greatest = value.reshape(4, k)
    counts = n.astype(np.int64)
    return np.full(k, signal, dtype=np.int64), t_s[:k], counts, mean * n, least, greatest


def rows_of(table: Iterable[tuple[Any, ...]]) -> Rows:
    """Rows of a `trend_` table as columns."""
    columns = list(zip(*table, strict=True)) or [()] * 6
    signal, t_s, n = (np.array(column, dtype=np.int64) for column in columns[:3])
    total, least, greatest = (np.array(column, dtype=np.float64) for column in columns[3:])
    return signal, t_s, n, total, least, greatest


def part_of(rows: Rows, at: slice) -> Rows:
    """Some of the rows."""
    signal, t_s, n, total, least, greatest = rows
    return signal[at], t_s[at], n[at], total[at], least[at], greatest[at]
