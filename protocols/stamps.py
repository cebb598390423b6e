"""A device's own time, as UTC nanoseconds; and whether such a time can be believed."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

UNITS_NS = {"unix_s": 1e9, "unix_ms": 1e6, "unix_us": 1e3, "unix_ns": 1}
EARLIEST_NS = 1_420_070_400_000_000_000
"""2015-01-01: older clocks were never set (1970 and 2000 are where they start)."""
AHEAD_NS_MAX = 3_600_000_000_000
"""An hour: further ahead of the gateway is a clock that is off, or set to local time."""


def check_form(form: str) -> str:
    """Refuse what `parse_time` would not understand; for configuration models."""
    if form not in (*UNITS_NS, "iso") and "%" not in form:
        known = ", ".join((*UNITS_NS, "iso"))
        raise ValueError(f"must be one of {known}, or a pattern such as %d.%m.%Y %H:%M:%S")
    return form


def check_zone(zone: str) -> str:
    """Refuse a time zone that this machine does not know; for configuration models."""
    try:
        ZoneInfo(zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError("must be a time zone such as Europe/Berlin or UTC") from None
    return zone


def parse_time(written: str | float, form: str, zone: str = "UTC") -> int | None:
    """UTC ns of a time as a device writes it.

    Args:
        written: Text or number.
        form: `unix_s`, `unix_ms`, `unix_us`, `unix_ns`, `iso`, or a strptime pattern.
        zone: IANA name; for times that carry no offset of their own.

    Returns:
        None where it is no such time.
    """
    try:
        if form in UNITS_NS:
            return _unix(written, UNITS_NS[form])
        text = str(written).strip()
        moment = datetime.fromisoformat(text) if form == "iso" else datetime.strptime(text, form)  # noqa: DTZ007 (the zone is given next)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC if zone == "UTC" else ZoneInfo(zone))
        # Whole seconds by integers: a float of this size holds no better than 200 ns.
        since = moment - datetime(1970, 1, 1, tzinfo=UTC)
        return (since.days * 86_400 + since.seconds) * 10**9 + since.microseconds * 1000
    except (ValueError, OverflowError):
        return None


def believable(t_ns: int, now_ns: int) -> bool:
    """Whether a device's clock that says `t_ns` can be right when the gateway's says `now_ns`."""
    return EARLIEST_NS <= t_ns <= now_ns + AHEAD_NS_MAX


def _unix(written: str | float, unit_ns: float) -> int:
    if isinstance(written, str):
        written = written.strip()
        whole = written.lstrip("-")
        written = int(written) if whole.isascii() and whole.isdecimal() else float(written)
    if isinstance(written, int):
        return written * int(unit_ns)
    return round(written * unit_ns)
