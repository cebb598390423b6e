"""Judges verdicts against labels: by row, by event, by file, and beside rules that know nothing."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.training.invented import auroc

SUSTAINED = 5
CURVE_POINTS = 400
TRIVIAL_ROW = 150
"""The second trivial rule calls everything from this test row on anomalous."""

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """One file's test rows and what was said of them.

    Attributes:
        name: Of the file or group.
        label: bool[n], the row is anomalous.
        score: Which way of scoring -> float64[n]; NaN where it abstains.
        flag: Which way of scoring -> bool[n], its verdict.
        limit: Which way of scoring -> its limit.
        row_s: Seconds a row; None without a time.
        drivers: The signals that carry the score of its middle verdict.
        why: What the worst alarm on it says.
    """

    name: str
    label: Flags
    score: dict[str, Floats]
    flag: dict[str, Flags]
    limit: dict[str, float]
    row_s: float | None = None
    drivers: tuple[str, ...] = field(default=())
    why: str = ""


def measure(files: Sequence[Judged], way: str) -> dict[str, Any]:
    """All measures of one way of scoring.

    An abstention is neither an alarm nor a detection: it counts as not flagged.
    """
    label = np.concatenate([f.label for f in files])
    flag = np.concatenate([f.flag[way] for f in files])
    out: dict[str, Any] = by_row(label, flag)
    ranks = [
        auroc(known(f.score[way]), f.label) for f in files if 0 < int(f.label.sum()) < len(f.label)
    ]
    precision = [
        average_precision(known(f.score[way]), f.label)
        for f in files
        if 0 < int(f.label.sum()) < len(f.label)
    ]
    found = [event for f in files for event in events(f.label)]
    hits = [
        (
            end - start,
            int(np.argmax(f.flag[way][start:end])) if f.flag[way][start:end].any() else -1,
        )
        for f in files
        for start, end in events(f.label)
    ]
    late = [delay for _, delay in hits if delay >= 0]
    out |= {
        "auroc_mean": _mean(ranks),
        "auroc_worst": float(min(ranks)) if ranks else None,
        "average_precision_mean": _mean(precision),
        "events": len(found),
        "events_hit": sum(1 for _, delay in hits if delay >= 0),
        "delay_rows_median": float(np.median(late)) if late else None,
        "detection_at_1_percent": at_rate(files, way, 0.01),
        "abstained": float(np.mean(np.isnan(np.concatenate([f.score[way] for f in files])))),
        "false_alarms": sum(_alarms(f, way) for f in files),
    }
    days = _healthy_days(files)
    out["false_alarms_per_day"] = out["false_alarms"] / days if days else None
    return out


def by_row(label: Flags, flag: Flags) -> dict[str, float | None]:
    """F1, false-alarm rate (of normal rows) and missed-alarm rate (of anomalous rows).

    >>> by_row(np.array([True, True, False, False]), np.array([True, False, True, False]))["f1"]
    0.5
    """
    hit, wrong = int((label & flag).sum()), int((~label & flag).sum())
    missed, normal = int((label & ~flag).sum()), int((~label).sum())
    return {
        "f1": 2 * hit / max(1, 2 * hit + wrong + missed),
        "false_alarm_rate": wrong / normal if normal else None,
        "missed_alarm_rate": missed / (hit + missed) if hit + missed else None,
    }


def trivial(files: Sequence[Judged]) -> dict[str, dict[str, float | None]]:
    """The two rules that look at nothing, so that everyone sees what F1 is worth here."""
    label = np.concatenate([f.label for f in files])
    late = np.concatenate([np.arange(len(f.label)) >= TRIVIAL_ROW for f in files])
    return {
        "everything anomalous": by_row(label, np.ones(len(label), bool)),
        f"anomalous from test row {TRIVIAL_ROW} on": by_row(label, late),
    }


def at_rate(files: Sequence[Judged], way: str, rate: float) -> float | None:
    """Mean share of anomalous rows above the score that `rate` of all normal rows exceed."""
    normal = np.concatenate([known(f.score[way])[~f.label] for f in files])
    if not len(normal):
        return None
    limit = float(np.quantile(normal, 1 - rate, method="higher"))
    return _mean([float((known(f.score[way])[f.label] > limit).mean()) for f in files
                  if f.label.any()])  # fmt: skip


def events(label: Flags) -> list[tuple[int, int]]:
    """Start and end of each stretch of anomalous rows.

    >>> events(np.array([False, True, True, False, True]))
    [(1, 3), (4, 5)]
    """
    edge = np.diff(np.concatenate([[0], label.astype(np.int8), [0]]))
    return list(
        zip(np.flatnonzero(edge == 1).tolist(), np.flatnonzero(edge == -1).tolist(), strict=True)
    )


def sustained(flag: Flags, rows: int) -> float | None:
    """Where the first verdict that stands for five rows is known, as a share of the file.

    Args:
        flag: bool[n], verdicts on the last rows of a file.
        rows: Rows of the whole file.

    >>> sustained(np.array([0, 1, 0, 1, 1, 1, 1, 1], bool), 16)
    1.0
    """
    run = np.convolve(flag, np.ones(SUSTAINED), "valid") >= SUSTAINED if len(flag) else flag
    if not run.any():
        return None
    return float((rows - len(flag) + int(np.argmax(run)) + SUSTAINED) / rows)


def roc(score: Floats, label: Flags) -> tuple[Floats, Floats]:
    """False-alarm and detection rates as the limit falls, thinned to `CURVE_POINTS`."""
    order = np.argsort(-known(score), kind="stable")
    hit = np.cumsum(label[order]) / max(1, int(label.sum()))
    wrong = np.cumsum(~label[order]) / max(1, int((~label).sum()))
    at = np.unique(np.linspace(0, len(order) - 1, min(CURVE_POINTS, len(order))).astype(int))
    return np.concatenate([[0.0], wrong[at]]), np.concatenate([[0.0], hit[at]])


def precision_recall(score: Floats, label: Flags) -> tuple[Floats, Floats]:
    """Recall and precision as the limit falls, thinned to `CURVE_POINTS`."""
    order = np.argsort(-known(score), kind="stable")
    hit = np.cumsum(label[order])
    at = np.unique(np.linspace(0, len(order) - 1, min(CURVE_POINTS, len(order))).astype(int))
    return hit[at] / max(1, int(label.sum())), hit[at] / (at + 1)


def average_precision(score: Floats, label: Flags) -> float:
    """Mean precision over the anomalous rows, from the highest score down.

    >>> average_precision(np.array([3.0, 2.0, 1.0]), np.array([True, False, True])).__round__(4)
    0.8333
    """
    hit = label[np.argsort(-score, kind="stable")]
    precision = np.cumsum(hit) / np.arange(1, len(hit) + 1)
    return float(precision[hit].mean()) if hit.any() else 0.0


def known(score: Floats) -> Floats:
    """A score with 0 where it abstains."""
    return np.nan_to_num(score, nan=0.0)


def _alarms(file: Judged, way: str) -> int:
    """Verdicts that begin on a normal row."""
    flag = file.flag[way]
    begins = flag & ~np.concatenate([[False], flag[:-1]])
    return int((begins & ~file.label).sum())


def _healthy_days(files: Sequence[Judged]) -> float:
    return sum(int((~f.label).sum()) * (f.row_s or 0.0) for f in files) / 86400.0


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if len(values) else None
