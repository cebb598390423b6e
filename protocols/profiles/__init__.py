"""Profiles shipped with the gateway: what a standard fixes of a source, as TOML.

`profile = "hdlc"` in a `[[source]]` lays that source over the file of this name; a `[profile.hdlc]`
in the configuration goes before it.
"""

import tomllib
from importlib.resources import files
from typing import Any


def names() -> tuple[str, ...]:
    """The profiles shipped."""
    found = (file.name for file in files(__name__).iterdir())
    return tuple(sorted(name.removesuffix(".toml") for name in found if name.endswith(".toml")))


def load(name: str) -> dict[str, Any]:
    """One shipped profile, as a `[profile.NAME]` table would hold it.

    Raises:
        KeyError: There is none of that name.
    """
    if name not in names():
        raise KeyError(name)
    return tomllib.loads((files(__name__) / f"{name}.toml").read_text("utf-8"))
