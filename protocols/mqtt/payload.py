"""Plain payloads as values: JSON by a path, or the bare value. Does no I/O and knows no clock."""

import json
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gateway.core.errors import DataError
from protocols.mqtt.paths import Steps
from protocols.mqtt.settings import MqttSignal
from protocols.readings import parse_number

MISSING = object()
"""What `walk` finds where there is nothing, since None is JSON's null."""


def parse_json(payload: bytes) -> Any:
    """A JSON document; its NaN and Infinity, which JSON has not, become null.

    Raises:
        DataError: It is none.
    """
    try:
        return json.loads(payload, parse_constant=lambda _: None)
    except (ValueError, RecursionError) as error:
        raise DataError(f"not JSON: {error}") from error


def walk(document: Any, steps: Steps) -> Any:
    """What stands at the path; MISSING where there is nothing."""
    for step in steps:
        if isinstance(document, dict):
            document = document.get(str(step), MISSING)
        elif isinstance(document, list) and isinstance(step, int) and step < len(document):
            document = document[step]
        else:
            return MISSING
    return document


def to_value(raw: Any, signal: MqttSignal) -> float | None:
    """One value in the unit of `signal`.

    Args:
        raw: Number, text, truth value or None, from whatever payload.

    Returns:
        NaN where the sender says that it has none; None where it is no value at all.
    """
    if raw is None:
        return math.nan
    if signal.states:
        written = ("true" if raw else "false") if isinstance(raw, bool) else raw
        text = f"{written:g}" if isinstance(written, float) else str(written).strip()
        state = signal.states.get(text)
        return state if state is not None else signal.states.get("*")
    number: float | None
    try:
        number = parse_number(raw) if isinstance(raw, str) else float(raw)
    except (TypeError, ValueError, OverflowError):
        return None
    if number is None:
        return None
    value = number * signal.scale + signal.add
    return value if math.isfinite(value) else None


def to_array(raw: Any, signal: MqttSignal) -> NDArray[np.float32] | None:
    """A list of numbers in the unit of `signal`; None where it is none, or empty."""
    if not isinstance(raw, list | np.ndarray) or len(raw) == 0:
        return None
    try:
        values = np.array(raw, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        return None
    values = values * signal.scale + signal.add
    if values.ndim != 1 or not np.isfinite(values).all():
        return None
    return values.astype(np.float32)
