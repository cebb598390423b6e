"""How bad a vibration is by the standard, without any model: the zones of ISO 20816-3."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Support = Literal["rigid", "flexible"]

ZONES = ("A", "B", "C", "D")
"""A newly commissioned; B fit for long operation; C not for long, plan a repair; D damage."""
LIMITS_MM_S: dict[tuple[int, Support], tuple[float, float, float]] = {
    (1, "rigid"): (2.3, 4.5, 7.1),
    (1, "flexible"): (3.5, 7.1, 11.0),
    (2, "rigid"): (1.4, 2.8, 4.5),
    (2, "flexible"): (2.3, 4.5, 7.1),
}
"""Velocity RMS at the boundaries A/B, B/C, C/D, by group of machine and support. Group 1: above
300 kW, or shaft height 315 mm and more; group 2: 15 to 300 kW. ISO 20816-3:2022, tables A.1 and A.2
(the values of ISO 10816-3:2009)."""


def zone(velocity_mm_s: Floats, *, group: int = 2, support: Support = "rigid") -> NDArray[np.str_]:
    """The zone of each velocity RMS; "" where it is not a number.

    >>> zone(np.array([1.0, 2.0, 3.0, 9.0, np.nan]))
    array(['A', 'B', 'C', 'D', ''], dtype='<U1')
    """
    limits = LIMITS_MM_S[group, support]
    names = np.array([*ZONES, ""])
    at = np.searchsorted(limits, velocity_mm_s, side="right")
    out: NDArray[np.str_] = names[np.where(np.isnan(velocity_mm_s), len(ZONES), at)]
    return out
