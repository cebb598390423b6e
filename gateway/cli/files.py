"""Reads files to train and score on as one record."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gateway.cli.arranged import machines, oldest_first, spread, widened
from gateway.cli.bursts import by_burst, recording_of
from gateway.cli.cells import unit_of
from gateway.cli.columns import Columns, by_number, coded, words_of
from gateway.cli.moments import time_of
from gateway.cli.signs import label_column, label_in, no_value_note, truth
from gateway.cli.tables import NUMERIC_SHARE, Floats, Table, numbers, share, table
from gateway.cli.times import find_time, joined
from models.errors import RecordError
from models.events import Log, Rows
from models.no_values import measured
from models.record import Record, join


def read(paths: Sequence[Path], columns: Columns) -> Record:
    """Read files as one record; each file (and each group in it) is a sequence of its own.

    Raises:
        RecordError: Names file, row, column, rule and value.
    """
    if not paths:
        raise RecordError("data: must name at least one file")
    tables = [widened(joined(table(path, columns.orders)), columns) for path in paths]
    columns = by_number(columns, tables[0])
    many = len(tables) > 1
    if columns.orders is not None and not tables[0].bursts:
        return join([_cut(each, columns, many=many) for each in tables])
    words = words_of(tables, columns)
    return join([_record(each, columns, words, many=many) for each in tables])


def settled(path: Path, columns: Columns) -> Columns:
    """With the length of the bursts that recordings are cut into, as the first file asks for.

    Raises:
        RecordError: As `read`.
    """
    if columns.orders is None or columns.orders.samples:
        return columns
    held = widened(joined(table(path, columns.orders)), columns)
    samples = held.bursts
    if not samples:
        record = _recording(held, by_number(columns, held), many=False)
        record, speed, _, rate_hz = recording_of(record, columns.orders)
        samples = columns.orders.samples_for(rate_hz, record.select([speed]).values)
    return replace(columns, orders=replace(columns.orders, samples=samples))


def _recording(held: Table, columns: Columns, *, many: bool) -> Record:
    """All columns of numbers, before they are cut."""
    raw = replace(columns, signals=(), also=(), derive=(), rows=None, few_words=False, words={})
    return _record(held, raw, {}, many=many)


def _cut(held: Table, columns: Columns, *, many: bool) -> Record:
    """One file of a recording, burst by burst."""
    assert columns.orders is not None
    if columns.events or columns.failures:
        option = columns.orders.option
        raise RecordError(f"{held.path}: --events, --failures: do not go with {option}")
    try:
        record = by_burst(_recording(held, columns, many=many), columns.orders)
    except RecordError as error:
        raise RecordError(f"{held.path}: {error}") from error
    for formula in columns.derive:
        needs = formula.needs(record.names)
        parts = {want: record.values[:, record.names.index(n)] for want, n in needs.items()}
        made = formula.compute(parts, len(record))
        record = replace(
            record,
            values=np.column_stack([record.values, made]),
            names=(*record.names, formula.name),
            units=(*record.units, unit_of(formula.name)),
        )
    if columns.signals:
        record = _with_also(record, columns.also)
        named = [*columns.signals, *(f.name for f in columns.derive), *columns.also]
        record = record.select(named)
    return record if columns.rows is None else record.rows(slice(*columns.rows))


def _record(
    held: Table, columns: Columns, words: dict[str, tuple[str, ...]], *, many: bool
) -> Record:
    _check_named(held, columns)
    time = columns.time or find_time(held, columns)
    time_s, texts, note = time_of(held, time, columns.day_first)
    notes = [*held.notes, note]
    machine = columns.group or machines(held, columns, time, time_s)
    if machine != columns.group:
        notes.append(f"{machine}: tells apart rows of one time, so taken for --group")
    taken = {time, machine, *columns.label_columns, *columns.ignore}
    names = [s for s in columns.signals if s not in _made(columns)] or [
        name
        for name, column in zip(held.names, held.columns, strict=True)
        if name not in taken and (share(column) > NUMERIC_SHARE or name in words)
    ]
    names += [name for name in columns.also if _counts(held, name) and name not in {*taken, *names}]
    read, no_value = _read(held, names, words)
    notes += (no_value_note(name, none) for name, none in no_value.items())
    labels = {name: truth(held, name) for name in columns.labels}
    wordy = [name for name in held.names if name not in taken and name not in read]
    if wordy and not columns.signals:
        notes.append(f"left out, text: {', '.join(wordy)}; --signals takes one as a category")
    if not columns.signals and not columns.few_words:
        found, told = _unnamed_labels(read, wanted=not columns.labels)
        names = [name for name in names if name not in told]
        notes += told.values()
        labels |= found
    values = [read[name] for name in names]
    units = [unit_of(name) for name in names]
    for formula in columns.derive:
        needs = formula.needs(held.names)
        parts = {want: measured(numbers(held, column))[0] for want, column in needs.items()}
        values.append(formula.compute(parts, len(held)))
        names.append(formula.name)
        units.append(unit_of(formula.name))
    if not names:
        raise RecordError(f"{held.path}: no column of numbers; there are {', '.join(held.names)}")
    stem = held.path.name if many or machine is None else ""
    groups, group = groups_of(held, machine, stem)
    record = Record(
        values=np.column_stack(values),
        names=tuple(names),
        units=tuple(units),
        time_s=time_s,
        group=group,
        groups=groups,
        labels=labels,
        categories={name: words[name] for name in names if name in words},
        time_text=texts,
        notes=tuple(dict.fromkeys(each for each in notes if each)),
        no_value=no_value,
    )
    record = _with_also(record, columns.also)
    if columns.events or columns.failures:
        record = _with_events(record, held, columns)
    if columns.rows is not None:
        record = _some_rows(record, held, columns.rows)
    return oldest_first(spread(record))


def _counts(held: Table, name: str) -> bool:
    """Whether there is such a column, of numbers."""
    return name in held.names and share(held.columns[held.names.index(name)]) > NUMERIC_SHARE


def _with_also(record: Record, also: Sequence[str]) -> Record:
    """The record with these columns too, missing where it has none of the name."""
    lacks = tuple(name for name in also if name not in record.names)
    if not lacks:
        return record
    return replace(
        record,
        values=np.column_stack([record.values, np.full((len(record), len(lacks)), np.nan)]),
        names=(*record.names, *lacks),
        units=(*record.units, *map(unit_of, lacks)),
    )


def _check_named(held: Table, columns: Columns) -> None:
    """Every column that an option names is there."""
    named = {
        "--time": (columns.time,) if columns.time else (),
        "--group": (columns.group,) if columns.group else (),
        "--label": tuple(label_column(held.names, label) for label in columns.labels),
        columns.wanted_by: tuple(s for s in columns.signals if s not in _made(columns)),
    }
    for option, wanted in named.items():
        missing = [name for name in wanted if name not in held.names]
        if missing:
            raise RecordError(
                f"{held.path}: {option}: no column {', '.join(missing)}; there are "
                f"{', '.join(held.names)}"
            )


def _read(
    held: Table, names: Sequence[str], words: dict[str, tuple[str, ...]]
) -> tuple[dict[str, Floats], dict[str, tuple[float, ...]]]:
    """The columns as numbers, and of each that has such, the numbers that mean "no value"."""
    read: dict[str, Floats] = {}
    no_value: dict[str, tuple[float, ...]] = {}
    for name in names:
        if name in words:
            read[name] = coded(held, name, words[name])
            continue
        read[name], none = measured(numbers(held, name))
        if none:
            no_value[name] = none
    return read, no_value


def _some_rows(record: Record, held: Table, rows: tuple[int | None, int | None]) -> Record:
    some = record.rows(slice(*rows))
    if not len(some):
        start, end = rows
        raise RecordError(
            f"{held.path}: --rows {start or 0}:{'' if end is None else end} leaves none of its "
            f"{len(held)} rows"
        )
    return some


def _unnamed_labels(
    read: dict[str, Floats], *, wanted: bool
) -> tuple[dict[str, Floats], dict[str, str]]:
    """Columns that are labels by their name and values: those to go by, and what to say of each."""
    kinds = {name: kind for name, values in read.items() if (kind := label_in(name, values))}
    if len(kinds) == len(read):
        return {}, {}
    found = {name: read[name] for name, kind in kinds.items() if wanted and kind == "healthy"}
    told = {}
    for name in kinds:
        if name in found:
            rows = np.count_nonzero(read[name] > 0)
            told[name] = f"{name}: taken for --label by its name, so its {rows} rows are left out"
        else:
            told[name] = f"{name}: left out, a label by its name; if it is measured, say --signals"
    return found, told


def _made(columns: Columns) -> set[str]:
    """Signals that are no columns of the files."""
    names = {formula.name for formula in columns.derive}
    return names.union(*(each.names for each in columns.events))


def _with_events(record: Record, held: Table, columns: Columns) -> Record:
    """The record with the signals and labels of the tables beside its file."""
    time_s = record.time_s
    if time_s is None:
        if columns.failures or any(isinstance(each, Log) for each in columns.events):
            raise RecordError(
                f"{held.path}: events need a time column; name it with --time (there are "
                f"{', '.join(held.names)})"
            )
        time_s = np.full(len(held), np.nan)
    machines, machine = groups_of(held, columns.group, "")
    rows = Rows(time_s, machine, machines)
    names = [name for each in columns.events for name in each.names]
    if twice := sorted(set(names) & set(record.names)):
        raise RecordError(
            f"{held.path}: --events: {', '.join(twice)} is a column of the file as well; leave it "
            "out with --ignore"
        )
    return replace(
        record,
        values=np.hstack([record.values, *(each.signals(rows) for each in columns.events)]),
        names=(*record.names, *names),
        units=(*record.units, *(unit for each in columns.events for unit in each.units)),
        labels=record.labels | (columns.failures.labels(rows) if columns.failures else {}),
        categories=record.categories
        | {name: words for each in columns.events for name, words in each.categories.items()},
    )


def groups_of(
    held: Table, name: str | None, stem: str
) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """The sequences in the order of their first row, and the one of each row."""
    if name is None:
        return (stem,), np.zeros(len(held), np.int64)
    column = held.columns[held.names.index(name)]
    texts = [f"{cell:g}" if isinstance(cell, float) else str(cell) for cell in column]
    order = dict.fromkeys(texts)
    at = {text: index for index, text in enumerate(order)}
    groups = tuple(f"{stem}/{text}" if stem else text for text in order)
    return groups, np.array([at[text] for text in texts], np.int64)
