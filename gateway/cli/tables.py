"""Reads a file as a table: CSV of any delimiter, gzip, Parquet, recorded bursts."""

import csv
import gzip
import io
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gateway.cli.cells import MISSING, comma_number, is_date, number
from gateway.cli.waveforms import columns_of
from models.errors import RecordError
from models.paths import unreadable

NUMERIC_SHARE = 0.5
"""A column with more numbers than this is one of numbers, and other text in it is a mistake."""
BYTES_MAX = 4 << 30
SUFFIXES = (".csv", ".gz", ".parquet", ".txt", ".npz")
"""As such files are called; what they are is told by their content."""

_SEPARATOR = re.compile(r"^sep=(.)$", re.IGNORECASE)
"""The first line of a CSV that Excel wrote for itself."""

_GROUPED = re.compile(r"^[+-]?[1-9]\d{0,2}(,\d{3})+$")

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """A file as it is.

    Attributes:
        columns: Of text, or of numbers where the file says so.
        first_line: Of the file, that the first row stands on.
        stamps: Columns of numbers that the file says are times, in s since 1970.
        delimiter: Between its cells; "" for blanks, and where it is no text.
    """

    path: Path
    names: tuple[str, ...]
    columns: tuple[NDArray[np.object_] | Floats, ...]
    first_line: int
    stamps: frozenset[str] = frozenset()
    delimiter: str = ""

    def __len__(self) -> int:
        return len(self.columns[0]) if self.columns else 0


def table(path: Path) -> Table:
    """Read one file.

    Raises:
        RecordError: It is not there, empty, or no table.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise RecordError(f"{path}: {unreadable(path, error, *SUFFIXES)}") from error
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
    text = _text(data)
    lines = [line for line in text.splitlines() if line.strip()]
    if not lines:
        raise RecordError(f"{path}: must hold at least one row, was empty")
    if "\0" in text[:4096]:
        raise RecordError(f"{path}: must be CSV, gzip or Parquet, was binary")
    return _csv(path, lines)


def _text(data: bytes) -> str:
    if data[:2] in {b"\xff\xfe", b"\xfe\xff"}:
        return data.decode("utf-16", errors="replace")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def _csv(path: Path, lines: list[str]) -> Table:
    given = _SEPARATOR.match(lines[0])
    lines = lines[1:] if given else lines
    if not lines:
        raise RecordError(f"{path}: must hold at least one row, had none")
    first_line = 2 if given else 1
    delimiter = given[1] if given else _delimiter(lines[:50])
    rows = (
        list(csv.reader(lines, delimiter=delimiter))
        if delimiter
        else [line.split() for line in lines]
    )
    width = len(rows[0])
    has_header = _is_header(rows)
    for at, row in enumerate(rows, first_line):
        if len(row) != width:
            raise RecordError(
                f"{path}: row {at}: must have {width} columns as the first row, had {len(row)}"
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
    return Table(path, tuple(names), columns, first_line + has_header, delimiter=delimiter)


def _delimiter(sample: list[str]) -> str:
    """What cuts all lines into the same, largest number of cells; "" for blanks."""
    best, cells = "", 1
    for delimiter in ",;\t|":
        counts = {len(row) for row in csv.reader(sample, delimiter=delimiter)}
        if len(counts) == 1 and (count := counts.pop()) > cells:
            best, cells = delimiter, count
    # `1,5;2,5` is cut evenly by both; a comma between digits is then a decimal comma.
    if best == "," and len({line.count(";") for line in sample}) == 1 and sample[0].count(";"):
        best = ";"
    if best:
        return best
    # Uneven lines: by the first of them, so that the others can be refused by their number.
    first = max(",;\t|", key=sample[0].count)
    return first if first in sample[0] else ""


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
    return cell.lower() in MISSING or number(cell) is not None or is_date(cell)


def _parquet(path: Path, data: bytes) -> Table:
    try:
        from pyarrow import ArrowException, parquet
    except ImportError as error:
        raise RecordError(f"{path}: Parquet needs the train extra: forewarn[train]") from error
    try:
        held = parquet.read_table(io.BytesIO(data))
    except (ArrowException, OSError) as error:
        raise RecordError(f"{path}: cannot be read as Parquet: {error}") from error
    if not held.num_rows:
        raise RecordError(f"{path}: must hold at least one row, had none")
    columns: list[NDArray[np.object_] | Floats] = []
    stamps = set()
    for name, column in zip(held.column_names, held.columns, strict=True):
        kind = str(column.type)
        if kind.startswith(("timestamp", "date")):
            raw = column.to_numpy().astype("datetime64[ns]")
            columns.append(np.where(np.isnat(raw), np.nan, raw.astype("int64") / 1e9))
            stamps.add(name)
            continue
        try:
            columns.append(column.cast("float64").to_numpy())
        except ArrowException:
            texts = ["" if value is None else str(value) for value in column.to_pylist()]
            columns.append(np.array(texts, object))
    return Table(path, tuple(held.column_names), tuple(columns), 1, frozenset(stamps))


def share(column: NDArray[np.object_] | Floats) -> float:
    """Share of numbers among the cells that hold anything."""
    if column.dtype == np.float64:
        return 1.0
    some = column[:: max(1, len(column) // 2000)]
    filled = [cell for cell in some if cell.lower() not in MISSING]
    if not filled:
        return 1.0
    return sum(number(cell) is not None for cell in filled) / len(filled)


def numbers(held: Table, name: str) -> Floats:
    """A column as numbers.

    Raises:
        RecordError: The first cell that is none, by row and column.
    """
    column = held.columns[held.names.index(name)]
    if column.dtype == np.float64:
        return _finite(np.asarray(column, np.float64))
    try:
        return _finite(np.array([cell or "nan" for cell in column]).astype(np.float64))
    except ValueError:
        pass
    commas = [cell for cell in column if "," in cell]
    if held.delimiter == "," and commas and all(_GROUPED.match(cell) for cell in commas):
        whole, part = commas[0].replace(",", ""), commas[0].replace(",", ".", 1)
        raise RecordError(
            f"{held.path}: column {name}: {commas[0]} may be {whole} or {part}; write it so"
        )
    # Where commas are decimal, points are none.
    value_of = comma_number if commas else number
    out = np.full(len(column), np.nan)
    for row, cell in enumerate(column):
        if cell.lower() in MISSING:
            continue
        value = value_of(cell)
        if value is None:
            raise RecordError(
                f"{held.path}: row {row + held.first_line}, column {name}: must be a number, was "
                f"{cell[:40]!r}; correct it, or leave the column out with --ignore"
            )
        out[row] = value
    return _finite(out)


def _finite(values: Floats) -> Floats:
    """Infinite is no value, here as in a gateway."""
    return np.where(np.isfinite(values), values, np.nan)
