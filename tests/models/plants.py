"""Small seeded records of an imaginary machine, for tests of training."""

import numpy as np
from numpy.typing import NDArray

from models.record import Record

NAMES = ("speed", "current", "temperature", "vibration")
UNITS = ("rpm", "A", "°C", "mm/s")


def healthy(n: int, seed: int = 0, *, period_s: float = 1.0) -> Record:
    """A motor whose current and vibration follow its speed, and whose temperature wanders."""
    rng = np.random.default_rng(seed)
    hold = np.repeat(rng.uniform(900, 1500, n // 60 + 1), 60)[:n]
    speed = hold + rng.normal(0, 5, n)
    current = 2 + hold / 300 + rng.normal(0, 0.1, n)
    wander = np.cumsum(rng.normal(0, 1, n))
    warm = np.empty(n)
    state = 0.0
    for i, push in enumerate(np.diff(wander, prepend=0.0)):
        state = 0.99 * state + 0.02 * push
        warm[i] = state
    temperature = 55 + 0.004 * hold + warm + rng.normal(0, 0.05, n)
    vibration = 1 + (hold / 1500) ** 2 + rng.normal(0, 0.05, n)
    values = np.column_stack([speed, current, temperature, vibration])
    return Record(values, NAMES, UNITS, time_s=1e9 + np.arange(n, dtype=np.float64) * period_s)


def with_values(record: Record, values: NDArray[np.float64]) -> Record:
    """The same record with other values."""
    return Record(values, record.names, record.units, time_s=record.time_s)
