"""Reads recordings block by block: CSV (delimiter found, gzip) and Parquet. Bounded memory."""

import csv
import gzip
import io
import zlib
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from gateway.core.errors import DataError

ROWS_PER_BLOCK = 1000
CELL_CHARACTERS_MAX = 131_072
DELIMITERS = ",;\t|"
SNIFF_LINES = 20
GZIP_MAGIC = b"\x1f\x8b"
PARQUET_MAGIC = b"PAR1"


@dataclass(frozen=True, slots=True)
class Block:
    """Some rows of a recording, column by column.

    Attributes:
        first_row: Number of the first row within its file, from 0.
        columns: Name -> its cells: text, numbers, dates, or None; all of one length.
        rows: That length.
        ragged: Rows of the wrong number of cells, which were left out.
    """

    first_row: int
    columns: Mapping[str, list[Any]]
    rows: int
    ragged: int = 0


def read_blocks(path: Path, *, delimiter: str = "") -> Iterator[Block]:
    """The recording at `path`, a block at a time.

    Raises:
        DataError: It is no table.
        OSError: It cannot be read.
    """
    with path.open("rb") as file:
        magic = file.read(4)
    if magic == PARQUET_MAGIC:
        yield from _read_parquet(path)
    else:
        yield from _read_csv(path, delimiter, packed=magic[:2] == GZIP_MAGIC)


def find_delimiter(lines: list[str]) -> str:
    """The character that cuts the most lines into as many cells as the first, at least two.

    A comma where nothing cuts: a table of one column.
    """
    best, best_score = ",", (0, 0)
    for delimiter in DELIMITERS:
        counts = [len(row) for row in csv.reader(lines, delimiter=delimiter)]
        if counts and counts[0] > 1:
            score = (sum(count == counts[0] for count in counts), counts[0])
            if score > best_score:
                best, best_score = delimiter, score
    return best


def _read_csv(path: Path, delimiter: str, *, packed: bool) -> Iterator[Block]:
    with _open_text(path, packed=packed) as file:
        try:
            yield from _csv_blocks(file, delimiter)
        except (csv.Error, EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise DataError(f"{path.name}: not a table: {error}") from error


def _open_text(path: Path, *, packed: bool) -> TextIO:
    raw = gzip.open(path, "rb") if packed else path.open("rb")  # noqa: SIM115 (the caller closes it)
    return io.TextIOWrapper(raw, encoding="utf-8-sig", errors="replace", newline="")


def _csv_blocks(file: TextIO, delimiter: str) -> Iterator[Block]:
    # A line is read no further than a cell may be long, so a file without lines stays bounded.
    head = [line for _ in range(SNIFF_LINES) if (line := file.readline(CELL_CHARACTERS_MAX))]
    if not head:
        raise csv.Error("it is empty")
    rows = csv.reader(
        _chained(head, file), delimiter=delimiter or find_delimiter(head), strict=False
    )
    names = [name.strip() for name in next(rows)]
    first_row, block, ragged = 0, [], 0
    for row in rows:
        if len(row) != len(names):
            ragged += bool(row)
            continue
        block.append(row)
        if len(block) == ROWS_PER_BLOCK:
            yield _block(first_row, names, block, ragged)
            first_row, block, ragged = first_row + len(block), [], 0
    if block or ragged:
        yield _block(first_row, names, block, ragged)


def _chained(head: list[str], file: TextIO) -> Iterator[str]:
    yield from head
    while line := file.readline(CELL_CHARACTERS_MAX):
        yield line


def _block(first_row: int, names: list[str], rows: list[list[str]], ragged: int) -> Block:
    columns: dict[str, list[Any]] = (
        {name: list(cells) for name, cells in zip(names, zip(*rows, strict=True), strict=True)}
        if rows
        else {name: [] for name in names}
    )
    return Block(first_row, columns, len(rows), ragged)


def _read_parquet(path: Path) -> Iterator[Block]:
    try:
        from pyarrow import ArrowException, parquet  # noqa: PLC0415
    except ImportError as error:
        raise DataError(
            f'{path.name}: Parquet needs pyarrow; install it by pip install "forewarn[train]"'
        ) from error
    try:
        with closing(parquet.ParquetFile(path)) as file:
            first_row = 0
            for batch in file.iter_batches(batch_size=ROWS_PER_BLOCK):
                yield Block(first_row, batch.to_pydict(), batch.num_rows)
                first_row += batch.num_rows
    except ArrowException as error:
        raise DataError(f"{path.name}: not a Parquet file: {error}") from error
