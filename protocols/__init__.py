"""One module or folder per protocol, each found by its name in the configuration."""

from importlib import import_module
from typing import Any, cast

from gateway.core.source import Source, SourceConfig
from protocols import profiles

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


def find_profile(name: str, own: dict[str, Any]) -> dict[str, Any] | None:
    """The `[profile.NAME]` of the file, else the one that is shipped; None where there is none."""
    if name in own:
        return cast("dict[str, Any]", own[name])
    return profiles.load(name) if name in profiles.names() else None


def _lay_over(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Two tables as one, in which `above` wins, table by table within them."""
    merged = dict(below)
    for key, value in above.items():
        here = merged.get(key)
        if isinstance(here, dict) and isinstance(value, dict):
            value = _lay_over(here, value)  # noqa: PLW2901 (the same setting, filled up)
        merged[key] = value
    return merged


def merge_profile(source: dict[str, object], profile: dict[str, object]) -> dict[str, object]:
    """Lay a `[[source]]` table over its `[profile.NAME]`: data, not code, for a common device.

    The source's own settings win, also one by one within a table. Signals of both are read; a
    signal of the profile is given the source's `asset`, and one that the source lists itself (same
    name) replaces the profile's.
    """
    given_by_profile = {k: v for k, v in profile.items() if k != "signals"}
    given_here = {k: v for k, v in source.items() if k not in ("profile", "asset", "signals")}
    merged = _lay_over(given_by_profile, given_here)
    own = source.get("signals", [])
    theirs = profile.get("signals", [])
    if not isinstance(own, list) or not isinstance(theirs, list):
        merged["signals"] = own or theirs
        return merged
    names = {signal.get("signal") for signal in own}
    asset = source.get("asset")
    given = [
        ({"asset": asset} if asset is not None else {}) | signal
        for signal in theirs
        if signal.get("signal") not in names
    ]
    merged["signals"] = [*given, *own]
    return merged
