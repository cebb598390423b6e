"""`[[source]]` with `kind = "opcua"`: what may be written there, and what follows from it.

Imports nothing of the OPC UA library, which costs 90 MB.
"""

import math
import re
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from gateway.core.secret import Secret
from gateway.core.source import Identifier, SignalConfig, SourceConfig
from protocols.opcua.address import parse_address, parse_field

Seconds = Annotated[float, Field(gt=0, le=86_400)]
Interval = Annotated[float, Field(ge=0.001, le=86_400)]

_URL = re.compile(r"opc\.tcp://[^/\s@]+(/\S*)?")
QUEUE_MARGIN = 2
"""Publishing intervals that a server's queue must bridge before it drops anything."""
QUEUE_MAX = 100_000


class SignalSettings(SignalConfig):
    """One signal: a node, or one field of a structured node."""

    address: str = Field(
        min_length=1,
        max_length=4096,
        description="Node id (ns=2;s=Speed, nsu=urn:plant;i=7) or browse path (/Objects/2:Pump).",
    )
    field: str = Field(
        default="", max_length=400, description="Path into a structure or array: Motor.Temp, [2]."
    )
    group: str = Field(default="", description="Name of one of the source's groups.")
    sampling_interval_s: Interval | None = Field(
        default=None, description="How often the server looks; the group's where not given."
    )
    queue_size: int | None = Field(
        default=None, ge=1, le=QUEUE_MAX, description="Samples the server keeps; chosen if absent."
    )
    discard: Literal["oldest", "newest"] = Field(
        default="oldest", description="What the server drops when its queue is full."
    )
    deadband: float | None = Field(
        default=None, gt=0, description="Report changes greater than this, in the server's unit."
    )
    deadband_percent: float | None = Field(
        default=None, gt=0, le=100, description="The same in percent of the node's EURange."
    )
    scale: float = Field(default=1.0, description="Value = number read * scale + offset.")
    offset: float = Field(default=0.0, description="See scale.")
    states: dict[str, float] = Field(
        default_factory=dict, description="Text of an enumerated state -> the number it stands for."
    )
    rate_hz: float | None = Field(
        default=None,
        gt=0,
        le=10_000_000,
        description="Samples per second of an array, which then is a waveform.",
    )

    @field_validator("address")
    @classmethod
    def _address_is_readable(cls, text: str) -> str:
        parse_address(text)
        return text

    @field_validator("field")
    @classmethod
    def _field_is_readable(cls, text: str) -> str:
        parse_field(text)
        return text

    @model_validator(mode="after")
    def _one_deadband(self) -> Self:
        if self.deadband is not None and self.deadband_percent is not None:
            raise ValueError("give deadband or deadband_percent, not both")
        if self.scale == 0 or not math.isfinite(self.scale) or not math.isfinite(self.offset):
            raise ValueError("scale must be a number other than 0, and offset a number")
        return self


