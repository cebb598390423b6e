"""What failure and remaining-life models say, as conditions for the alarms."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gateway.core.alarm import Cause, Condition, Contribution, Priority
from gateway.core.assessment import Assessments, ModelKind
from gateway.core.texts import Phrase
from gateway.pipeline import wording
from models.manifest import Manifest

FAILURE_AT = 0.5
LIFE_H = 24.0
LIFE_SHARE = 0.25
"""Unset, the alarm comes at 24 h, or at this share of the longest life that is told apart."""
LIFE_SPAN = 100.0
"""A life of 1 % of the alarm's is as severe as none at all."""


def reach_h(manifest: Manifest) -> float:
    """The longest remaining life that a model tells apart, in hours; inf where it does not say."""
    cap, row_s = manifest.detail.get("cap"), manifest.detail.get("row_s")
    return float(cap) * float(row_s) / 3600 if cap and row_s else float("inf")


@dataclass(frozen=True, slots=True, eq=False)
class AlarmsAt:
    """Where the forecasts of one bundle alarm, for each of its `a` assets.

    Attributes:
        probability: float64[a], of a failure mode.
        life_h: float64[a], hours that are left.
    """

    probability: NDArray[np.float64]
    life_h: NDArray[np.float64]

    @classmethod
    def of(
        cls, manifest: Manifest, probability: Sequence[float], life_h: Sequence[float | None]
    ) -> "AlarmsAt":
        """As configured; a life that is None is chosen by what the model tells apart."""
        default = min(LIFE_H, LIFE_SHARE * reach_h(manifest))
        return cls(
            np.array(probability, dtype=np.float64),
            np.array([default if hours is None else hours for hours in life_h]),
        )

    def levels(self, a: Assessments, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """How near each alarm is.

        Args:
            a: Of a failure or remaining-life model; `n` rows.
            rows: int64[n], which of the assets each row is of.

        Returns:
            float64[n, m], 1 at the alarm and more beyond it; NaN where nothing is known. `m` is
            the number of failure modes, or 1.
        """
        assert a.output is not None
        value = a.output.astype(np.float64)
        if a.kind is ModelKind.FAILURE:
            return value / self.probability[rows, None]
        low, life_h = value[:, [a.outputs.index("low")]], self.life_h[rows, None]
        return life_h / np.maximum(low, life_h / LIFE_SPAN)


def shares(
    a: Assessments,
    rows: NDArray[np.int64],
    level: NDArray[np.float64],
    without: NDArray[np.float32],
) -> NDArray[np.float32]:
    """How much of each row's nearest alarm is due to each signal.

    Args:
        a: Of a failure or remaining-life model.
        rows: int64[r], rows that alarm.
        level: float64[n, m], as `AlarmsAt.levels` gives it.
        without: float32[r, k, m], the same outputs with one signal at a time taken away.

    Returns:
        float32[r, k], each row's sum 1, or 0 where no signal alone carries it.
    """
    assert a.output is not None
    if a.kind is ModelKind.FAILURE:
        column = level[rows].argmax(axis=1)
        at = np.arange(len(rows))
        less = a.output[rows, column][:, None] - without[at, :, column]
    else:
        hours = a.outputs.index("hours")
        less = without[:, :, hours] - a.output[rows, hours][:, None]
    less = np.maximum(np.nan_to_num(less), 0)
    return np.asarray(less / np.maximum(less.sum(axis=1, keepdims=True), 1e-12), np.float32)


def condition(
    a: Assessments,
    row: int,
    column: int,
    level: float | None,
    life_h: float,
    horizon_s: Mapping[str, float],
    why: tuple[Contribution, ...] = (),
) -> Condition:
    """What one row says of one failure mode, or of the remaining life.

    Args:
        a: Of a failure or remaining-life model.
        row: Which asset.
        column: Which failure mode.
        level: As `AlarmsAt.levels` gives it; None where the model abstains.
        life_h: The hours at which this asset's remaining life alarms.
        horizon_s: How far ahead each mode is announced, where the model knows.
        why: The signals without which the model would say less.
    """
    assert a.output is not None
    asset, t_ns = a.assets[row], int(a.t_ns[row])
    because = wording.because(why)
    if a.kind is ModelKind.FAILURE:
        mode = a.outputs[column]
        within = Phrase("forecast.within", span=span(horizon_s[mode])) if mode in horizon_s else ""
        return Condition(
            asset,
            f"failure.{mode}",
            Cause.FAILURE,
            None if level is None else level >= 1,
            t_ns,
            severity=level or 0.0,
            priority=Priority.HIGH,
            text=Phrase(
                "forecast.failure",
                asset=asset,
                mode=mode.replace("_", " "),
                within=within,
                probability=float(a.output[row, column]),
                why=because,
            ),
            drivers=why,
        )
    hours, low, high = (float(a.output[row, a.outputs.index(n)]) for n in ("hours", "low", "high"))
    left, least, most = (span(3600 * each) for each in (hours, low, high))
    text = (
        Phrase("forecast.rul_open", asset=asset, left=left, low=least, why=because)
        if math.isinf(high)
        else Phrase("forecast.rul", asset=asset, left=left, low=least, high=most, why=because)
    )
    return Condition(
        asset,
        "rul",
        Cause.RUL,
        None if level is None else level > 1,
        t_ns,
        severity=level or 0.0,
        priority=Priority.HIGH if hours < life_h else Priority.MEDIUM,
        text=text,
        drivers=why,
    )


def span(seconds: float) -> str:
    """A length of time as a person says it: `24 h`, `3 d`, `90 s`."""
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s"
