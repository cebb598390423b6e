"""Cells of a recording as times and values. Does no I/O and knows no clock."""

import math
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from protocols.readings import parse_number
from protocols.replay.settings import ReplaySignal, Settings
from protocols.replay.table import Block
from protocols.stamps import parse_time

NO_TIME = np.iinfo(np.int64).min


def times_of(block: Block, config: Settings, first_row: int) -> NDArray[np.int64]:
    """UTC ns of each row; NO_TIME where it has none that can be read.

    Args:
        block: Rows.
        config: Says where the time stands; without a column, rows are `interval_s` apart.
        first_row: Number of the first row, counted over all files.
    """
    if not config.time_column:
        interval_ns = round(config.interval_s * 1e9)
        return (first_row + np.arange(block.rows, dtype=np.int64)) * interval_ns
    cells = block.columns[config.time_column]
    return np.array([_time(cell, config) for cell in cells], dtype=np.int64)


def _time(cell: Any, config: Settings) -> int:
    if isinstance(cell, datetime):
        if cell.tzinfo is None:
            zone = UTC if config.time_zone == "UTC" else ZoneInfo(config.time_zone)
            cell = cell.replace(tzinfo=zone)
        since: timedelta = cell - datetime(1970, 1, 1, tzinfo=UTC)
        return (since.days * 86_400 + since.seconds) * 10**9 + since.microseconds * 1000
    if isinstance(cell, date):
        cell = cell.isoformat()
    if not isinstance(cell, str | int | float):
        return NO_TIME
    t_ns = parse_time(cell, config.time_form, config.time_zone)
    return t_ns if t_ns is not None and abs(t_ns) < 2**63 else NO_TIME


def values_of(
    cells: Sequence[Any], signal: ReplaySignal, *, decimal_comma: bool
) -> tuple[NDArray[np.float64], NDArray[np.bool_], int]:
    """One column in the unit of its signal.

    Returns:
        float64[n], NaN where the cell is no number; bool[n], False where the cell is empty: no
        sample then; and how many cells were no number.
    """
    present = np.array([cell is not None and cell != "" for cell in cells], dtype=np.bool_)
    if signal.states:
        values = np.array([_state(cell, signal) for cell in cells], dtype=np.float64)
    else:
        values = _numbers(cells, decimal_comma=decimal_comma) * signal.scale + signal.add
    wrong = int(np.count_nonzero(present & ~np.isfinite(values)))
    return values, present, wrong


def _numbers(cells: Sequence[Any], *, decimal_comma: bool) -> NDArray[np.float64]:
    # numpy reads a column of good numbers at once; only a column with something else is walked.
    if not decimal_comma:
        try:
            return np.array(cells, dtype=np.float64)
        except (TypeError, ValueError, OverflowError):
            pass
    return np.array([_number(cell, decimal_comma=decimal_comma) for cell in cells])


def _number(cell: Any, *, decimal_comma: bool) -> float:
    if isinstance(cell, str):
        number = parse_number(cell, decimal_comma=decimal_comma)
        return math.nan if number is None else number
    try:
        return float(cell)
    except (TypeError, ValueError, OverflowError):
        return math.nan


def _state(cell: Any, signal: ReplaySignal) -> float:
    text = f"{cell:g}" if isinstance(cell, float) else str(cell).strip()
    state = signal.states.get(text, signal.states.get("*"))
    return math.nan if state is None else state
