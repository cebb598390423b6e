"""Reads a column of time as seconds: dates as people write them, Excel's days, since 1970."""

import re
from calendar import month_name
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from gateway.cli.cells import CLOCK, DATED, MISSING, in_figures, iso, unit_of, written, year_first
from gateway.cli.tables import NUMERIC_SHARE, Floats, Table, numbers, share
from models.errors import RecordError

LOOKED_AT = 50
"""Cells by which a column is taken for one of dates."""
EPOCHS = (1.0, 1e3, 1e6, 1e9)
EPOCH_FROM, EPOCH_TO = 946_684_800.0, 4_102_444_800.0
"""From 2000 to 2100, in seconds since 1970."""
DAY_S = 86_400.0
NIGHT_S = 3660.0
"""A time of day that falls back further than clocks are put back is another day's."""

_DAY = re.compile(r"\d{1,4}[./-]\d{1,2}[./-]\d{1,4}")
_NOT_NUMPYS = re.compile(r",|[A-Z]{3}$|\d([Zz]|[+-]\d\d:?(\d\d)?)$")
"""A decimal comma, a zone."""
_EXCEL_FROM, _EXCEL_TO, _EXCEL_1970 = 32_874.0, 73_051.0, 25_569.0
"""Days since 1900 as Excel counts them, from 1990 to 2100."""
_COMPACT = re.compile(
    r"^(?:19|20)\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])"
    r"(?:([01]\d|2[0-3])([0-5]\d)(?:([0-5]\d)(\.\d+)?)?)?$"
)
"""20261127140500: the figures of a date and its time of day, without anything in between."""
LETTER_UNITS = 3
"""A column of time that is called by so many letters or fewer is not called by its unit."""
_SECONDS = {
    unit: seconds
    for seconds, units in (
        (1e-9, "ns"),
        (1e-6, "us µs"),
        (1e-3, "ms msec"),
        (1.0, "s sec sek seconds sekunden"),
        (60.0, "min minutes"),
        (3600.0, "h hours"),
        (86_400.0, "d days"),
    )
    for unit in units.split()
}
UNIT_AFTER = re.compile(rf"[\s_.-]+({'|'.join(_SECONDS)})$", re.IGNORECASE)


def time_of(
    held: Table, name: str | None, day_first: bool | None = None
) -> tuple[Floats | None, tuple[str, ...], str]:
    """Seconds of each row, its time as the file has it, and what was guessed.

    Args:
        held: The file.
        name: The column; None for a file without one.
        day_first: How to read 05/11/2026 where the column does not tell.
    """
    if name is None:
        return None, (), ""
    column = held.columns[held.names.index(name)]
    texts = tuple(str(cell) for cell in column)
    if share(column) > NUMERIC_SHARE:
        if is_compact(column):
            return _of_compact(texts), texts, ""
        time_s, note = _of_numbers(numbers(held, name), name)
        return time_s, texts, note
    if mostly(column, CLOCK.match):
        note = f"{name}: a time of day without its date; read as of one day and those after it"
        return _of_clock(held, name, texts), texts, note
    if not any(_NOT_NUMPYS.search(text) for text in texts):
        try:
            read = np.array(texts, "datetime64[us]")
        except ValueError:
            pass
        else:
            return np.where(np.isnat(read), np.nan, read.astype(np.int64) / 1e6), texts, ""
    out = np.full(len(texts), np.nan)
    texts_read = tuple(map(in_figures, texts))
    first = _day_first(held, name, texts_read, day_first)
    for row, text in enumerate(texts_read):
        if text.lower() in MISSING:
            continue
        found = DATED.match(text)
        moment = iso(written(found, day_first=first) if found else text)
        if moment is None:
            raise _no_time(held, name, row, texts[row])
        out[row] = moment
    return out, texts, ""


def _no_time(held: Table, name: str, row: int, text: str) -> RecordError:
    return RecordError(
        f"{held.path}: row {row + held.first_line}, column {name}: must be a time "
        f"(2026-11-27 14:05:00, 27.11.2026 14:05, or a number), was {text[:40]!r}"
    )


