"""Cuts the stream into aligned windows, for all assets at once.

Time here is the devices' own: a window closes when every source of its asset has sent something
newer than its end. Where a source has fallen silent, time is carried on by the monotonic clock from
the last sample, so that neither silence nor a stepped wall clock stalls or floods anything.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gateway.core.batch import BAD, Batch
from gateway.pipeline.ring import NEVER, Ring, carried

_GAP_STEPS = 4
"""Quarters of a ring: after so many, nothing from before the gap is left in it."""


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


class _Watching:
    """A watch, its place in its ring, and how far each asset has come."""

    def __init__(self, watch: Watch, ring: Ring, source_index: dict[str, int]) -> None:
        self.watch = watch
        self.ring = ring
        self.row = np.where(watch.signals >= 0, ring.row_of[watch.signals], -1)
        tells = np.full(len(watch.assets), -1) if watch.running is None else watch.running
        self.running_row = np.where(tells >= 0, ring.row_of[tells], -1)
        n = len(watch.assets)
        self.first = np.full(n, NEVER, dtype=np.int64)
        self.closed = np.full(n, NEVER, dtype=np.int64)
        pairs = [(i, source_index[s]) for i in range(n) for s in watch.sources[i]]
        self.pair_asset = np.array([a for a, _ in pairs], dtype=np.int64)
        self.pair_source = np.array([s for _, s in pairs], dtype=np.int64)
        self._hops = np.empty(0, dtype=np.int64)

    def due(
        self, passed_ns: NDArray[np.int64], carried_ns: NDArray[np.int64]
    ) -> NDArray[np.int64] | None:
        """int64[a], the last cell at which a window may close for each asset; None if as before."""
        hop_ns = self.watch.period_ns * self.watch.hop_cells
        # Most batches pass the end of no window, and that the few sources tell for all assets.
        hops = np.concatenate((passed_ns, carried_ns - self.watch.lateness_ns)) // hop_ns
        if np.array_equal(hops, self._hops):
            return None
        self._hops = hops
        n = len(self.watch.assets)
        low = np.full(n, np.iinfo(np.int64).max, dtype=np.int64)
        high = np.full(n, NEVER, dtype=np.int64)
        np.minimum.at(low, self.pair_asset, passed_ns[self.pair_source])
        np.maximum.at(high, self.pair_asset, carried_ns[self.pair_source])
        reach = np.maximum(low, high - self.watch.lateness_ns)
        reach = np.where(high <= NEVER, NEVER, reach)
        return np.where(reach > 0, reach // hop_ns * self.watch.hop_cells, NEVER)

    def begin(self, fresh: NDArray[np.bool_], start_ns: NDArray[np.int64]) -> None:
        """Start the `fresh` assets at the first sample that any of their sources sent.

        One that resumes goes on behind what it has closed.
        """
        start = np.full(len(fresh), np.iinfo(np.int64).max, dtype=np.int64)
        np.minimum.at(start, self.pair_asset, start_ns[self.pair_source])
        cell = -((-start) // self.watch.period_ns)
        self.first[fresh] = cell[fresh]
        new = fresh & (self.closed <= NEVER)
        self.closed[new] = (cell[new] - 1) // self.watch.hop_cells * self.watch.hop_cells

    def cut(self, rows: NDArray[np.int64], end: NDArray[np.int64]) -> Windows:
        """Read the windows that end with cell `end[i]` of asset `rows[i]`."""
        watch = self.watch
        held, value = self.ring.read(self.row[rows], end, watch.cells + watch.stale_cells)
        window, fresh = slice(watch.stale_cells, None), None
        if held.all():
            value = value[:, :, window]
        else:
            stale = np.array(watch.held_cells or (watch.stale_cells,), np.int32)
            value = carried(held, value, stale[:, None])[:, :, window]
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
        reach = self.watch.cells + self.watch.stale_cells
        held, value = self.ring.read(row[:, None], end, reach)
        stands = (held & (value <= 0)).any(axis=(1, 2))
        out = np.where(stands, 0, np.where(held.any(axis=(1, 2)) | ~told, 1, -1))
        return out.astype(np.int8)


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
        self._passed_ns = np.full(len(names), NEVER, dtype=np.int64)
        self._mono_ns = np.zeros(len(names), dtype=np.int64)
        self._rings = {
            period_ns: _make_ring(
                period_ns, [w for w in watches if w.period_ns == period_ns], signals
            )
            for period_ns in {watch.period_ns for watch in watches}
        }
        self._watching = [
            _Watching(watch, self._rings[watch.period_ns], self._source_index) for watch in watches
        ]
        self.span_ns = min(
            (ring.period_ns * ring.length // 4 for ring in self._rings.values()),
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
        seen = self._passed_ns > NEVER
        carried_ns = np.where(seen, self._passed_ns + (mono_ns - self._mono_ns), NEVER)
        for number, watching in enumerate(self._watching):
            due = watching.due(self._passed_ns, carried_ns)
            if due is not None:
                for windows in self._close_one(watching, due):
                    yield number, windows

    def ends_ns(self) -> dict[str, int]:
        """The end of the last closed window of each asset, for `resume` after a restart."""
        ends: dict[str, int] = {}
        for watching in self._watching:
            for asset, cell in zip(watching.watch.assets, watching.closed.tolist(), strict=True):
                if cell > NEVER:
                    end_ns = cell * watching.watch.period_ns
                    ends[asset] = max(ends.get(asset, end_ns), end_ns)
        return ends

    def _pass_gap(self, source: int, start_ns: int, mono_ns: int) -> Iterator[tuple[int, Windows]]:
        """Before a jump ahead: close what still holds samples from before it."""
        passed_ns = int(self._passed_ns[source])
        if passed_ns <= NEVER:
            return
        for _ in range(_GAP_STEPS):
            if start_ns - passed_ns <= self.span_ns:
                return
            passed_ns += self.span_ns
            self._passed_ns[source], self._mono_ns[source] = passed_ns, mono_ns
            yield from self.close(mono_ns)

    def _close_one(self, watching: _Watching, due: NDArray[np.int64]) -> Iterator[Windows]:
        watch = watching.watch
        fresh = (watching.first <= NEVER) & (due > NEVER)
        if fresh.any():
            watching.begin(fresh, self._start_ns)
        # What the ring no longer holds cannot be cut: a jump ahead skips it, and says so.
        floor = due - (watching.ring.length - watch.cells - watch.stale_cells)
        floor = floor // watch.hop_cells * watch.hop_cells
        behind = (due > NEVER) & (watching.closed < floor)
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
        if passed_ns > NEVER and newest_ns < passed_ns - self.span_ns:
            # The device's clock was set back by more than the rings span: begin again from there.
            self.counters.clock_steps += 1
            self._rewind(source)
            passed_ns = NEVER
        if passed_ns > NEVER:
            self.counters.samples_late += int(
                np.count_nonzero(t_ns < passed_ns - self.span_ns // 2)
            )
        usable = batch.quality[part] != BAD
        signal, value = batch.signal[part], batch.value[part]
        if not usable.all():
            signal, t_ns, value = signal[usable], t_ns[usable], value[usable]
        for ring in self._rings.values():
            ring.put(signal, t_ns, value)
        self._start_ns[source] = min(int(self._start_ns[source]), oldest_ns)
        if newest_ns > passed_ns:
            self._passed_ns[source] = newest_ns
            self._mono_ns[source] = mono_ns

    def _rewind(self, source: int) -> None:
        self._start_ns[source] = np.iinfo(np.int64).max
        for watching in self._watching:
            mine = watching.pair_asset[watching.pair_source == source]
            watching.closed[mine] = NEVER
            watching.first[mine] = NEVER
            watching.ring.forget(watching.row[mine])


def _make_ring(period_ns: int, watches: Sequence[Watch], signals: int) -> Ring:
    every = [watch.signals.ravel() for watch in watches]
    every += [watch.running for watch in watches if watch.running is not None]
    watched = np.unique(np.concatenate(every))
    needed = max(w.cells + w.stale_cells + 2 * w.hop_cells for w in watches)
    waiting = max(-(-w.lateness_ns // period_ns) for w in watches)
    return Ring(period_ns, 2 * needed + 2 * waiting + 8, watched[watched >= 0], signals)
