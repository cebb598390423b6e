"""Turns `[[source.devices]]` with a profile into plain signals; profiles are data, not code."""

import tomllib
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

_LINK = (
    "timeout_s",
    "retries",
    "timeout_retries",
    "turnaround_s",
    "interframe_s",
    "registers_max",
    "bits_max",
    "max_gap",
)


def names() -> list[str]:
    """The profiles shipped."""
    folder = files("protocols.modbus") / "profiles"
    return sorted(
        f.name.removesuffix(".toml") for f in folder.iterdir() if f.name.endswith(".toml")
    )


def load(name: str) -> dict[str, Any]:
    """One profile: `title`, `[device]` settings and `[[signal]]` rows.

    Raises:
        ValueError: There is no such profile, or it is not TOML.
    """
    if name.endswith(".toml"):
        try:
            text = Path(name).read_text(encoding="utf-8")
        except OSError as error:
            raise ValueError(f"cannot be read: {error}") from None
    elif name in names():
        text = (files("protocols.modbus") / "profiles" / f"{name}.toml").read_text("utf-8")
    else:
        raise ValueError(f"must be one of {', '.join(names())}, or the path of a .toml file")
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"is not TOML: {error}") from None


def expand(data: dict[str, Any]) -> dict[str, Any]:
    """Add each device's profile to the source's table; what is written out wins over a profile.

    A device that is not right is left as it is, for its own model to say what is wrong with it.
    """
    devices, signals = data.get("devices"), data.get("signals", [])
    if not isinstance(devices, list | tuple) or not isinstance(signals, list | tuple):
        return data
    written = {(_get(s, "asset"), _get(s, "signal")) for s in signals}
    full: list[Any] = []
    added: list[Any] = []
    for device in devices:
        if not isinstance(device, dict) or not isinstance(device.get("profile"), str):
            full.append(device)
            continue
        try:
            profile = load(device["profile"])
        except ValueError:
            full.append(device)
            continue
        own = {k: v for k, v in profile.get("device", {}).items() if k in _LINK}
        full.append({**own, **device})
        rows = _rows(profile, device)
        added += [row for row in rows if (row["asset"], row["signal"]) not in written]
    return {**data, "devices": full, "signals": [*signals, *added]}


def _rows(profile: dict[str, Any], device: dict[str, Any]) -> Iterator[dict[str, Any]]:
    rows = {row["signal"]: row for row in profile.get("signal", ())}
    picked = device.get("pick")
    for name in rows if picked is None else picked:
        if name not in rows or not device.get("asset"):
            continue
        row = {"asset": device["asset"], "unit_id": device.get("unit_id"), **rows[name]}
        if device.get("poll_s") is not None:
            row.setdefault("poll_s", device["poll_s"])
        yield row


def _get(row: Any, name: str) -> Any:
    return row.get(name) if isinstance(row, dict) else getattr(row, name, None)
