"""What an operator may write in a `[[source]]` of kind "serial"."""

import re
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from gateway.core.source import SignalConfig, SourceConfig
from protocols import stamps
from protocols.serial.formats import (
    BinaryFormat,
    Part,
    TextFormat,
    check_escapes,
    check_pattern,
    to_bytes,
)

SIGNALS_MAX = 10_000
REQUESTS_MAX = 1000
REQUEST_BYTES_MAX = 1024


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
        default_factory=dict,
        description='Text to number: { RUN = 1, STOP = 0 }. "*" is any other.',
    )
    invalid: tuple[str, ...] = Field(
        default=(),
        max_length=100,
        description='What the device sends for "no value", before scaling: ["---"], ["0x8000"].',
    )
    rate_hz: float = Field(
        default=0.0,
        ge=0,
        le=10_000_000,
        description="The field is an array sampled so often: a waveform.",
    )

    @property
    def field_name(self) -> str:
        """The field that the signal is read from."""
        return self.field or self.signal


class ReadRequest(Part):
    """`[[source.read_request]]`: bytes that ask the device for values, and change nothing in it."""

    text: str = Field(default="", max_length=REQUEST_BYTES_MAX, description="Sent as it stands.")
    hex: str = Field(
        default="", max_length=3 * REQUEST_BYTES_MAX, description="Or bytes in hexadecimal."
    )
    pattern: str = Field(
        default="", max_length=2000, description="How its answer looks, where not as text.pattern."
    )
    fields: tuple[str, ...] = Field(
        default=(), max_length=1000, description="Fields that its answer holds; all unless set."
    )

    @field_validator("hex")
    @classmethod
    def _hexadecimal(cls, digits: str) -> str:
        to_bytes(digits)
        return digits

    _pattern = field_validator("pattern")(check_pattern)
    _escapes = field_validator("text")(check_escapes)

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if bool(self.text) == bool(self.hex):
            raise ValueError("text: must be given, or hex, and not both")
        return self

    def data(self, encoding: str) -> bytes:
        """The bytes to send."""
        return to_bytes(self.hex) if self.hex else self.text.encode(encoding)


class DeviceTime(Part):
    """`[source.time]`: the device stamps its records itself."""

    field: str = Field(min_length=1, max_length=100, description="Field that holds the time.")
    form: str = Field(
        default="iso",
        max_length=100,
        description="iso, unix_s, unix_ms, unix_us, unix_ns, or a pattern: %d.%m.%Y %H:%M:%S.",
    )
    zone: str = Field(
        default="UTC", max_length=100, description="Time zone of times that do not name theirs."
    )

    _form = field_validator("form")(stamps.check_form)
    _zone = field_validator("zone")(stamps.check_zone)


class Settings(SourceConfig):
    """`[[source]]` with `kind = "serial"`."""

    kind: Literal["serial"]
    signals: tuple[SerialSignal, ...] = Field(min_length=1, max_length=SIGNALS_MAX)
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
    silence_timeout_s: float = Field(
        default=0.0, ge=0, le=86_400, description="Longer silence: the link is gone; 0: never."
    )
    text: TextFormat | None = Field(default=None, description="Records are text.")
    binary: BinaryFormat | None = Field(default=None, description="Records are frames of bytes.")
    time: DeviceTime | None = Field(default=None, description="The device stamps its records.")
    read_request: tuple[ReadRequest, ...] = Field(
        default=(), max_length=REQUESTS_MAX, description="For a device that speaks when asked."
    )
    poll_interval_s: float = Field(
        default=1.0, gt=0, le=86_400, description="From one round of requests to the next."
    )
    answer_timeout_s: float = Field(
        default=1.0, gt=0, le=300, description="Longest wait for one answer."
    )
    turnaround_s: float = Field(
        default=0.0, ge=0, le=60, description="Rest between an answer and the next request."
    )
    unanswered_rounds_max: int = Field(
        default=3, ge=1, le=1000, description="So many rounds without any answer: the link is gone."
    )

    @field_validator("port")
    @classmethod
    def _address(cls, port: str) -> str:
        scheme, found, rest = port.partition("://")
        if not found:
            if re.fullmatch(r"[^/]+:\d+", port):
                raise ValueError(f"must say how: socket://{port} (raw TCP) or rfc2217://{port}")
            return port
        if scheme not in ("socket", "rfc2217"):
            raise ValueError("must be a device, socket://host:port or rfc2217://host:port")
        host, _, number = rest.rpartition(":")
        if not host or not number.isdecimal() or not 1 <= int(number) <= 65_535:
            raise ValueError(f"must be {scheme}://host:port with a port of 1 to 65535")
        return port

    @field_validator("stop_bits")
    @classmethod
    def _stop_bits_exist(cls, stop_bits: float) -> float:
        if stop_bits not in (1, 1.5, 2):
            raise ValueError("must be 1, 1.5 or 2")
        return stop_bits

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if (self.text is None) == (self.binary is None):
            raise ValueError(
                "text: must be given, or binary, and not both; say how a record looks in "
                "[source.text] or [source.binary]"
            )
        known = self._field_names()
        wanted = [(f"signals[{i}].field", s.field_name) for i, s in enumerate(self.signals)]
        if self.time is not None:
            wanted.append(("time.field", self.time.field))
        for i, request in enumerate(self.read_request):
            wanted += [(f"read_request[{i}].fields", name) for name in request.fields]
            if request.pattern and (self.text is None or self.text.separator or self.text.widths):
                raise ValueError(f"read_request[{i}].pattern: must not be set without text.pattern")
        for path, name in wanted:
            if known is None:
                if not name.isdecimal() or int(name) < 1:
                    raise ValueError(f"{path}: must be the number of a column, was {name!r}")
            elif name not in known:
                names = ", ".join(known) or "none is named"
                raise ValueError(f"{path}: must be one of {names}; was {name!r}")
        self._check_arrays()
        return self

    def _field_names(self) -> tuple[str, ...] | None:
        """The fields there are; None where they are columns by number, however many."""
        if self.binary is not None:
            return tuple(field.name for field in self.binary.fields)
        assert self.text is not None
        if self.text.columns:
            return tuple(name for name in self.text.columns if name)
        if self.text.widths:
            return tuple(str(i + 1) for i in range(len(self.text.widths)))
        if self.text.separator:
            return None
        patterns = [self.text.pattern, *(request.pattern for request in self.read_request)]
        return tuple(dict.fromkeys(name for p in patterns for name in re.compile(p).groupindex))

    def _check_arrays(self) -> None:
        if self.binary is None:
            return
        arrays = {field.name for field in self.binary.fields if field.count != 1}
        for i, signal in enumerate(self.signals):
            if (signal.rate_hz > 0) != (signal.field_name in arrays):
                raise ValueError(
                    f"signals[{i}].rate_hz: must be set where the field is an array, and nowhere "
                    f"else; see binary.fields {signal.field_name!r}"
                )

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
            bool(self.read_request),
        )
