"""The `[console]` table, typed."""

import ipaddress
from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, field_validator, model_validator
from typing_extensions import override

from gateway.core.errors import ConfigError
from gateway.core.texts import Texts, english, load

Seconds = Annotated[float, Field(gt=0, le=366 * 86_400, allow_inf_nan=False)]


class ConsoleConfig(BaseModel):
    """The operator's web pages. Reachable from this machine only, unless `host` says otherwise."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    enabled: bool = True
    host: str = Field(default="127.0.0.1", description="Address to listen on; 0.0.0.0 is all.")
    port: int = Field(default=8080, ge=0, le=65_535, description="0 takes a free one.")
    hosts: list[str] = Field(
        default_factory=list,
        max_length=100,
        description="Names by which browsers may ask for it; others are refused. By default the "
        "loopback names when it listens on loopback, else any.",
    )
    tls_certificate: Path | None = Field(default=None, description="PEM file, with its chain.")
    tls_key: Path | None = Field(default=None, description="PEM file, readable by us alone.")
    trusted_proxies: list[str] = Field(
        default_factory=list,
        max_length=100,
        description="Addresses whose X-Forwarded-* headers are believed; others' are ignored.",
    )
    language: str = Field(
        default="en",
        max_length=1000,
        description="Of the pages, alarms and messages: one that comes with the program, or a file "
        "of your own such as /etc/forewarn/de.toml.",
    )
    anonymous_viewer: bool = Field(
        default=False, description="Whether the pages can be seen (never acted on) unsigned."
    )
    session_idle_s: Seconds = Field(default=8 * 3600, description="Signed out when idle so long.")
    session_max_s: Seconds = Field(default=7 * 86_400, description="Signed out after this anyway.")
    live_interval_s: Annotated[float, Field(ge=0.2, le=60)] = Field(
        default=1.0, description="Live updates are gathered over this time, then sent at once."
    )
    browsers_max: int = Field(default=100, ge=1, le=10_000, description="Live pages at a time.")

    _texts: Texts = PrivateAttr(default_factory=english)

    @property
    def texts(self) -> Texts:
        """What `language` says."""
        return self._texts

    @field_validator("language")
    @classmethod
    def _is_there(cls, language: str) -> str:
        try:
            load(language)
        except ConfigError as error:
            raise ValueError(str(error)) from None
        return language

    @override
    def model_post_init(self, _: object) -> None:
        self._texts = load(self.language)

    @field_validator("trusted_proxies")
    @classmethod
    def _addresses(cls, addresses: list[str]) -> list[str]:
        for address in addresses:
            try:
                ipaddress.ip_network(address, strict=False)
            except ValueError:
                raise ValueError(f"must be IP addresses or networks, was {address!r}") from None
        return addresses

    @model_validator(mode="after")
    def _both_or_none(self) -> Self:
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("tls_certificate and tls_key belong together; give both or none")
        return self

    @property
    def in_clear(self) -> bool:
        """Whether passwords would cross a network that others can read."""
        return not self.loopback and self.tls_certificate is None and not self.trusted_proxies

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach it."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False
