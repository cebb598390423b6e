"""Decodes by the library what the fast decoder leaves to it, and makes numbers of it. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import numpy as np
from asyncua import ua
from asyncua.common.utils import Buffer
from asyncua.ua.ua_binary import Primitives, struct_from_binary, variant_from_binary
from numpy.typing import NDArray

from gateway.core.errors import DataError
from protocols.opcua.items import Item
from protocols.opcua.link import UNREADABLE
from protocols.opcua.status import datetime_to_ns, ns_to_ticks
from protocols.opcua.structures import Structures
from protocols.opcua.wire import (
    SERVER_PICO,
    SERVER_TIME,
    SOURCE_PICO,
    SOURCE_TIME,
    STATUS,
    VALUE,
    Publication,
    Values,
)


def decode_slowly(data: bytes, at: int) -> tuple[Any, int]:
    """Decode one DataValue, whatever it holds; give it and the offset after it.

    The library reads the variant only: it expects picoseconds after both timestamps, where the
    standard (Part 6, 5.2.2.17) puts them after each.

    Raises:
        DataError: It cannot be read.
    """
    buffer = Buffer(data, at)
    value = ua.DataValue()
    try:
        mask = buffer.read(1)[0]
        if mask & VALUE:
            value.Value = variant_from_binary(buffer)
        if mask & STATUS:
            value.StatusCode = ua.StatusCode(Primitives.UInt32.unpack(buffer))
        if mask & SOURCE_TIME:
            value.SourceTimestamp = Primitives.DateTime.unpack(buffer)
        if mask & SOURCE_PICO:
            buffer.skip(2)
        if mask & SERVER_TIME:
            value.ServerTimestamp = Primitives.DateTime.unpack(buffer)
        if mask & SERVER_PICO:
            buffer.skip(2)
    except UNREADABLE as error:
        raise DataError(f"data value: {error}") from error
    return value, buffer.cur_pos


def decode_whole(data: bytes) -> Publication:
    """Decode a PublishResponse of any form; notifications other than of values are passed over.

    Raises:
        DataError: It cannot be read.
    """
    try:
        response = struct_from_binary(ua.PublishResponse, Buffer(data))
    except UNREADABLE as error:
        raise DataError(f"publish response: {error}") from error
    result = response.Parameters
    message = result.NotificationMessage
    statuses = [
        int(part.Status.value)
        for part in message.NotificationData or []
        if isinstance(part, ua.StatusChangeNotification)
    ]
    return Publication(
        subscription=int(result.SubscriptionId),
        sequence=int(message.SequenceNumber),
        publish_ticks=ns_to_ticks(datetime_to_ns(message.PublishTime)),
        values=decode_values(message),
        status=statuses[0] if statuses else None,
    )


def decode_values(message: ua.NotificationMessage) -> Values | None:
    """The values of a message that the library decoded; None where it holds no notification."""
    if not message.NotificationData:
        return None
    records: list[tuple[int, Any]] = []
    for part in message.NotificationData:
        if isinstance(part, ua.DataChangeNotification):
            records += [(int(item.ClientHandle), item.Value) for item in part.MonitoredItems]
    return Values(
        handle=np.zeros(0, dtype=np.uint32),
        value=np.zeros(0),
        status=np.zeros(0, dtype=np.uint32),
        source_ticks=np.zeros(0, dtype=np.int64),
        server_ticks=np.zeros(0, dtype=np.int64),
        slow=records,
    )


@dataclass(frozen=True, slots=True)
class Burst:
    """An array that is a waveform: when the server says it was complete, and its values."""

    handle: int
    status: int
    source_ticks: int
    server_ticks: int
    rate_hz: float
    value: NDArray[np.float32]


def read_slow(
    records: Sequence[tuple[int, Any]], items: Mapping[int, Item], structures: Structures
) -> tuple[Values, list[Burst], list[tuple[Item, str]]]:
    """Make numbers of what is not plainly one: texts by `states`, fields, elements, waveforms.

    Returns:
        Numbers (NaN where none could be made), waveforms, and of each value that is unreadable its
        item and what an operator should know.
    """
    numbers: list[tuple[int, float, int, int, int]] = []
    bursts: list[Burst] = []
    unreadable: list[tuple[Item, str]] = []
    for handle, data in records:
        item = items.get(handle)
        if item is None:
            continue  # Removed while its last value was on the way.
        status = int(data.StatusCode.value) if data.StatusCode else 0
        source = ns_to_ticks(datetime_to_ns(data.SourceTimestamp)) if data.SourceTimestamp else 0
        server = ns_to_ticks(datetime_to_ns(data.ServerTimestamp)) if data.ServerTimestamp else 0
        value = np.nan
        try:
            found = follow(data.Value.Value if data.Value else None, item.steps, structures)
            rate_hz = item.signal.rate_hz
            if isinstance(found, list) and rate_hz and status >> 30 == 0:
                burst = np.asarray(found, dtype=np.float32).ravel()
                bursts.append(Burst(handle, status, source, server, rate_hz, burst))
                continue
            value = number_of(found, item.signal.states)
        except (DataError, ValueError, TypeError) as error:
            if status >> 30 == 0:
                unreadable.append((item, str(error)))
        numbers.append((handle, value, status, source, server))
    columns = list(zip(*numbers, strict=True)) or [(), (), (), (), ()]
    values = Values(
        handle=np.array(columns[0], dtype=np.uint32),
        value=np.array(columns[1], dtype=np.float64),
        status=np.array(columns[2], dtype=np.uint32),
        source_ticks=np.array(columns[3], dtype=np.int64),
        server_ticks=np.array(columns[4], dtype=np.int64),
    )
    return values, bursts, unreadable


def follow(value: Any, steps: Sequence[str | int], structures: Structures) -> Any:
    """Go into a structure or array.

    Raises:
        DataError: There is no such field or element; says what there is.
    """
    for step in steps:
        if isinstance(step, int):
            if not isinstance(value, list) or step >= len(value):
                size = f"an array of {len(value)}" if isinstance(value, list) else "not an array"
                raise DataError(f"field [{step}]: the value is {size}")
            value = value[step]
            continue
        try:
            parts = fields_of(structures.open(value))
        except DataError as error:
            raise DataError(f"field {step}: {error}") from error
        if step not in parts:
            there = ", ".join(parts) or "no fields"
            raise DataError(f"field {step}: the value has {there}")
        value = parts[step]
    return value


def fields_of(value: Any) -> dict[str, Any]:
    """The fields of an opened structure, be it the server's own or a standard one."""
    if isinstance(value, dict):
        return value
    if not is_dataclass(value):
        return {}
    return {f.name: getattr(value, f.name) for f in fields(value) if f.name != "Encoding"}


def number_of(value: Any, states: Mapping[str, float]) -> float:
    """The number that one value stands for; NaN for none.

    Raises:
        DataError: It stands for none; says what to do.
    """
    match value:
        case None:
            return float("nan")
        case bool() | int() | float():
            return float(value)
        case ua.LocalizedText():
            return number_of(value.Text or "", states)
        case str():
            if value in states:
                return states[value]
            raise DataError(f"text {value[:60]!r} is not in states; add it there")
        case list():
            raise DataError(
                f"an array of {len(value)}: choose one by field, or give rate_hz for a waveform"
            )
        case ua.ExtensionObject() | dict():
            raise DataError("a structure: choose one of its numbers by field")
        case _ if is_dataclass(value):
            raise DataError(f"a structure, {type(value).__name__}: choose a number of it by field")
        case _:
            raise DataError(f"a value of type {type(value).__name__} is no number")
