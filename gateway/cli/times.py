"""Finds the column of time and reads it: ISO 8601, 27.11.2026 14:05, 11/27/26 2:05 PM, numbers."""

import re
from calendar import month_name
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from gateway.cli.cells import CLOCK, DATED, MISSING, is_date, iso, number, written, year_first
from gateway.cli.columns import Columns, unit_of
from gateway.cli.tables import NUMERIC_SHARE, Floats, Table, numbers, share
from models.errors import RecordError

NAMES = frozenset(
    {"time", "timestamp", "datetime", "date", "ts"}
    | {"zeit", "zeitstempel", "zeitpunkt", "datum", "datumuhrzeit", "datumzeit"}
    | {"heure", "horodatage", "dateheure", "fecha", "fechahora", "hora", "datahora"}
    | {"ora", "dataora", "tijd", "tijdstip", "tijdstempel", "tidpunkt", "tidspunkt", "aika", "czas"}
)
"""Of columns of time, without blanks and signs, so that `Date/Time [UTC]` is one too."""
LOOKED_AT = 50
"""Cells by which a column is taken for one of dates."""

_DAY = re.compile(r"\d{1,4}[./-]\d{1,2}[./-]\d{1,4}")
_NOT_NUMPYS = re.compile(r",|\d([Zz]|[+-]\d\d:?(\d\d)?)$")
"""Of ISO 8601: a decimal comma, a zone."""
_EPOCHS = ((1e17, 1e9), (1e14, 1e6), (1e11, 1e3))
_SECONDS = {"ms": 1e-3, "µs": 1e-6, "us": 1e-6, "ns": 1e-9, "min": 60.0, "h": 3600.0, "d": 86_400.0}


def joined(held: Table) -> Table:
    """The table with a date and the time of day in the column beside it made one column."""
    for at, (left, right) in enumerate(zip(held.names, held.names[1:], strict=False)):
        for day, clock in ((left, right), (right, left)):
            days, clocks = (held.columns[held.names.index(name)] for name in (day, clock))
            if not (_mostly(days, _is_day) and _mostly(clocks, CLOCK.match)):
                continue
            both = [f"{a} {b}" if a and b else "" for a, b in zip(days, clocks, strict=True)]
            columns = [*held.columns[:at], np.array(both, object), *held.columns[at + 2 :]]
            names = (*held.names[:at], day, *held.names[at + 2 :])
            return replace(held, names=names, columns=tuple(columns))
    return held


def find_time(held: Table, columns: Columns) -> str | None:
    """The column that is a time by its name, or by what is in it where it is first or alone.

    Raises:
        RecordError: Several might be; or one is called so and cannot be read.
    """
    taken = {columns.group, *columns.labels, *columns.ignore, *columns.signals}
    free = [name for name in held.names if name not in taken]
    known = [name for name in free if _plain_name(name) in NAMES]
    dated = [name for name in free if _is_dated(held, name)]
    for name in free:
        if name in dated and (name in known or name == held.names[0]):
            return name
        if name in known and share(held.columns[held.names.index(name)]) == 1.0:
            return name
    if len(dated) > 1:
        raise RecordError(
            f"{held.path}: columns {', '.join(dated)} hold times; name the one of the rows with "
            "--time"
        )
    if dated:
        return dated[0]
    if known:
        column = held.columns[held.names.index(known[0])]
        what = next(cell for cell in column if cell.lower() not in MISSING and number(cell) is None)
        day = "; a time of day needs a column of dates beside it" if CLOCK.match(what) else ""
        raise RecordError(
            f"{held.path}: column {known[0]}: must be a time (2026-11-27 14:05:00, "
            f"27.11.2026 14:05, or a number), was {what[:40]!r}{day}; leave it out with --ignore, "
            "or name another with --time"
        )
    return None


def time_of(
    held: Table, name: str | None, day_first: bool | None = None
) -> tuple[Floats | None, tuple[str, ...]]:
    """Seconds of each row, and its time as the file has it.

    Args:
        held: The file.
        name: The column; None for a file without one.
        day_first: How to read 05/11/2026 where the column does not tell.
    """
    if name is None:
        return None, ()
    column = held.columns[held.names.index(name)]
    texts = tuple(str(cell) for cell in column)
    if share(column) > NUMERIC_SHARE:
        return _of_numbers(numbers(held, name), unit_of(name)), texts
    if not any(_NOT_NUMPYS.search(text) for text in texts):
        try:
            read = np.array(texts, "datetime64[us]")
        except ValueError:
            pass
        else:
            return np.where(np.isnat(read), np.nan, read.astype(np.int64) / 1e6), texts
    out = np.full(len(texts), np.nan)
    first = _day_first(held, name, texts, day_first)
    for row, text in enumerate(texts):
        if text.lower() in MISSING:
            continue
        found = DATED.match(text)
        moment = iso(written(found, day_first=first) if found else text)
        if moment is None:
            raise RecordError(
                f"{held.path}: row {row + held.first_line}, column {name}: must be a time "
                f"(2026-11-27 14:05:00, 27.11.2026 14:05, or a number), was {text[:40]!r}"
            )
        out[row] = moment
    return out, texts


def _of_numbers(values: Floats, unit: str) -> Floats:
    largest = float(np.nanmax(np.abs(values), initial=0.0))
    for above, per_second in _EPOCHS:
        if largest > above:
            return values / per_second
    return values * _SECONDS.get(unit, 1.0)


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


def _plain_name(name: str) -> str:
    """The name without its unit, blanks and signs, in small letters."""
    return re.sub(r"[\W_]+", "", re.sub(r"[\[(].*[\])]\s*$", "", name)).casefold()


def _is_dated(held: Table, name: str) -> bool:
    column = held.columns[held.names.index(name)]
    return name in held.stamps or _mostly(column, is_date)


def _is_day(cell: str) -> bool:
    return is_date(cell) and ":" not in cell


def _mostly(column: NDArray[np.object_] | Floats, rule: Callable[[str], object]) -> bool:
    """Whether most of what is in the first cells of a column of text keeps a rule."""
    if column.dtype == np.float64:
        return False
    filled = [cell for cell in column[:LOOKED_AT] if cell.lower() not in MISSING]
    return sum(bool(rule(cell)) for cell in filled) > len(filled) / 2
