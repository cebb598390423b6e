"""What registers would say under each type and byte order, for those who do not know which."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from protocols.modbus.values import ORDER_NAMES, TYPES, letters, wire_positions


@dataclass(frozen=True, slots=True)
class Reading:
    """One way to read the registers.

    Attributes:
        type, order: As a signal's settings would say it.
        value: What it gives; None where the bits are no number of that type (NaN, a wrong digit).
        likely: A guess: the number is one that machines show.
    """

    type: str
    order: str
    letters: str
    value: float | None
    likely: bool

    def as_table(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)


def readings(wire: bytes) -> list[Reading]:
    """Every type and order that fits the registers, each from the first register on.

    Args:
        wire: Two bytes a register, as they came; one register or more.
    """
    assert len(wire) >= 2
    assert len(wire) % 2 == 0
    found: list[Reading] = []
    for name, kind in TYPES.items():
        if name == "bool" or kind.size > len(wire):
            continue
        orders = ORDER_NAMES if kind.size > 2 else ("big", "little")
        for order in orders:
            value = _value(wire[: kind.size], name, order)
            likely = value is not None and _likely(value, name)
            found.append(Reading(name, order, letters(order, kind.size), value, likely))
    return found


def text_of(wire: bytes, order: str) -> str:
    """The registers as text, in an order of `big` or `byte_swap`; a dot for what is no letter."""
    if order == "byte_swap":
        wire = b"".join(wire[i : i + 2][::-1] for i in range(0, len(wire), 2))
    return "".join(chr(byte) if 32 <= byte < 127 else "." for byte in wire)


def _value(wire: bytes, name: str, order: str) -> float | None:
    kind = TYPES[name]
    raw = np.frombuffer(wire, dtype=np.uint8)[list(wire_positions(order, kind.size))]
    if kind.bcd:
        digits = raw[::-1].tobytes().hex()
        return float(digits) if digits.isdecimal() else None
    value = float(raw.view(kind.dtype)[0])
    return value if np.isfinite(value) else None


def _likely(value: float, name: str) -> bool:
    """A float that is neither denormal nor astronomic, or an integer of moderate size.

    Zero says nothing of an order, so it is none.
    """
    if name.startswith("float"):
        return 1e-4 <= abs(value) < 1e7
    return 0 < abs(value) < 1e6
