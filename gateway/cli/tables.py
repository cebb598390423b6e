"""Reads a file as a table: CSV of any delimiter, gzip, zip, Parquet, recorded bursts."""

import gzip
import io
import zipfile
import zlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gateway.cli.cells import (
    COMMA_GROUPED,
    NO_NUMBER,
    POINT_GROUPED,
    comma_number,
    decimal_mark,
    number,
)
from gateway.cli.csv_text import cut
from gateway.cli.shaft import Orders
from gateway.cli.waveforms import columns_of
from models.errors import RecordError
from models.paths import unreadable

NUMERIC_SHARE = 0.5
"""A column with more numbers than this is one of numbers, and other text in it is a mistake."""
BYTES_MAX = 4 << 30
SUFFIXES = (".csv", ".gz", ".parquet", ".txt", ".dat", ".tsv", ".zip", ".npz")
"""As such files are called; what they are is told by their content."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Table:
    """A file as it is.

    Attributes:
        columns: Of text, or of numbers where the file says so.
        first_line: Of the file, that the first row stands on.
        stamps: Columns of numbers that the file says are times, in s since 1970.
        delimiter: Between its cells; "" for blanks, and where it is no text.
        notes: What was done to it that its owner should know.
        bursts: Samples of each recorded burst, where a row is one.
    """

    path: Path
    names: tuple[str, ...]
    columns: tuple[NDArray[np.object_] | Floats, ...]
    first_line: int
    stamps: frozenset[str] = frozenset()
    delimiter: str = ""
    notes: tuple[str, ...] = ()
    bursts: int = 0

    def __len__(self) -> int:
        return len(self.columns[0]) if self.columns else 0

    @cached_property
    def decimal(self) -> str:
        """The one decimal mark that its cells have for sure; "" where none or both are there."""
        texts = [some(column) for column in self.columns if column.dtype != np.float64]
        marks = {decimal_mark(cell) for cells in texts for cell in cells} - {""}
        return marks.pop() if len(marks) == 1 else ""


def table(path: Path, orders: Orders | None = None) -> Table:
    """Read one file; of recorded bursts, with the orders of a bearing.

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
        packed = _zipped(path, data)
        if packed is None:
            made, samples, notes = columns_of(path, data, orders)
            columns = tuple(made.values())
            return Table(path, tuple(made), columns, 1, notes=notes, bursts=samples)
        data = packed
    if data[:2] == b"\x1f\x8b":
        try:
            with gzip.open(io.BytesIO(data)) as inner:
                data = inner.read(BYTES_MAX)
        except (OSError, EOFError) as error:
            raise RecordError(f"{path}: gzip is damaged ({error}); copy it again") from error
    text = _text(data)
    lines = [line for line in text.splitlines() if line.strip()]
    if not lines:
        raise RecordError(f"{path}: must hold at least one row, was empty")
    if "\0" in text[:4096]:
        raise RecordError(f"{path}: must be CSV, gzip, zip, Parquet or npz, was binary")
    return _csv(path, lines)


def _zipped(path: Path, data: bytes) -> bytes | None:
    """The one file in a zip; None where it holds arrays, or is a workbook.

    Raises:
        RecordError: Several files, none, too large or damaged.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as held:
            inside = [each for each in held.infolist() if not each.is_dir()]
            if any(each.filename.endswith((".npy", "xl/workbook.xml")) for each in inside):
                return None
            if len(inside) != 1:
                names = ", ".join(each.filename for each in inside[:5]) or "none"
                raise RecordError(f"{path}: must hold one file, holds {names}; unpack it")
            if inside[0].file_size > BYTES_MAX:
                raise RecordError(f"{path}: must unpack to at most {BYTES_MAX} bytes")
            return held.read(inside[0])
    except (OSError, zipfile.BadZipFile, EOFError, RuntimeError, NotImplementedError, zlib.error):
        return None


def _text(data: bytes) -> str:
    if data[:2] in {b"\xff\xfe", b"\xfe\xff"}:
        return data.decode("utf-16", errors="replace")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def _csv(path: Path, lines: list[str]) -> Table:
    if lines[0].lstrip().startswith(("{", "[")):
        raise RecordError(
            f"{path}: must be CSV, gzip, zip, Parquet or npz, was JSON; save it as CSV"
        )
    found = cut(path, lines)
    columns = tuple(
        np.array([cell.strip() for cell in column], object)
        for column in zip(*found.rows, strict=True)
    )
    return Table(path, found.names, columns, found.first_line, delimiter=found.delimiter)


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


def some(column: NDArray[Any]) -> NDArray[Any]:
    """At most some 2,000 cells of a column, evenly."""
    return column[:: max(1, len(column) // 2000)]


def share(column: NDArray[np.object_] | Floats) -> float:
    """Share of numbers among the cells that hold anything."""
    if column.dtype == np.float64:
        return 1.0
    filled = [cell for cell in some(column) if cell.lower() not in NO_NUMBER]
    if not filled:
        return 1.0
    return sum(number(cell) is not None for cell in filled) / len(filled)


def numbers(held: Table, name: str) -> Floats:
    """A column as numbers.

    Raises:
        RecordError: The first cell that is none, by row and column.
    """
    given = held.columns[held.names.index(name)]
    if given.dtype == np.float64:
        return _finite(np.asarray(given, np.float64))
    column = _ungrouped(held, name, given)
    try:
        return _finite(np.array([cell or "nan" for cell in column]).astype(np.float64))
    except ValueError:
        pass
    # Where commas are decimal, points are none.
    value_of = comma_number if any(decimal_mark(cell) == "," for cell in column) else number
    out = np.full(len(column), np.nan)
    for row, cell in enumerate(column):
        if cell.lower() in NO_NUMBER:
            continue
        value = value_of(cell)
        if value is None:
            raise RecordError(
                f"{held.path}: row {row + held.first_line}, column {name}: must be a number, was "
                f"{cell[:40]!r}; correct it, or leave the column out with --ignore"
            )
        out[row] = value
    return _finite(out)


def _ungrouped(held: Table, name: str, column: NDArray[Any]) -> NDArray[Any]:
    """The column without marks that part thousands, where its file tells which mark does.

    Raises:
        RecordError: Commas may be either, and nothing in the file tells.
    """
    part, grouped = (".", POINT_GROUPED) if held.decimal == "," else (",", COMMA_GROUPED)
    parted = [cell for cell in column if part in cell]
    if not parted or not all(grouped.match(cell) for cell in parted):
        return column
    if held.decimal:
        return np.array([cell.replace(part, "") for cell in column], object)
    if held.delimiter != ",":
        return column
    whole, point = parted[0].replace(",", ""), parted[0].replace(",", ".", 1)
    raise RecordError(
        f"{held.path}: column {name}: {parted[0]} may be {whole} or {point}; write it so"
    )


def _finite(values: Floats) -> Floats:
    """Infinite is no value, here as in a gateway."""
    return np.where(np.isfinite(values), values, np.nan)
