"""Finds the column of time: by its name, by the dates in it, or by numbers that are since 1970."""

import re
from dataclasses import replace

import numpy as np

from gateway.cli.cells import CLOCK, MISSING, is_date, number
from gateway.cli.columns import Columns
from gateway.cli.moments import EPOCH_FROM, EPOCH_TO, EPOCHS, UNIT_AFTER, is_compact, mostly
from gateway.cli.tables import Table, numbers, share
from models.errors import RecordError

NAMES = frozenset(
    {"time", "timestamp", "datetime", "date", "ts"}
    | {"zeit", "zeitstempel", "zeitpunkt", "datum", "datumuhrzeit", "datumzeit"}
    | {"heure", "horodatage", "dateheure", "fecha", "fechahora", "hora", "datahora"}
    | {"unixtime", "unixtimestamp", "epoch", "epochtime", "utc", "utctime", "timeutc", "elapsed"}
    | {"elapsedtime", "messzeit", "datumundzeit", "sekunden", "seconds"}
    | {"ora", "dataora", "tijd", "tijdstip", "tijdstempel", "tidpunkt", "tidspunkt", "aika", "czas"}
)
"""Of columns of time, without blanks and signs, so that `Date/Time [UTC]` is one too."""

COMPACT_MIN = len("20261127140500")
"""Fewer figures may be a number, where the column is not called a time."""


def joined(held: Table) -> Table:
    """The table with a date and the time of day in the column beside it made one column."""
    for at, (left, right) in enumerate(zip(held.names, held.names[1:], strict=False)):
        for day, clock in ((left, right), (right, left)):
            days, clocks = (held.columns[held.names.index(name)] for name in (day, clock))
            if not (mostly(days, _is_day) and mostly(clocks, CLOCK.match)):
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
    taken = {columns.group, *columns.label_columns, *columns.ignore, *columns.signals}
    free = [name for name in held.names if name not in taken]
    known = [name for name in free if _stem(name) in NAMES]
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
    for name in free:
        if _is_epoch(held, name) or (_stem(name) == "t" and _rises(held, name)):
            return name
    if known:
        column = held.columns[held.names.index(known[0])]
        if mostly(column, CLOCK.match):
            return known[0]
        what = next(cell for cell in column if cell.lower() not in MISSING and number(cell) is None)
        raise RecordError(
            f"{held.path}: column {known[0]}: must be a time (2026-11-27 14:05:00, "
            f"27.11.2026 14:05, or a number), was {what[:40]!r}; leave it out with --ignore, "
            "or name another with --time"
        )
    return None


def _stem(name: str) -> str:
    """The name without its unit, blanks and signs, in small letters."""
    name = re.sub(r"[\[(].*[\])]\s*$", "", name)
    return re.sub(r"[\W_]+", "", UNIT_AFTER.sub("", name)).casefold()


def _is_dated(held: Table, name: str) -> bool:
    column = held.columns[held.names.index(name)]
    if name in held.stamps or mostly(column, is_date):
        return True
    return is_compact(column) and bool(mostly(column, lambda cell: len(cell) >= COMPACT_MIN))


def _is_epoch(held: Table, name: str) -> bool:
    """Whether a column holds seconds since 1970, or parts of them, that only rise or only fall."""
    if share(held.columns[held.names.index(name)]) < 1.0 or not _rises(held, name):
        return False
    values = numbers(held, name)
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    return any(EPOCH_FROM * p < low and high < EPOCH_TO * p for p in EPOCHS)


def _rises(held: Table, name: str) -> bool:
    """Whether a column of numbers goes one way alone, row by row in half of them or more."""
    if share(held.columns[held.names.index(name)]) < 1.0:
        return False
    step = np.diff(numbers(held, name))
    up, down = np.count_nonzero(step > 0), np.count_nonzero(step < 0)
    return bool(2 * max(up, down) >= len(step) > 0 and min(up, down) * 100 <= max(up, down))


def _is_day(cell: str) -> bool:
    return is_date(cell) and ":" not in cell
