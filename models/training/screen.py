"""Looks at a record before anything is learned from it: what must be left out, and why."""

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from models.errors import RecordError
from models.record import Record
from models.training.rates import missing
from models.units import UNITS

MISSING_MAX = 0.5
"""A signal that lacks more than this share of its samples, at its own interval, is left out."""
UNIT_TOLERANCE = 0.02
EDGE = 8
NEAR = 4
"""Samples next to a step that tell its height: a machine moves on meanwhile."""
COUNTER_STEPS_MIN, COUNTER_UPS_MIN = 50, 10
COUNTER_RESETS_MAX = 0.01
"""Steps back for each step up that a counter may make: it is reset, or rolls over, now and then."""

ROUND, HALF = 360.0, 180.0
ROUND_SPAN = (330.0, 361.0)
"""Degrees from the least to the most of a direction."""
ROUND_STEPS_MIN, ROUND_SHARE = 20, 0.8
"""Steps of more than half a turn that a direction must make, and the share that are less than a
quarter turn the other way round; a vane about its nacelle is turned by any angle where it calms."""
ROUND_VARIES = 3.6
"""Degrees by which the smaller ends of such steps must differ; a machine that stops is at 0."""
ROUND_ACROSS = 0.1
"""Share of the samples that must lie on the other half; what is only ever switched has none."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Screened:
    """What is left to learn from.

    Attributes:
        record: The usable signals; the rows of `leave` are still there.
        leave: bool[n], rows not to learn from.
        step: float64[k], resolution of each signal: the usual distance between its values.
        notes: What was found and done, in words.
        fixed: The signals that never change, and what they always are.
    """

    record: Record
    leave: NDArray[np.bool_]
    step: Floats
    notes: tuple[str, ...]
    fixed: dict[str, float] = field(default_factory=dict)


def screen(record: Record) -> Screened:
    """Leave out what cannot be learned, and say so.

    Raises:
        RecordError: Nothing usable is left: no rows, or only constant or missing signals.
    """
    n = len(record)
    if not n or not record.names:
        raise RecordError(f"data: must have rows and signals, had {n} rows of {record.names}")
    values = np.where(np.isfinite(record.values), record.values, np.nan)
    notes: list[str] = []
    keep: list[int] = []
    fixed: dict[str, float] = {}
    for index, name in enumerate(record.names):
        column = values[:, index]
        lacks = missing(column)
        good = column[~np.isnan(column)]
        if lacks > MISSING_MAX:
            notes.append(f"{name}: left out, {lacks:.0%} of its samples are missing")
        elif float(good.max() - good.min()) <= 1e-12 * max(1e-300, float(np.abs(good).max())):
            fixed[name] = float(good[0])
            notes.append(f"{name}: left out, it never changes (always {good[0]:g})")
        elif is_counter(column, record.group):
            notes.append(
                f"{name}: left out, it only counts up, so its next values are all new; give its "
                "rate as a column of its own if that matters"
            )
        elif goes_round(column, record.group):
            notes.append(
                f"{name}: left out, a direction that goes round has no mean (of 1 and 359 it is not"
                " 180); if it matters, derive its cosine and its sine, as --derive 'north ="
                f" cos(`{name}` * 0.0174533)'"
            )
        else:
            keep.append(index)
            if lacks > 0.05:
                notes.append(f"{name}: {lacks:.0%} of its samples are missing")
    if not keep:
        raise RecordError(
            "data: no signal that changes and is there half of the time, so there is nothing to "
            "learn (an idle machine, or a dead link?): " + "; ".join(notes)
        )
    kept = replace(record, values=values).select([record.names[i] for i in keep])
    leave = np.zeros(n, bool)
    for index, name in enumerate(kept.names):
        found = unit_change(kept.values[:, index])
        if found is not None:
            at, what = found
            side = slice(0, at) if at < n - at else slice(at, n)
            leave[side] = True
            notes.append(
                f"{name}: changes as if its unit did ({what}) at row {at + 1}; rows "
                f"{side.start + 1} to {side.stop} are left out, correct the unit at its source"
            )
    step = np.array([resolution(column) for column in kept.values.T])
    return Screened(kept, leave, step, tuple(notes), fixed)


def is_counter(column: Floats, group: NDArray[np.int64]) -> bool:
    """Whether a signal only ever counts up (energy, pieces, hours, row numbers), resets aside.

    Args:
        column: float64[n], NaN where missing.
        group: int64[n], the independent sequence of each row.

    >>> rows = np.arange(200.0)
    >>> is_counter(rows, np.zeros(200, np.int64)), is_counter(rows % 7, np.zeros(200, np.int64))
    (True, False)
    """
    there = ~np.isnan(column)
    step = np.diff(column[there])[np.diff(group[there]) == 0]
    if len(step) < COUNTER_STEPS_MIN:
        return False
    back = int(np.count_nonzero(step < 0))
    up = int(np.count_nonzero(step > 0))
    return up >= COUNTER_UPS_MIN and back <= COUNTER_RESETS_MAX * up


def goes_round(column: Floats, group: NDArray[np.int64]) -> bool:
    """Whether a signal is a direction in degrees that passes north: from 359 on to 0.

    Args:
        column: float64[n], NaN where missing; from 0 to 360, or from -180 to 180.
        group: int64[n], the independent sequence of each row.

    >>> turned = np.cumsum(np.random.default_rng(0).normal(size=4000)) * 20
    >>> one = np.zeros(4000, np.int64)
    >>> goes_round(turned % 360, one), goes_round(turned, one)
    (True, False)
    """
    there = ~np.isnan(column)
    known = column[there]
    low, high = float(known.min()), float(known.max())
    within = (low >= -0.5 and high <= ROUND + 0.5) or (low >= -HALF - 0.5 and high <= HALF + 0.5)
    if not within or not ROUND_SPAN[0] <= high - low <= ROUND_SPAN[1]:
        return False
    follows = np.diff(group[there]) == 0
    before, after = known[:-1][follows], known[1:][follows]
    far = np.abs(after - before) > HALF
    if int(far.sum()) < ROUND_STEPS_MIN:
        return False
    other_way = ROUND - np.abs(after - before)[far]
    ends = np.minimum(before, after)[far]
    across = np.abs(known - (low + HALF)) <= HALF / 2
    return bool(
        np.mean(other_way < ROUND / 4) >= ROUND_SHARE
        and ends.std() >= ROUND_VARIES
        and across.mean() >= ROUND_ACROSS
    )


def resolution(column: Floats) -> float:
    """The usual distance between neighbouring values that occur; 0 where it never changes.

    >>> resolution(np.array([1.0, 1.5, 2.0, 2.0, 1.0]))
    0.5
    """
    there = np.unique(column[~np.isnan(column)])
    if len(there) < 2:
        return 0.0
    if len(there) > 4096:
        # So many different values are no grid; their spacing says nothing beyond the smallest.
        there = there[:: len(there) // 4096]
        return float(np.median(np.diff(there)) / (len(there) / 4096 + 1))
    return float(np.median(np.diff(there)))


def unit_change(column: Floats) -> tuple[int, str] | None:
    """Where a signal steps by exactly a change of unit, as (row, which); None where it does not.

    The step must be large against the signal's own movement on either side, so that a machine that
    was switched on is not taken for one.
    """
    rows = np.flatnonzero(~np.isnan(column))
    n = len(rows)
    if n < 4 * EDGE:
        return None
    x = column[rows]
    jumps = np.abs(np.diff(x))
    at = int(np.argmax(jumps)) + 1
    if not EDGE <= at <= n - EDGE:
        return None
    # The level just before and just after: the machine's state did not change in between.
    before, after = x[max(0, at - 4 * EDGE) : at], x[at : at + 4 * EDGE]
    old, new = float(np.median(before[-NEAR:])), float(np.median(after[:NEAR]))
    old_spread, new_spread = _spread(before), _spread(after)
    old_steps, new_steps = _steps(before), _steps(after)
    for factor, offset, name in UNITS:
        back = " to ".join(reversed(name.split(" to ")))
        for low, high, low_spread, high_spread, low_steps, high_steps, what in (
            (old, new, old_spread, new_spread, old_steps, new_steps, name),
            (new, old, new_spread, old_spread, new_steps, old_steps, back),
        ):
            want = factor * low + offset
            step = abs(high - low)
            same = abs(high - want) <= UNIT_TOLERANCE * step + low_spread * factor / EDGE
            wide = step > 8 * max(high_spread, factor * low_spread)
            grown = low_steps == 0 or 0.4 < high_steps / (factor * low_steps) < 2.5
            if same and wide and grown:
                label = what if " to " in what else f"{what} {'up' if high is new else 'down'}"
                return int(rows[at]), label
    return None


def _steps(x: Floats) -> float:
    """The spread of its steps, which a load that moves does not change; else its own."""
    return _spread(np.diff(x)) or _spread(x)


def _spread(x: Floats) -> float:
    return float(1.4826 * np.median(np.abs(x - np.median(x))))
