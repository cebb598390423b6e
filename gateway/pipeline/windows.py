"""Cuts the stream into aligned windows, for all assets at once.

Time here is the devices' own: a window closes when every source of its asset has sent something
newer than its end. Where a source has fallen silent, time is carried on by the monotonic clock from
the last sample, so that neither silence nor a stepped wall clock stalls or floods anything.

One ring of cells holds every signal that is watched at one grid period. A cell keeps the last
usable sample that fell into it, with the absolute number of the cell as its stamp; what an older
turn of the ring left behind is told by its stamp and never cleared.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from gateway.core.batch import Batch, Quality

_GAP_STEPS = 4
"""Quarters of a ring: after so many, nothing from before the gap is left in it."""

_NEVER = np.iinfo(np.int64).min // 4


@dataclass(frozen=True, slots=True, eq=False)
class Watch:
    """What one model wants to see: `a` assets, `k` signals of each, on one grid.

    Attributes:
        assets: The `a` assets.
        signals: int32[a, k], numbers in the signal table; -1 where the asset has no such signal.
        sources: For each asset, the sources that feed it.
        period_ns: Length of a grid cell.
        cells: Cells in a window.
        hop_cells: Cells from one window to the next.
        stale_ns: A sample older than this does not fill a cell.
        lateness_ns: How long a window waits for a silent source after its end.
        running: int32[a], number of the signal that is above 0 while the asset runs, -1 where
            nothing tells; None where nothing tells for any of them.
        held_cells: For each of the `k` signals, how many cells a sample fills, where that is not
            as `stale_ns` says.
    """

    assets: tuple[str, ...]
    signals: NDArray[np.int32]
    sources: tuple[tuple[str, ...], ...]
    period_ns: int
    cells: int
    hop_cells: int
    stale_ns: int
    lateness_ns: int
    running: NDArray[np.int32] | None = None
    held_cells: tuple[int, ...] = ()

    @property
    def stale_cells(self) -> int:
        """Whole cells over which a sample is carried forward, at most."""
        return max(self.held_cells, default=max(1, self.stale_ns // self.period_ns))


@dataclass(frozen=True, slots=True, eq=False)
class Windows:
    """The windows of one watch that closed together.

    Attributes:
        rows: int64[n], which of the watch's assets.
        end_ns: int64[n], UTC ns of each window's end.
        value: float64[n, k, cells], oldest cell first; NaN where there is no usable sample.
        coverage: float64[n, k], share of cells that hold a usable sample.
        full: bool[n], whether the asset has been seen for a whole window.
        running: int8[n], 1 it ran all through the window, 0 it did not, -1 not known; None where
            nothing tells, and all count as running.
        fresh: bool[n, k, cells], the cell has a sample of its own; None where all have.
    """

    rows: NDArray[np.int64]
    end_ns: NDArray[np.int64]
    value: NDArray[np.float64]
    coverage: NDArray[np.float64]
    full: NDArray[np.bool_]
    running: NDArray[np.int8] | None = None
    fresh: NDArray[np.bool_] | None = None


@dataclass(slots=True)
class WindowCounters:
    """What the builder saw, and what it did not use."""

    windows: int = 0
    samples_late: int = 0
    windows_skipped: int = 0
    clock_steps: int = 0


@dataclass(slots=True, eq=False)
class _Grid:
    """The ring of one period."""

    period_ns: int
    length: int
    row_of: NDArray[np.int32]
    value: NDArray[np.float64] = field(init=False)
    stamp: NDArray[np.int64] = field(init=False)

    def __post_init__(self) -> None:
        rows = int(self.row_of.max(initial=-1)) + 1
        self.value = np.full((rows, self.length), np.nan)
        self.stamp = np.full((rows, self.length), _NEVER, dtype=np.int64)

    def put(
        self, signal: NDArray[np.int32], t_ns: NDArray[np.int64], value: NDArray[np.float64]
    ) -> None:
        if len(signal) and int(signal.max()) >= len(self.row_of):
            # A signal that became known after this ring was made is not watched by it.
            known = signal < len(self.row_of)
            signal, t_ns, value = signal[known], t_ns[known], value[known]
        row = self.row_of[signal]
        mine = row >= 0
        if not mine.all():
            row, t_ns, value = row[mine], t_ns[mine], value[mine]
        if not len(row):
            return
        # A cell is named by its end: cell c covers (c - 1, c] periods.
        cell = -((-t_ns) // self.period_ns)
        at = cell % self.length
        newer = self.stamp[row, at] <= cell
        if not newer.all():
            row, at, cell, value = row[newer], at[newer], cell[newer], value[newer]
        # Where an index repeats, numpy keeps the last, and the last is the newest.
        self.value[row, at] = value
        self.stamp[row, at] = cell

    def stretch(
        self, rows: NDArray[np.int32], end: int, reach: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Stamps and values of the `reach` cells that end with cell `end`, of some rows."""
        stop = end % self.length + 1
        start = stop - reach
        if start >= 0:
            return self.stamp[rows, start:stop], self.value[rows, start:stop]
        return (
            np.concatenate([self.stamp[rows, start:], self.stamp[rows, :stop]], axis=1),
            np.concatenate([self.value[rows, start:], self.value[rows, :stop]], axis=1),
        )


