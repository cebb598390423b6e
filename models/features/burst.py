"""What a burst of vibration or current says, under the same names live and in training."""

import numpy as np
from numpy.typing import NDArray

from models.features import waveform
from models.features.bearing import Bearing, diagnose

Floats = NDArray[np.float64]

BANDS = 8
PARTS = (
    "rms",
    "peak",
    "crest factor",
    "kurtosis",
    *(f"band {i + 1}" for i in range(BANDS)),
    "velocity [mm/s]",
    "outer race",
    "inner race",
    "roller",
    "cage",
)
"""Every part that a burst of a signal may be described by: `vibration rms`, `vibration band 3`…"""


def described(
    name: str, burst: Floats, rate_hz: float | None, *, acceleration_g: bool
) -> dict[str, Floats]:
    """The parts of each burst.

    Args:
        name: Of the signal; it begins each part's name.
        burst: float64[n, samples], at least 32 samples.
        rate_hz: Samples a second; None where it is not known, then bands are shares of the range.
        acceleration_g: Whether it is an acceleration in g, which has a velocity by ISO 20816.

    Returns:
        `name part` -> float64[n].
    """
    out = {
        f"{name} rms": waveform.rms(burst),
        f"{name} peak": waveform.peak(burst),
        f"{name} crest factor": waveform.crest_factor(burst),
        f"{name} kurtosis": waveform.kurtosis(burst),
    }
    parts = waveform.bands(burst, rate_hz or 1.0, BANDS)
    out |= {f"{name} band {i + 1}": parts[:, i] for i in range(parts.shape[1])}
    if rate_hz and acceleration_g:
        out[f"{name} velocity [mm/s]"] = waveform.velocity_rms(burst, rate_hz)
    return out


def knocks(
    name: str, burst: Floats, rate_hz: float, speed_rpm: Floats, geometry: Bearing
) -> dict[str, float]:
    """How far each defect's order stands out of the envelope of one burst.

    Args:
        name: Of the signal.
        burst: float64[m].
        rate_hz: Samples a second.
        speed_rpm: float64[m], of the shaft at each sample; or float64[1].
        geometry: Of the bearing.

    Raises:
        RecordError: As `diagnose`.
    """
    found = diagnose(burst, rate_hz, speed_rpm, geometry)
    return {f"{name} {defect}": value for defect, value in found.prominence.items()}


def base_of(name: str) -> str:
    """The signal that a described name is made of; "" where it is not such a name.

    >>> base_of("vibration crest factor"), base_of("vibration")
    ('vibration', '')
    """
    for part in PARTS:
        if name.endswith(f" {part}"):
            return name.removesuffix(f" {part}")
    return ""
