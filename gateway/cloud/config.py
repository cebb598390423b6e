"""`[cloud]`: what the owner lets out of the plant, and where to. Off unless it is written down."""

from pathlib import Path
from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, model_validator

from gateway.cloud.summary import SIGNALS_MAX, WIDTH_S_MIN
from gateway.core.secret import Secret, SecretRef
from gateway.core.source import Identifier


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class CloudAsset(_Part):
    """`[[cloud.asset]]`: what more may be told of one asset. All of it is optional."""

    id: Identifier
    export: tuple[Identifier, ...] = Field(
        default=(), max_length=SIGNALS_MAX, description="Signals whose spread may leave."
    )
    energy: Identifier | None = Field(default=None, description="Its energy counter, in kWh.")
    run: Identifier | None = Field(default=None, description="The signal that tells it runs.")
    run_above: float = Field(default=0.0, description="It runs where that signal is above this.")


class Https(_Part):
    """`[cloud.https]`: one POST of a JSON array, gzip, for each delivery."""

    url: str = Field(description="https://host/path. Redirects are not followed.")
    token: SecretRef | None = Field(default=None, description="Bearer token.")
    ca: Path | None = Field(default=None, description="Whom to trust, PEM; unset: the system's.")
    certificate: Path | None = Field(default=None, description="Own certificate, PEM.")
    key: Path | None = Field(default=None, description="Its key, PEM.")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        _needs(self.url, ("https",))
        if (self.certificate is None) != (self.key is None):
            raise ValueError("certificate and key: set both or none")
        return self


class Mqtt(_Part):
    """`[cloud.mqtt]`: each summary to a topic of its own over TLS, QoS 1."""

    host: str = Field(min_length=1, max_length=253)
    port: int = Field(default=8883, ge=1, le=65_535)
    format: Literal["json", "sparkplug"] = "json"
    topic: str = Field(
        default="forewarn", pattern=r"^[^#+\x00]+$", description="First level; Sparkplug's group."
    )
    user: str | None = None
    password: Secret | None = None
    ca: Path | None = Field(default=None, description="Whom to trust, PEM; unset: the system's.")
    certificate: Path | None = None
    key: Path | None = None

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("certificate and key: set both or none")
        return self


class RemoteInflux(_Part):
    """`[cloud.influx]`: another InfluxDB, by its v2 write interface (v3 has it too)."""

    url: str = Field(description="https://host:8086")
    org: str = ""
    bucket: str = "forewarn"
    token: SecretRef | None = None
    ca: Path | None = None

    @model_validator(mode="after")
    def _fits(self) -> Self:
        _needs(self.url, ("https",))
        return self


class CloudConfig(_Part):
    """`[cloud]`: nothing leaves unless this table is there and `enabled` is true."""

    enabled: bool = Field(default=False, description="Let summaries leave.")
    interval_s: int = Field(
        default=900, ge=WIDTH_S_MIN, le=86_400, description="Width of a summary; divides a day."
    )
    deliver_s: int = Field(
        default=3600,
        ge=0,
        le=604_800,
        description="Summaries wait up to so long, to leave together: a connection costs more than "
        "a summary. Alarms do not wait for this: they are notified.",
    )
    bytes_per_hour_max: int = Field(
        default=100_000, ge=1000, description="Pace of deliveries; what waits is kept."
    )
    asset: tuple[CloudAsset, ...] = ()
    https: Https | None = None
    mqtt: Mqtt | None = None
    influx: RemoteInflux | None = None

    @model_validator(mode="after")
    def _fits(self) -> Self:
        targets = [t for t in (self.https, self.mqtt, self.influx) if t is not None]
        if self.enabled and len(targets) != 1:
            raise ValueError(
                "give one of [cloud.https], [cloud.mqtt], [cloud.influx], "
                f"were {len(targets)}; or set enabled = false"
            )
        if 86_400 % self.interval_s:
            raise ValueError(f"interval_s: must divide a day (86400 s), was {self.interval_s}")
        ids = [asset.id for asset in self.asset]
        if len(set(ids)) != len(ids):
            raise ValueError("asset: one is listed twice; put its settings together")
        return self


def _needs(url: str, schemes: tuple[str, ...]) -> None:
    parts = urlsplit(url)
    if parts.scheme not in schemes or not parts.hostname:
        raise ValueError(f"url: must begin with {' or '.join(schemes)}:// and name a host")
    if parts.username or parts.password:
        raise ValueError("url: must hold no user or password; name them by reference")
