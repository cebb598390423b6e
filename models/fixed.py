"""What never changed in the record that taught a model: nobody knows what a change of it does."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

CLOSE = 1e-6
"""Of its value, within which a signal is as it was: what a float32 on the way makes of it."""

Floats = NDArray[np.float64]


def fixed_of(detail: Mapping[str, Any]) -> dict[str, float]:
    """The signals that `manifest.detail["fixed"]` names, and what they always were.

    >>> fixed_of({"fixed": {"standby": 0, "valve": "shut"}}), fixed_of({"fixed": 3}), fixed_of({})
    ({'standby': 0.0}, {}, {})
    """
    held = detail.get("fixed")
    pairs = held.items() if isinstance(held, dict) else ()
    return {name: float(was) for name, was in pairs if isinstance(was, int | float)}


def moved(value: Floats, was: Floats | float) -> NDArray[np.bool_]:
    """Where a signal is not what it always was; a missing value is no change.

    >>> moved(np.array([5.0, 5.000001, 5.1, np.nan]), 5.0).tolist()
    [False, False, True, False]
    """
    out: NDArray[np.bool_] = np.abs(value - was) > CLOSE * np.abs(was)
    return out
