"""Rolling bearings: how often each defect knocks, and whether it does."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from models.errors import RecordError
from models.features.speed import running
from models.features.waveform import envelope_orders

Floats = NDArray[np.float64]

HARMONICS = 3
TURNS_MIN = 20
SLIP = 0.01
"""Rollers slip, so a defect knocks up to this share off its computed order."""
PROMINENCE_MIN = 8.0
"""Lines that reach so many times the floor around them, harmonics taken together, are no chance."""
CAGE_SHARE = 0.2
"""A race stands still against the load or the shaft, so the cage hardly shows in its knocks. Where
lines at the cage's order reach this share of a race's, what knocks goes round with the cage."""
SPLITS = (1, 2, 4)
"""The range above the shaft's own vibration is tried whole, in halves and in quarters."""


@dataclass(frozen=True, slots=True)
class Bearing:
    """Geometry of a bearing whose outer race stands still.

    Attributes:
        rollers: How many.
        roller_mm: Their diameter.
        pitch_mm: Diameter of the circle of their centres.
        contact_deg: Contact angle.
    """

    rollers: int
    roller_mm: float
    pitch_mm: float
    contact_deg: float = 0.0

    @property
    def orders(self) -> dict[str, float]:
        """Defect -> knocks per turn of the shaft.

        >>> {k: round(v, 3) for k, v in BEARINGS["6205"].orders.items()}
        {'outer race': 3.585, 'inner race': 5.415, 'roller': 2.357, 'cage': 0.398}
        """
        ratio = self.roller_mm / self.pitch_mm * np.cos(np.radians(self.contact_deg))
        return {
            "outer race": float(self.rollers / 2 * (1 - ratio)),
            "inner race": float(self.rollers / 2 * (1 + ratio)),
            "roller": float(self.pitch_mm / (2 * self.roller_mm) * (1 - ratio**2)),
            "cage": float((1 - ratio) / 2),
        }


BEARINGS = {
    "6203": Bearing(8, 6.746, 28.50),
    "6205": Bearing(9, 7.940, 39.04),
    "6804": Bearing(13, 3.500, 25.60),
}
"""By number. The balls' size and circle are the makers' choice; these are those of the test rigs
whose data sheets we have (Case Western Reserve: SKF 6203, 6205; FEMTO-ST: NSK 6804). Give the
geometry of any other."""


def bearing(number: str) -> Bearing:
    """The geometry of a bearing by its number, without its seals (`6205-2RS`, `6804DD`).

    Raises:
        RecordError: Not in the table; the message says what to give instead.
    """
    known = [key for key in BEARINGS if number.strip().upper().removeprefix("SKF ").startswith(key)]
    if not known:
        raise RecordError(
            f"bearing: {number!r} is not in the table ({', '.join(BEARINGS)}); give its geometry: "
            "rollers, roller_mm, pitch_mm, contact_deg"
        )
    return BEARINGS[known[0]]


@dataclass(frozen=True, slots=True)
class Finding:
    """What the envelope says of one bearing.

    Attributes:
        defect: The defect whose knocks stand out, or "" where none does.
        prominence: Defect -> how many times the floor its lines reach (mean over harmonics); NaN
            where the burst is sampled too seldom to show it.
    """

    defect: str
    prominence: dict[str, float]


def diagnose(
    burst: Floats, rate_hz: float, speed_rpm: float | Floats, geometry: Bearing
) -> Finding:
    """Look for each defect's order in the envelope spectra of several bands.

    Args:
        burst: float64[m], acceleration; at least 20 turns of the shaft.
        rate_hz: Samples a second.
        speed_rpm: Of the shaft: one number for all of the burst, or float64[m], one a sample.
        geometry: Of the bearing.

    Raises:
        RecordError: The speed is not known, the shaft stands, or turns too seldom to tell
            neighbouring orders apart.
    """
    speed = running(speed_rpm)
    shaft_hz = float(speed.mean()) / 60.0
    turns = len(burst) / rate_hz * shaft_hz
    if turns < TURNS_MIN:
        raise RecordError(
            f"burst: must hold at least {TURNS_MIN} turns of the shaft, held {turns:.1f}; record "
            "for longer"
        )
    low, high = min(20 * shaft_hz, rate_hz / 8), rate_hz / 2
    seen = []
    for split in SPLITS:
        for band in pairwise(np.linspace(low, high, split + 1)):
            orders, lines = envelope_orders(burst, rate_hz, speed, *band)
            each = {name: _prominence(orders, lines, at) for name, at in geometry.orders.items()}
            seen.append(each)
    best = max(seen, key=_highest)
    top, cage = _highest(best), max(np.nan_to_num(each["cage"]) for each in seen)
    if top < PROMINENCE_MIN:
        return Finding("", best)
    defect = max(best, key=lambda name: np.nan_to_num(best[name]))
    if defect.endswith("race") and cage > CAGE_SHARE * top:
        defect = "roller"
    return Finding(defect, best)


def _highest(prominence: dict[str, float]) -> float:
    return float(np.nan_to_num(list(prominence.values())).max())


def _prominence(orders: Floats, lines: Floats, defect: float) -> float:
    """Geometric mean over harmonics of line over floor; the floor is the median around the line."""
    logs = []
    for harmonic in range(1, HARMONICS + 1):
        centre = harmonic * defect
        reach = max(SLIP * centre, 1.5 * orders[1])
        if centre + 1.0 > orders[-1]:
            break
        line = lines[np.abs(orders - centre) <= reach]
        around = np.abs(orders - centre) <= max(1.0, 8 * reach)
        floor = float(np.median(lines[around]))
        logs.append(np.log(max(float(line.max()), 1e-300) / max(floor, 1e-300)))
    return float(np.exp(np.mean(logs))) if logs else float("nan")
