"""How much a machine may vibrate by ISO 20816-3, whatever a model says."""

from typing import Literal

UNIT = "mm/s"
Machine = Literal["1 rigid", "1 flexible", "2 rigid", "2 flexible"]
"""Group and support. Group 1: above 300 kW, or shaft height of 315 mm and more; 2: 15 to 300 kW."""
ZONES: dict[str, tuple[float, float]] = {
    "1 rigid": (4.5, 7.1),
    "1 flexible": (7.1, 11.0),
    "2 rigid": (2.8, 4.5),
    "2 flexible": (4.5, 7.1),
}
"""RMS of the velocity, mm/s, at which zones C (not for long: plan a repair) and D (damage) begin.
ISO 20816-3:2022, tables A.1 and A.2 (the values of ISO 10816-3:2009)."""
