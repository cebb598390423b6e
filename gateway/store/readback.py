"""Brings stored data back as a table, for training: from the log, or from InfluxDB by InfluxQL.

InfluxQL works on InfluxDB 1, on 2 (through its DBRP mapping) and on 3; ranges are cut to 72 hours
and pages to so many rows, because version 3 refuses more and memory has a bound.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gateway.core.batch import Quality
from gateway.core.errors import ConfigError
from gateway.store.config import InfluxConfig
from gateway.store.influx_link import PlainLink
from gateway.store.reader import LogReader
from gateway.store.schema import FILE_NAME

PAGE_ROWS = 10_000
RANGE_NS_MAX = 72 * 3600 * 1_000_000_000
ROWS_MAX = 50_000_000
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


def from_log(
    data_dir: Path,
    asset: str,
    start_ns: int,
    end_ns: int,
    *,
    signals: Sequence[str] | None = None,
    step_s: float | None = None,
) -> Table:
    """Samples of [start_ns, end_ns) from a gateway's log, which may be running.

    Args:
        data_dir: The gateway's data directory.
        asset: The machine.
        start_ns: UTC ns.
        end_ns: UTC ns.
        signals: Which of its signals, in this order; all it has when None.
        step_s: Rows at this interval, each with the last sample not older than three of them; a
            row for each time at which there is any sample when None.

    Raises:
        ConfigError: There is no such asset or signal.
        StoreError: There is no log, or it cannot be read.
    """
    reader = LogReader(data_dir / FILE_NAME)
    try:
        log = _Log(reader, asset, signals)
        if step_s is None:
            return _each(log.names, log.columns(start_ns, end_ns))
        step_ns = round(step_s * 1e9)
        t_ns = np.arange(start_ns, end_ns, step_ns, dtype=np.int64)
        value = np.full((len(t_ns), len(log.names)), np.nan)
        rows = max(1, SLICE_VALUES // len(log.names))
        for first in range(0, len(t_ns), rows):
            part = slice(first, first + rows)
            since_ns = max(start_ns, int(t_ns[first]) - HELD_STEPS * step_ns)
            columns = log.columns(since_ns, min(end_ns, int(t_ns[part][-1]) + 1))
            value[part] = _laid(columns, t_ns[part], step_ns)
        return Table(t_ns, log.names, value)
    finally:
        reader.close()


def intervals_from_log(
    data_dir: Path, asset: str, start_ns: int, end_ns: int, signals: Sequence[str] | None = None
) -> dict[str, float]:
    """Seconds from one usable sample of each signal to its next, usually; arguments as `from_log`.

    Raises:
        ConfigError: There is no such asset or signal.
        StoreError: There is no log, or it cannot be read.
    """
    reader = LogReader(data_dir / FILE_NAME)
    try:
        log = _Log(reader, asset, signals)
        span_ns = INTERVAL_NS
        while True:
            columns = log.columns(max(start_ns, end_ns - span_ns), end_ns)
            enough = sum(len(column.t_ns) for column in columns) >= INTERVAL_SAMPLES
            if enough or end_ns - span_ns <= start_ns:
                return _intervals(log.names, columns)
            span_ns *= 4
    finally:
        reader.close()


class _Log:
    """The samples of one asset in a gateway's log."""

    def __init__(self, reader: LogReader, asset: str, signals: Sequence[str] | None) -> None:
        self._reader = reader
        numbers: dict[str, list[int]] = {}
        for number, signal in enumerate(self._reader.signals().signals()):
            if signal.asset == asset:
                numbers.setdefault(signal.name, []).append(number)
        self.names = _chosen(asset, tuple(numbers), signals)
        self._wanted = [n for name in self.names for n in numbers[name]]
        self._place = np.full(max(self._wanted) + 1, -1)
        for place, name in enumerate(self.names):
            self._place[numbers[name]] = place

    def columns(self, start_ns: int, end_ns: int) -> list[Column]:
        """Usable samples of [start_ns, end_ns), signal by signal."""
        signal, t_ns, value, quality = self._reader.samples(start_ns, end_ns, self._wanted)
        good = quality != Quality.BAD
        place, t_ns, value = self._place[signal[good]], t_ns[good], value[good]
        order = np.argsort(place, kind="stable")
        t_ns, value = t_ns[order], value[order]
        cut = np.searchsorted(place[order], np.arange(1, len(self.names)))
        return [
            _column(*each) for each in zip(np.split(t_ns, cut), np.split(value, cut), strict=True)
        ]


def from_influx(
    config: InfluxConfig,
    asset: str,
    start_ns: int,
    end_ns: int,
    *,
    signals: Sequence[str] | None = None,
    step_s: float | None = None,
) -> Table:
    """The same from InfluxDB. Arguments as `from_log`.

    Raises:
        ConfigError: There is no such asset or signal, or the server refuses.
        OSError: It cannot be reached.
    """
    names, columns = _influx_columns(config, asset, start_ns, end_ns, signals)
    if step_s is None:
        return _each(names, columns)
    step_ns = round(step_s * 1e9)
    t_ns = np.arange(start_ns, end_ns, step_ns, dtype=np.int64)
    return Table(t_ns, names, _laid(columns, t_ns, step_ns))


