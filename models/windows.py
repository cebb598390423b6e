"""Lays a record on a grid and cuts causal windows: a row's window holds only rows up to it."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from models.features.plan import FeaturePlan
from models.features.stack import recent_cells
from models.record import Record
from models.sensors import Sensors

JOIN_WINDOWS = 2
"""A hole in the record of up to so many windows is bridged; a longer one starts afresh."""
GOLDEN = 0.618033988749895
CHUNK_CELLS = 1 << 22
"""Cells cut at once, so that memory stays bounded however long the record is."""


@dataclass(frozen=True, slots=True)
class Grid:
    """Where the cells of a window lie.

    Attributes:
        rows: True: a cell is a row, whatever its time. False: a cell is `period_s` of time.
        period_s: Time between cells; with `rows`, what was seen, or None where there is no time.
        cells: Length of the window.
        hop_cells: Cells from one assessment to the next.
        stale_cells: A sample older than this many cells does not fill a cell.
        held_cells: The same for each signal, where they differ; none of them is larger.
        recent_cells: As `FeaturePlan.recent_cells`.
    """

    rows: bool
    period_s: float | None
    cells: int
    hop_cells: int = 1
    stale_cells: int = 3
    held_cells: tuple[int, ...] = ()
    recent_cells: int = 0

    @property
    def newest(self) -> int:
        """Cells of the newest part of the window."""
        return self.recent_cells or recent_cells(self.cells)

    def every_cell(self) -> "Grid":
        """The same, with an assessment at each cell."""
        return replace(self, hop_cells=1)


@dataclass(frozen=True, slots=True, eq=False)
class Laid:
    """One sequence of a record on its grid.

    Attributes:
        table: float64[c, k], the last sample of each cell, held for at most `stale_cells`.
        cell: int64[n], the cell of each row.
        value: float64[n, k], what that cell held when the row came (later rows may change it).
        full: bool[n], the sequence has run for a whole window since its start or its last gap.
        fresh: bool[c, k], the cell has a sample of its own.
        now: bool[n, k], it had one when the row came.
    """

    table: NDArray[np.float64]
    cell: NDArray[np.int64]
    value: NDArray[np.float64]
    full: NDArray[np.bool_]
    fresh: NDArray[np.bool_]
    now: NDArray[np.bool_]


def lay(values: NDArray[np.float64], time_s: NDArray[np.float64] | None, grid: Grid) -> Laid:
    """Lay one sequence on the grid.

    A gap of more than two windows, or a clock that steps back, starts afresh.

    Args:
        values: float64[n, k], oldest first; NaN where there is no usable sample.
        time_s: float64[n]; not used where a cell is a row.
        grid: Where the cells lie.
    """
    n, k = values.shape
    cell, start = _cells(n, time_s, grid)
    full = cell - start >= grid.cells - 1
    cells = int(cell[-1]) + 1 if n else 0
    rows = np.arange(n)
    table, fresh = np.full((cells, k), np.nan), np.zeros((cells, k), bool)
    held, now = np.full((n, k), np.nan), np.zeros((n, k), bool)
    stale = np.array(grid.held_cells or (grid.stale_cells,) * k)
    # Column by column, so that a wide record needs no more memory than what is kept of it.
    for column in range(k):
        value = np.ascontiguousarray(values[:, column])
        present = np.flatnonzero(~np.isnan(value))
        if not len(present):
            continue
        newest = np.full(cells, -1)
        newest[cell[present]] = present
        newest = np.maximum.accumulate(newest)
        known, newest = newest >= 0, np.maximum(newest, 0)
        age = np.arange(cells) - cell[newest]
        table[:, column] = np.where(known & (age < stale[column]), value[newest], np.nan)
        fresh[:, column] = known & (age == 0)
        # What a row's own cell holds when it comes: itself, or what was before it, if fresh enough.
        before = np.searchsorted(present, rows, side="right") - 1
        source = present[np.maximum(before, 0)]
        now[:, column] = (before >= 0) & (cell == cell[source])
        good = (before >= 0) & (cell - cell[source] < stale[column])
        held[:, column] = np.where(good, value[source], np.nan)
    return Laid(table, cell, held, full, fresh, now)


def _cells(
    n: int, time_s: NDArray[np.float64] | None, grid: Grid
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """int64[n] each: the cell of each row, and the first cell of the stretch that it is in."""
    if grid.rows or time_s is None or grid.period_s is None:
        return np.arange(n, dtype=np.int64), np.zeros(n, np.int64)
    clock = np.where(np.isfinite(time_s), time_s, np.nan)
    good = np.isfinite(clock)
    if n and not good.all():
        # A row without a time came between its neighbours.
        clock = np.interp(np.arange(n), np.flatnonzero(good), clock[good])
    step = np.diff(np.floor((clock - clock[:1]) / grid.period_s + 0.5), prepend=0.0)
    restart = grid.cells + grid.stale_cells
    broken = (step < 0) | (step > JOIN_WINDOWS * grid.cells)
    # A short hole in a record is no silence of the machine: the rows around it are joined.
    hole = min(grid.held_cells, default=grid.stale_cells)
    step = np.where((step > hole) & ~broken, 1.0, step)
    cell = np.cumsum(np.where(broken, restart, step)).astype(np.int64)
    start = np.maximum.accumulate(np.where(broken, cell, 0))
    return cell, start


def rows_per_cell(record: Record, grid: Grid) -> int:
    """How many rows usually share a cell: more than 1 where several loggers' rows were merged."""
    rows = cells = 0
    for _, at in record.sequences():
        time_s = None if record.time_s is None else record.time_s[at]
        cell, _ = _cells(len(at), time_s, grid)
        rows, cells = rows + len(at), cells + len(np.unique(cell))
    return max(1, round(rows / cells)) if cells else 1


