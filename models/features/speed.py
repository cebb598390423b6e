"""The speed of a shaft during a burst: by the pulses of a tachometer, and whether it has orders."""

import re

import numpy as np
from numpy.typing import NDArray

from models.errors import RecordError

Floats = NDArray[np.float64]
_SPEED = re.compile(r"^rpm$|_rpm$|[\[(]\s*rpm\s*[\])]$", re.IGNORECASE)

SWING_MAX = 4.0
"""A shaft whose speed differs by more within a burst starts or stops."""
UNEVEN_MAX = 1.5
"""No shaft that runs turns so much faster or slower from one pulse to the next: where pulses lie
so, one is missing or one is too many."""
PARTS = 4
"""A channel's two levels are those that most of so many parts of it reach; a spike is in one."""
HYSTERESIS = 0.1
"""Share of the way from the lower to the upper level, on both sides of the middle."""


def running(speed_rpm: float | Floats) -> Floats:
    """The speed at each sample, or float64[1] where it is the same throughout.

    Raises:
        RecordError: It is not known, or the shaft stands, starts or stops.
    """
    speed = np.atleast_1d(np.asarray(speed_rpm, np.float64))
    slowest, fastest = float(speed.min()), float(speed.max())
    if not np.isfinite(slowest):
        raise RecordError("speed: must be known all through a burst")
    if slowest <= 0 or fastest > SWING_MAX * slowest:
        raise RecordError(
            f"speed: must stay above 0 and within a factor of {SWING_MAX:g} in a burst, was "
            f"{slowest:.0f} to {fastest:.0f} rpm; orders are for a machine that runs"
        )
    return speed[:1] if slowest == fastest else speed


def angle(samples: int, rate_hz: float, speed_rpm: Floats) -> Floats:
    """float64[samples], turns since the first sample: the integral of the speed, by trapezia.

    Args:
        samples: Of the burst.
        rate_hz: Samples a second.
        speed_rpm: float64[samples], or float64[1] where it is constant.

    >>> angle(3, 10.0, np.array([600.0])), angle(3, 10.0, np.array([0.0, 600.0, 600.0]))
    (array([0., 1., 2.]), array([0. , 0.5, 1.5]))
    """
    if len(speed_rpm) == 1:
        return np.asarray(np.arange(samples) * (speed_rpm[0] / 60.0 / rate_hz))
    step = (speed_rpm[1:] + speed_rpm[:-1]) / 2 / 60.0 / rate_hz
    return np.concatenate([[0.0], np.cumsum(step)])


def pulses(channel: Floats, rate_hz: float) -> Floats:
    """When the pulses of a sampled tachometer (a keyphasor) begin, in s since its first sample.

    A pulse begins where the channel, once low, is high again; of either polarity there is one such
    edge a pulse. Its time is told between two samples by a straight line.

    >>> pulses(np.tile([0.0, 0.0, 5.0, 5.0], 3), 10.0).round(3)
    array([0.16, 0.56, 0.96])
    """
    parts = np.array_split(channel, PARTS)
    low = float(np.median([np.fmin.reduce(part, initial=np.inf) for part in parts]))
    high = float(np.median([np.fmax.reduce(part, initial=-np.inf) for part in parts]))
    middle, margin = (high + low) / 2, HYSTERESIS * (high - low)
    upper = middle + margin
    is_high = channel > upper
    told = np.flatnonzero(is_high | (channel < middle - margin))
    begins = told[1:][is_high[told[1:]] & ~is_high[told[:-1]]]
    before = channel[begins - 1]
    at = (begins - 1 + (upper - before) / (channel[begins] - before)) / rate_hz
    return np.asarray(at[np.isfinite(at)])


def by_pulses(times_s: Floats, per_turn: int, span_s: float) -> tuple[Floats, Floats]:
    """The speed between pulses, from the begin of a burst to its end.

    Each value is that of a whole turn, so teeth need not be cut evenly, up to a half.

    Args:
        times_s: float64[p], of the pulses, rising, in s since the burst's begin.
        per_turn: Pulses a turn.
        span_s: Of the burst.

    Returns:
        Times in s and speeds in rpm, to be joined by straight lines. NaN where a pulse is missing
        or one too many, and before the first and after the last where these are too far off.

    >>> by_pulses(np.array([0.1, 0.3, 0.5]), 1, 0.6)
    (array([0. , 0.2, 0.4, 0.6]), array([300., 300., 300., 300.]))
    """
    if len(times_s) <= per_turn:
        return np.array([0.0, span_s]), np.full(2, np.nan)
    steps = np.diff(times_s)
    around = np.lib.stride_tricks.sliding_window_view(np.pad(steps, 2, mode="reflect"), 5)
    usual = np.median(around, axis=1) if len(steps) > 2 else np.full(len(steps), np.median(steps))
    uneven = (steps > UNEVEN_MAX * usual) | (steps * UNEVEN_MAX < usual)
    # A pulse too many parts one step in two, of which the longer may look whole.
    wrong = uneven.copy()
    wrong[1:] |= uneven[:-1]
    wrong[:-1] |= uneven[1:]
    begins, ends = times_s[:-per_turn], times_s[per_turn:]
    wrong_so_far = np.concatenate([[0], np.cumsum(wrong)])
    rpm = np.where(
        wrong_so_far[per_turn:] > wrong_so_far[:-per_turn], np.nan, 60.0 / (ends - begins)
    )
    first = rpm[0] if times_s[0] <= UNEVEN_MAX * usual[0] else np.nan
    last = rpm[-1] if span_s - times_s[-1] <= UNEVEN_MAX * usual[-1] else np.nan
    at_s = np.concatenate([[0.0], (begins + ends) / 2, [span_s]])
    return at_s, np.concatenate([[first], rpm, [last]])


def at_samples(tachometer: Floats, per_turn: int, samples: int, rate_hz: float) -> Floats:
    """float64[samples], the speed in rpm at each sample of a burst; NaN where no pulse tells it.

    Args:
        tachometer: The channel, sampled as the burst is; or, if it rises throughout, the times of
            the pulses in s since the first sample, NaN behind the last.
        per_turn: Pulses a turn.
        samples: Of the burst.
        rate_hz: Samples a second.
    """
    times_s = tachometer[np.isfinite(tachometer)]
    if len(times_s) < 2 or not (np.diff(times_s) > 0).all():
        times_s = pulses(tachometer, rate_hz)
    at_s, rpm = by_pulses(times_s, per_turn, samples / rate_hz)
    return np.asarray(np.interp(np.arange(samples) / rate_hz, at_s, rpm))


def is_speed(name: str) -> bool:
    """Whether a column or an array is a speed by its name.

    >>> [is_speed(n) for n in ("rpm", "shaft_rpm", "Speed [rpm]", "Speed (RPM) ", "drpmx")]
    [True, True, True, True, False]
    """
    return _SPEED.search(name.strip()) is not None
