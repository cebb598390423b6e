"""Decodes by the library what the fast decoder leaves to it. Pure."""

from typing import Any

import numpy as np
from asyncua import ua
from asyncua.common.utils import Buffer
from asyncua.ua.ua_binary import struct_from_binary
from asyncua.ua.uaerrors import UaError

from gateway.core.errors import DataError
from protocols.opcua.status import datetime_to_ns, ns_to_ticks
from protocols.opcua.wire import Publication, Values

_UNREADABLE = (UaError, ValueError, KeyError, TypeError, IndexError, AttributeError, OverflowError)
"""What the library raises for bytes that it cannot read."""


def decode_slowly(data: bytes, at: int) -> tuple[Any, int]:
    """Decode one DataValue, whatever it holds; give it and the offset after it.

    Raises:
        DataError: It cannot be read.
    """
    buffer = Buffer(data, at)
    try:
        value = struct_from_binary(ua.DataValue, buffer)
    except _UNREADABLE as error:
        raise DataError(f"data value: {error}") from error
    return value, buffer.cur_pos


def decode_whole(data: bytes) -> Publication:
    """Decode a PublishResponse of any form; notifications other than of values are passed over.

    Raises:
        DataError: It cannot be read.
    """
    try:
        response = struct_from_binary(ua.PublishResponse, Buffer(data))
    except _UNREADABLE as error:
        raise DataError(f"publish response: {error}") from error
    result = response.Parameters
    message = result.NotificationMessage
    records: list[tuple[int, Any]] = []
    status: int | None = None
    for part in message.NotificationData or []:
        if isinstance(part, ua.DataChangeNotification):
            records += [(int(item.ClientHandle), item.Value) for item in part.MonitoredItems]
        elif isinstance(part, ua.StatusChangeNotification):
            status = int(part.Status.value)
    return Publication(
        subscription=int(result.SubscriptionId),
        sequence=int(message.SequenceNumber),
        publish_ticks=ns_to_ticks(datetime_to_ns(message.PublishTime)),
        values=_no_columns(records) if message.NotificationData else None,
        status=status,
    )


def _no_columns(records: list[tuple[int, Any]]) -> Values:
    return Values(
        handle=np.zeros(0, dtype=np.uint32),
        value=np.zeros(0),
        status=np.zeros(0, dtype=np.uint32),
        source_ticks=np.zeros(0, dtype=np.int64),
        server_ticks=np.zeros(0, dtype=np.int64),
        slow=records,
    )
