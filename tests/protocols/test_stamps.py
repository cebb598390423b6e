"""Device times: every way that they are written, zones, and clocks that cannot be right."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.stamps import AHEAD_NS_MAX, EARLIEST_NS, believable, check_form, parse_time
from protocols.stamps import check_zone as zone_is_known

NOON = 1_719_828_000 * 10**9
"""2024-07-01 10:00 UTC, noon in Berlin's summer."""


@pytest.mark.parametrize(
    ("written", "form", "zone", "t_ns"),
    [
        ("2024-07-01T10:00:00Z", "iso", "UTC", NOON),
        ("2024-07-01 12:00:00", "iso", "Europe/Berlin", NOON),
        ("2024-07-01T12:00:00.000001+02:00", "iso", "America/New_York", NOON + 1000),
        ("01.07.2024 12:00", "%d.%m.%Y %H:%M", "Europe/Berlin", NOON),
        ("1719828000", "unix_s", "UTC", NOON),
        (1_719_828_000.5, "unix_s", "UTC", NOON + 500_000_000),
        (" 1719828000000 ", "unix_ms", "UTC", NOON),
        (1_719_828_000_000_001, "unix_us", "UTC", NOON + 1000),
        ("1719828000000000001", "unix_ns", "UTC", NOON + 1),
        ("noon", "iso", "UTC", None),
        ("", "unix_s", "UTC", None),
        ("nan", "unix_s", "UTC", None),
        ("1e400", "unix_s", "UTC", None),
        ("31.06.2024", "%d.%m.%Y", "UTC", None),
    ],
)
def test_ways_to_write_a_time(written: str | float, form: str, zone: str, t_ns: int | None) -> None:
    assert parse_time(written, form, zone) == t_ns


@given(st.datetimes(min_value=datetime(1970, 1, 1), max_value=datetime(2200, 1, 1)))  # noqa: DTZ001
def test_iso_is_exact_to_the_microsecond(moment: datetime) -> None:
    t_ns = parse_time(moment.isoformat(), "iso")
    assert t_ns is not None
    since = moment.replace(tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)
    assert t_ns == (since.days * 86_400 + since.seconds) * 10**9 + since.microseconds * 1000


@given(st.text(max_size=30), st.sampled_from(["iso", "unix_s", "unix_ns", "%Y-%m-%d"]))
def test_no_text_breaks_it(text: str, form: str) -> None:
    t_ns = parse_time(text, form)
    assert t_ns is None or isinstance(t_ns, int)


def test_what_a_clock_cannot_say() -> None:
    assert believable(NOON, NOON)
    assert believable(NOON + AHEAD_NS_MAX, NOON)
    assert not believable(NOON + AHEAD_NS_MAX + 1, NOON)
    assert believable(EARLIEST_NS, NOON)
    assert not believable(946_684_800 * 10**9, NOON)  # 2000-01-01: a clock that lost its battery.


def test_forms_and_zones_are_checked_beforehand() -> None:
    assert check_form("iso") == "iso"
    assert check_form("%H:%M") == "%H:%M"
    assert zone_is_known("Europe/Berlin") == "Europe/Berlin"
    with pytest.raises(ValueError, match="must be one of unix_s"):
        check_form("epoch")
    for zone in ("Mars/Base", "../etc/passwd", ""):
        with pytest.raises(ValueError, match="must be a time zone"):
            zone_is_known(zone)
