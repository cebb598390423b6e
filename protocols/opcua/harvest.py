"""Takes over what the server still holds for the session before: a short outage costs nothing.

A server keeps a subscription for some keep-alives after its link is gone (see `LIFETIMES`): the
messages that were on their way, and what its items' queues hold. Where it hands a subscription over
to another session, both are read, and it is ended. Many small servers do not hand over; then
nothing is different.

Source: OPC UA Part 4, 5.14.6 (Republish), 5.14.7 (TransferSubscriptions).
"""

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from typing import cast

import numpy as np
from asyncua import ua

from gateway.core.batch import make_batch
from gateway.core.errors import PeerError
from gateway.core.source import SourceContext
from protocols.opcua.intake import Intake
from protocols.opcua.items import Item
from protocols.opcua.link import Link
from protocols.opcua.outbox import Outbox
from protocols.opcua.resume import Resume
from protocols.opcua.slow import decode_values, read_slow
from protocols.opcua.status import quality_of
from protocols.opcua.subscription import NOTIFICATIONS_MAX
from protocols.opcua.wire import Publication, Values, join

NEVER_NS = 2**62


class Harvest:
    """The subscriptions that the session before left, until each has said what it had.

    Attributes:
        done: Set when there is nothing more to come.
    """

    def __init__(
        self,
        link: Link,
        context: SourceContext,
        resume: Resume,
        outbox: Outbox,
        intake: Intake,
        items: Mapping[str, Item],
    ) -> None:
        self.done = asyncio.Event()
        self._link = link
        self._context = context
        self._resume = resume
        self._outbox = outbox
        self._intake = intake
        self._items = items
        self._waiting: set[int] = set()
        self._parts: list[Values] = []

    async def claim(self) -> None:
        """Ask for them, and for the messages of theirs that never came.

        Raises:
            LinkError: As every call.
        """
        left, self._resume.subscriptions = self._resume.subscriptions, []
        request = ua.TransferSubscriptionsRequest()
        request.Parameters.SubscriptionIds = [ua.UInt32(number) for number, _ in left]
        request.Parameters.SendInitialValues = cast("ua.Boolean", False)
        results: Sequence[ua.TransferResult] = []
        if left:
            try:
                answer = await self._link.call(request, ua.TransferSubscriptionsResponse)
                results = answer.Parameters.Results or []
            except PeerError:
                pass  # It hands nothing over.
        for (number, expected), result in zip(left, results, strict=False):
            if result.StatusCode.is_good():
                self._waiting.add(number)
                there = result.AvailableSequenceNumbers or []
                self._parts += await self._messages(number, expected, there)
        if not self._waiting:
            self.done.set()

    async def _messages(self, number: int, expected: int, there: Sequence[int]) -> list[Values]:
        parts = []
        for sequence in sorted(int(s) for s in there if s >= expected):
            request = ua.RepublishRequest()
            request.Parameters.SubscriptionId = ua.UInt32(number)
            request.Parameters.RetransmitSequenceNumber = ua.UInt32(sequence)
            try:
                answer = await self._link.call(request, ua.RepublishResponse)
            except PeerError:
                continue  # It is gone after all.
            values = decode_values(answer.NotificationMessage)
            parts += [values] if values is not None else []
        return parts

    def begin(self) -> None:
        """Pass on the messages that were asked for: the session's items are there now."""
        for values in self._parts:
            self._pass_on(values)
        self._parts.clear()

    async def take(self, publication: Publication) -> None:
        """Pass on a publication of an old subscription, and end that one when it has no more."""
        number, values = publication.subscription, publication.values
        if number not in self._waiting:
            return
        if values is not None:
            self._pass_on(values)
            if len(values.handle) + len(values.slow) >= NOTIFICATIONS_MAX:
                return  # There is more.
        self._waiting.discard(number)
        request = ua.DeleteSubscriptionsRequest()
        request.Parameters.SubscriptionIds = [ua.UInt32(number)]
        # Where it refuses, it ends by itself when nobody asks it any more.
        with contextlib.suppress(PeerError):
            await self._link.call(request, ua.DeleteSubscriptionsResponse)
        if not self._waiting:
            self.done.set()

    def _pass_on(self, values: Values) -> None:
        """What lies between the end of the session before and the first sample of this one."""
        columns, names = self._intake.columns, self._resume.handles
        old = {i: self._items[name] for i, name in enumerate(names) if name in self._items}
        if values.slow:
            numbers, _, _ = read_slow(values.slow, old, self._intake.structures)
            values = join([values, numbers])
        self._intake.count_lost(values.status)
        received_ns = self._context.clock.wall_ns()
        t_ns = self._intake.stamp(values, received_ns)
        for was in np.unique(values.handle).tolist():
            item = old.get(was)
            if item is None or not columns.resumed_ns[item.handle]:
                continue
            handle, signal = item.handle, item.signal
            first_ns = int(columns.first_ns[handle]) or NEVER_NS
            rows = np.flatnonzero((values.handle == was) & (t_ns > columns.resumed_ns[handle]))
            if not len(rows):
                continue
            # Up to here nothing is missing; from the first sample on, the new one has it all.
            known_ns = min(int(t_ns[rows].max()), first_ns)
            columns.resumed_ns[handle] = known_ns
            if item.name in self._resume.marks:
                self._resume.marks[item.name] = self._resume.mark(known_ns)
            rows = rows[t_ns[rows] < first_ns]
            rows = rows[np.argsort(t_ns[rows], kind="stable")]
            number = self._context.signals.intern(signal.key())
            self._outbox.put(
                make_batch(
                    self._context.meter.source,
                    np.full(len(rows), number, np.int32),
                    t_ns[rows],
                    values.value[rows] * signal.scale + signal.offset,
                    quality_of(values.status[rows]),
                    received_ns,
                    history=True,
                )
            )
