"""What an operator may write in a `[[source]]` of kind "mqtt"."""

import re
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from gateway.core.secret import SecretRef
from gateway.core.source import SignalConfig, SourceConfig
from protocols import stamps
from protocols.mqtt.paths import parse_path

SIGNALS_MAX = 100_000
TOPIC_BYTES_MAX = 65_535
_PLACE = re.compile(r"\{([^{}]*)\}")


class MqttSignal(SignalConfig):
    """One signal: which topic or Sparkplug metric, and where in its payload."""

    topic: str = Field(
        default="",
        max_length=TOPIC_BYTES_MAX,
        description="Topic that carries it, where not the source's; {asset} and {signal} stand "
        "for the signal's own.",
    )
    path: str | None = Field(
        default=None,
        max_length=1000,
        description="Where it stands in a JSON payload: data.temp, values[3]; "
        "the source's unless set.",
    )
    node: str = Field(
        default="",
        max_length=1000,
        description="Sparkplug group/edge or group/edge/device, where not the source's.",
    )
    metric: str = Field(
        default="", max_length=1000, description="Sparkplug metric name; then no topic is used."
    )
    scale: float = Field(default=1.0, allow_inf_nan=False, description="Multiplied first.")
    add: float = Field(default=0.0, allow_inf_nan=False, description="Added after scaling.")
    states: dict[str, float] = Field(
        default_factory=dict,
        description='Text to number: { RUN = 1, STOP = 0 }. "*" is any other.',
    )
    rate_hz: float = Field(
        default=0.0,
        ge=0,
        le=10_000_000,
        description="The value is an array sampled so often: a waveform.",
    )

    @field_validator("path")
    @classmethod
    def _is_a_path(cls, path: str | None) -> str | None:
        parse_path(path or "")
        return path


class Tls(BaseModel):
    """`[source.tls]`: the link is encrypted, and the broker's certificate verified."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    ca_file: str = Field(
        default="", max_length=4096, description="Who vouches for the broker; the system's unless."
    )
    certificate_file: str = Field(default="", max_length=4096, description="Our own certificate.")
    key_file: str = Field(default="", max_length=4096, description="And its key.")


class Settings(SourceConfig):
    """`[[source]]` with `kind = "mqtt"`."""

    kind: Literal["mqtt"]
    signals: tuple[MqttSignal, ...] = Field(min_length=1, max_length=SIGNALS_MAX)
    host: str = Field(min_length=1, max_length=255, description="Where the broker listens.")
    port: int = Field(
        default=0, ge=0, le=65_535, description="1883, or 8883 with [source.tls], unless set."
    )
    version: Literal["3.1.1", "5"] = Field(default="3.1.1", description="Of the MQTT protocol.")
    username: str = Field(default="", max_length=65_535, description="Who we are.")
    password: SecretRef | None = Field(
        default=None, description='A reference: "env:NAME" or "file:/path".'
    )
    client_id: str = Field(
        default="", max_length=65_535, description="Name of this client; forewarn-ID unless set."
    )
    persistent: bool = Field(
        default=False, description="The broker keeps messages for us while we are away."
    )
    qos: Literal[0, 1] = Field(default=1, description="1: each message is delivered at least once.")
    keepalive_s: int = Field(
        default=30, ge=5, le=3600, description="A silent link is found within twice this."
    )
    open_timeout_s: float = Field(
        default=5.0, gt=0, le=300, description="Longest wait for the broker's answers."
    )
    tls: Tls | None = Field(default=None, description="Encrypted; an empty table will do.")
    topic: str = Field(
        default="",
        max_length=TOPIC_BYTES_MAX,
        description="Topic of signals that name none: plant/{asset}/{signal}.",
    )
    path: str = Field(
        default="", max_length=1000, description="Path of signals that name none; {signal} may do."
    )
    node: str = Field(default="", max_length=1000, description="Sparkplug node of such signals.")
    subscribe: tuple[str, ...] = Field(
        default=(),
        max_length=1000,
        description="Filters to subscribe to instead of each topic: plant/#.",
    )
    time_path: str = Field(
        default="", max_length=1000, description="Where a JSON payload holds its own time."
    )
    time_form: str = Field(
        default="iso",
        max_length=100,
        description="iso, unix_s, unix_ms, unix_us, unix_ns, or a pattern.",
    )
    time_zone: str = Field(default="UTC", max_length=100, description="Of times that name none.")
    retained: Literal["uncertain", "good", "ignore"] = Field(
        default="uncertain", description="What a retained message is worth: it may be of any age."
    )
    payload_bytes_max: int = Field(
        default=1_048_576, ge=1, le=268_435_455, description="A larger message is dropped, counted."
    )
    queue_messages_max: int = Field(
        default=10_000, ge=1, le=1_000_000, description="Messages held for a slow log; oldest go."
    )

    _form = field_validator("time_form")(stamps.check_form)
    _zone = field_validator("time_zone")(stamps.check_zone)

    @field_validator("time_path", "path")
    @classmethod
    def _is_a_path(cls, path: str) -> str:
        parse_path(path)
        return path

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        for i, signal in enumerate(self.signals):
            if signal.metric:
                node = self.node_of(signal)
                if not 2 <= len(node.split("/")) <= 3 or "" in node.split("/"):
                    raise ValueError(
                        f"signals[{i}].node: must be group/edge or group/edge/device, was {node!r}"
                    )
                continue
            topic = self.topic_of(signal)
            if not topic:
                raise ValueError(f"signals[{i}].topic: must be given, here or for the source")
            if "+" in topic or "#" in topic:
                raise ValueError(
                    f"signals[{i}].topic: must be one topic without + and #, was {topic!r}; "
                    "wildcards belong in subscribe"
                )
        if self.persistent and not self.client_id:
            raise ValueError("client_id: must be given where persistent is set, and be unique")
        if self.password is not None and not self.username:
            raise ValueError("username: must be given with a password")
        return self

    @property
    def port_number(self) -> int:
        """Where the broker listens: as written, or as the standard has it."""
        return self.port or (8883 if self.tls is not None else 1883)

    @property
    def broker(self) -> str:
        """Where it is, as an operator reads it."""
        return f"{self.host}:{self.port_number}"

    def topic_of(self, signal: MqttSignal) -> str:
        """The one topic that carries the signal."""
        return _fill(signal.topic or self.topic, signal)

    def path_of(self, signal: MqttSignal) -> str:
        """Where the signal stands in a JSON payload; "" where the payload is the value."""
        return _fill(self.path if signal.path is None else signal.path, signal)

    def node_of(self, signal: MqttSignal) -> str:
        """The Sparkplug node or device of the signal."""
        return _fill(signal.node or self.node, signal)

    def link(self) -> tuple[object, ...]:
        """Everything that only a new link can change."""
        names = (
            "id host port version username password client_id persistent keepalive_s tls "
            "payload_bytes_max queue_messages_max"
        )
        return tuple(getattr(self, name) for name in names.split())


def _fill(template: str, signal: MqttSignal) -> str:
    """Put the signal's own names where the template wants them; other braces stay."""
    names = {"asset": signal.asset, "signal": signal.signal}
    return _PLACE.sub(lambda match: names.get(match[1], match[0]), template)
