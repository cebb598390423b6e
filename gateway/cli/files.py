"""Reads tables to train and score on: CSV of any delimiter, gzip, Parquet, recorded bursts."""

import csv
import gzip
import io
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gateway.cli.waveforms import columns_of
from models.errors import RecordError
from models.events import Facts, Failures, Log, Rows
from models.formula import Formula
from models.record import Record, join

MISSING = frozenset({"", "nan", "na", "n/a", "null", "none", "-", "?", "#n/a"})
TIME_NAMES = frozenset({"time", "timestamp", "datetime", "date", "date_time", "ts", "zeit"})
NUMERIC_SHARE = 0.5
"""A column with more numbers than this is one of numbers, and other text in it is a mistake."""
FEW_WORDS = 12
WORD_ROWS_MIN = 20
"""A text column is taken by itself if it has at most so many words, each in so many rows."""
BYTES_MAX = 4 << 30

_UNIT = re.compile(r"[\[(]\s*([^\])]*?)\s*[\])]\s*$")
_COMMA_NUMBER = re.compile(r"^[+-]?\d+(,\d+)?([eE][+-]?\d+)?$")
_ZONE = re.compile(r"\d([Zz]|[+-]\d\d:?(\d\d)?)$")
_EPOCHS = ((1e17, 1e9), (1e14, 1e6), (1e11, 1e3))

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Columns:
    """What each column of the files is for.

    Attributes:
        time: The time column; None to find it.
        signals: The columns to use; empty for every numeric one not named elsewhere.
        ignore: Columns to leave alone.
        labels: Label columns.
        group: Column that tells independent sequences apart.
        rows: First row and end (not included) of each file's rows to use; None for all.
        derive: Further signals, computed from columns.
        words: Column -> its words, for categories whose numbers are already fixed by a model.
        few_words: Without `signals`: text columns of a few words that come again are used as well.
        events: Tables beside the files, whose signals join those of the files.
        failures: Makes the labels, in place of columns.
    """

    time: str | None = None
    signals: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    group: str | None = None
    rows: tuple[int | None, int | None] | None = None
    derive: tuple[Formula, ...] = ()
    words: dict[str, tuple[str, ...]] = field(default_factory=dict)
    few_words: bool = False
    events: tuple[Log | Facts, ...] = ()
    failures: Failures | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """A file as it is: columns of text, or of numbers where the file says so."""

    path: Path
    names: tuple[str, ...]
    columns: tuple[NDArray[np.object_] | Floats, ...]
    first_line: int

    def __len__(self) -> int:
        return len(self.columns[0]) if self.columns else 0


def read(paths: Sequence[Path], columns: Columns) -> Record:
    """Read files as one record; each file (and each group in it) is a sequence of its own.

    Raises:
        RecordError: Names file, row, column, rule and value.
    """
    if not paths:
        raise RecordError("data: must name at least one file")
    tables = [table(path) for path in paths]
    columns = by_number(columns, tables[0])
    words = words_of(tables, columns)
    records = [_record(each, columns, words, many=len(tables) > 1) for each in tables]
    return join(records)


