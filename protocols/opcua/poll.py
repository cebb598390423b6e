"""Reads a group of nodes at a fixed pace, for servers whose subscriptions cannot be had."""

from collections.abc import Callable, Sequence

import numpy as np
from asyncua import ua

from gateway.core.clock import sleep_until
from gateway.core.errors import DataError, LinkLost, PeerError
from gateway.core.source import SourceContext
from protocols.opcua.intake import Intake
from protocols.opcua.items import Item, in_chunks, refusal
from protocols.opcua.link import Link, code_name
from protocols.opcua.slow import decode_slowly
from protocols.opcua.wire import Values, decode_read

_Code = ua.StatusCodes
NO_NODE = frozenset(
    (
        _Code.BadNodeIdUnknown,
        _Code.BadNodeIdInvalid,
        _Code.BadAttributeIdInvalid,
        _Code.BadNotReadable,
        _Code.BadUserAccessDenied,
    )
)
"""Statuses that say that the address is wrong, not that the value is bad just now."""


class Poller:
    """One group's nodes, read every `interval_s`; late rounds are left out, not caught up."""

    def __init__(
        self,
        link: Link,
        context: SourceContext,
        intake: Intake,
        *,
        interval_s: float,
        per_call: int,
        on_refused: Callable[[Item, str, str], None],
        on_accepted: Callable[[Item], None],
    ) -> None:
        self._link = link
        self._context = context
        self._intake = intake
        self._interval_ns = round(interval_s * 1e9)
        self._per_call = per_call
        self._on_refused = on_refused
        self._on_accepted = on_accepted
        self._items: list[Item] = []
        self._proven: set[Item] = set()

    def add(self, items: Sequence[Item]) -> None:
        """Read these too, from the next round on."""
        self._items += items

    def remove(self, items: Sequence[Item]) -> None:
        """Read these no more."""
        gone = set(items)
        self._items = [item for item in self._items if item not in gone]
        self._proven -= gone

    async def run(self) -> None:
        """Read for ever."""
        clock = self._context.clock
        due_ns = clock.mono_ns()
        while True:
            try:
                await in_chunks(tuple(self._items), self._per_call, self._read)
            except PeerError as error:
                raise LinkLost(f"polling ended: {error}") from error
            due_ns += self._interval_ns
            late_ns = clock.mono_ns() - due_ns
            if late_ns > 0:
                rounds = late_ns // self._interval_ns + 1
                self._context.meter.errors["late"] += rounds
                due_ns += rounds * self._interval_ns
            await sleep_until(clock, due_ns)

    async def _read(self, items: Sequence[Item]) -> None:
        request = ua.ReadRequest()
        request.Parameters.TimestampsToReturn = ua.TimestampsToReturn.Both
        request.Parameters.NodesToRead = [
            ua.ReadValueId(NodeId=item.node, AttributeId=ua.AttributeIds.Value) for item in items
        ]
        data = bytes(await self._link.exchange(request))
        received_ns = self._context.clock.wall_ns()
        try:
            values = decode_read(data, decode_slowly)
        except DataError as error:
            self._context.meter.errors["decode"] += 1
            raise LinkLost(f"the answer to a read cannot be read: {error}") from error
        if len(values.handle) + len(values.slow) != len(items):
            raise LinkLost("the answer to a read has another length than the request")
        self._intake.take(
            self._sort_out(values, items), self._handles(items), received_ns, polled=True
        )

    def _sort_out(self, values: Values, items: Sequence[Item]) -> Values:
        """Positions become handles; what has no node is refused, and the rest goes on."""
        status = values.status.tolist()
        wrong = [row for row, code in enumerate(status) if code in NO_NODE]
        at = values.handle.tolist()
        for row in wrong:
            item, name = items[at[row]], code_name(status[row])
            self.remove([item])
            self._on_refused(item, name, refusal(status[row], item.signal.address))
        for item in items:
            if item not in self._proven and item.node is not None:
                self._proven.add(item)
                self._on_accepted(item)
        handles = np.array([item.handle for item in items], dtype=np.uint32)
        good = np.ones(len(at), dtype=np.bool_)
        good[wrong] = False
        return Values(
            handle=handles[values.handle[good]],
            value=values.value[good],
            status=values.status[good],
            source_ticks=values.source_ticks[good],
            server_ticks=values.server_ticks[good],
            slow=[(items[i].handle, data) for i, data in values.slow],
        )

    @staticmethod
    def _handles(items: Sequence[Item]) -> dict[int, Item]:
        return {item.handle: item for item in items}
