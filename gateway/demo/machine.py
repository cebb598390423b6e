"""One machine of the demo plant as it lives: warm-up, work, weather, faults."""

from dataclasses import dataclass, field

import numpy as np

from gateway.demo.machine_class import Drive, MachineClass
from gateway.demo.physics import Column, Fault, Lag, Programme, Wander, resolve, severities

DAY_S = 86_400.0


@dataclass(slots=True)
class Machine:
    """One machine that lives: give it time, take its readings.

    Attributes:
        kind: Its class.
        random: Everything by chance comes from here, so a seed fixes a life.
        faults: What goes wrong; add with `inject`.
        warm: True when it has worked for an hour already at time 0.
    """

    kind: MachineClass
    random: np.random.Generator
    warm: bool = True
    faults: list[Fault] = field(default_factory=list)
    t_s: float = 0.0
    energy_kwh: float = 0.0
    _programme: Programme = field(init=False)
    _speed: tuple[Lag, Lag] = field(init=False)
    _load: Lag = field(init=False)
    _hot: Lag = field(init=False)
    _coolant: Lag = field(init=False)
    _weather: Wander = field(init=False)
    _swing: Wander = field(init=False)
    _day_s: float = field(init=False)

    def __post_init__(self) -> None:
        self._programme = Programme(self.kind.draw)
        half = self.kind.tau_drive_s / 2
        self._speed = (Lag(half), Lag(half))
        self._load = Lag(half)
        self._hot = Lag(self.kind.tau_hot_s, 0.0)
        self._coolant = Lag(3 * self.kind.tau_hot_s, 0.0)
        self._weather = Wander(7200.0, 1.0)
        self._swing = Wander(6.0, 1.0)
        self._day_s = float(self.random.uniform(0, DAY_S))
        self.energy_kwh = float(self.random.uniform(500, 20_000))
        if self.warm:
            self.t_s = self._programme.t_s = -3600.0  # Before time 0 it does not idle.
            self.advance(3600, 1.0)
            self.t_s = self._programme.t_s = self._programme.left_s = 0.0

    def inject(self, fault: Fault) -> None:
        """Let a fault begin.

        Raises:
            ValueError: This class of machine cannot have it.
        """
        if fault.kind not in self.kind.faults:
            raise ValueError(
                f"fault.kind: a {self.kind.name} can have {', '.join(self.kind.faults)}, "
                f"was {fault.kind!r}"
            )
        self.faults.append(fault)

    def advance(self, n: int, dt_s: float) -> dict[str, Column]:
        """Live for `n` steps of `dt_s` seconds.

        Returns:
            The reading of each sensor at the end of each step, float64[n], in the sensor's unit.
        """
        t_s: Column = self.t_s + dt_s * np.arange(1, n + 1, dtype=np.float64)
        self.t_s += n * dt_s
        target, load = self._programme.take(n, dt_s, self.random)
        speed = self._speed[1].follow(self._speed[0].follow(target, dt_s), dt_s)
        weather = self._weather.take(n, dt_s, self.random)
        day = np.sin(2 * np.pi * (t_s + self._day_s) / DAY_S)
        drive = Drive(
            t_s=t_s,
            speed=np.maximum(speed, 0.0),
            load=np.maximum(self._load.follow(load, dt_s), 0.0),
            ambient_c=21.0 + 4.0 * day + weather,
            fault=severities(self.faults, t_s),
            swing=self._swing.take(n, dt_s, self.random),
        )
        truth = self.kind.process(drive)
        hot = self._hot.follow(truth.rise_c, dt_s)
        energy = self.energy_kwh + np.cumsum(truth.power_kw) * dt_s / 3600.0
        self.energy_kwh = float(energy[-1]) if n else self.energy_kwh
        value = truth.signals | {
            "power": truth.power_kw,
            "energy": energy,
            "vibration": truth.vibration_mm_s,
            self.kind.hot: drive.ambient_c + hot,
        }
        if self.kind.ambient:
            value[self.kind.ambient] = drive.ambient_c
        if "coolant_temperature" in self.kind.sensors:
            value["coolant_temperature"] = drive.ambient_c + 0.45 * self._coolant.follow(hot, dt_s)
        return {name: self._read(name, value[name]) for name in self.kind.sensors}

    def _read(self, name: str, value: Column) -> Column:
        sensor = self.kind.sensors[name]
        spread = np.hypot(sensor.noise, sensor.noise_share * value)
        noisy = value + spread * self.random.standard_normal(len(value)) if spread.any() else value
        return np.clip(resolve(noisy, sensor.resolution), sensor.low, sensor.high)
