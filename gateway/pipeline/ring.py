"""The ring of cells that holds every signal that is watched at one grid period.

A cell keeps the last usable sample that fell into it, with the absolute number of the cell as its
stamp; what an older turn of the ring left behind is told by its stamp and never cleared.
"""

import numpy as np
from numpy.typing import NDArray

NEVER = np.iinfo(np.int64).min // 4
"""Before every cell, and every time."""


class Ring:
    """One row of cells for each signal that is watched.

    Attributes:
        period_ns: Length of a cell.
        length: Cells of a row.
        row_of: int32[signals], the row of each signal; -1 for those that are not watched.
    """

    def __init__(
        self, period_ns: int, length: int, watched: NDArray[np.int32], signals: int
    ) -> None:
        """Prepare for the `watched` numbers of a table of `signals`."""
        self.period_ns = period_ns
        self.length = length
        self.row_of = np.full(signals, -1, dtype=np.int32)
        self.row_of[watched] = np.arange(len(watched), dtype=np.int32)
        self._value = np.full((len(watched), length), np.nan)
        self._stamp = np.full((len(watched), length), NEVER, dtype=np.int64)

    def put(
        self, signal: NDArray[np.int32], t_ns: NDArray[np.int64], value: NDArray[np.float64]
    ) -> None:
        """Keep usable samples, each in its cell."""
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
        newer = self._stamp[row, at] <= cell
        if not newer.all():
            row, at, cell, value = row[newer], at[newer], cell[newer], value[newer]
        # Where an index repeats, numpy keeps the last, and the last is the newest.
        self._value[row, at] = value
        self._stamp[row, at] = cell

    def read(
        self, rows: NDArray[np.int32], end: NDArray[np.int64], reach: int
    ) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
        """The `reach` cells that end with cell `end[i]`, oldest first.

        Args:
            rows: int32[n, k], rows of the ring; -1 holds nothing.
            end: int64[n].
            reach: How many cells.

        Returns:
            bool[n, k, reach], whether a cell holds a sample; float64[n, k, reach], the sample.
        """
        if (end == end[0]).all():
            stamp, value = self._stretch(rows.ravel(), int(end[0]), reach)
            stamp, value = stamp.reshape(*rows.shape, reach), value.reshape(*rows.shape, reach)
            cell = (end[0] - np.arange(reach - 1, -1, -1))[None, None, :]
        else:
            cells = end[:, None] - np.arange(reach - 1, -1, -1)  # [n, reach]
            at = (cells % self.length)[:, None, :]
            stamp, value = self._stamp[rows[:, :, None], at], self._value[rows[:, :, None], at]
            cell = cells[:, None, :]
        return (stamp == cell) & (rows >= 0)[:, :, None], value

    def forget(self, rows: NDArray[np.int32]) -> None:
        """Let these rows hold nothing."""
        self._stamp[rows[rows >= 0]] = NEVER

    def _stretch(
        self, rows: NDArray[np.int32], end: int, reach: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Stamps and values of the `reach` cells that end with cell `end`, of some rows."""
        stop = end % self.length + 1
        start = stop - reach
        if start >= 0:
            return self._stamp[rows, start:stop], self._value[rows, start:stop]
        return (
            np.concatenate([self._stamp[rows, start:], self._stamp[rows, :stop]], axis=1),
            np.concatenate([self._value[rows, start:], self._value[rows, :stop]], axis=1),
        )


def carried(
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
    out = value.reshape(-1)[at].reshape(value.shape)
    out[stale] = np.nan
    return out