class _Watching:
    """A watch, its place in its grid, and how far each asset has come."""

    def __init__(self, watch: Watch, grid: _Grid, source_index: dict[str, int]) -> None:
        self.watch = watch
        self.grid = grid
        self.row = np.where(watch.signals >= 0, grid.row_of[watch.signals], -1)
        tells = np.full(len(watch.assets), -1) if watch.running is None else watch.running
        self.running_row = np.where(tells >= 0, grid.row_of[tells], -1)
        n = len(watch.assets)
        self.first = np.full(n, _NEVER, dtype=np.int64)
        self.closed = np.full(n, _NEVER, dtype=np.int64)
        pairs = [(i, source_index[s]) for i in range(n) for s in watch.sources[i]]
        self.pair_asset = np.array([a for a, _ in pairs], dtype=np.int64)
        self.pair_source = np.array([s for _, s in pairs], dtype=np.int64)

    def due(self, passed_ns: NDArray[np.int64], carried_ns: NDArray[np.int64]) -> NDArray[np.int64]:
        """int64[a], the last cell at which a window may close for each asset."""
        n = len(self.watch.assets)
        low = np.full(n, np.iinfo(np.int64).max, dtype=np.int64)
        high = np.full(n, _NEVER, dtype=np.int64)
        np.minimum.at(low, self.pair_asset, passed_ns[self.pair_source])
        np.maximum.at(high, self.pair_asset, carried_ns[self.pair_source])
        reach = np.maximum(low, high - self.watch.lateness_ns)
        reach = np.where(high <= _NEVER, _NEVER, reach)
        hop_ns = self.watch.period_ns * self.watch.hop_cells
        return np.where(reach > 0, reach // hop_ns * self.watch.hop_cells, _NEVER)

    def begin(self, fresh: NDArray[np.bool_], start_ns: NDArray[np.int64]) -> None:
        """Start the `fresh` assets at the first sample that any of their sources sent.

        One that resumes goes on behind what it has closed.
        """
        start = np.full(len(fresh), np.iinfo(np.int64).max, dtype=np.int64)
        np.minimum.at(start, self.pair_asset, start_ns[self.pair_source])
        cell = -((-start) // self.watch.period_ns)
        self.first[fresh] = cell[fresh]
        new = fresh & (self.closed <= _NEVER)
        self.closed[new] = (cell[new] - 1) // self.watch.hop_cells * self.watch.hop_cells

    def cut(self, rows: NDArray[np.int64], end: NDArray[np.int64]) -> Windows:
        """Read the windows that end with cell `end[i]` of asset `rows[i]`."""
        watch, grid = self.watch, self.grid
        reach = watch.cells + watch.stale_cells
        row = self.row[rows]  # [n, k]
        if (end == end[0]).all():
            stamp, value = grid.stretch(row.ravel(), int(end[0]), reach)
            stamp, value = stamp.reshape(*row.shape, reach), value.reshape(*row.shape, reach)
            cell = (end[0] - np.arange(reach - 1, -1, -1))[None, None, :]
        else:
            cells = end[:, None] - np.arange(reach - 1, -1, -1)  # [n, reach]
            at = (cells % grid.length)[:, None, :]
            stamp, value = grid.stamp[row[:, :, None], at], grid.value[row[:, :, None], at]
            cell = cells[:, None, :]
        held = (stamp == cell) & (row >= 0)[:, :, None]
        window, fresh = slice(watch.stale_cells, None), None
        if held.all():
            value = value[:, :, window]
        else:
            stale = np.array(watch.held_cells or (watch.stale_cells,), np.int32)
            value = _carried(held, value, stale[:, None])[:, :, window]
            fresh = held[:, :, window]
        coverage = np.isfinite(value).mean(axis=2)
        return Windows(
            rows=rows,
            end_ns=end * watch.period_ns,
            value=value,
            coverage=coverage,
            full=end - self.first[rows] >= watch.cells - 1,
            running=self._running(rows, end),
            fresh=fresh,
        )

    def _running(self, rows: NDArray[np.int64], end: NDArray[np.int64]) -> NDArray[np.int8] | None:
        """Whether the machine ran all through; a stop just before the window counts as one."""
        row = self.running_row[rows]
        told = row >= 0
        if not told.any():
            return None
        cells = end[:, None] - np.arange(self.watch.cells + self.watch.stale_cells)
        at = cells % self.grid.length
        held = (self.grid.stamp[row[:, None], at] == cells) & told[:, None]
        stands = (held & (self.grid.value[row[:, None], at] <= 0)).any(axis=1)
        out = np.where(stands, 0, np.where(held.any(axis=1) | ~told, 1, -1))
        return out.astype(np.int8)


def _carried(
    held: NDArray[np.bool_], value: NDArray[np.float64], stale_cells: NDArray[np.int32]
) -> NDArray[np.float64]:
    """Carry the last sample forward along the last axis, but not past `stale_cells`: then NaN."""
    reach = value.shape[-1]
    step = np.arange(reach, dtype=np.int32)
    last = np.where(held, step, np.int32(-reach - 1))
    np.maximum.accumulate(last, axis=-1, out=last)
    stale = step - last >= stale_cells
    at = np.maximum(last, 0).astype(np.intp).reshape(-1, reach)
    at += np.arange(len(at))[:, None] * reach
    carried = value.reshape(-1)[at].reshape(value.shape)
    carried[stale] = np.nan
    return carried


class WindowBuilder:
    """Takes batches, gives windows.

    Attributes:
        counters: What was seen, and what was not used.
        span_ns: A batch that spans more time than this is taken in slices.
    """

    def __init__(
        self, watches: Sequence[Watch], signals: int, counters: WindowCounters | None = None
    ) -> None:
        """Prepare for `watches` over a signal table of `signals` entries; `counters` go on."""
        self.counters = counters or WindowCounters()
        names = sorted({s for watch in watches for per_asset in watch.sources for s in per_asset})
        self._source_index = {name: i for i, name in enumerate(names)}
        self._start_ns = np.full(len(names), np.iinfo(np.int64).max, dtype=np.int64)
        self._passed_ns = np.full(len(names), _NEVER, dtype=np.int64)
        self._mono_ns = np.zeros(len(names), dtype=np.int64)
        self._grids = {
            period_ns: _make_grid(
                period_ns, [w for w in watches if w.period_ns == period_ns], signals
            )
            for period_ns in {watch.period_ns for watch in watches}
        }
        self._watching = [
            _Watching(watch, self._grids[watch.period_ns], self._source_index) for watch in watches
        ]
        self.span_ns = min(
            (grid.period_ns * grid.length // 4 for grid in self._grids.values()),
            default=np.iinfo(np.int64).max,
        )

    def resume(self, asset_end_ns: dict[str, int]) -> None:
        """Take windows up to these ends as closed already, after a restart.

        What they held is to be added again, from the log: since the first sample of that a machine
        is known, so that its windows are full where they would be without a restart, and a time
        in which the gateway stood still is a gap like any other.
        """
        for watching in self._watching:
            for i, asset in enumerate(watching.watch.assets):
                end_ns = asset_end_ns.get(asset)
                if end_ns is not None:
                    watching.closed[i] = end_ns // watching.watch.period_ns

    def add(self, batch: Batch, mono_ns: int) -> Iterator[tuple[int, Windows]]:
        """Take one batch; give (number of the watch, windows) for all that it closes.

        A batch that spans more time than the rings hold (a replay, a warm-up) is taken in slices,
        so that no window is lost between two of them.
        """
        if batch.history or not len(batch) or batch.source not in self._source_index:
            return
        start_ns, end_ns = int(batch.t_ns.min()), int(batch.t_ns.max())
        yield from self._pass_gap(self._source_index[batch.source], start_ns, mono_ns)
        if end_ns - start_ns <= self.span_ns:
            self._put(batch, slice(None), mono_ns)
            return
        order = np.argsort(batch.t_ns, kind="stable")
        edges = np.arange(start_ns, end_ns, self.span_ns)[1:]
        cuts = np.searchsorted(batch.t_ns[order], edges)
        for part in np.split(order, cuts):
            if len(part):
                self._put(batch, part, mono_ns)
                yield from self.close(mono_ns)

    def close(self, mono_ns: int) -> Iterator[tuple[int, Windows]]:
        """Give the windows that are due by now, oldest first."""
        seen = self._passed_ns > _NEVER
        carried_ns = np.where(seen, self._passed_ns + (mono_ns - self._mono_ns), _NEVER)
        for number, watching in enumerate(self._watching):
            due = watching.due(self._passed_ns, carried_ns)
            for windows in self._close_one(watching, due):
                yield number, windows

    def ends_ns(self) -> dict[str, int]:
        """The end of the last closed window of each asset, for `resume` after a restart."""
        ends: dict[str, int] = {}
        for watching in self._watching:
            for asset, cell in zip(watching.watch.assets, watching.closed.tolist(), strict=True):
                if cell > _NEVER:
                    end_ns = cell * watching.watch.period_ns
                    ends[asset] = max(ends.get(asset, end_ns), end_ns)
        return ends

    def _pass_gap(self, source: int, start_ns: int, mono_ns: int) -> Iterator[tuple[int, Windows]]:
        """Before a jump ahead: close what still holds samples from before it."""
        passed_ns = int(self._passed_ns[source])
        if passed_ns <= _NEVER:
            return
        for _ in range(_GAP_STEPS):
            if start_ns - passed_ns <= self.span_ns:
                return
            passed_ns += self.span_ns
            self._passed_ns[source], self._mono_ns[source] = passed_ns, mono_ns
            yield from self.close(mono_ns)

    def _close_one(self, watching: _Watching, due: NDArray[np.int64]) -> Iterator[Windows]:
        watch = watching.watch
        fresh = (watching.first <= _NEVER) & (due > _NEVER)
        if fresh.any():
            watching.begin(fresh, self._start_ns)
        # What the ring no longer holds cannot be cut: a jump ahead skips it, and says so.
        floor = due - (watching.grid.length - watch.cells - watch.stale_cells)
        floor = floor // watch.hop_cells * watch.hop_cells
        behind = (due > _NEVER) & (watching.closed < floor)
        if behind.any():
            skipped = (floor[behind] - watching.closed[behind]) // watch.hop_cells
            self.counters.windows_skipped += int(skipped.sum())
            watching.closed[behind] = floor[behind]
        while True:
            rows = np.flatnonzero(watching.closed + watch.hop_cells <= due)
            if not len(rows):
                return
            end = (watching.closed[rows] // watch.hop_cells + 1) * watch.hop_cells
            watching.closed[rows] = end
            self.counters.windows += len(rows)
            yield watching.cut(rows, end)

    def _put(self, batch: Batch, part: slice | NDArray[np.int64], mono_ns: int) -> None:
        t_ns = batch.t_ns[part]
        source = self._source_index[batch.source]
        oldest_ns, newest_ns = int(t_ns.min()), int(t_ns.max())
        passed_ns = int(self._passed_ns[source])
        if passed_ns > _NEVER and newest_ns < passed_ns - self.span_ns:
            # The device's clock was set back by more than the rings span: begin again from there.
            self.counters.clock_steps += 1
            self._rewind(source)
            passed_ns = _NEVER
        if passed_ns > _NEVER:
            self.counters.samples_late += int(
                np.count_nonzero(t_ns < passed_ns - self.span_ns // 2)
            )
        usable = batch.quality[part] != Quality.BAD
        signal, value = batch.signal[part], batch.value[part]
        if not usable.all():
            signal, t_ns, value = signal[usable], t_ns[usable], value[usable]
        for grid in self._grids.values():
            grid.put(signal, t_ns, value)
        self._start_ns[source] = min(int(self._start_ns[source]), oldest_ns)
        if newest_ns > passed_ns:
            self._passed_ns[source] = newest_ns
            self._mono_ns[source] = mono_ns

    def _rewind(self, source: int) -> None:
        self._start_ns[source] = np.iinfo(np.int64).max
        for watching in self._watching:
            mine = watching.pair_asset[watching.pair_source == source]
            watching.closed[mine] = _NEVER
            watching.first[mine] = _NEVER
            rows = watching.row[mine]
            watching.grid.stamp[rows[rows >= 0]] = _NEVER


def _make_grid(period_ns: int, watches: Sequence[Watch], signals: int) -> _Grid:
    row_of = np.full(signals, -1, dtype=np.int32)
    every = [watch.signals.ravel() for watch in watches]
    every += [watch.running for watch in watches if watch.running is not None]
    watched = np.unique(np.concatenate(every))
    watched = watched[watched >= 0]
    row_of[watched] = np.arange(len(watched), dtype=np.int32)
    needed = max(w.cells + w.stale_cells + 2 * w.hop_cells for w in watches)
    waiting = max(-(-w.lateness_ns // period_ns) for w in watches)
    return _Grid(period_ns, 2 * needed + 2 * waiting + 8, row_of)
