"""What failure and remaining-life models say, as conditions for the alarms."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from gateway.core.alarm import Cause, Condition, Priority
from gateway.core.assessment import Assessments, ModelKind
from models.bundle import Manifest

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


def life_of(given: float | None, manifest: Manifest) -> float:
    """The remaining hours at which an asset alarms."""
    return given if given is not None else min(LIFE_H, LIFE_SHARE * reach_h(manifest))


def levels(
    a: Assessments, at: NDArray[np.float64], life_h: NDArray[np.float64]
) -> NDArray[np.float64]:
    """How near each alarm of each row is.

    Args:
        a: Of a failure or remaining-life model; `n` rows.
        at: float64[n], the probability at which a failure mode alarms.
        life_h: float64[n], the hours at which a remaining life alarms.

    Returns:
        float64[n, m], 1 at the alarm and more beyond it; NaN where nothing is known. `m` is the
        number of failure modes, or 1.
    """
    assert a.output is not None
    value = a.output.astype(np.float64)
    if a.kind is ModelKind.FAILURE:
        return value / at[:, None]
    low = value[:, [a.outputs.index("low")]]
    return life_h[:, None] / np.maximum(low, life_h[:, None] / LIFE_SPAN)


def condition(
    a: Assessments,
    row: int,
    column: int,
    level: float | None,
    life_h: float,
    horizon_s: Mapping[str, float],
) -> Condition:
    """What one row says of one failure mode, or of the remaining life.

    Args:
        a: Of a failure or remaining-life model.
        row: Which asset.
        column: Which failure mode.
        level: As `levels` gives it; None where the model abstains.
        life_h: The hours at which this asset's remaining life alarms.
        horizon_s: How far ahead each mode is announced, where the model knows.
    """
    assert a.output is not None
    asset, t_ns = a.assets[row], int(a.t_ns[row])
    if a.kind is ModelKind.FAILURE:
        mode = a.outputs[column]
        within = f" within {span(horizon_s[mode])}" if mode in horizon_s else ""
        return Condition(
            asset,
            f"failure.{mode}",
            Cause.FAILURE,
            None if level is None else level >= 1,
            t_ns,
            severity=level or 0.0,
            priority=Priority.HIGH,
            text=f"{asset} is heading for {mode}{within}: probability {a.output[row, column]:.0%}",
        )
    hours, low, high = (float(a.output[row, a.outputs.index(n)]) for n in ("hours", "low", "high"))
    left, least, most = (span(3600 * each) for each in (hours, low, high))
    return Condition(
        asset,
        "rul",
        Cause.RUL,
        None if level is None else level > 1,
        t_ns,
        severity=level or 0.0,
        priority=Priority.HIGH if hours < life_h else Priority.MEDIUM,
        text=f"{asset} has about {left} left ({least} to {most})",
    )


def span(seconds: float) -> str:
    """A length of time as a person says it: `24 h`, `3 d`, `90 s`."""
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s"
