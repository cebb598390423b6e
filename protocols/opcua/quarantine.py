"""Shows in the meter which signals cannot be read, and which the server itself calls bad."""

from collections.abc import Mapping, Sequence
from typing import Any

from gateway.core.source import SourceContext
from protocols.opcua.items import Item
from protocols.opcua.link import code_name
from protocols.opcua.status import datetime_to_ns, ns_to_ticks
from protocols.opcua.wire import Values

CODE_MASK = 0xFFFF_0000
"""Of a status, what has a name; the rest are remarks."""


class Quarantine:
    """The signals of one source that bring nothing usable, with the reason of each."""

    def __init__(self, context: SourceContext) -> None:
        self._context = context
        self._unreadable: set[str] = set()
        self._called_bad: dict[int, int] = {}

    def put(self, item: Item, reason: str) -> None:
        """Count a value that could not be read; the first of them is logged."""
        self._context.meter.errors["type"] += 1
        if item.name not in self._unreadable:
            self._context.log.warning("signal.unreadable", signal=item.name, reason=reason)
        self._unreadable.add(item.name)
        self._context.meter.quarantined[item.name] = reason

    def release(self, slow: Sequence[tuple[int, Any]], items: Mapping[int, Item]) -> None:
        """Let go of the signals that can be read again."""
        for handle, _ in slow:
            item = items.get(handle)
            if item is not None and item.name in self._unreadable:
                self._unreadable.discard(item.name)
                self._context.meter.quarantined.pop(item.name, None)

    def show_status(self, values: Values, items: Mapping[int, Item]) -> None:
        """Show the status by which the server itself calls a value bad, until it does no more."""
        slow = [
            (ns_to_ticks(datetime_to_ns(data.ServerTimestamp)), handle, int(data.StatusCode.value))
            for handle, data in values.slow
            if data.StatusCode
        ]
        bad = (values.status >> 31).any() or any(status >> 31 for _, _, status in slow)
        if not bad and not self._called_bad:
            return
        columns = (values.server_ticks, values.handle, values.status)
        pairs = [*zip(*(column.tolist() for column in columns), strict=True), *slow]
        shown = self._context.meter.quarantined
        # What is plain and what is not come apart: a burst, and then none, are in order by time.
        for _, handle, status in sorted(pairs, key=lambda pair: pair[0]) if slow else pairs:
            before = self._called_bad.get(handle, 0)
            code = status & CODE_MASK if status >> 31 else 0
            if code == before or handle not in items:
                continue
            self._called_bad[handle] = code
            name = items[handle].name
            if code:
                shown[name] = f"{code_name(code)}: the server itself says so of the value"
            else:
                del self._called_bad[handle]
                shown.pop(name, None)
