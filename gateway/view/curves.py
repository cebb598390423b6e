"""The past of one machine as curves: its signals, how far from healthy, its failures, its life."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from gateway.console.views import Series
from gateway.core.assessment import ModelKind
from gateway.latest import Verdict
from gateway.store.trend_reader import AssessmentHistory
from gateway.store.trends import Trends

FAILURE = "@failure:"
LIFE = ("hours", "low", "high")
GAP_NS = 60 * 1_000_000_000
GAP_STEPS = 5
"""A curve is broken where nothing came for this long and for so many of its usual steps."""


def curves(
    trends: Trends,
    asset: str,
    names: Sequence[str],
    signals: Mapping[str, tuple[int, str]],
    verdicts: Mapping[str, Verdict],
    *,
    start_ns: int,
    end_ns: int,
    points_max: int,
) -> list[Series]:
    """Those of `names` that there are.

    Args:
        trends: Where the past is kept.
        asset: The machine.
        names: Signals; or `@severity`, `@score`, `@limit`, `@rul`, `@failure:MODE`.
        signals: Name of each signal of the machine -> its number and unit.
        verdicts: What each bundle said of it last, by the bundle's id.
        start_ns, end_ns: UTC ns.
        points_max: Of each curve, besides its gaps; what is thinned keeps its worst points.
    """
    out = []
    history = None
    for name in names:
        if name in signals:
            number, unit = signals[name]
            s = trends.series(number, start_ns, end_ns, points_max)
            out.append(Series(name, unit, s.t_ns, s.mean, s.least, s.greatest))
        elif name.startswith("@"):
            if history is None:
                history = trends.assessments(asset, start_ns, end_ns)
            curve = _of_models(name, history, verdicts, points_max)
            if curve is not None:
                out.append(curve)
    return [_broken(curve) for curve in out]


def _broken(curve: Series) -> Series:
    """The same with NaN where nothing came: no line may be drawn over an outage."""
    step_ns = np.diff(curve.t_ns)
    if not len(step_ns):
        return curve
    usual_ns = np.median(step_ns)
    at = 1 + np.flatnonzero(step_ns > max(GAP_NS, GAP_STEPS * usual_ns))
    return replace(
        curve,
        t_ns=np.insert(curve.t_ns, at, curve.t_ns[at - 1] + int(usual_ns)),
        value=np.insert(curve.value, at, np.nan),
        low=np.insert(curve.low, at, np.nan) if len(curve.low) else curve.low,
        high=np.insert(curve.high, at, np.nan) if len(curve.high) else curve.high,
    )


def _of_models(
    name: str, history: AssessmentHistory, verdicts: Mapping[str, Verdict], points_max: int
) -> Series | None:
    if name == "@rul":
        if not set(LIFE) <= set(history.outputs):
            return None
        at = [history.outputs.index(part) for part in LIFE]
        rows = np.flatnonzero(np.isfinite(history.output[:, at[0]]))
        every = rows[:: _step(len(rows), points_max)]
        best, low, high = (history.output[every, i].astype(np.float64) for i in at)
        return Series(name, "h", history.t_ns[every], best, low, high)
    if name.startswith(FAILURE):
        mode = name.removeprefix(FAILURE)
        if mode not in history.outputs:
            return None
        share = history.output[:, history.outputs.index(mode)].astype(np.float64)
        rows = np.flatnonzero(np.isfinite(share))
        return _thinned(name, "%", history.t_ns[rows], 100 * share[rows], points_max)
    value = {
        "@severity": history.severity,
        "@score": history.score,
        "@limit": history.limit,
    }.get(name)
    if value is None:
        return None
    rows = np.flatnonzero(_of_one_detector(history, verdicts))
    return _thinned(name, "", history.t_ns[rows], value[rows], points_max)


def _of_one_detector(
    history: AssessmentHistory, verdicts: Mapping[str, Verdict]
) -> NDArray[np.bool_]:
    """Rows with a limit, without those of a candidate that only watches beside the one in use."""
    detectors = [v for v in verdicts.values() if v.kind is ModelKind.ANOMALY]
    in_use = any(not v.shadow for v in detectors)
    beside = [v.bundle for v in detectors if v.shadow and in_use]
    rows = np.isfinite(history.limit)
    return rows & ~np.isin(np.array(history.bundle, dtype=object).astype(str), beside)


def _thinned(
    name: str, unit: str, t_ns: NDArray[np.int64], value: NDArray[np.float64], points_max: int
) -> Series:
    """The worst of each few neighbours, so that no short excess is lost; NaN where all are."""
    step = _step(len(value), points_max)
    if step > 1:
        start = np.arange(0, len(value), step)
        t_ns, value = t_ns[start], np.fmax.reduceat(value, start)
    return Series(name, unit, t_ns, value)


def _step(rows: int, points_max: int) -> int:
    return max(1, -(-rows // points_max))