def by_number(columns: Columns, first: Table) -> Columns:
    """Names such as `2` taken for `c2`, the second column of a file without a header."""

    def name(given: str) -> str:
        other = f"c{given}"
        return other if given not in first.names and other in first.names else given

    def names(given: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(map(name, given))

    return replace(
        columns,
        time=name(columns.time) if columns.time else columns.time,
        group=name(columns.group) if columns.group else columns.group,
        signals=names(columns.signals),
        ignore=names(columns.ignore),
        labels=names(columns.labels),
    )


def table(path: Path) -> Table:
    """Read one file.

    Raises:
        RecordError: It is not there, empty, or no table.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise RecordError(f"{path}: cannot be read: {error.strerror}") from error
    if data[:4] == b"PAR1":
        return _parquet(path, data)
    if data[:4] == b"PK\x03\x04":
        made = columns_of(path, data)
        return Table(path, tuple(made), tuple(made.values()), 1)
    if data[:2] == b"\x1f\x8b":
        try:
            with gzip.open(io.BytesIO(data)) as packed:
                data = packed.read(BYTES_MAX)
        except (OSError, EOFError) as error:
            raise RecordError(f"{path}: gzip is damaged ({error}); copy it again") from error
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = data.decode("latin-1")
    lines = [line for line in text.splitlines() if line.strip()]
    if not lines:
        raise RecordError(f"{path}: must hold at least one row, was empty")
    if "\0" in text[:4096]:
        raise RecordError(f"{path}: must be CSV, gzip or Parquet, was binary")
    return _csv(path, lines)


def _csv(path: Path, lines: list[str]) -> Table:
    split = _splitter(lines[:50])
    rows = split(lines)
    width = len(rows[0])
    has_header = _is_header(rows)
    for number, row in enumerate(rows, 1):
        if len(row) != width:
            raise RecordError(
                f"{path}: row {number}: must have {width} columns as the first row, had {len(row)}"
            )
    names = [cell.strip() for cell in rows[0]] if has_header else []
    names = [name or f"c{i + 1}" for i, name in enumerate(names)] or [
        f"c{i + 1}" for i in range(width)
    ]
    if len(set(names)) != len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise RecordError(f"{path}: header: names must differ, {', '.join(twice)} is there twice")
    body = rows[1:] if has_header else rows
    if not body:
        raise RecordError(f"{path}: must hold at least one row below its header, had none")
    columns = tuple(
        np.array([cell.strip() for cell in column], object) for column in zip(*body, strict=True)
    )
    return Table(path, tuple(names), columns, 2 if has_header else 1)


def _splitter(sample: list[str]) -> Callable[[list[str]], list[list[str]]]:
    """How to cut lines: the delimiter that cuts them all into the same, largest number of cells."""
    best, cells = "", 1
    for delimiter in ",;\t|":
        counts = {len(row) for row in csv.reader(sample, delimiter=delimiter)}
        if len(counts) == 1 and (count := counts.pop()) > cells:
            best, cells = delimiter, count
    # `1,5;2,5` is cut evenly by both; a comma between digits is then a decimal comma.
    if best == "," and len({line.count(";") for line in sample}) == 1 and sample[0].count(";"):
        best = ";"
    if best:
        return lambda lines: list(csv.reader(lines, delimiter=best))
    # Uneven lines: by the first of them, so that the others can be refused by their number.
    first = max(",;\t|", key=sample[0].count)
    if first in sample[0]:
        return lambda lines: list(csv.reader(lines, delimiter=first))
    return lambda lines: [line.split() for line in lines]


def _is_header(rows: list[list[str]]) -> bool:
    """Whether the first row holds names: text where the rows below hold numbers or times."""
    first = [cell.strip() for cell in rows[0]]
    plain = [_plain(cell) for cell in first]
    if len(rows) == 1:
        return not any(plain)
    second = [_plain(cell.strip()) for cell in rows[1]]
    if any(below and not here for here, below in zip(plain, second, strict=False)):
        return True
    return not any(plain) and len(set(first)) == len(first)


def _plain(cell: str) -> bool:
    return cell.lower() in MISSING or _number(cell) is not None or _moment(cell) is not None


def _number(cell: str) -> float | None:
    try:
        return float(cell)
    except ValueError:
        return float(cell.replace(",", ".")) if _COMMA_NUMBER.match(cell) else None


def _moment(cell: str) -> float | None:
    """Seconds since 1970 of an ISO 8601 text; without a zone it is read as UTC."""
    try:
        moment = datetime.fromisoformat(cell)
    except ValueError:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _parquet(path: Path, data: bytes) -> Table:
    try:
        from pyarrow import ArrowException, parquet
    except ImportError as error:
        raise RecordError(f"{path}: Parquet needs the train extra: forewarn[train]") from error
    try:
        held = parquet.read_table(io.BytesIO(data))
    except (ArrowException, OSError) as error:
        raise RecordError(f"{path}: cannot be read as Parquet: {error}") from error
    columns: list[NDArray[np.object_] | Floats] = []
    for column in held.columns:
        kind = str(column.type)
        if kind.startswith("timestamp"):
            raw = column.to_numpy().astype("datetime64[ns]")
            seconds = raw.astype("int64") / 1e9
            columns.append(np.where(np.isnat(raw), np.nan, seconds))
        elif kind in {"string", "large_string"} or kind.startswith("dictionary"):
            texts = ["" if value is None else str(value) for value in column.to_pylist()]
            columns.append(np.array(texts, object))
        else:
            values = column.to_pylist()
            columns.append(np.array([np.nan if v is None else float(v) for v in values]))
    if not held.num_rows:
        raise RecordError(f"{path}: must hold at least one row, had none")
    return Table(path, tuple(held.column_names), tuple(columns), 1)


def _share(column: NDArray[np.object_] | Floats) -> float:
    """Share of numbers among the cells that hold anything."""
    if column.dtype == np.float64:
        return 1.0
    some = column[:: max(1, len(column) // 2000)]
    filled = [cell for cell in some if cell.lower() not in MISSING]
    if not filled:
        return 1.0
    return sum(_number(cell) is not None for cell in filled) / len(filled)


def numbers(held: Table, name: str) -> Floats:
    """A column as numbers.

    Raises:
        RecordError: The first cell that is none, by row and column.
    """
    column = held.columns[held.names.index(name)]
    if column.dtype == np.float64:
        return np.asarray(column, np.float64)
    try:
        return np.array([cell or "nan" for cell in column]).astype(np.float64)
    except ValueError:
        pass
    out = np.full(len(column), np.nan)
    for row, cell in enumerate(column):
        value = None if cell.lower() in MISSING else _number(cell)
        if value is not None:
            out[row] = value
        elif cell.lower() not in MISSING:
            raise RecordError(
                f"{held.path}: row {row + held.first_line}, column {name}: must be a number, was "
                f"{cell[:40]!r}; correct it, or leave the column out with --ignore"
            )
    return out


def _record(
    held: Table, columns: Columns, words: dict[str, tuple[str, ...]], *, many: bool
) -> Record:
    time = columns.time or find_time(held, columns)
    named = {
        "--time": (columns.time,) if columns.time else (),
        "--group": (columns.group,) if columns.group else (),
        "--label": columns.labels,
        "--signals": tuple(s for s in columns.signals if s not in _made(columns)),
    }
    for option, wanted in named.items():
        missing = [name for name in wanted if name not in held.names]
        if missing:
            raise RecordError(
                f"{held.path}: {option}: no column {', '.join(missing)}; there are "
                f"{', '.join(held.names)}"
            )
    taken = {time, columns.group, *columns.labels, *columns.ignore}
    names = [s for s in columns.signals if s not in _made(columns)] or [
        name
        for name, column in zip(held.names, held.columns, strict=True)
        if name not in taken and (_share(column) > NUMERIC_SHARE or name in words)
    ]
    values = [
        coded(held, name, words[name]) if name in words else numbers(held, name) for name in names
    ]
    units = [unit_of(name) for name in names]
    for formula in columns.derive:
        parts = {want: numbers(held, column) for want, column in formula.needs(held.names).items()}
        values.append(formula.compute(parts, len(held)))
        names.append(formula.name)
        units.append(unit_of(formula.name))
    if not names:
        raise RecordError(f"{held.path}: no column of numbers; there are {', '.join(held.names)}")
    time_s, texts = time_of(held, time)
    stem = held.path.name if many or columns.group is None else ""
    groups, group = groups_of(held, columns.group, stem)
    record = Record(
        values=np.column_stack(values),
        names=tuple(names),
        units=tuple(units),
        time_s=time_s,
        group=group,
        groups=groups,
        labels={name: numbers(held, name) for name in columns.labels},
        categories={name: words[name] for name in names if name in words},
        time_text=texts,
    )
    if columns.events or columns.failures:
        record = _with_events(record, held, columns)
    if columns.rows is not None:
        record = record.rows(slice(*columns.rows))
        if not len(record):
            start, end = columns.rows
            raise RecordError(
                f"{held.path}: --rows {start or 0}:{'' if end is None else end} leaves none of its "
                f"{len(held)} rows"
            )
    return record


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


def find_time(held: Table, columns: Columns) -> str | None:
    """The column that is a time by its name or, if it is the first, by what is in it."""
    taken = {columns.group, *columns.labels, *columns.ignore, *columns.signals}
    for index, (name, column) in enumerate(zip(held.names, held.columns, strict=True)):
        if name in taken:
            continue
        known = name.strip().lower() in TIME_NAMES
        dated = column.dtype != np.float64 and _moment(str(column[0])) is not None
        if (known or index == 0) and (dated and _number(str(column[0])) is None):
            return name
        if known and _share(column) == 1.0:
            return name
    return None


def time_of(held: Table, name: str | None) -> tuple[Floats | None, tuple[str, ...]]:
    """Seconds of each row, and its time as the file has it."""
    if name is None:
        return None, ()
    column = held.columns[held.names.index(name)]
    texts = tuple(str(cell) for cell in column)
    if _share(column) > NUMERIC_SHARE:
        seconds = numbers(held, name)
        largest = float(np.nanmax(np.abs(seconds), initial=0.0))
        for above, per_second in _EPOCHS:
            if largest > above:
                return seconds / per_second, texts
        return seconds, texts
    if not any(_ZONE.search(text) for text in texts):
        try:
            return np.array(texts, "datetime64[us]").astype(np.int64) / 1e6, texts
        except ValueError:
            pass
    out = np.full(len(texts), np.nan)
    for row, text in enumerate(texts):
        moment = _moment(text)
        if moment is None and text.lower() not in MISSING:
            raise RecordError(
                f"{held.path}: row {row + held.first_line}, column {name}: must be a time (ISO "
                f"8601, or a number), was {text[:40]!r}"
            )
        out[row] = np.nan if moment is None else moment
    return out, texts


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


def words_of(tables: Sequence[Table], columns: Columns) -> dict[str, tuple[str, ...]]:
    """The words of each text column that is asked for as a signal, the same for all files."""
    out = dict(columns.words)
    taken = {columns.time, columns.group, *columns.labels, *columns.ignore}
    asked = columns.signals
    if columns.few_words and not asked:
        asked = tuple(n for n in tables[0].names if n not in taken and _has_few_words(tables, n))
    for name in asked:
        if name in out:
            continue
        here = [t.columns[t.names.index(name)] for t in tables if name in t.names]
        texts = [column for column in here if column.dtype != np.float64]
        if texts and any(_share(column) <= NUMERIC_SHARE for column in texts):
            seen = {str(cell) for column in texts for cell in column}
            out[name] = tuple(sorted(word for word in seen if word.lower() not in MISSING))
    return out


def _has_few_words(tables: Sequence[Table], name: str) -> bool:
    """Whether a text column, in every file, says a few words over and over: a type, a product."""
    here = [t.columns[t.names.index(name)] for t in tables if name in t.names]
    if len(here) < len(tables) or any(column.dtype == np.float64 for column in here):
        return False
    seen = Counter(str(cell) for column in here for cell in column)
    known = {word: count for word, count in seen.items() if word.lower() not in MISSING}
    if not 2 <= len(known) <= FEW_WORDS or min(known.values()) < WORD_ROWS_MIN:
        return False
    return all(_number(word) is None and _moment(word) is None for word in known)


def coded(held: Table, name: str, words: tuple[str, ...]) -> Floats:
    """A text column as the index of each word; a word that is not known is missing."""
    at = {word: float(index) for index, word in enumerate(words)}
    column = held.columns[held.names.index(name)]
    return np.array([at.get(str(cell), np.nan) for cell in column])


def unit_of(name: str) -> str:
    """The unit that stands in brackets at the end of a column's name."""
    found = _UNIT.search(name)
    return found[1] if found else ""
