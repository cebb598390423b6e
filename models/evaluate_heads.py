"""Measures a failure or remaining-life model on rows that it has not seen, beside a yardstick."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingRegressor, RandomForestClassifier
from sklearn.metrics import average_precision_score, f1_score
from threadpoolctl import threadpool_limits

from models.bundle import Bundle
from models.features.plan import FeaturePlan
from models.heads import answer, describe, grid_of
from models.manifest import Manifest
from models.record import Record

YARDSTICK_TREES = 300
YARDSTICK_ROWS_MAX = 40_000
BINS = (0, 0.01, 0.03, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0 + 1e-9)

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Heard:
    """What was said of one output, and what was true.

    Attributes:
        name: Failure mode; "remaining life".
        true: float64[n], 0 and 1, or rows left.
        said: Way (int8, fp32, yardstick) -> float64[n].
        low: float64[n], lower end of the interval (remaining life), else empty.
        high: float64[n], its upper end; infinite where it may be more than the model tells apart.
    """

    name: str
    true: Floats
    said: dict[str, Floats]
    low: Floats
    high: Floats


def hear(bundle: Bundle, tests: Record, truth: Floats, train: Record | None) -> list[Heard]:
    """Ask a model, and a yardstick on the same features, about every row whose truth is known.

    Args:
        bundle: Of kind failure or rul.
        tests: What is judged.
        truth: float64[n, m], a column a failure mode, or one of rows left; NaN where unknown.
        train: What the model was trained on, for the yardstick; None for none.
    """
    manifest = bundle.manifest
    said = {way: answer(bundle, tests, precision=way).values for way in ("int8", "fp32")}
    rows = ~np.isnan(said["int8"]).any(axis=1)
    labels = manifest.labels if manifest.kind == "failure" else ("remaining life",)
    out = []
    for i, name in enumerate(labels):
        at = np.flatnonzero(rows & np.isfinite(truth[:, i]))
        ways = {way: value[at, i].astype(np.float64) for way, value in said.items()}
        if train is not None:
            ways["yardstick"] = _yardstick(bundle, train, name, tests)[at]
        ends = (
            said["int8"][at, 1:3].astype(np.float64) if manifest.kind == "rul" else np.zeros((0, 2))
        )
        out.append(Heard(name, truth[at, i], ways, ends[:, 0], ends[:, 1]))
    return out


def life_left(record: Record, cap: float) -> Floats:
    """float64[n, 1], by the label, or rows until the end of each sequence; flat above `cap`."""
    out = np.empty((len(record), 1))
    for column in record.labels.values():
        return np.minimum(column, cap)[:, None]
    for _, rows in record.sequences():
        out[rows, 0] = np.minimum(np.arange(len(rows))[::-1], cap)
    return out


def last_rows(record: Record, left: Floats, cap: float) -> Floats:
    """float64[n, 1], NaN but in the last row of each sequence, which is given.

    Raises:
        ValueError: Another number of sequences than of remaining lives.
    """
    sequences = list(record.sequences())
    if len(sequences) != len(left):
        raise ValueError(f"must hold one number a sequence, {len(sequences)}, held {len(left)}")
    out = np.full((len(record), 1), np.nan)
    for (_, rows), each in zip(sequences, left, strict=True):
        out[rows[-1], 0] = min(float(each), cap)
    return out


def measures(heard: Heard) -> dict[str, dict[str, Any]]:
    """Way -> its measures."""
    life = bool(len(heard.low))
    out: dict[str, dict[str, Any]] = {}
    for way, said in heard.said.items():
        if life:
            inside = (heard.true >= heard.low) & (heard.true <= heard.high)
            out[way] = {
                "rows": len(said),
                "rmse": float(np.sqrt(np.mean((said - heard.true) ** 2))),
                "mean_error": float(np.mean(said - heard.true)),
                "interval_holds": float(inside.mean()) if way == "int8" else None,
            }
            continue
        true = heard.true > 0.5
        some = bool(true.any())
        out[way] = {
            "rows": len(said),
            "failures": int(true.sum()),
            "average_precision": float(average_precision_score(true, said)) if some else None,
            "found_at_half": float(np.mean(said[true] > 0.5)) if some else None,
            "false_at_half": float(np.mean(said[~true] > 0.5)) if not true.all() else None,
            "f1_at_half": float(f1_score(true, said > 0.5)) if some else None,
            "brier": float(np.mean((said - true) ** 2)),
        }
    return out


def reliability(true: NDArray[np.bool_], said: Floats) -> list[dict[str, float]]:
    """Said against seen, in bins that widen towards the middle."""
    out = []
    for low, high in pairwise(BINS):
        inside = (said >= low) & (said < high)
        if inside.any():
            out.append(
                {
                    "said": float(said[inside].mean()),
                    "seen": float(true[inside].mean()),
                    "rows": float(inside.sum()),
                }
            )
    return out


def _with_pairs(x: NDArray[np.float32], manifest: Manifest) -> NDArray[np.float32]:
    """The features, and the products and differences that training derived from them."""
    at = {name: column for column, name in enumerate(manifest.features)}
    parts = [x]
    for what, combine in (("products", np.multiply), ("differences", np.subtract)):
        parts += [
            combine(x[:, at[a]], x[:, at[b]])[:, None] for a, b in manifest.detail.get(what, ())
        ]
    return np.concatenate(parts, axis=1)


def _yardstick(bundle: Bundle, train: Record, label: str, tests: Record) -> Floats:
    """float64[n], a forest's probability or a boosting's rows left, by the model's features."""
    manifest = bundle.manifest
    plan, grid = FeaturePlan.from_manifest(manifest), grid_of(manifest)
    keep = np.zeros(len(train), bool)
    keep[:: max(1, -(-len(train) // YARDSTICK_ROWS_MAX))] = True
    x, ready = describe(train.select(plan.signals), plan, grid, keep=keep)
    asked, _ = describe(tests.select(plan.signals), plan, grid)
    filled, asked = (_with_pairs(np.nan_to_num(each), manifest) for each in (x, asked))
    if manifest.kind == "rul":
        cap = float(manifest.detail["cap"])
        left = life_left(train, cap)[:, 0]
        boosting = HistGradientBoostingRegressor(random_state=0)
        with threadpool_limits(1, user_api="openmp"):
            ready &= np.isfinite(left)
            boosting.fit(filled[ready], left[ready])
            return np.clip(np.asarray(boosting.predict(asked), np.float64), 0, cap)
    true = train.labels[label]
    known = ready & ~np.isnan(true)
    forest = RandomForestClassifier(YARDSTICK_TREES, random_state=0, n_jobs=1)
    forest.fit(filled[known], true[known] > 0.5)
    return np.asarray(forest.predict_proba(asked)[:, -1], np.float64)
