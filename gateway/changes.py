"""Which changed settings a running gateway cannot take on: they wait for a restart."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from gateway.core.texts import Phrase

FIXED = ("gateway", "store", "influx")
"""Tables that are read at the start alone; every other one is followed as soon as it changes."""


def fixed(table: Mapping[str, Any]) -> dict[str, Any]:
    """What of a configuration is taken on at the start alone, as plain values."""
    return {name: table.get(name) for name in FIXED}


def waiting(running: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[Phrase]:
    """Each setting that differs: `store.days_max: 30 runs, 90 waits for a restart`."""
    return [
        Phrase("health.waits", setting=path, running=_shown(old), wanted=_shown(new))
        for path, old, new in _differences("", fixed(running), fixed(wanted))
    ]


def _differences(at: str, old: Any, new: Any) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for name in {**old, **new}:
            inner = f"{at}.{name}" if at else name
            yield from _differences(inner, old.get(name), new.get(name))
    elif old != new:
        yield at, old, new


def _shown(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{…}"
    if isinstance(value, float):
        return f"{value:g}"
    text = "–" if value is None else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else f"{text[:77]}…"
