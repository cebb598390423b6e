"""Brings stored samples back as a table to train on, from the log of a gateway that may run."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from gateway.core.batch import BAD
from gateway.core.errors import ConfigError
from gateway.store.reader import LogReader

HELD_STEPS = 3
"""A sample stands for so many rows."""
SLICE_VALUES = 1 << 22
"""Of a table: so many are laid at once, that samples of long times and many signals fit memory."""
INTERVAL_NS, INTERVAL_SAMPLES = 3600 * 1_000_000_000, 1 << 23
"""How often signals come is asked of the last hour, and further back until so many have spoken."""


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """Signals of one asset over time.

    Attributes:
        t_ns: int64[n], UTC ns, strictly ascending.
        names: The `k` signals.
        value: float64[n, k]; NaN where a signal has no usable sample.
    """

    t_ns: NDArray[np.int64]
    names: tuple[str, ...]
    value: NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Column:
    """Usable samples of one signal, times strictly ascending."""

    t_ns: NDArray[np.int64]
    value: NDArray[np.float64]


class Stored(Protocol):
    """The samples of some signals of one asset, wherever they are kept.

    Attributes:
        names: The signals, in their order.
    """

    names: tuple[str, ...]

    def intervals_s(self, start_ns: int, end_ns: int) -> dict[str, float]:
        """From one usable sample of each signal to its next, usually; without those that are still.

        Args:
            start_ns, end_ns: UTC ns; the samples of [start_ns, end_ns) tell.
        """
        ...

    def table(self, start_ns: int, end_ns: int, step_s: float) -> Table:
        """Rows at this interval, each with the last sample not older than three of them."""
        ...


class StoredInLog:
    """See `Stored`. Raises `StoreError` where the log cannot be read."""

    def __init__(self, reader: LogReader, asset: str, signals: Sequence[str] | None) -> None:
        """Of these signals, or all. Raises ConfigError where one is not there."""
        self._reader = reader
        numbers: dict[str, list[int]] = {}
        for number, signal in enumerate(self._reader.signals().signals()):
            if signal.asset == asset:
                numbers.setdefault(signal.name, []).append(number)
        self.names = chosen(asset, tuple(numbers), signals)
        self._wanted = [n for name in self.names for n in numbers[name]]
        self._place = np.full(max(self._wanted) + 1, -1)
        for place, name in enumerate(self.names):
            self._place[numbers[name]] = place

    def intervals_s(self, start_ns: int, end_ns: int) -> dict[str, float]:
        """See `Stored`; as few samples are read as tell."""
        span_ns = INTERVAL_NS
        while True:
            columns = self._columns(max(start_ns, end_ns - span_ns), end_ns)
            enough = sum(len(column.t_ns) for column in columns) >= INTERVAL_SAMPLES
            if enough or end_ns - span_ns <= start_ns:
                return intervals_s(self.names, columns)
            span_ns *= 4

    def table(self, start_ns: int, end_ns: int, step_s: float) -> Table:
        """See `Stored`."""
        step_ns = round(step_s * 1e9)
        t_ns = np.arange(start_ns, end_ns, step_ns, dtype=np.int64)
        value = np.full((len(t_ns), len(self.names)), np.nan)
        rows = max(1, SLICE_VALUES // len(self.names))
        for first in range(0, len(t_ns), rows):
            part = slice(first, first + rows)
            since_ns = max(start_ns, int(t_ns[first]) - HELD_STEPS * step_ns)
            columns = self._columns(since_ns, min(end_ns, int(t_ns[part][-1]) + 1))
            value[part] = laid(columns, t_ns[part], step_ns)
        return Table(t_ns, self.names, value)

    def _columns(self, start_ns: int, end_ns: int) -> list[Column]:
        """Usable samples of [start_ns, end_ns), signal by signal."""
        signal, t_ns, value, quality = self._reader.samples(start_ns, end_ns, self._wanted)
        good = quality != BAD
        place, t_ns, value = self._place[signal[good]], t_ns[good], value[good]
        order = np.argsort(place, kind="stable")
        t_ns, value = t_ns[order], value[order]
        cut = np.searchsorted(place[order], np.arange(1, len(self.names)))
        return [
            column(*each) for each in zip(np.split(t_ns, cut), np.split(value, cut), strict=True)
        ]


def chosen(asset: str, known: tuple[str, ...], wanted: Sequence[str] | None) -> tuple[str, ...]:
    """The names that are wanted, or all; raises ConfigError where one is not known."""
    if not known:
        raise ConfigError(f"asset {asset!r}: nothing is stored of it")
    missing = [name for name in wanted or () if name not in known]
    if missing:
        raise ConfigError(
            f"asset {asset!r}: has no signal {', '.join(missing)}; it has {', '.join(known)}"
        )
    return tuple(wanted) if wanted else known


def column(t_ns: NDArray[np.int64], value: NDArray[np.float64]) -> Column:
    """In the order of time; of samples at one time the last that arrived."""
    order = np.argsort(t_ns, kind="stable")
    t_ns, value = t_ns[order], value[order]
    last = np.ones(len(t_ns), dtype=bool)
    last[:-1] = np.diff(t_ns) > 0
    return Column(t_ns[last], value[last])


def intervals_s(names: Sequence[str], columns: Sequence[Column]) -> dict[str, float]:
    """See `Stored`."""
    out = {}
    for name, held in zip(names, columns, strict=True):
        times = held.t_ns[np.isfinite(held.value)]
        if len(times) > 1:
            out[name] = float(np.median(np.diff(times))) / 1e9
    return out


def laid(columns: Sequence[Column], t_ns: NDArray[np.int64], step_ns: int) -> NDArray[np.float64]:
    """float64[n, k], the last sample of each signal that is not older than three steps."""
    value = np.full((len(t_ns), len(columns)), np.nan)
    for i, column in enumerate(columns):
        if not len(column.t_ns):
            continue
        at = np.searchsorted(column.t_ns, t_ns, side="right") - 1
        fresh = (at >= 0) & (t_ns - column.t_ns[np.maximum(at, 0)] <= HELD_STEPS * step_ns)
        value[fresh, i] = column.value[at[fresh]]
    return value
