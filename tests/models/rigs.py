"""Seeded records of imaginary rigs that differ in what makes detectors cry wolf."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

Floats = NDArray[np.float64]
Random = np.random.Generator


@dataclass(frozen=True, slots=True)
class Rig:
    """One rig.

    Attributes:
        make: Random numbers and rows -> float64[rows, k].
        noise: float64[k], of each signal.
        period_s: Between rows.
        rows: Of the healthy record to learn from.
        fresh: Rows that come after it.
    """

    make: Callable[[Random, int], Floats]
    noise: tuple[float, ...]
    period_s: float
    rows: int
    fresh: int


def wander(rng: Random, n: int, rows: float) -> Floats:
    """Correlated noise of standard deviation 1 that forgets itself in so many rows."""
    keep = np.exp(-1 / rows)
    push = rng.normal(size=n + int(8 * rows)) * np.sqrt(1 - keep**2)
    return np.asarray(lfilter([1], [1, -keep], push)[-n:])


def held(rng: Random, n: int, low: float, high: float, rows: int) -> Floats:
    """A set point that is changed every so many rows."""
    out: Floats = np.repeat(rng.uniform(low, high, n // rows + 2), rows)[:n]
    return out


def lag(x: Floats, rows: float) -> Floats:
    """What follows x with a time constant of so many rows."""
    keep = np.exp(-1 / rows)
    return np.asarray(lfilter([1 - keep], [1, -keep], x, zi=[keep * x[0]])[0])


def recipes(rng: Random, n: int) -> Floats:
    """Three products in turn, each with its temperature and flow."""
    product = np.repeat(rng.integers(3, size=n // 200 + 2), 200)[:n]
    heat = lag(np.array([150.0, 180, 210])[product], 10)
    flow = np.array([3.0, 4.5, 4])[product]
    return np.column_stack([heat, flow, lag(flow * 2, 3), 300 + 0.5 * heat + 10 * flow])


def building(rng: Random, n: int) -> Floats:
    """A day in every signal, and a working time in some."""
    day = np.arange(n) / 480
    outside = np.sin(2 * np.pi * day) + 0.3 * wander(rng, n, 500)
    used = lag(((day % 1 > 0.3) & (day % 1 < 0.75)).astype(float), 8)
    return np.column_stack(
        [18 + 6 * outside, 20 + 30 * used + 5 * outside, 60 - 10 * outside, 12 + used]
    )


def mains(rng: Random, n: int) -> Floats:
    """A current of 50 Hz sampled each millisecond: windows must not meet it always in phase."""
    t = np.arange(n) * 0.001
    size = 1 + 0.05 * wander(rng, n, 800)
    phase = 2 * np.pi * 50 * t + 0.1 * wander(rng, n, 2000)
    return np.column_stack([10 * size * np.sin(phase), np.sin(2 * np.pi * 24.7 * t), 5 + size / 5])


def short(rng: Random, n: int) -> Floats:
    """Steady, with noise that remembers ten rows, and hardly any record of it."""
    return np.column_stack([c + 2 * s * wander(rng, n, 10) for c, s in ((60, 0.1), (10, 0.3))])


def wide(rng: Random, n: int) -> Floats:
    """Thirty signals of four hidden causes, fast and slow."""
    causes = np.column_stack([wander(rng, n, rows) for rows in (5, 20, 60, 150)])
    return 100 + 3 * causes @ np.random.default_rng(5).normal(size=(4, 30))


def loaded(rng: Random, n: int) -> Floats:
    """A pump that follows its load, through a day that warms it."""
    load = held(rng, n, 0.4, 1.0, 150)
    slow = lag(load, 8)
    return np.column_stack([3 + 9 * slow, 1 + 2 * slow, 5 + 20 * slow, 40 + 10 * lag(load, 200)])


RIGS = {
    "recipes": Rig(recipes, (0.5, 0.05, 0.2, 1.0), 10.0, 3000, 2000),
    "building": Rig(building, (0.2, 1.0, 0.5, 0.2), 180.0, 3000, 2000),
    "mains": Rig(mains, (0.2, 0.3, 0.05), 0.001, 8000, 4000),
    "short": Rig(short, (0.1, 0.3), 1.0, 300, 2000),
    "wide": Rig(wide, (1.0,) * 30, 10.0, 2000, 2000),
    "loaded": Rig(loaded, (0.1, 0.05, 0.5, 0.2), 1.0, 3000, 2000),
}


def heater(rng: Random, n: int) -> Floats:
    """A controlled temperature, whose set point jumps, and a second one heated by steps."""
    point = np.repeat(rng.choice([40.0, 45.0, 50.0, 55.0], n // 300 + 2), 300)[:n]
    push = np.repeat(rng.choice([0.0, 20.0, 40.0], n // 450 + 2), 450)[:n]
    near = lag(point, 12)
    power = np.clip(2 * (near - 21) + 6 * (point - near), 0, 100)
    return np.column_stack([point, near, power, push, 21 + 0.3 * lag(push, 90) + 0.1 * near])


def oven(rng: Random, n: int) -> Floats:
    """Two temperatures that follow a burner late, each in its own time."""
    burner = held(rng, n, 0.2, 1.0, 120)
    return np.column_stack([burner, 20 + 60 * lag(burner, 12), 20 + 40 * lag(burner, 25)])


SWITCHED = {
    "heater": Rig(heater, (0.0, 0.15, 0.5, 0.0, 0.15), 2.0, 4000, 2000),
    "oven": Rig(oven, (0.005, 0.2, 0.2), 2.0, 4000, 2000),
}
"""Machines of which much follows late what is switched."""
