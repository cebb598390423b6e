"""What an operator may write in a `[[source]]` of kind "serial"; the factory of its sessions."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from gateway.core.source import Session, SignalConfig, SourceConfig, SourceContext


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SerialSignal(SignalConfig):
    """One signal: which field of a record it is, and how its text or number is read."""

    field: str = Field(
        default="",
        max_length=100,
        description="Name of the field: a group of the pattern, a column, or a binary field. "
        "The signal's own name unless set.",
    )
    scale: float = Field(default=1.0, allow_inf_nan=False, description="Multiplied first.")
    add: float = Field(default=0.0, allow_inf_nan=False, description="Added after scaling.")
    states: dict[str, float] = Field(
        default_factory=dict, description='Text to number: { RUN = 1, STOP = 0 }. "*" is any other.'
    )
    invalid: tuple[str, ...] = Field(
        default=(), description='What the device sends for "no value", as it sends it: ["---"].'
    )

    @property
    def field_name(self) -> str:
        """The field that the signal is read from."""
        return self.field or self.signal


class TextFormat(_Part):
    """`[source.text]`: records are text between delimiters."""

    delimiter: str = Field(
        default="\n", min_length=1, max_length=16, description="What ends a record."
    )
    encoding: Literal["ascii", "latin-1", "utf-8"] = Field(
        default="utf-8", description="How bytes become text; bytes that do not fit become U+FFFD."
    )
    pattern: str = Field(
        default="",
        max_length=2000,
        description="Regular expression with a named group for each field, searched in a record.",
    )
    decimal_comma: bool = Field(default=False, description='"1,5" is one and a half.')
    record_bytes_max: int = Field(
        default=1024, ge=8, le=65_536, description="A longer record is noise: dropped, counted."
    )

    @field_validator("pattern")
    @classmethod
    def _compiles(cls, pattern: str) -> str:
        try:
            re.compile(pattern)
        except re.error as error:
            raise ValueError(f"must be a regular expression: {error}") from None
        return pattern

    def fields(self) -> tuple[str, ...]:
        """The names that signals may refer to."""
        return tuple(re.compile(self.pattern).groupindex)


class Config(SourceConfig):
    """`[[source]]` with `kind = "serial"`."""

    kind: Literal["serial"]
    signals: tuple[SerialSignal, ...] = Field(min_length=1)
    port: str = Field(
        min_length=1,
        max_length=500,
        description="/dev/serial/by-id/…, socket://host:port or rfc2217://host:port.",
    )
    baud_rate: int = Field(default=9600, ge=50, le=12_000_000, description="Bits per second.")
    data_bits: Literal[5, 6, 7, 8] = Field(default=8, description="Bits in a character.")
    parity: Literal["none", "even", "odd", "mark", "space"] = Field(
        default="none", description="The check bit of each character."
    )
    stop_bits: float = Field(default=1, description="Bits between characters: 1, 1.5 or 2.")
    flow_control: Literal["none", "rts_cts", "xon_xoff"] = Field(
        default="none", description="Who tells the device to wait."
    )
    dtr: bool = Field(default=True, description="Raise DTR on opening; some boards reset on it.")
    rts: bool = Field(default=True, description="Raise RTS on opening.")
    open_timeout_s: float = Field(
        default=5.0, gt=0, le=300, description="Longest wait for a network port to answer."
    )
    silence_timeout_s: Annotated[float, Field(ge=0)] = Field(
        default=0.0, le=86_400, description="Longer silence means the link is gone; 0: never."
    )
    text: TextFormat | None = Field(default=None, description="Records are text.")

    @field_validator("stop_bits")
    @classmethod
    def _stop_bits_exist(cls, stop_bits: float) -> float:
        if stop_bits not in (1, 1.5, 2):
            raise ValueError(f"must be 1, 1.5 or 2, was {stop_bits:g}")
        return stop_bits

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.text is None:
            raise ValueError("text: must be given; say how a record looks in [source.text]")
        known = self.text.fields()
        for i, signal in enumerate(self.signals):
            if signal.field_name not in known:
                raise ValueError(
                    f"signals[{i}].field: must be one of {', '.join(known) or '(none named)'}, "
                    f"was {signal.field_name}"
                )
        return self

    def link(self) -> tuple[object, ...]:
        """Everything that only a new link can change."""
        return (
            self.id,
            self.port,
            self.baud_rate,
            self.data_bits,
            self.parity,
            self.stop_bits,
            self.flow_control,
            self.dtr,
            self.rts,
        )

    @asynccontextmanager
    async def open(self, context: SourceContext) -> AsyncIterator[Session]:
        """Open the port. See `Source.open`."""
        from protocols.serial.session import SerialSession  # noqa: PLC0415
        from protocols.serial.wire import open_wire  # noqa: PLC0415

        wire = await open_wire(self, context.clock)
        try:
            yield SerialSession(self, context, wire)
        finally:
            await wire.close()
