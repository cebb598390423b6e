"""Reads labels: targets, how long they hold, and signals that are labels in disguise."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from models.errors import RecordError
from models.record import Record
from models.training import rates

LABEL_VALUES_MAX, LABEL_SHARE = 12, 0.9
"""A signal of so few values, whose unusual ones fall on failures so often, is taken for a label."""
USUAL_SHARE = 0.5
"""A signal of more values (what a repair cost) is taken for one if most rows have its usual one."""
CLASSES_MAX = 50
"""A label of more numbers than that is a measurement."""
LIKE_SHARE = 0.99
"""Share of the rows without a failure that its sister columns must account for."""
COUNTED_MIN = 20
"""So many steps down make a countdown."""
POSITIVES_MIN = 5
RUN_MIN = 3.0
"""A label that holds for so many rows at a time speaks of a stretch of time: windows are needed."""
STRETCHES_MIN = 8
"""In fewer stretches than that, blocks of rows would hold one kind of row each."""
ONCE_SHARE = 0.125
"""Half of a block of time that is held out, of which there are four."""

Floats = NDArray[np.float64]


def loose(record: Record) -> bool:
    """Whether nothing tells that rows follow each other: they may be sorted by what they are."""
    return record.time_s is None and len(np.unique(record.group)) == 1


def sorted_by_label(record: Record, target: Floats) -> bool:
    """Whether loose rows lie in so few stretches of a label that order tells what they are."""
    if not loose(record):
        return False
    stretches = [runs(column[:, None], record.group) for column in target.T]
    return any(len(each) < STRETCHES_MIN and np.median(each) >= RUN_MIN for each in stretches)


def holds_once(record: Record, target: Floats) -> bool:
    """Whether a label of one sequence holds in one stretch, for so long that a block of time with
    it leaves none to learn from: a grade that a test rig is run at, once."""
    if record.time_s is None or len(np.unique(record.group)) > 1:
        return False
    stretches = [runs(column[:, None], record.group) for column in target.T]
    return any(len(each) == 1 and each[0] >= ONCE_SHARE * len(target) for each in stretches)


def targets(record: Record, labels: Sequence[str]) -> Floats:
    """float64[n, m], 0 and 1, NaN where unknown; every fault with the labels at once."""
    if not labels:
        raise RecordError(
            "label: a failure model needs at least one; name the columns with --label"
        )
    faults = []
    for label in labels:
        column = record.labels.get(label)
        if column is None:
            faults.append(f"{label!r} is not in the record")
            continue
        values = np.unique(column[~np.isnan(column)])
        if len(values) > CLASSES_MAX:
            faults.append(
                f"{label!r} must be 0 and 1, or a few classes, held {len(values)} numbers from "
                f"{values[0]:g} to {values[-1]:g} (is it a remaining life? --kind rul)"
            )
        elif len(values) > 1 and values[0] > 0.5:
            held = ", ".join(f"{value:g}" for value in values[:6])
            faults.append(
                f"{label!r} must be 0 where all is well, held {held}; say which of them are "
                f"failures, as --label '{label}={values[0]:g}'"
            )
        elif (np.nan_to_num(column) > 0.5).sum() < POSITIVES_MIN:
            count = int((np.nan_to_num(column) > 0.5).sum())
            faults.append(
                f"{label!r} must hold in at least {POSITIVES_MIN} rows, did in {count}; give a "
                "longer record, or leave that label out"
            )
        elif (column <= 0.5).sum() < POSITIVES_MIN:
            faults.append(f"{label!r} must be 0 in at least {POSITIVES_MIN} rows; add healthy ones")
    if faults:
        raise RecordError(f"label: {'; '.join(faults)}")
    columns = np.stack([record.labels[label] for label in labels], axis=1)
    return np.where(np.isnan(columns), np.nan, columns > 0.5)


def without_labels(
    record: Record, target: Floats, labels: Sequence[str], named: Sequence[str]
) -> tuple[Record, list[str]]:
    """The record without signals that are labels in disguise, and what to tell of them.

    Such a signal has few values, or one that most rows have, and leaves it almost only where
    something fails, or is there almost only then. Where rows follow each other it stays away as
    long as the failure does; an event that announces a failure is shorter.
    """
    failing = np.asarray((target > 0.5).any(axis=1), bool)
    holds = run_length(failing[:, None].astype(float), record.group)
    if sorted_by_label(record, target):
        holds = 0.0
    suspects = []
    for name, column in zip(record.names, record.values.T, strict=True):
        there = ~np.isnan(column)
        values, counts = np.unique(column[there], return_counts=True)
        if not len(values):
            continue
        away = there & (column != values[counts.argmax()])
        if np.mean(there) < USUAL_SHARE:
            # What is written down only then says so by being there: the date of a repair, its cost.
            away = there
        elif len(values) < 2 or (
            len(values) > LABEL_VALUES_MAX and counts.max() < USUAL_SHARE * len(column)
        ):
            continue
        stays = run_length(away[:, None].astype(float), record.group)
        if (
            away.sum() >= POSITIVES_MIN
            and failing[away].mean() >= LABEL_SHARE
            and stays >= holds / 2
        ):
            suspects.append(name)
    suspects += [name for name in _sisters(record, failing) if name not in suspects]
    suspects += [name for name in _tellers(record, failing) if name not in suspects]
    out = [name for name in suspects if name not in named]
    out += [name for name in _like(record, out) if name not in named]
    kept = [name for name in suspects if name in named]
    notes = []
    if out:
        notes.append(
            f"left out, look like labels: {', '.join(out)} (other than usual almost only where "
            f"{' or '.join(labels)} holds); name them in --signals if they are measured"
        )
    if kept:
        notes.append(
            f"{', '.join(kept)} is other than usual almost only where {' or '.join(labels)} holds: "
            "if it is a label and no measurement, leave it out"
        )
    rest = tuple(name for name in record.names if name not in out)
    return (record.select(rest) if out and rest else record), notes


def _sisters(record: Record, failing: NDArray[np.bool_]) -> list[str]:
    """Columns of 0 and 1, one of which holds in each row in which nothing fails: other classes."""
    free = ~failing
    open_rows, found = free.copy(), []
    exclusive = {
        name: column == 1
        for name, column in zip(record.names, record.values.T, strict=True)
        if np.isin(column, (0, 1)).all() and not (column[failing] == 1).any()
    }
    for name in sorted(exclusive, key=lambda each: -int(exclusive[each].sum())):
        holds = exclusive[name]
        if holds.any() and not (holds & ~open_rows).any():
            found.append(name)
            open_rows &= ~holds
    untold = float(open_rows.sum()) / max(1.0, float(free.sum()))
    return found if len(found) > 1 and untold <= 1 - LIKE_SHARE else []


def _tellers(record: Record, failing: NDArray[np.bool_]) -> list[str]:
    """Columns that count down, below one value of which all fails, and nothing above it."""
    out = []
    for name, column in zip(record.names, record.values.T, strict=True):
        low = column[failing & ~np.isnan(column)].max(initial=-np.inf)
        high = column[~failing & ~np.isnan(column)].min(initial=np.inf)
        if low < high and _counts_down(record, column):
            out.append(name)
    return out


def lives(record: Record) -> list[str]:
    """Signals that count down to the same end in each sequence: remaining lives."""
    return [
        name
        for name, column in zip(record.names, record.values.T, strict=True)
        if _counts_down(record, column)
        and len({column[rows][-1] for _, rows in record.sequences()}) == 1
    ]


def _counts_down(record: Record, column: Floats) -> bool:
    """Whether nearly all changes within sequences are the same step down."""
    changes = np.concatenate([np.diff(column[rows]) for _, rows in record.sequences()])
    changes = changes[~np.isnan(changes) & (changes != 0)]
    down = changes[changes < 0]
    return (
        len(down) >= COUNTED_MIN
        and len(down) >= LABEL_SHARE * len(changes)
        and bool(np.ptp(down) <= 1e-6 * np.abs(down).max())
    )


def _like(record: Record, labels: Sequence[str]) -> list[str]:
    """Further columns of 0 and 1 that stand for as few rows as labels that were found."""
    away = {
        name: float(np.nanmean(column != 0))
        for name, column in zip(record.names, record.values.T, strict=True)
        if name in labels or bool(np.isin(column, (0, 1)).all())
    }
    most = max((away[name] for name in labels), default=0.0)
    return [name for name, share in away.items() if share <= most and name not in labels]


def horizons_s(record: Record, target: Floats, labels: Sequence[str]) -> dict[str, float]:
    """How long before a failure each label begins to hold, in s; none where rows stand alone."""
    if record.time_s is None:
        return {}
    period_s, _ = rates.sampling(record)
    holds = {
        label: run_length(column[:, None], record.group)
        for label, column in zip(labels, target.T, strict=True)
    }
    return {label: run * period_s for label, run in holds.items() if period_s and run >= RUN_MIN}


def run_length(target: Floats, group: NDArray[np.int64]) -> float:
    """Median length, in rows, of the stretches in which a label holds."""
    every = runs(target, group)
    return float(np.median(every)) if every else 0.0


def runs(target: Floats, group: NDArray[np.int64]) -> list[int]:
    """The length, in rows, of each stretch in which a label holds."""
    out: list[int] = []
    for column in (target > 0.5).T:
        change = np.flatnonzero(np.diff(column.astype(int), prepend=0, append=0) != 0)
        edges = np.union1d(change, np.flatnonzero(np.diff(group)) + 1)
        starts = [i for i in edges if i < len(column) and column[i]]
        ends = np.append(edges, len(column))
        out += [int(ends[np.searchsorted(ends, start, side="right")] - start) for start in starts]
    return out
