"""One module or folder per protocol, each found by its name in the configuration."""

from importlib import import_module
from typing import cast

from gateway.core.source import Source, SourceConfig

KINDS = ("modbus", "mqtt", "opcua", "replay", "serial")
"""The protocols shipped. A protocol's library is imported only when one of its sources opens."""


def config_type(kind: str) -> type[SourceConfig]:
    """The configuration model of `kind`, which is also the factory of its sources.

    Raises:
        KeyError: No such protocol.
    """
    if kind not in KINDS:
        raise KeyError(kind)
    return cast("type[SourceConfig]", import_module(f"protocols.{kind}").Config)


def as_source(config: SourceConfig) -> Source:
    """The same object as its other face: every protocol's `Config` has `open`."""
    return cast("Source", config)
