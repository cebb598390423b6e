"""The phrases of what a model found: an anomaly, what drives it, a sensor not to be believed."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from gateway.core.alarm import Contribution
from gateway.core.texts import Phrase, as_said
from models import explain
from models.explain import Driven, Healthy
from models.features.bearing import DEFECTS
from models.features.burst import base_of
from models.features.catalogue import CATALOGUE
from models.features.rotor import ORDERS
from models.pairs import Gap
from models.sensors import SensorFault

THE_LEVEL_ITSELF = ("", "last", "mean")
"""Features that need no word of their own after the signal's name."""


def anomaly(
    asset: str,
    where: str,
    why: Sequence[Contribution],
    similar: Phrase | None,
    fixed: Sequence[Phrase] = (),
) -> Phrase:
    """That a machine runs unlike itself: in which condition, why, like what before, and what else
    is not what it always was."""
    told = because(why)
    if fixed:
        # Within what is there: an alarm that was kept by a version before is still said.
        told = Phrase("anomaly.fixed", why=told, moved=tuple(fixed))
    return Phrase(
        "anomaly.text",
        asset=asset,
        at=Phrase("anomaly.at", condition=where) if where else "",
        why=told,
        similar=Phrase("anomaly.similar", similar=similar) if similar else "",
    )


def because(why: Sequence[Contribution]) -> Phrase | str:
    """What drives a finding, as its sentence ends with it; "" where nothing does."""
    return Phrase("anomaly.why", drivers=tuple(each.text for each in why)) if why else ""


def drivers(
    contribution: NDArray[np.float32],
    direction: NDArray[np.int8],
    signals: Sequence[str],
    features: NDArray[np.float32],
    healthy: Sequence[Healthy],
) -> tuple[Contribution, ...]:
    """What drives the score of one window, strongest first; see `models.explain.drivers`."""
    share = dict(zip(signals, contribution.tolist(), strict=True))
    driven = explain.drivers(contribution, direction, signals, features, healthy)
    said = {each.signal: driver(each) for each in driven}
    # A worn bearing shakes the shaft too; a shaft out of balance wears no bearing at once.
    if found := explain.bearing_fault(driven, features, healthy):
        order, part = found
        said[order.signal] = _keeping(order, Phrase("driver.damage", part=_part(part)))
    elif found := explain.rotor_fault(driven, features, healthy):
        order, fault = found
        said[order.signal] = _keeping(order, Phrase(f"rotor.{fault}"))
    return tuple(Contribution(signal, share[signal], text) for signal, text in said.items())


def _keeping(order: Driven, fault: Phrase) -> Phrase:
    """How far an order is from healthy, and what it is in keeping with."""
    return Phrase("driver.keeping", driver=driver(order), fault=fault)


def driver(driven: Driven) -> Phrase:
    """How far a signal is from healthy: `vibration 7.9 mm/s, high (usually 1.8 to 2.6)`."""
    signal, feature = _subject(driven.signal), driven.feature
    subject: str | Phrase = signal
    if feature not in THE_LEVEL_ITSELF:
        known = feature in CATALOGUE
        named = Phrase(f"feature.{feature}") if known else as_said(feature)
        subject = Phrase("driver.of", signal=signal, feature=named)
    if driven.how == "changed":
        return Phrase("driver.changed", subject=subject)
    return Phrase(
        f"driver.{driven.how}",
        subject=subject,
        value=driven.value,
        low=driven.low,
        high=driven.high,
    )


def _subject(signal: str) -> str | Phrase:
    """A signal as it is called in a sentence: `vibration at 1x of the shaft`."""
    base = base_of(signal)
    order = signal.removeprefix(f"{base} ")
    if base and order in ORDERS:
        return Phrase("driver.order", signal=base, order=order)
    if base and order in DEFECTS:
        return Phrase("driver.knocks", signal=base, part=_part(order))
    return signal


def _part(defect: str) -> Phrase:
    """A part of a bearing by its name."""
    return Phrase(f"bearing.{defect.replace(' ', '_')}")


def sensor(asset: str, signal: str, fault: SensorFault) -> Phrase:
    """Why a sensor cannot be believed."""
    return Phrase(f"sensor.{fault.name.lower()}", signal=signal, asset=asset)


def outvoted(asset: str, signal: str, others: Sequence[str]) -> Phrase:
    """That a sensor parts from others, which go on agreeing."""
    return Phrase("sensor.outvoted", signal=signal, asset=asset, others=", ".join(others))


def apart(asset: str, signals: Sequence[str], units: Sequence[str], gap: Gap) -> Phrase:
    """That two sensors no longer agree, and by how much."""
    by = abs(gap.by)
    digits = max(0, 1 - math.floor(math.log10(by))) if by else 0
    return Phrase(
        f"sensor.apart_{'higher' if gap.by > 0 else 'lower'}",
        signal=signals[gap.strayed],
        other=signals[gap.other],
        asset=asset,
        gap=f"{by:.{digits}f} {units[gap.strayed]}",
        stayed=Phrase("sensor.apart_stayed") if gap.stayed else "",
    )


def condition(where: str, share: float | None) -> Phrase | None:
    """An operating condition and how usual it is; None where nothing names one."""
    if not where:
        return None
    return Phrase("context.usual", condition=where, share=share) if share else as_said(where)