def intervals_from_influx(
    config: InfluxConfig,
    asset: str,
    start_ns: int,
    end_ns: int,
    signals: Sequence[str] | None = None,
) -> dict[str, float]:
    """As `intervals_from_log`, of InfluxDB; raises as `from_influx`."""
    return _intervals(*_influx_columns(config, asset, start_ns, end_ns, signals))


def _influx_columns(
    config: InfluxConfig, asset: str, start_ns: int, end_ns: int, signals: Sequence[str] | None
) -> tuple[tuple[str, ...], list[Column]]:
    link = PlainLink(config)
    try:
        found = link.query(
            'SHOW TAG VALUES FROM "signal" WITH KEY = "signal" '
            f"WHERE \"asset\" = '{_quoted(asset)}'"
        )
        series = found["results"][0].get("series", [])
        known = tuple(row[1] for part in series for row in part["values"])
        names = _chosen(asset, known, signals)
        columns = []
        for name in names:
            pages = list(_pages(link, asset, name, start_ns, end_ns))
            t_ns = np.concatenate([page.t_ns for page in pages] or [np.empty(0, np.int64)])
            value = np.concatenate([page.value for page in pages] or [np.empty(0)])
            columns.append(_column(t_ns, value))
    finally:
        link.close()
    return names, columns


def _pages(link: PlainLink, asset: str, name: str, start_ns: int, end_ns: int) -> Iterator[Column]:
    rows = 0
    where = f"\"asset\" = '{_quoted(asset)}' AND \"signal\" = '{_quoted(name)}'"
    for low_ns in range(start_ns, end_ns, RANGE_NS_MAX):
        high_ns, after_ns = min(end_ns, low_ns + RANGE_NS_MAX), low_ns - 1
        while True:
            body = link.query(
                f'SELECT "value" FROM "signal" WHERE {where} AND time > {after_ns} '  # noqa: S608
                f"AND time < {high_ns} ORDER BY time LIMIT {PAGE_ROWS}"
            )
            series = body["results"][0].get("series", [])
            found = series[0]["values"] if series else []
            if not found:
                break
            yield Column(
                np.array([row[0] for row in found], dtype=np.int64),
                np.array([row[1] for row in found], dtype=np.float64),
            )
            rows += len(found)
            if rows > ROWS_MAX:
                raise ConfigError(
                    f"{asset}/{name}: must be {ROWS_MAX} samples or fewer; take a shorter period"
                )
            after_ns = found[-1][0]
            if len(found) < PAGE_ROWS:
                break


def _chosen(asset: str, known: tuple[str, ...], wanted: Sequence[str] | None) -> tuple[str, ...]:
    if not known:
        raise ConfigError(f"asset {asset!r}: nothing is stored of it")
    missing = [name for name in wanted or () if name not in known]
    if missing:
        raise ConfigError(
            f"asset {asset!r}: has no signal {', '.join(missing)}; it has {', '.join(known)}"
        )
    return tuple(wanted) if wanted else known


def _column(t_ns: NDArray[np.int64], value: NDArray[np.float64]) -> Column:
    """In the order of time; of samples at one time the last that arrived."""
    order = np.argsort(t_ns, kind="stable")
    t_ns, value = t_ns[order], value[order]
    last = np.ones(len(t_ns), dtype=bool)
    last[:-1] = np.diff(t_ns) > 0
    return Column(t_ns[last], value[last])


def _intervals(names: Sequence[str], columns: Sequence[Column]) -> dict[str, float]:
    out = {}
    for name, column in zip(names, columns, strict=True):
        times = column.t_ns[np.isfinite(column.value)]
        if len(times) > 1:
            out[name] = float(np.median(np.diff(times))) / 1e9
    return out


def _each(names: tuple[str, ...], columns: Sequence[Column]) -> Table:
    """A row for each time at which there is any sample."""
    t_ns = np.unique(np.concatenate([column.t_ns for column in columns]))
    value = np.full((len(t_ns), len(names)), np.nan)
    for i, column in enumerate(columns):
        value[np.searchsorted(t_ns, column.t_ns), i] = column.value
    return Table(t_ns, names, value)


def _laid(columns: Sequence[Column], t_ns: NDArray[np.int64], step_ns: int) -> NDArray[np.float64]:
    """float64[n, k], the last sample of each signal that is not older than three steps."""
    value = np.full((len(t_ns), len(columns)), np.nan)
    for i, column in enumerate(columns):
        if not len(column.t_ns):
            continue
        at = np.searchsorted(column.t_ns, t_ns, side="right") - 1
        fresh = (at >= 0) & (t_ns - column.t_ns[np.maximum(at, 0)] <= HELD_STEPS * step_ns)
        value[fresh, i] = column.value[at[fresh]]
    return value


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace("'", "\\'")
