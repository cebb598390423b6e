"""The four classes of machine of the demo plant: what each measures, how load and faults move it.

Every machine is a drive (speed and load that follow a work programme), a process that the drive
moves, losses that heat it, and vibration. Constants are those of small machines of their kind;
thermal time constants are minutes where real ones are tens of minutes, so that a warm-up can be
watched.
"""

import numpy as np

from gateway.demo.machine_class import Drive, MachineClass, Sensor, Truth
from gateway.demo.physics import Segment

RUNNING = 0.02
"""Fraction of rated speed below which a machine stands."""

AMBIENT = Sensor("°C", 0.05, 0.1, -20.0, 60.0)
VIBRATION = Sensor("mm/s", 0.02, 0.01, 0.0, 50.0, noise_share=0.04)
POWER = Sensor("kW", 0.02, 0.01, 0.0, 100.0, noise_share=0.006)
ENERGY = Sensor("kWh", 0.0, 0.01, 0.0, 1e7)


def _idles(random: np.random.Generator, t_s: float, first_s: float, share: float) -> bool:
    """Whether it idles or stands next; never in the first minutes, when someone is watching."""
    return t_s > first_s and bool(random.random() < share)


def _idle_s(random: np.random.Generator) -> float:
    """Length of an idle time: mostly short, now and then long enough to cool down."""
    return float(random.uniform(20, 90) if random.random() < 0.8 else random.uniform(300, 2400))


def _pump_draw(random: np.random.Generator, t_s: float) -> Segment:
    if _idles(random, t_s, 300, 0.06):
        return Segment(_idle_s(random), 0.55, 0.85)
    return Segment(
        float(random.uniform(25, 120)), random.uniform(0.7, 1.0), random.uniform(0.8, 1.0)
    )


def _pump(d: Drive) -> Truth:
    """A centrifugal pump against a static head and a valve: `H0 s^2 - a Q^2 = Hs + R Q^2`."""
    s, wear, hot = d.speed, d.fault["bearing_wear"], d.fault["overheating"]
    valve = np.clip(d.load + 0.01 * d.swing, 0.3, 1.0)
    resistance = 0.009 / valve**2 * (1 + 30 * d.fault["blocked_outlet"])
    flow = np.sqrt(np.maximum(0.0, 62 * s**2 - 8) / (0.006 + resistance))
    head = np.maximum(62 * s**2 - 0.006 * flow**2, 0.0)
    relative = np.where(s > RUNNING, flow / np.maximum(60 * s, 1e-9), 0.0)
    power = s**3 * (3.4 + 6.2 * relative) / 0.9 + (0.15 + 0.9 * wear) * s
    standing = s <= RUNNING
    vibration = np.hypot(0.15 + 1.3 * s**2 + 0.35 * s * np.abs(relative - 0.95), 10.0 * wear * s)
    return Truth(
        {
            "speed": 2950 * s,
            "flow": np.where(standing, 0.0, flow),
            "pressure": 0.3 + 0.0981 * head,
        },
        np.where(standing, 0.03, power),
        (26 * s**2 + 30 * wear * s + 7 * d.fault["blocked_outlet"] * s) * (1 + 3.0 * hot),
        np.hypot(vibration, 13.0 * d.fault["imbalance"] * s**2),
    )


def _compressor_draw(random: np.random.Generator, t_s: float) -> Segment:
    if _idles(random, t_s, 420, 0.06):
        # Where the others idle, it stands, until the net asks for air again.
        return Segment(_idle_s(random), 0.0, 0.5)
    return Segment(
        float(random.uniform(20, 100)), random.uniform(0.6, 1.0), random.uniform(0.0, 1.0)
    )


