"""What the machines of the benchmarks send: healthy, at work, as often as their model asks."""

import numpy as np
from numpy.typing import NDArray

from gateway.demo.machines import CLASSES
from gateway.demo.record import healthy, stretches
from models.bundle import Bundle

HOURS = 1.5
"""Of a record, in which every machine of the demo works for some ten minutes without a stop."""


def period_s(bundle: Bundle) -> float:
    """From one row to the next."""
    return bundle.manifest.window.period_s or 1.0


def rows(bundle: Bundle, n: int) -> NDArray[np.float64]:
    """float64[n, k], each of the bundle's signals; the middle of their ranges for other machines.

    A machine that stands, or is read at another rate than its model knows, is no healthy machine:
    what alarms of all assets cost would be counted with the samples. Where the longest stretch of
    work is shorter than `n`, it is gone through forward and back.
    """
    manifest = bundle.manifest
    names = [signal.name for signal in manifest.signals]
    if manifest.asset_class not in CLASSES:
        middle = [((s.low or 0.0) + (s.high or 0.0)) / 2 for s in manifest.signals]
        return np.tile(np.array(middle), (n, 1))
    record = healthy(manifest.asset_class, hours=HOURS, seed=3, rate_hz=1 / period_s(bundle))
    number = stretches(manifest.asset_class, record)
    longest = int(np.argmax(np.bincount(number[number >= 0])))
    at_work = np.stack([record[name][number == longest] for name in names], axis=1)
    there_and_back = np.concatenate([at_work, at_work[::-1]])
    return there_and_back[np.arange(n) % len(there_and_back)]
