"""One subscription at the server: its making, its items, and its sign of life."""

import contextlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

import structlog
from asyncua import ua

from gateway.core.errors import PeerError
from protocols.opcua.items import Item, Limits, in_chunks, read_properties, refusal
from protocols.opcua.link import Link, code_name
from protocols.opcua.settings import Group, Settings, SignalSettings

NOTIFICATIONS_MAX = 10_000
"""Values in one publication; more come in the next, at once."""
_Code = ua.StatusCodes
NO_FILTER = frozenset(
    (
        _Code.BadFilterNotAllowed,
        _Code.BadMonitoredItemFilterInvalid,
        _Code.BadMonitoredItemFilterUnsupported,
        _Code.BadDeadbandFilterInvalid,
    )
)
"""Answers of a server that will not apply a deadband."""
NO_SUBSCRIPTION = frozenset(
    (
        _Code.BadServiceUnsupported,
        _Code.BadNotSupported,
        _Code.BadNotImplemented,
        _Code.BadTooManySubscriptions,
    )
)
"""Answers of a server from which a group can only be polled."""
SLOWER = 1.5
"""Times the interval that was asked for, from which on a revised one is told."""
LIFETIMES = 6
"""Keep-alives without a publish request after which the server forgets the subscription."""


@dataclass(slots=True, eq=False)
class Subscription:
    """Of one group.

    Attributes:
        identifier: The server's.
        keep_alive_s: Longest time between two signs of life that the server promised.
        group: Its number in the session's columns.
        heard_ns: Monotonic time of the last one.
        expected: Sequence number of the next message; 0 before the first.
    """

    link: Link
    config: Settings
    log: structlog.stdlib.BoundLogger
    identifier: int
    keep_alive_s: float
    group: int
    heard_ns: int = 0
    expected: int = 0

    def missing_before(self, sequence: int) -> int:
        """How many messages are missing before this one, by its number."""
        if self.expected == 0:
            return max(0, sequence - 1)
        return max(0, sequence - self.expected)

    async def add(self, items: Sequence[Item], limits: Limits) -> list[tuple[Item, str, str]]:
        """Monitor the items; those that the server takes get their `monitored_id`.

        Returns:
            Of each that it refuses: the item, the status name, and the reason.
        """
        refused: list[tuple[Item, str, str]] = []
        unfiltered: list[Item] = []
        slower: list[tuple[Item, float]] = []

        async def create(chunk: Sequence[Item]) -> None:
            request = ua.CreateMonitoredItemsRequest()
            request.Parameters.SubscriptionId = ua.UInt32(self.identifier)
            request.Parameters.TimestampsToReturn = ua.TimestampsToReturn.Both
            request.Parameters.ItemsToCreate = [self._wish(item) for item in chunk]
            answer = await self.link.call(request, ua.CreateMonitoredItemsResponse)
            for item, result in zip(chunk, answer.Results, strict=True):
                code = result.StatusCode.value
                if result.StatusCode.is_good():
                    item.monitored_id = int(result.MonitoredItemId)
                    given_s = result.RevisedSamplingInterval / 1000
                    if given_s > SLOWER * self.config.sampling_s(item.signal):
                        slower.append((item, given_s))
                elif code in NO_FILTER and _has_deadband(item.signal) and item.filtered:
                    unfiltered.append(item)
                else:
                    name = code_name(code)
                    refused.append((item, name, refusal(code, item.signal.address)))

        await in_chunks(items, limits.monitored, create)
        await self._keep_deadbands([i for i in items if i.monitored_id or i in unfiltered], limits)
        for item in unfiltered:
            item.filtered = False
            if not item.deadband:
                reason = "deadband_percent needs a node with an EURange; use deadband"
                refused.append((item, "BadFilterNotAllowed", reason))
        await in_chunks([i for i in unfiltered if i.deadband], limits.monitored, create)
        if slower:
            item, given_s = max(slower, key=lambda pair: pair[1])
            self.log.warning(
                "sampling.revised",
                signals=len(slower),
                signal=item.name,
                asked_s=self.config.sampling_s(item.signal),
                given_s=given_s,
            )
        return refused

    async def _keep_deadbands(self, items: Sequence[Item], limits: Limits) -> None:
        """Work out the deadbands that the gateway keeps: a server may refuse one, or take it and
        ignore it. Where its range cannot be read, one in percent is the server's alone."""
        ranges: dict[Item, object] = {}

        async def read(chunk: Sequence[Item]) -> None:
            found = await read_properties(self.link, [item.node for item in chunk], "EURange")
            ranges.update(zip(chunk, found, strict=True))

        percent = [item for item in items if item.signal.deadband_percent]
        with contextlib.suppress(PeerError):
            await in_chunks(percent, min(limits.translate, limits.read), read)
        for item in items:
            signal, found = item.signal, ranges.get(item)
            item.deadband = signal.deadband or 0.0
            if isinstance(found, ua.Range) and found.High > found.Low:
                item.deadband = (signal.deadband_percent or 0) / 100 * (found.High - found.Low)

    async def remove(self, items: Sequence[Item], per_call: int) -> None:
        """Stop monitoring the items."""

        async def delete(chunk: Sequence[Item]) -> None:
            request = ua.DeleteMonitoredItemsRequest()
            request.Parameters.SubscriptionId = ua.UInt32(self.identifier)
            request.Parameters.MonitoredItemIds = [ua.UInt32(item.monitored_id) for item in chunk]
            await self.link.call(request, ua.DeleteMonitoredItemsResponse)
            for item in chunk:
                item.monitored_id = 0

        await in_chunks(items, per_call, delete)

    def _wish(self, item: Item) -> ua.MonitoredItemCreateRequest:
        signal = item.signal
        assert item.node is not None
        wish = ua.MonitoredItemCreateRequest()
        wish.ItemToMonitor = ua.ReadValueId(NodeId=item.node, AttributeId=ua.AttributeIds.Value)
        wish.MonitoringMode = ua.MonitoringMode.Reporting
        wish.RequestedParameters = ua.MonitoringParameters(
            ClientHandle=ua.UInt32(item.handle),
            SamplingInterval=1000 * self.config.sampling_s(signal),
            QueueSize=ua.UInt32(self.config.queue_size(signal)),
            DiscardOldest=signal.discard == "oldest",
        )
        if _has_deadband(signal) and item.filtered:
            percent = signal.deadband is None
            kind = ua.DeadbandType.Percent if percent else ua.DeadbandType.Absolute
            wish.RequestedParameters.Filter = ua.DataChangeFilter(
                Trigger=ua.DataChangeTrigger.StatusValue,
                DeadbandType=ua.UInt32(kind.value),
                DeadbandValue=signal.deadband_percent if percent else signal.deadband,
            )
        return wish


def _has_deadband(signal: SignalSettings) -> bool:
    return (signal.deadband or signal.deadband_percent) is not None


async def create_subscription(
    link: Link, config: Settings, group: Group, number: int, log: structlog.stdlib.BoundLogger
) -> Subscription:
    """Ask for a subscription whose keep-alive is what the configuration wants."""
    interval_s = group.publishing_interval_s
    count = max(1, math.floor(config.keep_alive_s / interval_s))
    request = ua.CreateSubscriptionRequest()
    request.Parameters = ua.CreateSubscriptionParameters(
        RequestedPublishingInterval=1000 * interval_s,
        RequestedMaxKeepAliveCount=ua.UInt32(count),
        RequestedLifetimeCount=ua.UInt32(LIFETIMES * count),
        MaxNotificationsPerPublish=ua.UInt32(NOTIFICATIONS_MAX),
        PublishingEnabled=True,
        Priority=ua.Byte(group.priority),
    )
    result = (await link.call(request, ua.CreateSubscriptionResponse)).Parameters
    keep_alive_s = result.RevisedPublishingInterval * result.RevisedMaxKeepAliveCount / 1000
    identifier = int(result.SubscriptionId)
    return Subscription(link, config, log, identifier, max(keep_alive_s, 0.05), number)
