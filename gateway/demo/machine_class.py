"""What a class of machines is: its sensors, and what drive and process hand to each other."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from gateway.demo.physics import Column, Segment


@dataclass(frozen=True, slots=True)
class Sensor:
    """One measured quantity: its unit, noise and resolution, and the range of its scale.

    Attributes:
        noise: Standard deviation of the reading, in the unit.
        noise_share: The same as a share of the reading; the two add as independent noise.
    """

    unit: str
    noise: float
    resolution: float
    low: float
    high: float
    noise_share: float = 0.0


@dataclass(frozen=True, slots=True)
class Drive:
    """What the common half of a machine hands to its process: float64[n] each.

    Attributes:
        t_s: Seconds since the start.
        speed, load: Fractions of rated, after the ramps of the drive.
        ambient_c: Air temperature.
        fault: Severity of each kind of fault.
        swing: Slow wander of the process about its mean, standard deviation 1.
    """

    t_s: Column
    speed: Column
    load: Column
    ambient_c: Column
    fault: dict[str, Column]
    swing: Column


@dataclass(frozen=True, slots=True)
class Truth:
    """What a process answers, before the sensors: float64[n] each, process signals by name.

    Attributes:
        power_kw: Electrical power.
        rise_c: What the hot spot would settle at above ambient, were this load to last.
        vibration_mm_s: RMS velocity.
    """

    signals: dict[str, Column]
    power_kw: Column
    rise_c: Column
    vibration_mm_s: Column


@dataclass(frozen=True, slots=True)
class MachineClass:
    """A class of machines: names, sensors, programme and process. Data and two pure functions.

    Attributes:
        hot: Name of the temperature that follows `rise_c`.
        ambient: Name of the air or inlet temperature, "" where it is not measured.
        faults: The kinds of fault that this class can have, and the signals that each moves
            (+1 up, -1 down) while the machine runs.
        running: When it runs, by its signals; "" where it always does.
    """

    name: str
    sensors: dict[str, Sensor]
    hot: str
    ambient: str
    tau_hot_s: float
    tau_drive_s: float
    draw: Callable[[np.random.Generator, float], Segment]
    process: Callable[[Drive], Truth]
    faults: dict[str, dict[str, int]]
    running: str = ""
