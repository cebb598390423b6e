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
POSITIVES_MIN = 5
RUN_MIN = 3.0
"""A label that holds for so many rows at a time speaks of a stretch of time: windows are needed."""

Floats = NDArray[np.float64]


def targets(record: Record, labels: Sequence[str]) -> Floats:
    """float64[n, m]; every fault with the labels at once."""
    if not labels:
        raise RecordError(
            "label: a failure model needs at least one; name the columns with --label"
        )
    faults = []
    for label in labels:
        column = record.labels.get(label)
        if column is None:
            faults.append(f"{label!r} is not in the record")
        elif (np.nan_to_num(column) > 0.5).sum() < POSITIVES_MIN:
            count = int((np.nan_to_num(column) > 0.5).sum())
            faults.append(f"{label!r} must hold in at least {POSITIVES_MIN} rows, did in {count}")
        elif (column <= 0.5).sum() < POSITIVES_MIN:
            faults.append(f"{label!r} must be 0 in at least {POSITIVES_MIN} rows")
    if faults:
        raise RecordError(
            f"label: {'; '.join(faults)}; give a longer record, or leave that label out"
        )
    return np.stack([record.labels[label] for label in labels], axis=1)


def without_labels(
    record: Record, target: Floats, labels: Sequence[str], named: Sequence[str]
) -> tuple[Record, list[str]]:
    """The record without signals that are labels in disguise, and what to tell of them.

    Such a signal has few values, or one that most rows have, and leaves it almost only where
    something fails, or is there almost only then. It stays away as long as the failure does; an
    event that announces a failure is shorter.
    """
    failing = np.asarray((target > 0.5).any(axis=1), bool)
    holds = run_length(failing[:, None].astype(float), record.group)
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
        runs = run_length(away[:, None].astype(float), record.group)
        if (
            away.sum() >= POSITIVES_MIN
            and failing[away].mean() >= LABEL_SHARE
            and runs >= holds / 2
        ):
            suspects.append(name)
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
    runs = {
        label: run_length(column[:, None], record.group)
        for label, column in zip(labels, target.T, strict=True)
    }
    return {label: run * period_s for label, run in runs.items() if period_s and run >= RUN_MIN}


def run_length(target: Floats, group: NDArray[np.int64]) -> float:
    """Median length, in rows, of the stretches in which a label holds."""
    runs: list[int] = []
    for column in (target > 0.5).T:
        change = np.flatnonzero(np.diff(column.astype(int), prepend=0, append=0) != 0)
        edges = np.union1d(change, np.flatnonzero(np.diff(group)) + 1)
        starts = [i for i in edges if i < len(column) and column[i]]
        ends = np.append(edges, len(column))
        runs += [int(ends[np.searchsorted(ends, start, side="right")] - start) for start in starts]
    return float(np.median(runs)) if runs else 0.0
