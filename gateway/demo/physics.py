"""The mathematics that the simulated machines share: lags, noise, faults and work programmes.

Pure numpy over columns of time: a column of `n` steps is computed at once, and what must survive
from one column to the next is carried in a small object. No clock, no I/O.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Column = NDArray[np.float64]

LAG_STEPS_TAU_MAX = 200.0
"""Longest stretch, in time constants, solved in one go; exp(200) is far from overflow."""

FAULTS = ("bearing_wear", "blocked_outlet", "overheating", "imbalance")


@dataclass(slots=True)
class Lag:
    """First-order lag, `tau dy/dt = u - y`, exact for an input that is constant within a step.

    Attributes:
        tau_s: Time constant, > 0.
        y: The state now; NaN until the first input, which it then starts from (settled).
    """

    tau_s: float
    y: float = float("nan")

    def follow(self, u: Column, dt_s: float) -> Column:
        """The lagged column, float64[n], for the input column `u`, float64[n]."""
        if not len(u):
            return u
        if np.isnan(self.y):
            self.y = float(u[0])
        out = np.empty_like(u)
        # A step far longer than the time constant settles either way.
        ratio = min(dt_s / self.tau_s, LAG_STEPS_TAU_MAX)
        block = max(1, int(LAG_STEPS_TAU_MAX / ratio))
        for start in range(0, len(u), block):
            part = u[start : start + block]
            # y[i] = a^i (y0 + (1-a) sum_j u[j] a^-j): the recurrence without a loop.
            decay = np.exp(-ratio * np.arange(1, len(part) + 1))
            gain = -np.expm1(-ratio)
            y = decay * (self.y + gain * np.cumsum(part / decay))
            out[start : start + block] = y
            self.y = float(y[-1])
        return out


@dataclass(slots=True)
class Wander:
    """Slow random change about zero (an Ornstein-Uhlenbeck process), the same at any step size.

    Attributes:
        tau_s: Correlation time.
        sigma: Standard deviation in the long run.
    """

    tau_s: float
    sigma: float
    lag: Lag = field(init=False)

    def __post_init__(self) -> None:
        self.lag = Lag(self.tau_s)

    def take(self, n: int, dt_s: float, random: np.random.Generator) -> Column:
        """The next `n` steps, float64[n]."""
        if np.isnan(self.lag.y):
            self.lag.y = float(random.normal(0.0, self.sigma))
        a = np.exp(-dt_s / self.tau_s)
        kick = self.sigma * np.sqrt((1 + a) / (1 - a))
        return self.lag.follow(random.normal(0.0, kick, n), dt_s)


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault that grows on one machine.

    Attributes:
        kind: One of `FAULTS`.
        at_s: When it begins, in the machine's own seconds since its start.
        grow_s: How long until it is fully grown.
        level: How bad it is when fully grown; 1 is what a mechanic would stop the machine for.
        power: Shape of the growth; 1 is linear, 3 is slow at first and fast at the end.
    """

    kind: str
    at_s: float
    grow_s: float = 30.0
    level: float = 1.0
    power: float = 1.0

    def __post_init__(self) -> None:
        if self.kind not in FAULTS:
            raise ValueError(f"fault.kind: must be one of {', '.join(FAULTS)}, was {self.kind!r}")
        if not (self.grow_s > 0 and self.at_s >= 0 and 0 < self.level <= 3 and self.power > 0):
            raise ValueError(
                "fault: grow_s and power must be above 0, at_s 0 or more, level above 0 and 3 at "
                f"most, was {self}"
            )

    def severity(self, t_s: Column) -> Column:
        """How far it has grown at each time, float64[n], 0 before it begins."""
        return self.level * np.clip((t_s - self.at_s) / self.grow_s, 0.0, 1.0) ** self.power


def severities(faults: list[Fault], t_s: Column) -> dict[str, Column]:
    """Severity of every kind of fault at each time; several of one kind add up."""
    total = {kind: np.zeros_like(t_s) for kind in FAULTS}
    for fault in faults:
        total[fault.kind] += fault.severity(t_s)
    return total


@dataclass(frozen=True, slots=True)
class Segment:
    """One stretch of a machine's work: how long, how fast, how hard (fractions of rated)."""

    duration_s: float
    speed: float
    load: float


@dataclass(slots=True)
class Programme:
    """What a machine is told to do, segment after segment, drawn by its class.

    Attributes:
        draw: Gives the next segment from the random generator and the seconds since the start.
    """

    draw: Callable[[np.random.Generator, float], Segment]
    segment: Segment = Segment(0.0, 0.0, 0.0)
    left_s: float = 0.0
    t_s: float = 0.0

    def take(self, n: int, dt_s: float, random: np.random.Generator) -> tuple[Column, Column]:
        """Speed and load set points of the next `n` steps, each float64[n]."""
        speed, load = np.empty(n), np.empty(n)
        i = 0
        while i < n:
            if self.left_s < dt_s / 2:
                self.segment = self.draw(random, self.t_s)
                self.left_s = self.segment.duration_s
            steps = min(n - i, max(1, round(self.left_s / dt_s)))
            speed[i : i + steps] = self.segment.speed
            load[i : i + steps] = self.segment.load
            self.left_s -= steps * dt_s
            self.t_s += steps * dt_s
            i += steps
        return speed, load


def resolve(value: Column, step: float) -> Column:
    """What a sensor of this resolution shows."""
    return np.round(value / step) * step