def due(laid: Laid, grid: Grid) -> NDArray[np.int64]:
    """int64[n], for each row, the row whose window it is judged by; -1 where there is none yet."""
    n = len(laid.cell)
    own = np.arange(n)
    turn = laid.cell // grid.hop_cells
    first = np.ones(n, bool) if grid.hop_cells == 1 else np.diff(turn, prepend=-1) != 0
    first &= laid.full
    out: NDArray[np.int64] = np.maximum.accumulate(np.where(first, own, -1))
    return np.where(laid.full, out, -1)


def windows(
    laid: Laid, at: NDArray[np.int64], cells: int
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """float64 and bool[len(at), k, cells], the window of each row of `at`, all of them full.

    The second tells which cells have a sample of their own.
    """
    first = laid.cell[at] - cells + 1
    out: NDArray[np.float64] = sliding_window_view(laid.table, cells, axis=0)[first].copy()
    fresh: NDArray[np.bool_] = sliding_window_view(laid.fresh, cells, axis=0)[first].copy()
    out[:, :, -1], fresh[:, :, -1] = laid.value[at], laid.now[at]
    return out, fresh


def features(
    record: Record, plan: FeaturePlan, grid: Grid, *, sensors: Sensors | None = None
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The features of each row's window, and its coverage.

    Args:
        record: With the plan's signals, in its order.
        plan: What to compute.
        grid: Where the cells lie.
        sensors: Signals whose sensor is found faulty count as missing in that window.

    Returns:
        float32[n, d] and float32[n, k] (share of cells with a sample, signal by signal); NaN before
        the first full window.
    """
    n, k = record.values.shape
    out = np.full((n, len(plan.names)), np.nan, np.float32)
    coverage = np.full((n, k), np.nan, np.float32)
    for rows, laid, judged_by in _sequences(record, grid):
        at = np.unique(judged_by[judged_by >= 0])
        for chunk, x, cover in _cut(laid, at, plan, grid, sensors):
            out[rows[chunk]], coverage[rows[chunk]] = x, cover
        if grid.hop_cells > 1:
            have = judged_by >= 0
            out[rows[have]] = out[rows[judged_by[have]]]
            coverage[rows[have]] = coverage[rows[judged_by[have]]]
    return out, coverage


def some_features(
    record: Record, plan: FeaturePlan, grid: Grid, every: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """To learn from long records: int64[m], about one of so many rows with a full window, and
    float32[m, d], the features of these."""
    told, out = [], []
    for rows, laid, judged_by in _sequences(record, grid):
        at = thinned(np.unique(judged_by[judged_by >= 0]), every)
        mine, done = np.empty((len(at), len(plan.names)), np.float32), 0
        for chunk, x, _ in _cut(laid, at, plan, grid, None):
            mine[done : done + len(chunk)] = x
            done += len(chunk)
        told.append(rows[at])
        out.append(mine)
    return np.concatenate(told), np.concatenate(out) if len(out) > 1 else out[0]


def _sequences(
    record: Record, grid: Grid
) -> Iterator[tuple[NDArray[np.int64], Laid, NDArray[np.int64]]]:
    """The rows of each sequence, laid on the grid, and by which of them each is judged."""
    for _, rows in record.sequences():
        time_s = None if record.time_s is None else record.time_s[rows]
        laid = lay(record.values[rows], time_s, grid)
        yield rows, laid, due(laid, grid)


def chunks(at: NDArray[np.int64], signals: int, cells: int) -> Iterator[NDArray[np.int64]]:
    """So many windows at a time as memory should hold."""
    step = max(1, CHUNK_CELLS // max(1, signals * cells))
    return (at[start : start + step] for start in range(0, len(at), step))


def _cut(
    laid: Laid,
    at: NDArray[np.int64],
    plan: FeaturePlan,
    grid: Grid,
    sensors: Sensors | None,
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.float64]]]:
    """Rows, the features of their windows, and the share of cells with a sample, by signal."""
    for chunk in chunks(at, laid.table.shape[1], grid.cells):
        window, fresh = windows(laid, chunk, grid.cells)
        if sensors is not None:
            window, _ = sensors.masked(window)
        yield chunk, plan.compute(window, fresh), 1.0 - np.isnan(window).mean(axis=2)


def thinned(at: NDArray[np.int64], every: int) -> NDArray[np.int64]:
    """One of so many, its place in each stretch turning by the golden ratio.

    An even step would see a machine's cycle always at the same phase where one divides the other.
    """
    if every == 1:
        return at
    turn = np.arange(max(1, len(at) // every))
    offset = (turn * GOLDEN % 1.0 * every).astype(np.int64)
    return at[np.minimum(turn * every + offset, len(at) - 1)] if len(at) else at
