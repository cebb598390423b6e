"""Reads one cell of a table: a number, a date with its time of day, or nothing."""

import re
from datetime import UTC, datetime

MISSING = frozenset({"", "nan", "na", "n/a", "null", "none", "-", "?", "#n/a"})

_COMMA_NUMBER = re.compile(r"^[+-]?(\d+|\d{1,3}(\.\d{3})+)(,\d+)?([eE][+-]?\d+)?$")
_CLOCK = r"(\d{1,2}):(\d{2})(?::(\d{2})(?:[.,](\d{1,9}))?)?(?:\s*([AaPp])\.?[Mm]\.?)?"
CLOCK = re.compile(f"^{_CLOCK}$")
DATED = re.compile(
    rf"^(\d{{1,4}})([./-])(\d{{1,2}})\2(\d{{1,4}})(?:(?:,?\s+|T){_CLOCK}\s*(Z|[+-]\d\d:?\d\d)?)?$"
)
"""Day, month and year as figures, in any order that ends or begins with the year."""


def number(cell: str) -> float | None:
    """What `1.5`, `1,5` or `-3e2` says; None of what is no number."""
    try:
        return float(cell)
    except ValueError:
        return comma_number(cell)


def comma_number(cell: str) -> float | None:
    """What a cell says where commas are decimal and points part thousands: `1.234,5`.

    >>> comma_number("1.234,5"), comma_number("0,25"), comma_number("1.25")
    (1234.5, 0.25, None)
    """
    if not _COMMA_NUMBER.match(cell):
        return None
    return float(cell.replace(".", "").replace(",", "."))


def is_date(cell: str) -> bool:
    """Whether a cell is a date, with or without its time of day; `1.2.10` may be a version."""
    if number(cell) is not None:
        return False
    found = DATED.match(cell)
    if found is None:
        return iso(cell) is not None
    return year_first(found) or len(found[4]) == 4 or (len(found[4]) == 2 and bool(found[5]))


def year_first(found: re.Match[str]) -> bool:
    """Whether a match of `DATED` begins with its year."""
    return len(found[1]) == 4


def written(found: re.Match[str], *, day_first: bool) -> str:
    """A match of `DATED` as ISO 8601, in so far as it is a date at all."""
    first, _, second, third, hour, minute, second_of, part, half, zone = found.groups()
    if year_first(found):
        year, month, day = first, second, third
    else:
        year, month, day = (third, second, first) if day_first else (third, first, second)
    if len(year) == 2:
        year = f"20{year}"
    if hour is None:
        return f"{year}-{month:0>2}-{day:0>2}"
    if half:
        hour = str(int(hour) % 12 + (12 if half in "pP" else 0))
    clock = f"{hour:0>2}:{minute}:{second_of or '00'}.{(part or '0')[:6]:0<6}"
    return f"{year}-{month:0>2}-{day:0>2}T{clock}{zone or ''}"


def iso(cell: str) -> float | None:
    """Seconds since 1970 of an ISO 8601 text; without a zone it is read as UTC."""
    try:
        moment = datetime.fromisoformat(cell)
    except ValueError:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
