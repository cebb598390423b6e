"""What a Modbus source is told: link, units and signals, checked before anything opens."""

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from gateway.core.secret import Secret
from gateway.core.source import Identifier, SourceConfig
from protocols.modbus.address import Target, parse_url
from protocols.modbus.profile import expand, load
from protocols.modbus.signal import ModbusSignal


class Device(BaseModel):
    """One unit of the link that differs from the rest, or whose signals a profile lists."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    unit_id: int = Field(ge=0, le=255)
    profile: str | None = Field(
        default=None, description="Name of a shipped profile, or path of a .toml file."
    )
    asset: Identifier | None = Field(default=None, description="Asset of the profile's signals.")
    pick: tuple[str, ...] | None = Field(
        default=None, description="Which of the profile's signals; all if not set."
    )
    poll_s: float | None = Field(default=None, gt=0.005, le=86_400)
    timeout_s: float | None = Field(default=None, gt=0, le=60)
    retries: int | None = Field(default=None, ge=0, le=10)
    timeout_retries: int | None = Field(default=None, ge=0, le=10)
    turnaround_s: float | None = Field(default=None, ge=0, le=10)
    interframe_s: float | None = Field(default=None, ge=0, le=1)
    registers_max: int | None = Field(default=None, ge=1, le=125)
    bits_max: int | None = Field(default=None, ge=1, le=2000)
    max_gap: int | None = Field(default=None, ge=0, le=124)

    @field_validator("profile")
    @classmethod
    def _profile_is_there(cls, value: str | None) -> str | None:
        if value is not None:
            load(value)
        return value

    @model_validator(mode="after")
    def _profile_has_what_it_needs(self) -> Self:
        if self.profile is None:
            if self.asset is not None or self.pick is not None:
                raise ValueError("asset and pick: only with a profile")
            return self
        if self.asset is None:
            raise ValueError("asset: must be set, because a profile names no asset")
        known = [row["signal"] for row in load(self.profile).get("signal", ())]
        unknown = [name for name in self.pick or () if name not in known]
        if unknown:
            raise ValueError(f"pick: must be of {', '.join(known)}, was {', '.join(unknown)}")
        return self


class Tuning(BaseModel):
    """How one unit is asked, once profile, device and source have been taken together."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    timeout_s: float
    retries: int
    timeout_retries: int
    turnaround_s: float
    interframe_s: float | None
    registers_max: int
    bits_max: int
    max_gap: int


