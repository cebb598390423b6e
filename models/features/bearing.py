"""Rolling bearings: how often each defect knocks, and whether it does."""

from collections.abc import Mapping
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
DEFECTS = ("outer race", "inner race", "roller", "cage")
PROMINENCE_MIN = 8.0
"""Lines that reach so many times the floor around them, harmonics taken together, are no chance."""
STANDS_OUT = 4.0
"""The same over several bursts of a machine whose own healthy range they have left: no line of 240
simulated healthy bursts reached 3.2."""
CAGE_SHARE = 0.2
"""A race stands still against the load or the shaft, so the cage hardly shows in its knocks. Where
lines at the cage's order reach this share of a race's, what knocks goes round with the cage."""
CAGE_MIN = 4.0
"""They count from here on; of 240 simulated healthy bursts none reached 2.7 there."""
LEAD = 1.5
"""Times the next defect's lines: of 645 simulated weak defects what led so far was the right one in
all but one, what led by less in 66 %."""
LOBE = 2.0
"""Lines that a Hann window makes of one, to either side. So near to a whole order of the shaft,
what goes with the shaft is not told from a defect."""
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
        each = (
            self.rollers / 2 * (1 - ratio),
            self.rollers / 2 * (1 + ratio),
            self.pitch_mm / (2 * self.roller_mm) * (1 - ratio**2),
            (1 - ratio) / 2,
        )
        return dict(zip(DEFECTS, map(float, each), strict=True))


BEARINGS = {
    "6203": Bearing(8, 6.746, 28.50),
    "6205": Bearing(9, 7.940, 39.04),
    "6804": Bearing(13, 3.500, 25.60),
    "UER204": Bearing(8, 7.920, 34.55),
    "ZA-2115": Bearing(16, 8.400, 71.50, 15.17),
}
"""By number. The balls' size and circle are the makers' choice; these are those of the test rigs
whose data sheets are known (Case Western Reserve: SKF 6203, 6205; FEMTO-ST: NSK 6804; XJTU-SY: LDK
UER204; Cincinnati's IMS: Rexnord ZA-2115). Give the geometry of any other."""


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
        prominence: Defect -> how many times the floor its lines reach (mean over harmonics) in the
            band that shows it best; NaN where the burst is sampled too seldom to show it.
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
    prominence = dict.fromkeys(geometry.orders, float("nan"))
    for split in SPLITS:
        for band in pairwise(np.linspace(low, high, split + 1)):
            orders, lines = envelope_orders(burst, rate_hz, speed, *band)
            for name, at in geometry.orders.items():
                told = _prominence(orders, lines, at)
                if name == "roller":
                    # It strikes both races in each of its turns, often alike.
                    told = float(np.fmax(told, _prominence(orders, lines, 2 * at)))
                prominence[name] = float(np.fmax(prominence[name], told))
    return Finding(named(prominence, PROMINENCE_MIN), prominence)


def named(prominence: Mapping[str, float], least: float) -> str:
    """The defect whose lines reach `least` and lead; "" where none does.

    >>> named({"outer race": 12.0, "inner race": 3.0, "roller": 2.0, "cage": 1.5}, 8.0)
    'outer race'
    >>> named({"outer race": 12.0, "inner race": 10.0, "roller": 2.0, "cage": 5.0}, 8.0)
    'roller'
    >>> named({"outer race": 12.0, "inner race": 10.0, "roller": 2.0, "cage": 1.5}, 8.0)
    ''
    """
    known = {name: value for name, value in prominence.items() if np.isfinite(value)}
    cage = known.pop("cage", 0.0)
    ranked = sorted(known, key=lambda name: -known[name])
    if not ranked or known[ranked[0]] < least:
        return "cage" if cage >= least else ""
    defect, top = ranked[0], known[ranked[0]]
    if defect.endswith("race") and cage >= max(CAGE_MIN, CAGE_SHARE * top):
        return "roller"
    second = known[ranked[1]] if len(ranked) > 1 else 0.0
    return defect if top >= LEAD * second else ""


def _prominence(orders: Floats, lines: Floats, defect: float) -> float:
    """Geometric mean over harmonics of line over floor; the floor is the median around the line."""
    apart = np.abs(orders - np.round(orders)) > LOBE * orders[1]
    logs = []
    for harmonic in range(1, HARMONICS + 1):
        centre = harmonic * defect
        reach = max(SLIP * centre, 1.5 * orders[1])
        if centre + 1.0 > orders[-1]:
            break
        line = lines[(np.abs(orders - centre) <= reach) & apart]
        if not len(line):
            continue
        around = (np.abs(orders - centre) <= max(1.0, 8 * reach)) & apart
        floor = float(np.median(lines[around]))
        logs.append(np.log(max(float(line.max()), 1e-300) / max(floor, 1e-300)))
    return float(np.exp(np.mean(logs))) if logs else float("nan")