class Group(BaseModel):
    """Signals that are published, or polled, together."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Identifier
    mode: Literal["subscribe", "poll"] = Field(
        default="subscribe", description="poll is for servers whose subscriptions do not work."
    )
    publishing_interval_s: Interval = Field(
        default=1.0, description="How often the server reports, or is polled."
    )
    sampling_interval_s: Interval | None = Field(
        default=None, description="How often the server looks; publishing_interval_s if absent."
    )
    priority: int = Field(
        default=0, ge=0, le=255, description="Among subscriptions, to the server."
    )


class Settings(SourceConfig):
    """`[[source]]` with `kind = "opcua"`."""

    kind: Literal["opcua"]
    url: str = Field(
        max_length=4096,
        description="Where the server listens: opc.tcp://host:4840/path, without a password.",
    )
    signals: tuple[SignalSettings, ...] = Field(min_length=1)

    security_policy: Literal[
        "Basic256Sha256", "Aes128_Sha256_RsaOaep", "Aes256_Sha256_RsaPss", "None"
    ] = Field(
        default="Basic256Sha256",
        description="None, which anyone on the network can read and forge, only if written here.",
    )
    security_mode: Literal["Sign", "SignAndEncrypt"] = Field(
        default="SignAndEncrypt", description="Not used with the policy None."
    )
    username: str = Field(default="", max_length=400, description="Absent: anonymous.")
    password: Secret | None = Field(default=None, description="Reference to the user's password.")
    password_in_clear: bool = Field(
        default=False, description="Allow a password over a link whose policy is None."
    )
    user_certificate: str = Field(
        default="", description="File (PEM or DER) of a certificate to sign in with."
    )
    user_key: Secret | None = Field(
        default=None, description="Reference to the PEM private key of user_certificate."
    )
    certificate: str = Field(
        default="", description="File of the gateway's own certificate; made on first use."
    )
    certificate_key: Secret | None = Field(
        default=None, description="Reference to the PEM private key of certificate."
    )
    application_uri: str = Field(
        default="", max_length=400, description="Must equal the one in certificate."
    )
    trust_dir: str = Field(
        default="trusted",
        description="Folder of trusted server or CA certificates, in the source's data folder.",
    )

    timeout_s: Seconds = Field(default=5.0, description="Longest wait for an answer.")
    keep_alive_s: Seconds = Field(
        default=5.0, description="A silent link is found within twice this."
    )
    publishing_interval_s: Interval = Field(default=1.0, description="For signals without a group.")
    sampling_interval_s: Interval | None = Field(
        default=None, description="For signals without a group; publishing_interval_s if absent."
    )
    mode: Literal["subscribe", "poll"] = Field(
        default="subscribe", description="For signals without a group."
    )
    groups: tuple[Group, ...] = Field(default=(), description="Groups with intervals of their own.")
    timestamp: Literal["source", "server", "gateway"] = Field(
        default="source", description="Whose clock stamps the samples."
    )
    clock_year_min: int = Field(
        default=2015, ge=1971, le=2200, description="A clock that says an earlier year is off."
    )
    clock_ahead_s_max: float = Field(
        default=60.0, ge=0, description="A clock further in the future than this is off."
    )
    repeat_s: float = Field(
        default=10.0,
        ge=0,
        le=86_400,
        description="An unchanged value is repeated so often while the link lives; 0 never.",
    )
    history: bool = Field(
        default=True, description="Fill the gap of an outage from the server's history."
    )
    history_span_s_max: Seconds = Field(
        default=86_400, description="Never ask for more of the past than this."
    )
    retry_s_min: Seconds = Field(default=10.0, description="First retry of a refused node.")
    retry_s_max: Seconds = Field(default=600.0, description="Longest time between retries.")
    items_per_call_max: int = Field(
        default=500, ge=1, le=100_000, description="Lowered to what the server says it allows."
    )
    message_bytes_max: int = Field(
        default=16_777_216, ge=65_536, le=268_435_456, description="Longest message accepted."
    )

    @field_validator("url")
    @classmethod
    def _url_is_of_opc_ua(cls, url: str) -> str:
        if not _URL.fullmatch(url):
            raise ValueError("must be opc.tcp://host:4840/path, without a user or a password")
        return url

    @model_validator(mode="after")
    def _settings_fit_together(self) -> Self:
        faults = [fault for fault, wrong in self._faults() if wrong]
        if faults:
            raise ValueError("; ".join(faults))
        return self

    def _faults(self) -> list[tuple[str, bool]]:
        names = [group.name for group in self.groups]
        unknown = sorted({s.group for s in self.signals if s.group and s.group not in names})
        plain = self.security_policy == "None"
        return [
            ("groups: each name may be used once", len(set(names)) < len(names)),
            (f"signals name unknown groups: {', '.join(unknown)}", bool(unknown)),
            ("username needs password, by reference", bool(self.username) and not self.password),
            ("password needs username", bool(self.password) and not self.username),
            (
                "user_certificate and user_key belong together",
                bool(self.user_certificate) != bool(self.user_key),
            ),
            (
                "sign in by username or by user_certificate, not both",
                bool(self.username) and bool(self.user_certificate),
            ),
            (
                "certificate and certificate_key belong together",
                bool(self.certificate) != bool(self.certificate_key),
            ),
            (
                (
                    'a password over security_policy = "None" can be read by anyone: '
                    "choose a policy, or write password_in_clear = true"
                ),
                plain and bool(self.username) and not self.password_in_clear,
            ),
            (
                'user_certificate needs a security_policy other than "None"',
                plain and bool(self.user_certificate),
            ),
            ("retry_s_min must not exceed retry_s_max", self.retry_s_min > self.retry_s_max),
        ]

    def group_of(self, signal: SignalSettings) -> Group:
        """The group of a signal; the source's own intervals form the nameless one."""
        for group in self.groups:
            if group.name == signal.group:
                return group
        return Group.model_construct(
            name="",
            mode=self.mode,
            publishing_interval_s=self.publishing_interval_s,
            sampling_interval_s=self.sampling_interval_s,
            priority=0,
        )

    def sampling_s(self, signal: SignalSettings) -> float:
        """How often the server shall look at the signal, s."""
        group = self.group_of(signal)
        own = signal.sampling_interval_s
        return own or group.sampling_interval_s or group.publishing_interval_s

    def queue_size(self, signal: SignalSettings) -> int:
        """Samples that the server shall keep: as set, or enough for two publishing intervals."""
        if signal.queue_size is not None:
            return signal.queue_size
        publishing_s = self.group_of(signal).publishing_interval_s
        return min(QUEUE_MAX, math.ceil(QUEUE_MARGIN * publishing_s / self.sampling_s(signal)) + 1)