class Settings(SourceConfig):
    """`[[source]]` with `kind = "modbus"`, but for the way to open it."""

    kind: Literal["modbus"]
    url: str = Field(
        description="tcp://HOST:502, tls://HOST:802, udp://HOST:502, rtu:///dev/ttyUSB0,"
        " ascii:///dev/ttyUSB0, rtu-over-tcp://HOST:PORT, ascii-over-tcp://HOST:PORT."
    )
    unit_id: int = Field(default=1, ge=0, le=255, description="Unit of signals that name none.")
    poll_s: float = Field(
        default=1.0, gt=0.005, le=86_400, description="Interval of signals that name none."
    )
    signals: tuple[ModbusSignal, ...] = Field(min_length=1)
    devices: tuple[Device, ...] = ()

    timeout_s: float = Field(default=1.0, gt=0, le=60, description="Longest wait for a reply.")
    connect_timeout_s: float = Field(default=5.0, gt=0, le=120)
    retries: int = Field(
        default=1, ge=0, le=10, description="How often a damaged reply is asked for again at once."
    )
    timeout_retries: int = Field(
        default=0, ge=0, le=10, description="How often silence is asked again at once."
    )
    turnaround_s: float = Field(
        default=0.0, ge=0, le=10, description="Pause between a reply and the next request."
    )
    interframe_s: float | None = Field(
        default=None, ge=0, le=1, description="Silence between frames; 3.5 characters if not set."
    )
    registers_max: int = Field(default=125, ge=1, le=125, description="Registers a request.")
    bits_max: int = Field(default=2000, ge=1, le=2000, description="Bits a request.")
    max_gap: int = Field(
        default=16, ge=0, le=124, description="Unwanted registers read rather than ask twice."
    )
    in_flight: int = Field(
        default=1, ge=1, le=16, description="Requests under way at once (tcp, tls and udp)."
    )
    unit_retry_s_max: float = Field(
        default=60.0, gt=0, le=3600, description="Longest pause between probes of a silent unit."
    )
    quarantine_retry_s: float = Field(
        default=600.0,
        gt=0,
        le=86_400,
        description="First pause before a refused address is retried.",
    )
    spread: float = Field(
        default=0.5,
        ge=0,
        le=0.9,
        description="Part of the interval over which the units are spread, each at its own time.",
    )
    flush_s: float = Field(
        default=0.05, gt=0, le=10, description="Longest that a sample waits for its turn to end."
    )

    baudrate: int = Field(default=19_200, ge=300, le=4_000_000)
    data_bits: Literal[7, 8] = 8
    parity: Literal["none", "even", "odd"] = "even"
    stop_bits: Literal[1, 2] = 1

    tls_ca: Path | None = Field(
        default=None, description="Whom to trust, PEM; the system's if unset."
    )
    tls_cert: Path | None = Field(default=None, description="Own certificate, PEM.")
    tls_key: Path | None = Field(default=None, description="Key of the own certificate, PEM.")
    tls_key_password: Secret | None = None
    tls_server_name: str | None = Field(
        default=None, description="Name in the server's certificate; the URL's host if not set."
    )

    @model_validator(mode="before")
    @classmethod
    def _profiles_become_signals(cls, data: Any) -> Any:
        return expand(data) if isinstance(data, dict) else data

    @field_validator("url")
    @classmethod
    def _url_is_one(cls, value: str) -> str:
        parse_url(value)
        return value

    @model_validator(mode="after")
    def _settings_fit_the_link(self) -> Self:
        target = self.target()
        if target.serial and self.in_flight != 1:
            raise ValueError("in_flight: a serial line carries one request at a time, must be 1")
        if target.scheme == "rtu" and self.data_bits != 8:
            raise ValueError("data_bits: RTU needs 8")
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("tls_cert and tls_key: set both or none")
        if target.scheme != "tls" and (self.tls_ca or self.tls_cert):
            raise ValueError(f"tls_ca, tls_cert: only for a tls:// URL, was {self.url!r}")
        units = [device.unit_id for device in self.devices]
        if len(set(units)) != len(units):
            raise ValueError("devices: a unit_id is listed twice; put its settings together")
        if target.scheme not in ("tcp", "tls", "udp"):
            for i, signal in enumerate(self.signals):
                if not 1 <= self.unit_of(signal) <= 247:
                    raise ValueError(
                        f"signals[{i}].unit_id: must be 1 to 247 on a serial line,"
                        f" was {self.unit_of(signal)}"
                    )
        return self

    def target(self) -> Target:
        """The URL, taken apart."""
        return parse_url(self.url)

    def link_settings(self) -> dict[str, object]:
        """What only a new link can change."""
        asking = set(Tuning.model_fields) | {"signals", "devices", "unit_id", "poll_s", "in_flight"}
        asking |= {"flush_s", "spread", "unit_retry_s_max", "quarantine_retry_s"}
        return self.model_dump(exclude=asking)

    def unit_of(self, signal: ModbusSignal) -> int:
        """The unit that holds the signal."""
        return self.unit_id if signal.unit_id is None else signal.unit_id

    def poll_of(self, signal: ModbusSignal) -> float:
        """The signal's polling interval in seconds."""
        return self.poll_s if signal.poll_s is None else signal.poll_s

    def identity(self, signal: ModbusSignal) -> str:
        """Name and place of a signal: what is remembered of it ends when either changes."""
        unit = self.unit_of(signal)
        return f"{signal.asset}/{signal.signal}@{unit}:{signal.address}:{signal.type}"

    def tuning(self, unit_id: int) -> Tuning:
        """How that unit is asked."""
        own = next((d for d in self.devices if d.unit_id == unit_id), None)
        settings = {name: getattr(self, name) for name in Tuning.model_fields}
        if own is not None:
            settings |= own.model_dump(include=set(settings), exclude_none=True)
        return Tuning.model_validate(settings)
