"""Turns contributions into what an operator is told of: which signal, how far, which way."""

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.features.bearing import DEFECTS, STANDS_OUT, named
from models.features.burst import base_of
from models.features.rotor import ORDERS, in_keeping_with
from models.features.speed import is_speed

LEVELS = ("last", "mean", "median", "recent_mean")
"""Features that say how high a signal is."""
FAR = 0.25
"""Of the width of the healthy range, which is 4.65 standard deviations of what is spread normally:
an order lies so far above it, 3.5 from its mean, once in 4,300 healthy windows."""
FAINT = 0.01
"""Of the strongest order of a vibration, 40 dB: what is fainter comes of how that was measured."""
SHARE_MIN = 0.1
"""A signal that carries less of the score is not named."""
NAMED_MAX = 3


@dataclass(frozen=True, slots=True)
class Healthy:
    """What one feature was while the machine was healthy.

    Attributes:
        feature: `signal:feature`.
        unit: Of the feature.
        low: Its 1st percentile in training.
        high: Its 99th percentile in training.
    """

    feature: str
    unit: str
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Driven:
    """How far one signal is from healthy, in the feature that is furthest out.

    Attributes:
        signal: The name.
        feature: As in the catalogue of features; "" where none is known.
        how: `high` or `low` where it is out of its healthy range; `high_here`, `low_here` or
            `unusual_here` where it is within, but not for these conditions; `changed` where no
            range is known.
        value: With as many decimals as tell the range, and its unit.
        low, high: The healthy range, likewise, without a unit.
    """

    signal: str
    feature: str = ""
    how: str = "changed"
    value: str = ""
    low: str = ""
    high: str = ""


def drivers(
    contribution: NDArray[np.float32],
    direction: NDArray[np.int8],
    signals: Sequence[str],
    features: NDArray[np.float32],
    healthy: Sequence[Healthy],
) -> tuple[Driven, ...]:
    """What drives the score of one window, the strongest first.

    Args:
        contribution: float32[k], share of the score due to each signal.
        direction: int8[k], +1 higher than expected, -1 lower, 0 changed otherwise.
        signals: The `k` names.
        features: float32[d], the window's features, in the order of `healthy`.
        healthy: The `d` ranges, as `healthy_of` reads them from a manifest.

    Returns:
        At least one where any contribution is above 0.
    """
    share = np.where(np.isfinite(contribution), contribution, 0)
    order = [int(i) for i in np.argsort(-share, kind="stable")[:NAMED_MAX] if share[i] > 0]
    named = [i for i in order if share[i] >= SHARE_MIN] or order[:1]
    ranges: dict[str, list[tuple[int, Healthy]]] = {signals[i]: [] for i in named}
    for at, range_ in enumerate(healthy):
        if (subject := range_.feature.rpartition(":")[0]) in ranges:
            ranges[subject].append((at, range_))
    return tuple(
        _driver(signals[i], int(direction[i]), features, ranges[signals[i]]) for i in named
    )


def bearing_fault(
    driven: Sequence[Driven], features: NDArray[np.float32], healthy: Sequence[Healthy]
) -> tuple[Driven, str] | None:
    """The order of a bearing's defect that stands out furthest, and the part that is damaged.

    Args:
        driven: The drivers, the strongest first.
        features: float32[d], of the window, in the order of `healthy`.
        healthy: The `d` ranges.

    Returns:
        The order, as a driver, and the part, as `models.features.bearing` calls it; None where none
        stands out of the floor and far above its own healthy range.
    """
    for base, high in _raised(driven, DEFECTS, features, healthy, 0.0):
        part = named({name: order.value for name, order in high.items()}, STANDS_OUT)
        if part:
            lead = max(high, key=lambda name: high[name].value)
            return _driver(f"{base} {lead}", 1, features, high[lead].ranges), part
    return None


def rotor_fault(
    driven: Sequence[Driven], features: NDArray[np.float32], healthy: Sequence[Healthy]
) -> tuple[Driven, str] | None:
    """The order of a shaft that is furthest above its healthy range, and a fault that fits.

    Args:
        driven: The drivers, the strongest first.
        features: float32[d], of the window, in the order of `healthy`.
        healthy: The `d` ranges.

    Returns:
        The order, as a driver, and the fault, as `in_keeping_with` calls it; None where no order
        is far above.
    """
    for base, high in _raised(driven, ORDERS, features, healthy, FAINT):
        if high:
            lead = max(high, key=lambda name: high[name].beyond)
            return _driver(f"{base} {lead}", 1, features, high[lead].ranges), in_keeping_with(high)
    return None


@dataclass(frozen=True, slots=True)
class _Order:
    """One order of one vibration: how far above its healthy range at most, its value there (widths
    of the range, and its own unit), and its features that say how high it is."""

    beyond: float
    value: float
    ranges: tuple[tuple[int, Healthy], ...]


