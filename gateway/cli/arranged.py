"""Brings a table into the order of a record: a column for each signal, the oldest row first."""

import re
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gateway.cli.columns import Columns
from gateway.cli.moments import time_of
from gateway.cli.tables import NUMERIC_SHARE, Floats, Table, share
from gateway.cli.times import find_time
from models.errors import RecordError
from models.record import Record

TAGS = frozenset(
    {"tag", "tagname", "tagid", "signal", "signalname", "variable", "variablename", "varname"}
    | {"sensor", "sensorname", "sensorid", "parameter", "metric", "channel", "point", "pointname"}
    | {"measurement", "messstelle", "messgröße", "messgroesse", "kanal", "variablenname", "name"}
)
VALUES = frozenset({"value", "val", "wert", "messwert", "varvalue", "reading", "valeur", "valor"})
"""Of the two columns by which a historian writes one row for each value."""
TAGS_MAX = 4096

UNORDERED = 0.01
"""A clock steps back now and then; a file of which more steps go back is in another order."""
TWICE_MAX = 0.05
"""Where more rows than that share their time, a clock started anew: they are no one sequence."""
SHARED_MIN = 0.5
"""Where more rows share their time, they are of several machines, or came within a tick."""
MACHINE_ROWS_MIN = 20
TICKS_MIN = 4


def widened(held: Table, columns: Columns) -> Table:
    """One row a moment, of a table with one row for each value; any other table as it is.

    Raises:
        RecordError: More tags than a model can have signals, or no time that can be read.
    """
    tag, value = (_called(held, names) for names in (TAGS, VALUES))
    named = {columns.time, columns.group, *columns.label_columns, *columns.signals, *columns.ignore}
    if tag is None or value is None or {tag, value} & named:
        return held
    tags = held.columns[held.names.index(tag)]
    values = held.columns[held.names.index(value)]
    time = columns.time or find_time(held, replace(columns, signals=()))
    if tags.dtype == np.float64 or share(tags) > NUMERIC_SHARE or time not in held.names:
        return held
    time_s, _, _ = time_of(held, time, columns.day_first)
    assert time_s is not None
    words = dict.fromkeys(tags)
    if len(words) > TAGS_MAX:
        raise RecordError(
            f"{held.path}: column {tag}: must hold at most {TAGS_MAX} tags, held {len(words)}"
        )
    group = _codes(held, columns.group)
    rows = np.flatnonzero(np.isfinite(time_s))
    _, first, moment = np.unique(
        np.column_stack([group[rows], time_s[rows]]), axis=0, return_index=True, return_inverse=True
    )
    beside = [n for n in (time, columns.group, *columns.label_columns) if n in held.names]
    beside = list(dict.fromkeys(beside))
    out: list[NDArray[Any]] = [held.columns[held.names.index(name)][rows[first]] for name in beside]
    at = {word: place for place, word in enumerate(words)}
    place = np.array([at[word] for word in tags[rows]])
    numeric = values.dtype == np.float64
    for index in range(len(words)):
        mine = place == index
        column = np.full(len(first), np.nan if numeric else "", values.dtype)
        column[moment.reshape(-1)[mine]] = values[rows[mine]]
        out.append(column)
    note = (
        f"{tag}, {value}: one row for each value, read as one for each moment, with {len(words)} "
        f"columns ({', '.join(list(words)[:4])}{'…' if len(words) > 4 else ''})"
    )
    return replace(held, names=(*beside, *words), columns=tuple(out), notes=(*held.notes, note))


def _called(held: Table, names: frozenset[str]) -> str | None:
    found = [n for n in held.names if re.sub(r"[\W_]+", "", n).casefold() in names]
    return found[0] if len(found) == 1 else None


def _codes(held: Table, name: str | None) -> Floats:
    if name not in held.names:
        return np.zeros(len(held))
    texts = [str(cell) for cell in held.columns[held.names.index(name)]]
    at = {text: index for index, text in enumerate(dict.fromkeys(texts))}
    return np.array([at[text] for text in texts], float)


def machines(held: Table, columns: Columns, time: str | None, time_s: Floats | None) -> str | None:
    """The column that tells apart rows of one time: each of its values has each time once.

    Args:
        held: The file.
        columns: What is known of its columns.
        time: The column of time.
        time_s: What it says.
    """
    if time_s is None or not np.isfinite(time_s).all():
        return None
    _, moment, often = np.unique(time_s, return_inverse=True, return_counts=True)
    if np.mean(often[moment] > 1) < SHARED_MIN:
        return None
    taken = {time, *columns.label_columns, *columns.ignore, *columns.signals}
    for name, column in zip(held.names, held.columns, strict=True):
        if name in taken:
            continue
        code = _codes(held, name)
        several = int(code.max(initial=0)) + 1
        # Machines are there most of the time; what a signal happens to read is not.
        usual = len(held) >= SHARED_MIN * several * len(often)
        few = 2 <= several <= len(held) / MACHINE_ROWS_MIN and usual
        whole = column.dtype != np.float64 or bool(np.all(column == np.round(column)))
        if few and whole and len(np.unique(code * len(often) + moment)) == len(held):
            return name
    return None


def oldest_first(record: Record) -> Record:
    """The record with its sequences one after the other, each in order of time."""
    parts, notes = [], record.notes
    for _, rows in record.sequences():
        if record.time_s is not None and _is_unordered(time_s := record.time_s[rows]):
            parts.append(rows[np.argsort(time_s, kind="stable")])
            notes = (*notes, "rows are not in order of time; taken in it")
        else:
            parts.append(rows)
    order = np.concatenate(parts) if parts else np.arange(0)
    if (order == np.arange(len(record))).all():
        return record
    return replace(record.rows(order), places=order, notes=tuple(dict.fromkeys(notes)))


def spread(record: Record) -> Record:
    """The record with rows that share a tick of a clock laid evenly between it and the next.

    A logger of ten rows a second may write whole seconds, and Excel writes whole minutes.
    """
    if record.time_s is None:
        return record
    time_s = record.time_s.copy()
    for _, rows in record.sequences():
        ticks, first, often = np.unique(time_s[rows], return_index=True, return_counts=True)
        shared = np.sum(often[often > 1]) > SHARED_MIN * len(rows)
        if len(ticks) < TICKS_MIN or not shared or (np.diff(time_s[rows]) < 0).any():
            continue
        usual, tick = float(np.median(often)), float(np.median(np.diff(ticks)))
        # What is early in a tick is not known to be; the first one may have been cut short.
        place = np.arange(len(rows)) - np.repeat(first, often)
        place[: often[0]] += max(0, int(usual) - int(often[0]))
        time_s[rows] += tick * np.minimum(place / np.maximum(usual, np.repeat(often, often)), 1.0)
    if (time_s == record.time_s).all():
        return record
    note = "most rows share their time with others; taken as even between one time and the next"
    return replace(record, time_s=time_s, notes=(*record.notes, note))


def _is_unordered(time_s: NDArray[np.float64]) -> bool:
    steps = np.diff(time_s)
    if len(steps) == 0 or not np.isfinite(steps).all():
        return False
    back = np.count_nonzero(steps < 0)
    twice = np.mean(np.diff(np.sort(time_s)) == 0)
    return bool(back > UNORDERED * len(steps) and back > 1 and twice <= TWICE_MAX)
