"""A rotor that runs at many speeds: well, unbalanced, misaligned or loose; with its keyphasor."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RATE_HZ = 2000.0
SAMPLES = 2048
UNBALANCE_G = 0.05
"""At 1,800 rpm; what turns unbalanced pulls with the square of its speed."""
Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Bursts:
    """`n` bursts of the same rotor.

    Attributes:
        g: float32[n, SAMPLES], acceleration.
        rpm: float32[n, SAMPLES], speed of the shaft.
        keyphasor: float32[n, SAMPLES], volts: a pulse each turn.
        pulses_s: float64[n, p], when each pulse begins, since its burst's begin; NaN behind.
    """

    g: Floats
    rpm: Floats
    keyphasor: Floats
    pulses_s: NDArray[np.float64]


def bursts(
    n: int,
    *,
    seed: int,
    unbalance: float = 1.0,
    misalignment: float = 1.0,
    looseness: float = 0.0,
) -> Bursts:
    """Each at a speed of its own between 1,500 and 2,100 rpm, which drifts by up to 2 %.

    Args:
        n: How many.
        seed: Of everything random.
        unbalance: In units of what is left after balancing.
        misalignment: In units of what is left after aligning: mostly at twice the speed.
        looseness: In units of 0.02 g at half the speed.
    """
    rng = np.random.default_rng(seed)
    at = np.arange(SAMPLES) / SAMPLES
    rpm = rng.uniform(1500, 2100, (n, 1)) * (1 + rng.uniform(-0.02, 0.02, (n, 1)) * at)
    turns = rng.uniform(0, 1, (n, 1)) + np.cumsum(rpm / 60 / RATE_HZ, axis=1)
    pull = UNBALANCE_G * (rpm / 1800) ** 2
    parts: dict[float, float | NDArray[np.float64]] = {
        0.5: 0.02 * looseness,
        1.0: pull * unbalance + 0.005 * (misalignment - 1),
        2.0: 0.02 * misalignment,
        3.0: 0.01,
    }
    g = rng.normal(0, 0.1, (n, SAMPLES))
    for order, amplitude in parts.items():
        own = 1 + rng.normal(0, 0.05, (n, 1))
        phase = 2 * np.pi * rng.uniform(0, 1, (n, 1))
        g += own * amplitude * np.cos(2 * np.pi * order * turns + phase)
    volts = np.where(turns % 1 < 0.05, 5.0, 0.0) + rng.normal(0, 0.1, (n, SAMPLES))
    return Bursts(
        g.astype(np.float32), rpm.astype(np.float32), volts.astype(np.float32), _begins_s(turns)
    )


def _begins_s(turns: NDArray[np.float64]) -> NDArray[np.float64]:
    begins = [
        np.interp(np.arange(np.ceil(row[0]), row[-1]), row, np.arange(SAMPLES) / RATE_HZ)
        for row in turns
    ]
    out = np.full((len(turns), max(map(len, begins))), np.nan)
    for row, times in zip(out, begins, strict=True):
        row[: len(times)] = times
    return out