def _raised(
    driven: Sequence[Driven],
    names: Collection[str],
    features: NDArray[np.float32],
    healthy: Sequence[Healthy],
    faint: float,
) -> Iterator[tuple[str, dict[str, _Order]]]:
    """Each vibration that drives the score, and its orders far above their healthy ranges and above
    `faint` times its strongest.

    What shakes at one order shows in the RMS and the bands as well, and these may carry more of the
    score; so any driver of a vibration has all orders of that looked at. Where every vibration
    shakes more than at this speed, it is the speed that does not fit; so that has all looked at.
    """
    bases = [base_of(each.signal) for each in driven]
    if not {each.signal for each in driven}.isdisjoint(_speeds(healthy)):
        bases += [base_of(range_.feature.rpartition(":")[0]) for range_ in healthy]
    for base in dict.fromkeys(bases):
        orders = _orders(base, names, features, healthy)
        least = faint * max((order.value for order in orders.values()), default=0.0)
        yield (
            base,
            {n: each for n, each in orders.items() if each.beyond >= FAR and each.value >= least},
        )


def _speeds(healthy: Sequence[Healthy]) -> set[str]:
    """The signals that are a shaft's speed, by their unit or name."""
    named = ((range_.feature.rpartition(":")[0], range_) for range_ in healthy)
    return {
        signal
        for signal, range_ in named
        if is_speed(signal) or (range_.unit == "rpm" and _is_level(range_.feature))
    }


def _orders(
    base: str,
    names: Collection[str],
    features: NDArray[np.float32],
    healthy: Sequence[Healthy],
) -> dict[str, _Order]:
    found: dict[str, list[tuple[int, Healthy]]] = {}
    for at, range_ in enumerate(healthy):
        subject = range_.feature.rpartition(":")[0]
        name = subject.removeprefix(f"{base} ")
        if base and name in names and _is_level(range_.feature) and math.isfinite(features[at]):
            found.setdefault(name, []).append((at, range_))
    out = {}
    for name, ranges in found.items():
        beyond = [(float(features[at]) - range_.high) / _width(range_) for at, range_ in ranges]
        best = int(np.argmax(beyond))
        out[name] = _Order(beyond[best], float(features[ranges[best][0]]), tuple(ranges))
    return out


def _driver(
    signal: str,
    direction: int,
    features: NDArray[np.float32],
    healthy: Sequence[tuple[int, Healthy]],
) -> Driven:
    best = _furthest(features, healthy)
    if best is not None and best[0] <= 0:
        # Within its ranges; a side is the level's, and no side is that of how it fluctuates.
        told = [(at, r) for at, r in healthy if _is_level(r.feature) == bool(direction)]
        best = _furthest(features, told) or best
    if best is None:
        return Driven(signal)
    _, at, range_ = best
    value = float(features[at])
    how = "high" if value > range_.high else "low" if value < range_.low else ""
    if not how:
        how = {1: "high_here", -1: "low_here"}.get(direction, "unusual_here")
    unit = f" {range_.unit}" if range_.unit else ""
    digits = _digits(range_.low, range_.high, value)
    return Driven(
        signal,
        range_.feature.rpartition(":")[2],
        how,
        f"{value:.{digits}f}{unit}",
        f"{range_.low:.{digits}f}",
        f"{range_.high:.{digits}f}",
    )


def _is_level(feature: str) -> bool:
    return feature.rpartition(":")[2] in LEVELS


def _furthest(
    features: NDArray[np.float32], healthy: Sequence[tuple[int, Healthy]]
) -> tuple[float, int, Healthy] | None:
    """How far the feature that is furthest out lies beyond its range (widths of it), and which."""
    best: tuple[float, int, Healthy] | None = None
    for at, range_ in healthy:
        value = float(features[at])
        if not math.isfinite(value):
            continue
        outside = max(range_.low - value, value - range_.high) / _width(range_)
        if best is None or outside > best[0]:
            best = outside, at, range_
    return best


def _width(range_: Healthy) -> float:
    low, high = range_.low, range_.high
    return max(high - low, 1e-9 * max(abs(high), abs(low)), 1e-30)


def _digits(low: float, high: float, value: float) -> int:
    """Decimals that show the width of the range with two figures."""
    width = max(high - low, 0.01 * abs(value), 1e-9)
    return min(max(1 - math.floor(math.log10(width)), 0), 9)


def healthy_of(detail: object) -> tuple[Healthy, ...]:
    """The ranges that training wrote into `manifest.detail["healthy"]`; empty if none."""
    rows = detail.get("healthy", ()) if isinstance(detail, dict) else ()
    return tuple(
        Healthy(str(row["feature"]), str(row["unit"]), float(row["low"]), float(row["high"]))
        for row in rows
    )