def _compressor(d: Drive) -> Truth:
    """A screw compressor into a net held at 7.0 to 7.3 bar; delivery falls with back pressure."""
    s, wear, block = d.speed, d.fault["bearing_wear"], d.fault["blocked_outlet"]
    running = s > RUNNING
    net = 7.0 + 0.3 * d.load + 0.04 * d.swing
    # The drop over filter and cooler grows with the square of the flow, and with what blocks them.
    pressure = np.where(running, net + (0.12 + 5.5 * block) * s**2, net)
    flow = 3.2 * s * (1 - 0.025 * (pressure - 7.0) - 0.3 * block)
    ratio = np.log((pressure + 1.013) / 1.013)
    power = 10.2 * np.maximum(3.2 * s, 0.0) / 3.2 * ratio + 0.9 * s + 2.0 * wear * s
    rise = 38 * s + 6.5 * (pressure - 7.0) * s + 30 * wear * s + 14 * block * s
    vibration = np.hypot(0.3 + 2.0 * s + 0.15 * (pressure - 7.0) * s, 10.0 * wear * s)
    return Truth(
        {
            "speed": 3600 * s,
            "pressure": pressure,
            "flow": np.where(running, flow, 0.0),
        },
        np.where(running, power, 0.08),
        rise * (1 + 1.3 * d.fault["overheating"]),
        np.hypot(vibration, 13.0 * d.fault["imbalance"] * s**2),
    )


def _conveyor_draw(random: np.random.Generator, t_s: float) -> Segment:
    if _idles(random, t_s, 360, 0.08):
        return Segment(_idle_s(random), 0.5, 0.0)
    speed = float(random.choice([0.7, 0.85, 1.0]))
    load = float(random.uniform(0.2, 0.9))
    return Segment(float(random.uniform(20, 90)), speed, load)


def _conveyor(d: Drive) -> Truth:
    """A belt: power is friction and material times speed; current is magnetising and active."""
    s, wear, block = d.speed, d.fault["bearing_wear"], d.fault["blocked_outlet"]
    running = s > RUNNING
    feed = np.clip(d.load * (1 + 0.03 * d.swing), 0.0, 1.2) * s
    # Material piles up in front of a blocked chute and rides on the belt.
    on_belt = np.where(running, feed / np.maximum(s, 0.1), d.load) + 1.3 * block
    shaft = (0.75 + 2.3 * on_belt + 0.8 * wear) * s
    power = shaft / 0.88 + 0.12 * s
    current = np.hypot(3.1 * np.sqrt(np.clip(s, 0, 1)), power / (np.sqrt(3) * 0.4))
    vibration = np.hypot(0.2 + 1.1 * s + 0.25 * on_belt * s, 9.0 * wear * s)
    return Truth(
        {
            "speed": 1465 * s * (1 - 0.02 * on_belt * s),
            "load": 180 * feed * (1 - 0.6 * np.clip(block, 0, 1)),
            "current": np.where(running, current, 0.0),
        },
        np.where(running, power, 0.02),
        (10 * s + 3.2 * power**1.5 + 16 * wear * s) * (1 + 3.0 * d.fault["overheating"]),
        np.hypot(vibration, 13.0 * d.fault["imbalance"] * s**2),
    )


def _lathe_draw(random: np.random.Generator, t_s: float) -> Segment:
    """Parts of about 40 s: roughing, finishing, tool and part changes in between."""
    if _idles(random, t_s, 600, 0.02):
        return Segment(_idle_s(random), 0.3, 0.0)
    step = random.random()
    if step < 0.22:
        return Segment(float(random.uniform(3, 10)), 0.3, 0.0)
    if step < 0.62:
        return Segment(
            float(random.uniform(10, 25)), random.uniform(0.4, 0.65), random.uniform(0.5, 0.9)
        )
    return Segment(
        float(random.uniform(8, 20)), random.uniform(0.75, 1.0), random.uniform(0.15, 0.4)
    )


def _lathe(d: Drive) -> Truth:
    """A spindle that cuts: torque by load, heat into spindle and coolant, chatter with load."""
    s, wear = d.speed, d.fault["bearing_wear"]
    running = s > RUNNING
    cut = np.where(running, d.load * (1 + 0.04 * d.swing), 0.0)
    power = 0.45 + 5.8 * cut + 1.3 * s**2 + 0.9 * wear * s
    vibration = np.hypot(0.15 + 0.9 * s + 1.0 * cut, 9.0 * wear * s)
    return Truth(
        {"speed": 3000 * s, "load": 100 * np.clip(cut + 0.06 * s + 0.12 * wear * s, 0, 1.5)},
        np.where(running, power, 0.42),
        (6 + 8 * s**2 + 12 * cut + 22 * wear * s) * (1 + 10.0 * d.fault["overheating"]),
        np.hypot(vibration, 13.0 * d.fault["imbalance"] * s**2),
    )


