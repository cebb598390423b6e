"""What a burst of vibration or current says, under the same names live and in training."""

import numpy as np
from numpy.typing import NDArray

from models.errors import RecordError
from models.features import rotor, waveform
from models.features.bearing import DEFECTS, Bearing, diagnose

Floats = NDArray[np.float64]

BANDS = 8
PARTS = (
    "rms",
    "peak",
    "crest factor",
    "kurtosis",
    *(f"band {i + 1}" for i in range(BANDS)),
    "velocity [mm/s]",
    "speed [rpm]",
    *rotor.ORDERS,
    *DEFECTS,
)
"""Every part that a burst of a signal may be described by: `vibration rms`, `vibration band 3`…"""
NO_UNIT = ("crest factor", "kurtosis", *DEFECTS)


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


def orders_of(
    name: str, burst: Floats, rate_hz: float, speed_rpm: Floats, geometry: Bearing | None
) -> tuple[dict[str, float], tuple[str, ...]]:
    """The orders of one burst: of the shaft itself, and of its bearing where that is known.

    Args:
        name: Of the signal.
        burst: float64[m].
        rate_hz: Samples a second.
        speed_rpm: float64[m], of the shaft at each sample; or float64[1].
        geometry: Of the bearing.

    Returns:
        `name part` -> RMS of an order of the shaft, or how far a defect's order stands out of the
        envelope; NaN where that is not to be had, with the reasons.
    """
    out = {f"{name} {part}": np.nan for part in order_parts(geometry)}
    whys = []
    try:
        shaft, why = rotor.amplitudes(burst, rate_hz, speed_rpm)
        whys.append(why)
        out |= {f"{name} {order}": value for order, value in shaft.items()}
        if geometry is not None:
            found = diagnose(burst, rate_hz, speed_rpm, geometry)
            out |= {f"{name} {defect}": value for defect, value in found.prominence.items()}
    except RecordError as error:
        whys.append(str(error))
    return out, tuple(dict.fromkeys(filter(None, whys)))


def order_parts(geometry: Bearing | None) -> tuple[str, ...]:
    """The parts that it takes a shaft's speed, and a bearing, to tell."""
    return (*rotor.ORDERS, *(geometry.orders if geometry else ()))


def base_of(name: str) -> str:
    """The signal that a described name is made of; "" where it is not such a name.

    >>> base_of("vibration crest factor"), base_of("vibration")
    ('vibration', '')
    """
    for part in PARTS:
        if name.endswith(f" {part}"):
            return name.removesuffix(f" {part}")
    return ""


def part_unit(name: str, base_unit: str) -> str:
    """The unit of a part by its name, which ends with it where it is not the signal's own.

    >>> part_unit("vibration 1x", "g"), part_unit("vibration kurtosis", "g")
    ('g', '')
    >>> part_unit("vibration velocity [mm/s]", "g"), part_unit("keyphasor speed [rpm]", "V")
    ('mm/s', 'rpm')
    """
    if name.endswith(NO_UNIT):
        return ""
    return name.rpartition("[")[2].removesuffix("]") if name.endswith("]") else base_unit