def _of_numbers(values: Floats, name: str) -> tuple[Floats, str]:
    per_unit = _SECONDS.get(_time_unit(name))
    good = np.abs(values[np.isfinite(values)])
    largest = float(good.max(initial=0.0))
    if per_unit is not None and largest * per_unit < EPOCH_TO:
        return values * per_unit, ""
    for per_second in EPOCHS[:0:-1]:
        if largest > 1e8 * per_second:
            return values / per_second, ""
    # Seconds have three decimals or fewer; parts of a day need more.
    fine = np.abs(good * 1e3 - np.round(good * 1e3)) > 1e-4
    if 2 * fine.sum() > len(good) > 1 and good.min() > _EXCEL_FROM and largest < _EXCEL_TO:
        read = np.round((values - _EXCEL_1970) * DAY_S, 3)
        return read, f"{name}: read as Excel's days since 1900, so {_range(read)}"
    return values, ""


def _of_compact(texts: Sequence[str]) -> Floats:
    """Seconds of 20261127140500, or of less of it."""

    def moment(text: str) -> str:
        day, clock = f"{text[:4]}-{text[4:6]}-{text[6:8]}", text[8:]
        return f"{day}T{clock[:2] or '00'}:{clock[2:4] or '00'}:{clock[4:] or '00'}"

    said = ["NaT" if text.lower() in MISSING else moment(text) for text in texts]
    read = np.array(said, "datetime64[us]")
    return np.where(np.isnat(read), np.nan, read.astype(np.int64) / 1e6)


def _of_clock(held: Table, name: str, texts: Sequence[str]) -> Floats:
    """Seconds since the first day's midnight; what falls back past `NIGHT_S` is a day on."""
    out = np.full(len(texts), np.nan)
    for row, text in enumerate(texts):
        if text.lower() in MISSING:
            continue
        found = DATED.match(f"1970-01-01 {text}")
        moment = iso(written(found, day_first=True)) if found else None
        if moment is None:
            raise _no_time(held, name, row, text)
        out[row] = moment
    there = np.flatnonzero(np.isfinite(out))
    out[there] += DAY_S * np.cumsum(np.diff(out[there], prepend=out[there[:1]]) < -NIGHT_S)
    return out


def _range(time_s: Floats) -> str:
    first, last = (
        datetime.fromtimestamp(float(each), UTC).isoformat(" ", "seconds")[:19]
        for each in (np.nanmin(time_s), np.nanmax(time_s))
    )
    return f"{first} to {last}"


def _day_first(held: Table, name: str, texts: Sequence[str], given: bool | None) -> bool:
    """Whether dates are written day first: by a field above 12, by what was said, by points.

    Raises:
        RecordError: Nothing tells, or two cells contradict each other.
    """
    by_day = by_month = unclear = ""
    days = dict.fromkeys(found[0] for text in texts if (found := _DAY.match(text)))
    for text in days:
        found = DATED.match(text)
        if found is None or year_first(found) or int(found[1]) == int(found[3]):
            continue
        if int(found[1]) > 12:
            by_day = by_day or text
        elif int(found[3]) > 12:
            by_month = by_month or text
        elif found[2] != ".":
            unclear = unclear or text
    where = f"{held.path}: column {name}"
    if by_day and by_month:
        raise RecordError(
            f"{where}: {by_day} has its day first and {by_month} its month; write both alike"
        )
    if given is not None and (by_month if given else by_day):
        right = "--month-first" if given else "--day-first"
        raise RecordError(f"{where}: must be {right}, as {by_day or by_month} shows")
    if unclear and given is None and not (by_day or by_month):
        one, two = (int(part) for part in re.split("[./-]", unclear)[:2])
        raise RecordError(
            f"{where}: {unclear} may be {one} {month_name[two]} or {two} {month_name[one]}, and no "
            "row tells; say --day-first or --month-first"
        )
    return given if given is not None else not by_month


def _time_unit(name: str) -> str:
    """The unit of a column of time: in brackets, or at the end of its name, or its name itself."""
    if (unit := unit_of(name)) in _SECONDS:
        return unit
    found = UNIT_AFTER.search(name)
    unit = (found[1] if found else name).strip().lower()
    return unit if found or len(unit) > LETTER_UNITS else ""


def is_compact(column: NDArray[np.object_] | Floats) -> bool:
    """Whether all that is in a column of text are figures of dates, as 20261127140500."""
    if column.dtype == np.float64 or not mostly(column, _COMPACT.match):
        return False
    return all(_COMPACT.match(cell) or cell.lower() in MISSING for cell in column)


def mostly(column: NDArray[np.object_] | Floats, rule: Callable[[str], object]) -> bool:
    """Whether most of what is in the first cells of a column of text keeps a rule."""
    if column.dtype == np.float64:
        return False
    filled = [cell for cell in column[:LOOKED_AT] if cell.lower() not in MISSING]
    return sum(bool(rule(cell)) for cell in filled) > len(filled) / 2
