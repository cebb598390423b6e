"""What registers mean: data types, byte orders, and the pattern of bits that says "absent"."""

import struct
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

TypeName = Literal[
    "bool",
    "int16", "int32", "int64",
    "uint16", "uint32", "uint64",
    "float16", "float32", "float64",
    "bcd16", "bcd32", "bcd64",
    "string",
]  # fmt: skip

ORDER_NAMES = ("big", "little", "word_swap", "byte_swap")
"""Orders that fit every width; the letters ABCD, DCBA, CDAB, BADC for 32 bits."""


@dataclass(frozen=True, slots=True)
class ValueType:
    """How many bytes a value takes on the wire and how their bits are read."""

    name: TypeName
    size: int
    dtype: str
    """numpy dtype of the bits in native order: u, i or f with the size."""
    bcd: bool = False

    @property
    def registers(self) -> int:
        return self.size // 2


TYPES: dict[str, ValueType] = {
    f"{name}{8 * size}": ValueType(f"{name}{8 * size}", size, f"<{letter}{size}", name == "bcd")  # type: ignore[arg-type]
    for name, letter in (("int", "i"), ("uint", "u"), ("float", "f"), ("bcd", "u"))
    for size in (2, 4, 8)
}
TYPES["bool"] = ValueType("bool", 1, "<u1")
"""Every type of fixed size; `string` has the size that its signal says."""


def letters(order: str, size: int) -> str:
    """The order as letters, wire byte by wire byte; A is the most significant byte of the value.

    Args:
        order: One of ORDER_NAMES, or letters already, such as CDAB.
        size: Bytes of the value: 2, 4 or 8.

    Raises:
        ValueError: Not an order of that many bytes.
    """
    straight = "ABCDEFGH"[:size]
    words = [straight[i : i + 2] for i in range(0, size, 2)]
    named = {
        "big": straight,
        "little": straight[::-1],
        "word_swap": "".join(reversed(words)),
        "byte_swap": "".join(word[::-1] for word in words),
    }
    found = named.get(order, order.upper())
    if sorted(found) != list(straight):
        raise ValueError(
            f"order must be one of {', '.join(ORDER_NAMES)} or the letters {straight} in the order"
            f" in which the bytes arrive, was {order!r}"
        )
    return found


@lru_cache(maxsize=256)
def wire_positions(order: str, size: int) -> tuple[int, ...]:
    """For each byte of the value, least significant first, where it is on the wire."""
    wire = letters(order, size)
    return tuple(wire.index(letter) for letter in reversed("ABCDEFGH"[:size]))


def marker_bits(marker: float, kind: ValueType) -> int:
    """The bits of an "absent" marker: 0x8000 and -32768 are the same one for int16.

    Raises:
        ValueError: The type cannot hold the marker.
    """
    bits = 8 * kind.size
    if kind.dtype[1] == "f":
        code = {2: "e", 4: "f", 8: "d"}[kind.size]
        try:
            packed = struct.pack(f">{code}", marker)
        except (OverflowError, struct.error):
            raise ValueError(f"{kind.name} cannot hold {marker!r}") from None
        return int.from_bytes(packed, "big")
    if marker != int(marker) or not -(1 << (bits - 1)) <= marker < 1 << bits:
        raise ValueError(f"{kind.name} cannot hold {marker!r}")
    return int(marker) & ((1 << bits) - 1)
