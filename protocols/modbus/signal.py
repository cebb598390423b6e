"""One signal as the configuration describes it: where it is and what its registers mean."""

from typing import Any, Self

from pydantic import Field, PrivateAttr, field_validator, model_validator

from gateway.core.source import SignalConfig
from protocols.modbus.address import Address, parse_address
from protocols.modbus.values import TYPES, TypeName, letters, marker_bits


class ModbusSignal(SignalConfig):
    """One signal of a Modbus source."""

    address: str = Field(
        description="holding:100, input:7, coil:3, discrete:0 (from 0), or classic 40101 (from 1);"
        " .3 or .4-7 behind it picks bits."
    )
    unit_id: int | None = Field(
        default=None, ge=0, le=255, description="Unit on the link; the source's unit_id if not set."
    )
    type: TypeName = Field(default="uint16", description="How the registers are read.")
    order: str = Field(
        default="big",
        description="big, little, word_swap, byte_swap, or letters such as CDAB.",
    )
    scale: float = Field(default=1.0, description="value = raw * scale + offset")
    offset: float = Field(default=0.0)
    invalid: tuple[float, ...] = Field(
        default=(), max_length=8, description="Raw values that mean absent: the sample is BAD."
    )
    counter: bool = Field(
        default=False, description="An unsigned counter that rolls over; its sum is the value."
    )
    rollover: int | None = Field(
        default=None, gt=1, description="Count after which the counter starts at 0 again."
    )
    length: int | None = Field(default=None, ge=1, le=125, description="Registers of a string.")
    states: dict[str, float] = Field(
        default_factory=dict, description="Number of each text that a string may hold."
    )
    poll_s: float | None = Field(
        default=None, gt=0.005, le=86_400, description="Interval; the source's poll_s if not set."
    )
    _address: Address = PrivateAttr()

    @field_validator("address", mode="before")
    @classmethod
    def _address_may_be_a_number(cls, value: Any) -> Any:
        return str(value) if isinstance(value, int) and not isinstance(value, bool) else value

    @field_validator("invalid", mode="before")
    @classmethod
    def _invalid_may_be_one_number(cls, value: Any) -> Any:
        return (value,) if isinstance(value, int | float) else value

    @field_validator("address")
    @classmethod
    def _address_is_one(cls, value: str) -> str:
        parse_address(value)
        return value

    @model_validator(mode="before")
    @classmethod
    def _bits_are_bool(cls, data: Any) -> Any:
        """A coil or a discrete input is a bool without saying so."""
        if isinstance(data, dict) and "type" not in data:
            try:
                bits = parse_address(str(data.get("address", ""))).table.bits
            except ValueError:
                return data
            return {**data, "type": "bool"} if bits else data
        return data

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        place = self._address = parse_address(self.address)
        if place.table.bits != (self.type == "bool"):
            raise ValueError(
                f"type: {place.table.name.lower()} is read as"
                f" {'bool' if place.table.bits else 'a register type, or with .BIT behind it'},"
                f" was {self.type}"
            )
        if place.start + self.registers() > 65536:
            raise ValueError(f"address: {self.type} at {self.address} ends beyond 65535")
        if self.type == "string":
            if self.length is None or not self.states:
                raise ValueError("length and states: a string needs both (states = {RUN = 1})")
            if self.order not in ("big", "byte_swap"):
                raise ValueError(f"order: a string is big or byte_swap, was {self.order!r}")
            if self.counter or self.invalid or place.low >= 0:
                raise ValueError("type: a string has neither counter nor invalid nor bits")
            return self
        if self.length is not None or self.states:
            raise ValueError(f"length and states: only a string has them, was {self.type}")
        kind = TYPES[self.type]
        if self.type == "bool":
            if self.counter or self.invalid:
                raise ValueError("type: a bool has neither counter nor invalid")
            return self
        letters(self.order, kind.size)
        for marker in self.invalid:
            marker_bits(marker, kind)
        if place.low >= 0:
            if kind.dtype[1] != "u" or kind.bcd:
                raise ValueError(f"type: bits are of uint16, uint32 or uint64, was {self.type}")
            if place.high >= 8 * kind.size:
                raise ValueError(f"address: {self.type} has bits 0 to {8 * kind.size - 1}")
        if self.counter and (kind.dtype[1] != "u" or place.low >= 0):
            raise ValueError(f"counter: must be a whole unsigned or BCD value, was {self.type}")
        if self.rollover is not None and not self.counter:
            raise ValueError("rollover: only a counter has one; add counter = true")
        return self

    def place(self) -> Address:
        """Where the signal is."""
        return self._address

    def registers(self) -> int:
        """Registers (or bits of a bit table) that the signal covers."""
        if self.type == "string":
            return self.length or 1
        return max(1, TYPES[self.type].registers)

    def modulus(self) -> int:
        """Count after which the counter starts again."""
        kind = TYPES[self.type]
        return self.rollover or (10 ** (2 * kind.size) if kind.bcd else 1 << (8 * kind.size))
