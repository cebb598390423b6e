"""Chooses window and step from the healthy record itself: its sampling, its length, its cycles."""

import re

import numpy as np
from numpy.typing import NDArray

from models.errors import RecordError
from models.features.stack import recent_cells
from models.record import Record
from models.training.rates import held_cells, sampling
from models.windows import Grid

CELLS = 48
"""Averaging 48 cells leaves a seventh of the noise; the newest eighth (6 cells) says "still so"."""
CELLS_MAX = 1024
WINDOWS_MIN = 8
"""A sequence must hold so many windows one after the other, or windows get shorter."""
CYCLES = 4
"""A window covers so many of a machine's cycles, so that where it begins does not matter, and its
newest part one of them; or so many of the times for which what it does hangs together."""
MOVES_MIN = 400
"""A record holds so many of these times, or windows do not grow for them: a hundred windows."""
WINDOW_S_MAX = 86_400.0
"""For cycles' sake a window grows no longer: four days tell of a fault days late."""
CLEAR, FIRST = 0.5, 0.75
"""Correlation of a cycle with the one before it, at least; and, as two cycles repeat as one does,
of the first peak as a share of the highest."""
PRESENT = 0.9
"""Of its samples must be there for a signal to tell."""
HOP_S = 0.25
"""Training looks at a record no more often than this; windows then overlap by seven eighths."""
JUDGED_S = 5.0
"""Nobody acts on wear within seconds: a gateway judges a machine no more often than this."""

_SPAN = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*(ms|s|min|m|h|d|rows?)\s*$")
_UNIT_S = {"ms": 1e-3, "s": 1.0, "min": 60.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def choose(record: Record, *, window: str | None = None, hop: str | None = None) -> Grid:
    """The grid for a record.

    Args:
        record: Healthy rows.
        window: `30s`, `30rows`, `1row`; None to choose from the record.
        hop: The same for the step.

    Raises:
        RecordError: No rows; a window or hop that is not a length; a time window without a time.
    """
    if not len(record):
        raise RecordError("data: must have at least one row, had none")
    period_s, regular = sampling(record)
    rows = not regular
    longest = max(len(at) for _, at in record.sequences())
    if window is None:
        lengths = sorted(len(at) for _, at in record.sequences())
        typical = lengths[len(lengths) // 2]
        cycle = _cycle(record, period_s)
        cells = max(CELLS, min(CYCLES * cycle, CELLS_MAX), _of_moves(record, period_s))
        cells = max(1, min(cells, typical // WINDOWS_MIN))
        # Half a cycle is no state of the machine.
        recent = cycle if recent_cells(cells) < cycle <= cells // 2 else 0
    else:
        recent = 0
        cells, in_rows = span(window, "window", period_s)
        rows = rows or in_rows
        if cells > longest:
            raise RecordError(
                f"window: must fit into the longest sequence of {longest} rows, was {window}"
            )
    if hop is not None:
        hop_cells = span(hop, "hop", period_s)[0]
    elif period_s is None:
        hop_cells = 1
    else:
        hop_cells = int(np.clip(np.floor(HOP_S / period_s), 1, max(1, cells // 8)))
    held = held_cells(record, period_s, rows)
    return Grid(rows, period_s, cells, max(1, hop_cells), max(held), held, recent)


def judged_cells(grid: Grid) -> int:
    """Cells from one assessment of a gateway to the next, where nobody says it: decision 001."""
    if grid.rows or not grid.period_s:
        return grid.hop_cells
    most = max(grid.hop_cells, grid.cells // 8)
    return int(np.clip(np.floor(JUDGED_S / grid.period_s), grid.hop_cells, most))


def span(text: str, what: str, period_s: float | None) -> tuple[int, bool]:
    """Cells of a length such as `30s` or `30rows`, and whether it was given in rows.

    Raises:
        RecordError: Not a length, or a time where the record has none.
    """
    found = _SPAN.match(text)
    if found is None or float(found[1]) <= 0:
        raise RecordError(f"{what}: must be such as 30s, 5min or 30rows, was {text!r}")
    size, unit = float(found[1]), found[2]
    if unit.startswith("row"):
        return max(1, round(size)), True
    if period_s is None:
        raise RecordError(f"{what}: {text!r} needs a time column; name it with --time, or use rows")
    return max(1, round(size * _UNIT_S[unit] / period_s)), False


def _of_moves(record: Record, period_s: float | None) -> int:
    """Cells of `CYCLES` times for which what moves by no clock hangs together; 0 if nothing does.

    A servo axis sampled each millisecond takes a third of a second from one place to the next: 48
    cells hold a seventh of a move, which shows neither friction nor play. Only as far as the newest
    eighth takes no longer than a gateway does to look again: what is sampled each second has a
    window long enough, and would be told late.
    """
    if not period_s:
        return 0
    most = min(CELLS_MAX, int(8 * JUDGED_S / period_s))
    _, rows = max(record.sequences(), key=lambda item: len(item[1]))
    rows = rows[: 1 << 17]
    n = len(rows)
    if most <= CELLS or n < MOVES_MIN:
        return 0
    times = (_hangs_together(column) for column in record.values[rows].T)
    longest = max((each for each in times if each * MOVES_MIN <= n), default=0.0)
    return min(most, round(CYCLES * longest))


def _hangs_together(column: NDArray[np.float64]) -> float:
    """The integral of a signal's correlation with itself up to where it ends, on both sides, in
    cells: 1 for noise; infinite where too little is there, or nothing moves."""
    good = ~np.isnan(column)
    if good.mean() < PRESENT:
        return np.inf
    x = np.where(good, column - column[good].mean(), 0.0)
    power = np.abs(np.fft.rfft(x, 2 * len(x))) ** 2
    correlation = np.fft.irfft(power)[: len(x)]
    if correlation[0] <= 0:
        return np.inf
    ends = int(np.argmax(correlation <= 0)) or len(x)
    return float(1 + 2 * correlation[1:ends].sum() / correlation[0])


def _cycle(record: Record, period_s: float | None) -> int:
    """Cells of the longest clear cycle that repeats at least 40 times in a sequence, and four times
    within `WINDOW_S_MAX`; 0 if none."""
    _, rows = max(record.sequences(), key=lambda item: len(item[1]))
    rows = rows[: 1 << 16]
    n = len(rows)
    most = n // 40
    if period_s:
        most = min(most, int(WINDOW_S_MAX / (CYCLES * period_s)))
    longest = 0
    for column in record.values[rows].T:
        good = ~np.isnan(column)
        if n < 80 or good.mean() < PRESENT:
            continue
        x = np.where(good, column, np.nanmean(column))
        x = x - np.convolve(np.pad(x, 200, mode="edge"), np.ones(401) / 401, mode="valid")
        if x.std() <= 1e-9 * max(abs(float(np.nanmean(column))), 1e-300):
            continue
        power = np.abs(np.fft.rfft(x, 2 * n)) ** 2
        correlation = np.fft.irfft(power)[: most + 1]
        correlation = correlation / correlation[0]
        below = np.flatnonzero(correlation < 0)
        if len(below):
            after = correlation[below[0] :]
            if after.max() <= CLEAR:
                continue
            high = after >= FIRST * after.max()
            # The top of the first of the peaks that are about as high as the highest.
            first = int(high.argmax())
            until = first + int(np.append(~high[first:], True).argmax())
            peak = int(below[0]) + first + int(np.argmax(after[first:until]))
            # One that still rises where we look no further is a longer cycle's flank.
            longest = max(longest, peak if peak < most else 0)
    return longest
