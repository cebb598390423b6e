"""Which machines stand in the demo plant, and where each signal lies on its wire: data only."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gateway.demo.machines import CLASSES
from gateway.demo.physics import Fault

NAMESPACE = "urn:forewarn:demo:plant"
"""Of the OPC UA server's nodes."""


@dataclass(frozen=True, slots=True)
class Register:
    """Where a value lies and how it is written: big-endian, most significant register first."""

    address: int
    type: str
    scale: float = 1.0

    def words(self, value: float) -> NDArray[np.uint16]:
        """The registers that hold `value`; it saturates at the ends of the type's range."""
        code = {"uint16": ">u2", "int16": ">i2", "uint32": ">u4", "float32": ">f4"}[self.type]
        raw = value / self.scale
        if self.type != "float32":
            info = np.iinfo(code)
            raw = min(max(round(raw), int(info.min)), int(info.max))
        return np.frombuffer(np.array(raw, code).tobytes(), ">u2").astype(np.uint16)


ASSETS = {
    "pump-1": "pump",
    "compressor-1": "compressor",
    "conveyor-1": "conveyor",
    "lathe-1": "lathe",
}
"""Asset -> class."""

UNIT = {"compressor-1": 1, "conveyor-1": 7}
REGISTERS: dict[str, dict[str, Register]] = {
    "compressor-1": {
        "speed": Register(0, "uint16"),
        "pressure": Register(1, "uint16", 0.001),
        "flow": Register(2, "uint16", 0.001),
        "power": Register(3, "float32"),
        "energy": Register(5, "uint32", 0.01),
        "vibration": Register(7, "uint16", 0.001),
        "discharge_temperature": Register(8, "int16", 0.1),
        "inlet_temperature": Register(9, "int16", 0.1),
    },
    "conveyor-1": {
        "speed": Register(100, "uint16"),
        "load": Register(101, "uint16", 0.1),
        "current": Register(102, "uint16", 0.01),
        "power": Register(103, "float32"),
        "energy": Register(105, "uint32", 0.01),
        "motor_temperature": Register(107, "int16", 0.1),
        "vibration": Register(108, "uint16", 0.001),
    },
}

LINE = {
    "speed": "S",
    "load": "L",
    "power": "P",
    "energy": "E",
    "spindle_temperature": "T",
    "coolant_temperature": "C",
    "vibration": "V",
}
"""Signal -> the letter before its number on the lathe's printer port."""


@dataclass(frozen=True, slots=True)
class PlannedFault:
    """A fault of one asset."""

    asset: str
    fault: Fault

    @classmethod
    def parse(cls, text: str) -> "PlannedFault":
        """Read `asset:kind:at_s[:grow_s[:level]]`.

        Raises:
            ValueError: It is not one, or no such asset or kind of fault is there.
        """
        parts = text.split(":")
        if not 3 <= len(parts) <= 5:
            raise ValueError(f"fault: must be asset:kind:at_s[:grow_s[:level]], was {text!r}")
        return cls.make(parts[0], parts[1], *(float(part) for part in parts[2:]))

    @classmethod
    def make(
        cls, asset: str, kind: str, at_s: float, grow_s: float = 30.0, level: float = 1.0
    ) -> "PlannedFault":
        """Check the names, then make it."""
        if asset not in ASSETS:
            raise ValueError(f"fault.asset: must be one of {', '.join(ASSETS)}, was {asset!r}")
        if kind not in CLASSES[ASSETS[asset]].faults:
            kinds = ", ".join(CLASSES[ASSETS[asset]].faults)
            raise ValueError(f"fault.kind: a {ASSETS[asset]} can have {kinds}, was {kind!r}")
        return cls(asset, Fault(kind, at_s, grow_s, level))

    def __str__(self) -> str:
        f = self.fault
        return f"{self.asset}:{f.kind}:{f.at_s:g}:{f.grow_s:g}:{f.level:g}"


def lathe_line(reading: Mapping[str, float]) -> bytes:
    """What the lathe prints: `S 1820 L 47.3 P 3.41 E 1023.55 T 38.2 C 24.1 V 1.92`."""
    sensors = CLASSES["lathe"].sensors
    words = []
    for name, letter in LINE.items():
        digits = max(0, -int(np.floor(np.log10(sensors[name].resolution) + 1e-9)))
        words.append(f"{letter} {reading[name]:.{digits}f}")
    return " ".join(words).encode() + b"\r\n"
