"""Reads one cell of a table: a number, a date with its time of day, or nothing."""

import re
from datetime import UTC, datetime

from models.features.burst import base_of, part_unit

MISSING = frozenset({"", "nan", "na", "n/a", "null", "none", "-", "?", "#n/a"})
NO_NUMBER = MISSING | {
    *("--", "---", "nil", "<na>", "nat", "#nv", "#na", "#value!", "#wert!", "#div/0!", "#ref!"),
    *("#bezug!", "#num!", "#zahl!", "#name?", "bad", "bad input", "bad value", "no data", "nodata"),
    *("no value", "i/o timeout", "timeout", "comm fail", "pt created", "scan off", "shutdown"),
    *("over range", "under range", "error", "err", "invalid", "missing", "offline"),
}
"""What historians, loggers and Excel write among numbers where they had none."""

TRUTHS = {"true": 1.0, "false": 0.0, "wahr": 1.0, "falsch": 0.0, "vrai": 1.0, "faux": 0.0}
COMMA_GROUPED = re.compile(r"^[+-]?[1-9]\d{0,2}(,\d{3})+$")
POINT_GROUPED = re.compile(r"^[+-]?[1-9]\d{0,2}(\.\d{3})+$")

_COMMA_NUMBER = re.compile(r"^[+-]?(\d+|\d{1,3}(\.\d{3})+)(,\d+)?([eE][+-]?\d+)?$")
_UNIT = re.compile(r"[\[(]\s*([^\])]*?)\s*[\])]\s*$")
_POINT_NUMBER = re.compile(r"^[+-]?\d{1,3}(,\d{3})+(\.\d+)?([eE][+-]?\d+)?$")
_ZONES = {"Z": "Z", "UTC": "Z", "GMT": "Z"} | {
    zone: f"+0{hours}:00"
    for hours, zones in enumerate(("", "CET MEZ", "CEST MESZ"))
    for zone in zones.split()
}
_MINUTES = r":(\d{2})(?::(\d{2})(?:[.,](\d{1,9}))?)?"
_HALF = r"(?:\s*([AaPp])\.?[Mm]\.?)?"
CLOCK = re.compile(rf"^(\d{{1,2}}){_MINUTES}{_HALF}$")
DATED = re.compile(
    rf"^(\d{{1,4}})([./-])(\d{{1,2}})\2(\d{{1,4}})(?:(?:,?\s+|T)"
    rf"(\d{{1,2}})(?:{_MINUTES})?{_HALF}\s*({'|'.join(_ZONES)}|[+-]\d\d:?\d\d)?)?$"
)
"""Day, month and year as figures, in any order that ends or begins with the year; and its time of
day, which may be an hour alone."""

_DAY_NAMED = re.compile(r"^(\d{1,2})[-. /]+([^\W\d_]{3,9})[-. /]+(\d{4}|\d{2})(?=$|[ ,T])")
_MONTH_NAMED = re.compile(r"^([^\W\d_]{3,9})[. ]+(\d{1,2}),?\s+(\d{4})(?=$|[ ,T])")
_MONTHS = {
    name: month
    for month, names in enumerate(
        [
            *("jan", "feb fev fév", "mar mär mrz", "apr avr", "may mai", "jun juin"),
            *("jul juil", "aug aoû", "sep", "oct okt", "nov", "dec dez déc"),
        ],
        1,
    )
    for name in names.split()
}


def number(cell: str) -> float | None:
    """What `1.5`, `1,5`, `1,234.5`, `-3e2` or `TRUE` says; None of what is no number."""
    try:
        return float(cell)
    except ValueError:
        pass
    if (value := comma_number(cell)) is not None:
        return value
    if _POINT_NUMBER.match(cell):
        return float(cell.replace(",", ""))
    return TRUTHS.get(cell.lower())


def comma_number(cell: str) -> float | None:
    """What a cell says where commas are decimal and points part thousands: `1.234,5`.

    >>> comma_number("1.234,5"), comma_number("0,25"), comma_number("1.25")
    (1234.5, 0.25, None)
    """
    if not _COMMA_NUMBER.match(cell):
        return None
    return float(cell.replace(".", "").replace(",", "."))


def decimal_mark(cell: str) -> str:
    """The decimal mark that a cell has for sure; in `1,234` it may part thousands.

    >>> [decimal_mark(cell) for cell in ("1,5", "1.234,5", "1.5", "1,234.5", "1,234", "12")]
    [',', ',', '.', '.', '', '']
    """
    if COMMA_GROUPED.match(cell) or POINT_GROUPED.match(cell):
        return ""
    if "," in cell and comma_number(cell) is not None:
        return ","
    return "." if "." in cell and number(cell) is not None else ""


def is_date(cell: str) -> bool:
    """Whether a cell is a date, with or without its time of day; `1.2.10` may be a version."""
    if number(cell) is not None:
        return False
    cell = in_figures(cell)
    found = DATED.match(cell)
    if found is None:
        return iso(cell) is not None
    return year_first(found) or len(found[4]) == 4 or (len(found[4]) == 2 and bool(found[5]))


def in_figures(cell: str) -> str:
    """A date with its month in letters with the year first and in figures; others as they are.

    >>> in_figures("2-Mar-2026 06:00"), in_figures("März 2, 2026"), in_figures("2 moons 2026")
    ('2026-03-02 06:00', '2026-03-02', '2 moons 2026')
    """
    if found := _DAY_NAMED.match(cell):
        day, name, year = found.groups()
    elif found := _MONTH_NAMED.match(cell):
        name, day, year = found.groups()
    else:
        return cell
    name = name.lower()
    month = _MONTHS.get(name[:4]) or _MONTHS.get(name[:3])
    if month is None:
        return cell
    return f"{year if len(year) == 4 else f'20{year}'}-{month:02}-{day:0>2}{cell[found.end() :]}"


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
    clock = f"{hour:0>2}:{minute or '00'}:{second_of or '00'}.{(part or '0')[:6]:0<6}"
    return f"{year}-{month:0>2}-{day:0>2}T{clock}{_ZONES.get(zone, zone) or ''}"


def iso(cell: str) -> float | None:
    """Seconds since 1970 of an ISO 8601 text; without a zone it is read as UTC."""
    try:
        moment = datetime.fromisoformat(cell)
    except ValueError:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def unit_of(name: str) -> str:
    """The unit that stands in brackets at the end of a column's name, or that a part of it has.

    >>> unit_of("oil [°C]"), unit_of("drive [g] rms"), unit_of("drive_g 1x"), unit_of("drive_g")
    ('°C', 'g', 'g', '')
    """
    found = _UNIT.search(name)
    if found:
        return found[1]
    base = base_of(name)
    return part_unit(name, "g" if base.endswith("_g") else unit_of(base)) if base else ""
