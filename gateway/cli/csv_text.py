"""Cuts the lines of a text file into names and cells, whatever stands above and between them."""

import csv
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from gateway.cli.cells import MISSING, NO_NUMBER, is_date, number
from models.errors import RecordError

LINES_ABOVE_MAX = 100
"""A logger's own lines above the table: its name, its serial number, settings."""
UNIT_LENGTH_MAX = 16

_SEPARATOR = re.compile(r"^sep=(.)$", re.IGNORECASE)
"""The first line of a CSV that Excel wrote for itself."""
_COMMENT = ("#", "%")


@dataclass(frozen=True, slots=True)
class Cut:
    """A text as a table.

    Attributes:
        names: Of the columns, with the unit in brackets where a second line tells it.
        rows: The cells below.
        first_line: Of the file's lines that hold anything, that the first row stands on.
        delimiter: "" for blanks.
    """

    names: tuple[str, ...]
    rows: list[list[str]]
    first_line: int
    delimiter: str


def cut(path: Path, lines: list[str]) -> Cut:
    """Find names and cells in a file's lines, of which none is blank.

    Raises:
        RecordError: No row, rows of different widths, a name that is there twice.
    """
    given = _SEPARATOR.match(lines[0])
    above = 1 if given else 0
    while above < len(lines) and lines[above].lstrip().startswith(_COMMENT):
        above += 1
    if above == len(lines):
        raise RecordError(f"{path}: must hold at least one row, had none")
    delimiter = given[1] if given else _delimiter(lines[above : above + LINES_ABOVE_MAX])
    above = _table_from(lines, above, delimiter)
    names = _commented_names(lines, above, delimiter)
    rows = _cells(lines[above:], delimiter)
    width = len(rows[0])
    for at, row in enumerate(rows, above + 1):
        if len(row) != width:
            raise RecordError(
                f"{path}: row {at}: must have {width} columns as the first row, had {len(row)}"
            )
    if not names and _is_header(rows):
        names = [cell.strip() for cell in rows[0]]
        rows, above = rows[1:], above + 1
        if _are_units(rows):
            units = ["" if u.strip().lower() in MISSING else u.strip(" []()") for u in rows[0]]
            names = [f"{n} [{u}]" if u else n for n, u in zip(names, units, strict=True)]
            rows, above = rows[1:], above + 1
    names = [name or f"c{i + 1}" for i, name in enumerate(names)] or [
        f"c{i + 1}" for i in range(width)
    ]
    if twice := sorted(name for name, count in Counter(names).items() if count > 1):
        raise RecordError(
            f"{path}: header: names must differ, {', '.join(twice)} is there twice; rename one"
        )
    if not rows:
        raise RecordError(f"{path}: must hold at least one row below its header, had none")
    return Cut(tuple(names), rows, above + 1, delimiter)


def _cells(lines: list[str], delimiter: str) -> list[list[str]]:
    if not delimiter:
        return [line.split() for line in lines]
    return list(csv.reader(lines, delimiter=delimiter))


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
    # Uneven lines: by what cuts most of them alike, so that others can be told by their number.
    often = {d: _usual_width(_cells(sample, d)) for d in ";\t|,"}
    best = max(often, key=lambda d: often[d][1] if often[d][0] > 1 else 0)
    if often[best][0] > 1 and often[best][1] * 2 > len(sample):
        return best
    first = max(",;\t|", key=sample[0].count)
    return first if first in sample[0] else ""


def _usual_width(rows: list[list[str]]) -> tuple[int, int]:
    """The usual number of cells, and how many rows have it."""
    return Counter(map(len, rows)).most_common(1)[0]


def _table_from(lines: list[str], start: int, delimiter: str) -> int:
    """The line of the header, where lines of other widths stand above it; else `start`."""
    rows = _cells(lines[start : start + LINES_ABOVE_MAX], delimiter)
    width, often = _usual_width(rows)
    if len(rows[0]) == width or width < 2 or often * 2 <= len(rows):
        return start
    at = next(i for i, row in enumerate(rows) if len(row) == width)
    # Only names may stand below such lines: a header that is too short must not get lost.
    return start + at if _is_header(rows[at:]) else start


def _commented_names(lines: list[str], above: int, delimiter: str) -> list[str]:
    """The names that stand in the comment right above numbers, as numpy writes them."""
    if not above or not lines[above - 1].lstrip().startswith(_COMMENT):
        return []
    rows = _cells([lines[above - 1].lstrip().lstrip("".join(_COMMENT)).strip()], delimiter)
    first = _cells([lines[above]], delimiter)[0]
    fits = len(rows[0]) == len(first) > 1 and all(map(_plain, first))
    return [cell.strip() for cell in rows[0]] if fits else []


def _is_header(rows: list[list[str]]) -> bool:
    """Whether the first row holds names: text where the rows below hold numbers or times."""
    first = [cell.strip() for cell in rows[0]]
    plain = [_plain(cell) for cell in first]
    if len(rows) == 1:
        return not any(plain)
    second = [_below(cell.strip()) for cell in rows[1]]
    if any(below and not here for here, below in zip(plain, second, strict=False)):
        return True
    return not any(plain) and len(set(first)) == len(first)


def _are_units(rows: list[list[str]]) -> bool:
    """Whether the first row below the names holds units: short words, or nothing, above numbers."""
    if len(rows) < 2:
        return False
    units, first = ([cell.strip() for cell in row] for row in rows[:2])
    there = [
        (u, _below(cell)) for u, cell in zip(units, first, strict=True) if u.lower() not in MISSING
    ]
    return bool(there) and all(
        below and not _below(unit) and len(unit) <= UNIT_LENGTH_MAX for unit, below in there
    )


def _below(cell: str) -> bool:
    return cell.lower() in NO_NUMBER or _plain(cell)


def _plain(cell: str) -> bool:
    return cell.lower() in MISSING or number(cell) is not None or is_date(cell)