CLASSES: dict[str, MachineClass] = {
    "pump": MachineClass(
        "pump",
        {
            "speed": Sensor("rpm", 2.0, 1.0, 0.0, 3600.0),
            "flow": Sensor("m³/h", 0.15, 0.1, 0.0, 100.0, noise_share=0.006),
            "pressure": Sensor("bar", 0.01, 0.01, 0.0, 10.0, noise_share=0.004),
            "power": POWER,
            "energy": ENERGY,
            "vibration": VIBRATION,
            "bearing_temperature": Sensor("°C", 0.08, 0.1, -20.0, 150.0),
            "ambient_temperature": AMBIENT,
        },
        hot="bearing_temperature",
        ambient="ambient_temperature",
        tau_hot_s=100.0,
        tau_drive_s=5.0,
        draw=_pump_draw,
        process=_pump,
        faults={
            "bearing_wear": {"vibration": 1, "bearing_temperature": 1, "power": 1},
            "blocked_outlet": {"flow": -1, "pressure": 1, "power": -1, "vibration": 1},
            "overheating": {"bearing_temperature": 1},
            "imbalance": {"vibration": 1},
        },
    ),
    "compressor": MachineClass(
        "compressor",
        {
            "speed": Sensor("rpm", 2.0, 1.0, 0.0, 4500.0),
            "pressure": Sensor("bar", 0.01, 0.01, 0.0, 16.0, noise_share=0.002),
            "flow": Sensor("m³/min", 0.008, 0.01, 0.0, 5.0, noise_share=0.006),
            "power": POWER,
            "energy": ENERGY,
            "vibration": VIBRATION,
            "discharge_temperature": Sensor("°C", 0.1, 0.1, -20.0, 200.0),
            "inlet_temperature": AMBIENT,
        },
        hot="discharge_temperature",
        ambient="inlet_temperature",
        tau_hot_s=80.0,
        tau_drive_s=5.0,
        draw=_compressor_draw,
        process=_compressor,
        running="speed > 1000",
        faults={
            "bearing_wear": {"vibration": 1, "discharge_temperature": 1, "power": 1},
            "blocked_outlet": {
                "pressure": 1,
                "flow": -1,
                "power": 1,
                "discharge_temperature": 1,
                "vibration": 1,
            },
            "overheating": {"discharge_temperature": 1},
            "imbalance": {"vibration": 1},
        },
    ),
    "conveyor": MachineClass(
        "conveyor",
        {
            "speed": Sensor("rpm", 1.0, 1.0, 0.0, 1800.0),
            "load": Sensor("t/h", 0.6, 0.1, 0.0, 300.0, noise_share=0.008),
            "current": Sensor("A", 0.02, 0.01, 0.0, 40.0, noise_share=0.005),
            "power": POWER,
            "energy": ENERGY,
            "motor_temperature": Sensor("°C", 0.08, 0.1, -20.0, 180.0),
            "vibration": VIBRATION,
        },
        hot="motor_temperature",
        ambient="",
        tau_hot_s=120.0,
        tau_drive_s=4.0,
        draw=_conveyor_draw,
        process=_conveyor,
        faults={
            "bearing_wear": {"vibration": 1, "motor_temperature": 1, "power": 1, "current": 1},
            "blocked_outlet": {"load": -1, "current": 1, "power": 1, "motor_temperature": 1},
            "overheating": {"motor_temperature": 1},
            "imbalance": {"vibration": 1},
        },
    ),
    "lathe": MachineClass(
        "lathe",
        {
            "speed": Sensor("rpm", 2.0, 1.0, 0.0, 4000.0),
            "load": Sensor("%", 0.4, 0.1, 0.0, 150.0, noise_share=0.01),
            "power": POWER,
            "energy": ENERGY,
            "spindle_temperature": Sensor("°C", 0.08, 0.1, -20.0, 150.0),
            "coolant_temperature": Sensor("°C", 0.06, 0.1, -20.0, 100.0),
            "vibration": VIBRATION,
        },
        hot="spindle_temperature",
        ambient="",
        tau_hot_s=45.0,
        tau_drive_s=2.0,
        draw=_lathe_draw,
        process=_lathe,
        faults={
            "bearing_wear": {"vibration": 1, "spindle_temperature": 1, "load": 1},
            "overheating": {"spindle_temperature": 1, "coolant_temperature": 1},
            "imbalance": {"vibration": 1},
        },
    ),
}
