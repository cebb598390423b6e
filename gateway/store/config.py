"""What the owner may say about what is kept: `[store]` and `[influx]`, and nothing else."""

from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, model_validator

from gateway.core.secret import SecretRef

Days = Annotated[float, Field(gt=0, le=36_500)]
Gigabytes = Annotated[float, Field(gt=0, le=100_000)]


class Bound(BaseModel):
    """How much of one kind of record is kept: whichever of the two is reached first."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    days: Days
    gb: Gigabytes


class TrendBounds(BaseModel):
    """How long each width of trend is kept; by size the narrowest goes first."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    gb_max: Gigabytes = 4
    days_10s: Days = 3
    days_1min: Days = 60
    days_10min: Days = 400
    days_1h: Days = 3650
    assessments_full_days: Days = Field(
        default=2, description="Every assessment so long; then the most severe of ten minutes."
    )
    assessments_days: Days = 400
    alarms_days: Days = 3650


class StoreConfig(BaseModel):
    """`[store]`: the log and the trends on this machine's own disk."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    commit_s: float = Field(
        default=0.15, gt=0, le=0.25, description="Longest wait before a group is committed."
    )
    gb_max: Gigabytes = Field(default=16, description="Bound of the whole log; raw data go first.")
    samples: Bound = Bound(days=30, gb=8)
    waveforms: Bound = Bound(days=30, gb=4)
    health: Bound = Bound(days=90, gb=0.5)
    assessments: Bound = Bound(days=400, gb=2)
    alarms: Bound = Bound(days=3650, gb=1)
    summaries: Bound = Bound(days=400, gb=0.5)
    trends: TrendBounds = TrendBounds()
    memory_mb_max: float = Field(
        default=64,
        gt=0,
        le=65_536,
        description="Records held in memory while the disk takes nothing; then oldest raw go.",
    )
    vitals_s: float = Field(
        default=30, gt=0, le=3600, description="Between two records of the gateway's own health."
    )
    values: Literal["exact", "float32"] = Field(
        default="exact",
        description="float32 halves the disk of noisy double values and keeps 7 digits.",
    )


class InfluxConfig(BaseModel):
    """`[influx]`: one InfluxDB of version 1, 2 or 3."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: str = Field(
        description="http://host:8086 or https://…; credentials do not belong into it."
    )
    api: Literal["v1", "v2", "v3"] = "v2"
    database: str = Field(
        default="forewarn",
        min_length=1,
        max_length=64,
        description="Database (v1, v3) or bucket (v2).",
    )
    retention: str = Field(default="", description="v1: retention policy; empty is the default.")
    org: str = Field(default="", description="v2: organisation name or id.")
    token: SecretRef | None = Field(default=None, description="v2, v3: API token.")
    user: str = Field(default="", description="v1: user name.")
    password: SecretRef | None = Field(default=None, description="v1: password.")
    ca_file: str = Field(
        default="", description="Certificates to trust, PEM; the system's when empty."
    )
    timeout_s: float = Field(default=10, gt=0, le=600)
    lines_max: int = Field(default=20_000, ge=1, le=1_000_000, description="Lines in one request.")
    in_flight_max: int = Field(default=4, ge=1, le=32, description="Requests at one time, at most.")
    backlog_samples_per_s_max: float = Field(
        default=250_000, gt=0, description="Pace of draining a backlog, so that the server lives."
    )
    waveforms: bool = Field(default=False, description="Write waveforms too; they are many points.")

    @model_validator(mode="after")
    def _addressable(self) -> Self:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"url: must be http://host:port or https://host:port, was {self.url}")
        if parts.username or parts.password:
            raise ValueError("url: must hold no user or password; use user, password or token")
        if self.api == "v2" and not self.org:
            raise ValueError('org: api = "v2" needs the organisation, was empty')
        return self
