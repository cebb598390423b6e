"""The `[[notify]]` tables, typed: who is told, of what, when, and how."""

from datetime import time
from typing import Annotated, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from jinja2 import TemplateSyntaxError
from jinja2.sandbox import ImmutableSandboxedEnvironment
from pydantic import BaseModel, ConfigDict, Field, field_validator

from gateway.alarms.config import Seconds
from gateway.core.alarm import Cause, Priority
from gateway.core.secret import SecretRef
from gateway.core.source import Identifier

Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
DAYS: tuple[Day, ...] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


class HoursConfig(BaseModel):
    """A span of the day, on some days; one that ends before it starts runs over midnight."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    days: list[Day] = Field(default_factory=lambda: list(DAYS), min_length=1)
    start: time
    end: time


class ChannelConfig(BaseModel):
    """What every channel has, whatever it speaks."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: Identifier
    areas: list[str] = Field(
        default_factory=list, max_length=1000, description="Areas told of; empty: all."
    )
    assets: list[str] = Field(
        default_factory=list, max_length=10_000, description="Assets told of; empty: all."
    )
    causes: list[Cause] = Field(default_factory=list, description="Causes told of; empty: all.")
    priority_min: Priority = Field(default=Priority.MEDIUM, description="1 low, 2 medium, 3 high.")
    all_clear: bool = Field(default=True, description="Also tell when it is over.")
    after_s: Seconds = Field(
        default=0,
        description="Escalation: tell only what is still unacknowledged after so long.",
    )
    roster: list[HoursConfig] = Field(
        default_factory=list, max_length=100, description="When this channel serves; empty: always."
    )
    quiet: list[HoursConfig] = Field(
        default_factory=list,
        max_length=100,
        description="When only high priority is told; the rest waits, and is told if still there.",
    )
    timezone: str = Field(default="UTC", description="Of roster and quiet: Europe/Berlin.")
    rate_max: int = Field(default=10, ge=1, le=10_000, description="Messages within `rate_s`.")
    rate_s: Seconds = 600
    timeout_s: Seconds = Field(default=20, description="A receiver that hangs is given up then.")
    title: str = Field(default="", max_length=2000, description="Jinja2; empty: the default.")
    body: str = Field(default="", max_length=20_000, description="Jinja2; empty: the default.")

    @field_validator("timezone")
    @classmethod
    def _known_zone(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise ValueError(f"must be a time zone such as Europe/Berlin, was {name!r}") from None
        return name

    @field_validator("title", "body")
    @classmethod
    def _compiles(cls, source: str) -> str:
        try:
            ImmutableSandboxedEnvironment().parse(source)
        except TemplateSyntaxError as error:
            raise ValueError(
                f"line {error.lineno}: {error.message}; see the Jinja2 template syntax"
            ) from None
        return source


class AppriseConfig(ChannelConfig):
    """Mail, Teams, Slack, Telegram, SMS gateways and the rest of what apprise speaks."""

    kind: Literal["apprise"] = "apprise"
    url: SecretRef = Field(description="Where an apprise URL stands; it holds passwords.")


class WebhookConfig(ChannelConfig):
    """An HTTP POST of JSON, signed by HMAC-SHA256 over its time and body."""

    kind: Literal["webhook"] = "webhook"
    url: str = Field(pattern=r"^https?://", max_length=2000)
    secret: SecretRef = Field(description="Key of the signature.")


class MqttConfig(ChannelConfig):
    """One retained state per alarm; Home Assistant finds the alarms by itself if wanted."""

    kind: Literal["mqtt"] = "mqtt"
    host: str = Field(min_length=1, max_length=253)
    port: int = Field(default=1883, ge=1, le=65_535)
    tls: bool = False
    username: str = ""
    password: SecretRef | None = None
    topic: str = Field(default="forewarn", pattern=r"^[^#+\x00]+$", max_length=200)
    home_assistant: bool = False
    discovery_prefix: str = Field(default="homeassistant", pattern=r"^[^#+\x00]+$", max_length=200)


NotifyConfig = Annotated[AppriseConfig | WebhookConfig | MqttConfig, Field(discriminator="kind")]
"""One `[[notify]]` table."""
