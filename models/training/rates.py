"""How often each signal is sampled: a table merged from several loggers holds each at its own rate.

A cell that is empty because its signal is sampled seldom is no gap. What a signal's own interval
is, its own samples tell; the table's rows do not.
"""

import numpy as np
from numpy.typing import NDArray

from models.record import Record

REGULAR = 0.8
"""Share of steps that must be near a whole number of sampling intervals for a grid of time."""
USUAL_SHORT = 0.2
"""A fifth of a signal's steps are no longer than its interval, unless more than that is missing."""
FINER = 1.5
"""Rows that come so many times as often as the fastest signal are those of several loggers."""
HELD_TIMES = 3
"""A sample stands for so many of its signal's intervals."""
HELD_CELLS_MAX = 1024
SAMPLES_MIN = 20
"""Fewer samples than that are not a signal that is sampled seldom, but one that is not there."""
CHANGES_MIN = 20
SMALL, SMALL_SHARE = 0.25, 0.01
"""Noise makes steps of any size. Where hardly any is smaller than a quarter of the usual one, small
ones are not logged: a deadband, or a value that is written when it changes."""

Floats = NDArray[np.float64]


def sampling(record: Record) -> tuple[float | None, bool]:
    """The sampling interval in seconds (None without a time), and whether it is regular.

    That of the rows; but where rows come more often than any signal does, or at odd times though
    one signal is regular, several loggers were merged, and the fastest signal's interval counts.
    """
    if record.time_s is None:
        return None, False
    rows = _steps(record, np.ones(len(record), bool))
    if len(rows) < 2:
        return None, False
    best = _interval(rows, float(np.median(rows)))
    if not np.isnan(record.values).any():
        return best
    own = [_steps(record, ~np.isnan(column)) for column in record.values.T]
    own = [steps for steps in own if len(steps) >= SAMPLES_MIN]
    if not own:
        return best
    short = [float(np.quantile(steps, USUAL_SHORT)) for steps in own]
    fastest = int(np.argmin(short))
    alone = _interval(own[fastest], short[fastest])
    merged = short[fastest] > FINER * best[0] or not best[1]
    return alone if merged and alone[1] else best


def _steps(record: Record, there: NDArray[np.bool_]) -> Floats:
    """Seconds between neighbouring rows of those that are there, of all sequences."""
    assert record.time_s is not None
    steps = np.concatenate([np.diff(record.time_s[at][there[at]]) for _, at in record.sequences()])
    return np.asarray(steps[np.isfinite(steps) & (steps > 0)])


def _interval(steps: Floats, period_s: float) -> tuple[float, bool]:
    turns = steps / period_s
    near = np.abs(turns - np.round(turns)) <= 0.25
    regular = bool(np.mean(near & (turns >= 0.75)) >= REGULAR)
    # The mean of the single steps is free of the rounding that large epoch numbers suffer.
    single = steps[(turns >= 0.75) & (turns <= 1.25)]
    return float(f"{single.mean():.6g}"), regular


def own_cells(record: Record, period_s: float | None, rows: bool) -> Floats:
    """float64[k], cells from one sample of each signal to its next, as they usually lie; 1 or more.

    Args:
        record: The usable signals.
        period_s: Length of a cell.
        rows: A cell is a row.
    """
    out = np.ones(len(record.names))
    for index, column in enumerate(record.values.T):
        gaps = _gaps(column, record, period_s, rows)
        if len(gaps):
            out[index] = max(1.0, float(np.median(gaps)))
    return out


def held_cells(record: Record, period_s: float | None, rows: bool) -> tuple[int, ...]:
    """For each signal, the cells for which a sample stands.

    Three of its own intervals; where it is logged only when it changes, three of the longest.
    """
    usual = np.minimum(own_cells(record, period_s, rows), HELD_CELLS_MAX)
    out = [int(np.ceil(HELD_TIMES * cells)) for cells in usual]
    for index, column in enumerate(record.values.T):
        if only_changes(column):
            longest = float(_gaps(column, record, period_s, rows).max())
            out[index] = max(out[index], int(min(HELD_TIMES * longest, HELD_CELLS_MAX)))
    return tuple(out)


def _gaps(column: Floats, record: Record, period_s: float | None, rows: bool) -> Floats:
    present = np.flatnonzero(~np.isnan(column))
    if len(present) < 3:
        return np.zeros(0)
    gaps: Floats = np.diff(present).astype(float)
    if not rows and record.time_s is not None and period_s:
        gaps = np.diff(record.time_s[present]) / period_s
    return np.asarray(gaps[np.isfinite(gaps) & (gaps > 0)])


def only_changes(column: Floats) -> bool:
    """Whether a signal is logged only when it changes: then none of its steps is small.

    >>> move = np.cumsum(np.random.default_rng(1).normal(size=400))
    >>> logged = move.copy()
    >>> logged[1:][np.diff(np.round(move / 3)) == 0] = np.nan
    >>> only_changes(np.round(logged / 3)), only_changes(move)
    (True, False)
    """
    there = ~np.isnan(column)
    if there.all():
        return False
    steps = np.abs(np.diff(column[there]))
    if len(steps) < CHANGES_MIN:
        return False
    return bool(np.mean(steps < SMALL * np.median(steps)) <= SMALL_SHARE and np.median(steps) > 0)


def missing(column: Floats) -> float:
    """Share of the samples that its own interval lets expect of a signal, and that are not there.

    >>> seldom = np.full(6000, np.nan)
    >>> seldom[::60] = 1.0
    >>> missing(seldom), missing(np.where(np.arange(100) < 30, 1.0, np.nan))
    (0.0, 0.7)
    """
    present = np.flatnonzero(~np.isnan(column))
    lacks = 1.0 - len(present) / len(column)
    if len(present) < SAMPLES_MIN:
        return lacks
    if only_changes(column):
        return 0.0
    return max(0.0, 1.0 - len(present) * float(np.median(np.diff(present))) / len(column))
