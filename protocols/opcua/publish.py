"""Keeps publish requests at the server and passes on what it answers, missing nothing."""

import asyncio
from collections.abc import Mapping

from asyncua import ua

from gateway.core.errors import DataError, LinkLost, LinkTimeout, PeerError
from gateway.core.source import SourceContext
from protocols.opcua.harvest import Harvest
from protocols.opcua.intake import Intake
from protocols.opcua.items import Item
from protocols.opcua.link import Link, code_name
from protocols.opcua.outbox import Outbox
from protocols.opcua.slow import decode_slowly, decode_values, decode_whole
from protocols.opcua.subscription import Subscription
from protocols.opcua.wire import Publication, decode_publish

PUBLISH_REQUESTS = 3
"""Outstanding at the server, so that it always has one to answer."""
REPUBLISH_MAX = 100
"""Messages asked for again after a gap; a longer gap is counted as lost."""
SEQUENCE_MAX = 2**32 - 1


class Publisher:
    """The receiving end of all subscriptions of a session."""

    def __init__(
        self,
        link: Link,
        context: SourceContext,
        intake: Intake,
        outbox: Outbox,
        items: Mapping[int, Item],
        harvest: Harvest,
    ) -> None:
        self._link = link
        self._context = context
        self._intake = intake
        self._outbox = outbox
        self._items = items
        self._harvest = harvest
        self._subscriptions: dict[int, Subscription] = {}
        self._acks: list[ua.SubscriptionAcknowledgement] = []
        self._some = asyncio.Event()
        self._running = PUBLISH_REQUESTS

    def add(self, subscription: Subscription) -> None:
        """Publish for one more subscription."""
        subscription.heard_ns = self._context.clock.mono_ns()
        self._subscriptions[subscription.identifier] = subscription
        self._some.set()

    def left(self) -> list[tuple[int, int]]:
        """What stays at the server when the link goes: each number, next message expected."""
        return [(s.identifier, s.expected) for s in self._subscriptions.values()]

    async def run(self) -> None:
        """Keep one publish request at the server; several of these run side by side."""
        clock = self._context.clock
        while True:
            await self._some.wait()
            await self._wait_for_space()
            request = ua.PublishRequest()
            request.Parameters.SubscriptionAcknowledgements, self._acks = self._acks, []
            try:
                data = bytes(await self._link.exchange(request, waits=False))
            except PeerError as error:
                if error.code == ua.StatusCodes.BadTooManyPublishRequests and self._running > 1:
                    self._running -= 1
                    return  # The others suffice.
                raise LinkLost(f"publishing ended: {error}") from error
            received_ns = clock.wall_ns()
            try:
                publication = self._decode(data)
            except DataError as error:
                # What was in it is lost unless the server still has it; the sequence number of
                # the next message shows the gap, and it is asked for again.
                self._context.meter.errors["decode"] += 1
                self._context.log.warning("publication.unreadable", error=str(error))
                continue
            await self._take(publication, received_ns)

    async def watch(self) -> None:
        """Find a silent link: two keep-alive intervals without a word on a subscription."""
        clock = self._context.clock
        while True:
            await self._some.wait()
            interval_s = min(s.keep_alive_s for s in self._subscriptions.values())
            await asyncio.sleep(interval_s / 8)
            for subscription in self._subscriptions.values():
                silent_s = (clock.mono_ns() - subscription.heard_ns) / 1e9
                if silent_s > 2 * subscription.keep_alive_s:
                    self._context.meter.errors["silence"] += 1
                    raise LinkTimeout(
                        f"silent for {silent_s:.1f} s; the server promised a sign of life "
                        f"every {subscription.keep_alive_s:g} s"
                    )

    async def _wait_for_space(self) -> None:
        """While the pipeline is behind, nothing is asked for; the server's queues hold on."""
        if self._outbox.full:
            self._context.meter.errors["behind"] += 1
            await self._outbox.space()
            now_ns = self._context.clock.mono_ns()
            for subscription in self._subscriptions.values():
                subscription.heard_ns = now_ns  # The silence was ours.

    @staticmethod
    def _decode(data: bytes) -> Publication:
        """Fast where it is plain, else by the library."""
        try:
            return decode_publish(data, decode_slowly)
        except DataError:
            return decode_whole(data)

    async def _take(self, publication: Publication, received_ns: int) -> None:
        """Pass on one publication, and owe the server an acknowledgement."""
        subscription = self._subscriptions.get(publication.subscription)
        if subscription is None:
            await self._harvest.take(publication)
            return
        subscription.heard_ns = self._context.clock.mono_ns()
        if publication.status is not None:
            raise LinkLost(f"the server ended a subscription: {code_name(publication.status)}")
        if publication.values is not None:
            missing = subscription.missing_before(publication.sequence)
            subscription.expected = publication.sequence % SEQUENCE_MAX + 1
            self._acknowledge(publication.subscription, publication.sequence)
            if missing:
                await self._republish(subscription, publication.sequence, missing, received_ns)
            self._intake.take(publication.values, self._items, received_ns)
        self._intake.repeat(subscription.group, publication.publish_ticks, received_ns)

    def _acknowledge(self, identifier: int, sequence: int) -> None:
        self._acks.append(
            ua.SubscriptionAcknowledgement(
                SubscriptionId=ua.UInt32(identifier), SequenceNumber=ua.UInt32(sequence)
            )
        )

    async def _republish(
        self, subscription: Subscription, sequence: int, missing: int, received_ns: int
    ) -> None:
        """Ask again for messages that did not arrive; count those that are gone."""
        meter = self._context.meter
        meter.errors["sequence_gap"] += missing
        for number in range(sequence - min(missing, REPUBLISH_MAX), sequence):
            request = ua.RepublishRequest()
            request.Parameters.SubscriptionId = ua.UInt32(subscription.identifier)
            request.Parameters.RetransmitSequenceNumber = ua.UInt32(number)
            try:
                answer = await self._link.call(request, ua.RepublishResponse)
            except PeerError:
                # How many values it held nobody knows; it is one loss that is shown.
                meter.samples_lost += 1
                continue
            values = decode_values(answer.NotificationMessage)
            if values is None:
                meter.samples_lost += 1  # Some servers answer Good, and with nothing.
                continue
            self._acknowledge(subscription.identifier, number)
            self._intake.take(values, self._items, received_ns)
        if missing > REPUBLISH_MAX:
            meter.samples_lost += missing - REPUBLISH_MAX
