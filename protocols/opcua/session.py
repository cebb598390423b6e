"""One session: signals monitored in subscriptions, publications turned into batches."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager

import numpy as np
from asyncua import ua

from gateway.core.batch import Batch, Waveform, bad_batch, make_batch
from gateway.core.errors import DataError, LinkLost, LinkTimeout, PeerError
from gateway.core.source import Session, Source, SourceContext
from protocols.opcua.address import parse_field
from protocols.opcua.columns import Columns
from protocols.opcua.crew import Crew
from protocols.opcua.items import Item, Limits, read_server, resolve
from protocols.opcua.link import Link, code_name, open_link
from protocols.opcua.outbox import Outbox
from protocols.opcua.settings import Config, SignalSettings
from protocols.opcua.slow import decode_slowly, decode_whole
from protocols.opcua.status import ClockRule, overflows, quality_of, values_stamps
from protocols.opcua.subscription import Subscription, create_subscription
from protocols.opcua.wire import Publication, Values, decode_publish

PUBLISH_REQUESTS = 3
"""Outstanding at the server, so that it always has one to answer."""


@asynccontextmanager
async def open_session(config: Config, context: SourceContext) -> AsyncIterator[Session]:
    """Connect, subscribe, and serve until the block ends."""
    async with open_link(config, context) as link:
        session = OpcUaSession(config, context, link)
        async with Crew(session.outbox.fail) as crew:
            await session.start(crew)
            yield session


class OpcUaSession:
    """Reads what the tasks of its crew gather."""

    def __init__(self, config: Config, context: SourceContext, link: Link) -> None:
        self.outbox = Outbox()
        self._config = config
        self._context = context
        self._link = link
        self._columns = Columns()
        self._items: dict[str, Item] = {}
        self._by_handle: dict[int, Item] = {}
        self._subscriptions: dict[str, Subscription] = {}
        self._uris: list[str] = []
        self._limits = Limits(1, 1, 1, 1)
        self._acks: list[ua.SubscriptionAcknowledgement] = []
        self._refused: set[Item] = set()
        self._wake_retry = asyncio.Event()
        self._clock_rule = ClockRule(
            stamp=config.timestamp,
            oldest_ns=int(np.datetime64(f"{config.clock_year_min}", "ns").astype(np.int64)),
            ahead_ns_max=round(config.clock_ahead_s_max * 1e9),
        )

    async def read(self) -> Batch | Waveform:
        return await self.outbox.take()

    async def apply(self, source: Source) -> bool:
        if not isinstance(source, Config):
            return False
        if source.model_copy(update={"signals": self._config.signals}) != self._config:
            return False
        self._config = source
        wanted = {str(signal.key()): signal for signal in source.signals}
        gone = [item for item in self._items.values() if wanted.get(item.name) != item.signal]
        try:
            await self._remove(gone)
            await self._add([s for name, s in wanted.items() if name not in self._items])
        except PeerError as error:
            raise LinkLost(f"{source.url}: {error}") from error
        return True

    async def start(self, crew: Crew) -> None:
        """Learn about the server, subscribe, and start what keeps the session alive."""
        try:
            self._uris, self._limits = await read_server(self._link, self._config)
            await self._add(self._config.signals)
        except PeerError as error:
            raise LinkLost(f"{self._config.url}: {error}") from error
        name = f"source:{self._config.id}"
        crew.start(self._link.renew_channel(), f"{name}:renew")
        crew.start(self._retry(), f"{name}:retry")
        crew.start(self._watch(), f"{name}:watch")
        for i in range(PUBLISH_REQUESTS):
            crew.start(self._publish(), f"{name}:publish-{i}")

    async def _add(self, signals: Iterable[SignalSettings]) -> None:
        items = []
        for signal in signals:
            number = self._context.signals.intern(signal.key())
            handle = self._columns.add(number, signal.scale, signal.offset)
            item = Item(signal, str(signal.key()), handle, parse_field(signal.field))
            self._items[item.name] = self._by_handle[handle] = item
            items.append(item)
        await self._subscribe(items)

    async def _remove(self, items: Sequence[Item]) -> None:
        for item in items:
            del self._items[item.name], self._by_handle[item.handle]
            self._columns.remove(item.handle)
            self._refused.discard(item)
            self._context.meter.quarantined.pop(item.name, None)
        for name, subscription in self._subscriptions.items():
            mine = [item for item in items if item.signal.group == name and item.monitored_id]
            await subscription.remove(mine, self._limits.monitored)

    async def _subscribe(self, items: Sequence[Item]) -> None:
        """Monitor what can be; what cannot becomes BAD, and is tried again later."""
        for item, name, reason in await resolve(
            self._link, items, self._uris, self._limits.translate
        ):
            self._refuse(item, name, reason)
        for group in sorted({item.signal.group for item in items}):
            mine = [i for i in items if i.signal.group == group and i.node is not None]
            if not mine:
                continue
            subscription = self._subscriptions.get(group)
            if subscription is None:
                subscription = await create_subscription(
                    self._link, self._config, self._config.group_of(mine[0].signal)
                )
                subscription.heard_ns = self._context.clock.mono_ns()
                self._subscriptions[group] = subscription
            refusals = await subscription.add(mine, self._limits.monitored)
            for item, name, reason in refusals:
                self._refuse(item, name, reason)
            for item in mine:
                if item.monitored_id:
                    self._accept(item)

    def _accept(self, item: Item) -> None:
        self._refused.discard(item)
        item.backoff_ns = 0
        if self._context.meter.quarantined.pop(item.name, None) is not None:
            self._context.log.info("signal.accepted", signal=item.name)

    def _refuse(self, item: Item, name: str, reason: str) -> None:
        """Say once that a signal is not to be had, and why; try again with growing pauses."""
        context = self._context
        context.meter.errors[name] += 1
        if item.name not in context.meter.quarantined:
            context.log.warning("signal.refused", signal=item.name, reason=reason)
        context.meter.quarantined[item.name] = reason
        smallest_ns = round(self._config.retry_s_min * 1e9)
        largest_ns = round(self._config.retry_s_max * 1e9)
        item.backoff_ns = min(max(smallest_ns, 2 * item.backoff_ns), largest_ns)
        item.retry_at_ns = context.clock.mono_ns() + item.backoff_ns
        self._refused.add(item)
        self._wake_retry.set()
        self._put_bad(item)

    def _put_bad(self, item: Item) -> None:
        number = self._columns.number[item.handle : item.handle + 1]
        self.outbox.put(bad_batch(self._config.id, number, self._context.clock.wall_ns()))

    async def _retry(self) -> None:
        """Try refused nodes again, each when its time has come."""
        clock = self._context.clock
        while True:
            if not self._refused:
                self._wake_retry.clear()
                await self._wake_retry.wait()
            soonest_ns = min(item.retry_at_ns for item in self._refused)
            await asyncio.sleep(max(0, soonest_ns - clock.mono_ns()) / 1e9)
            due = [item for item in self._refused if item.retry_at_ns <= clock.mono_ns()]
            try:
                await self._subscribe(due)
            except PeerError as error:
                raise LinkLost(f"{self._config.url}: {error}") from error

    async def _watch(self) -> None:
        """Find a silent link: two keep-alive intervals without a word on a subscription."""
        clock = self._context.clock
        while True:
            interval_s = min((s.keep_alive_s for s in self._subscriptions.values()), default=1.0)
            await asyncio.sleep(interval_s / 4)
            for subscription in self._subscriptions.values():
                silent_s = (clock.mono_ns() - subscription.heard_ns) / 1e9
                if silent_s > 2 * subscription.keep_alive_s:
                    self._context.meter.errors["silence"] += 1
                    raise LinkTimeout(
                        f"silent for {silent_s:.1f} s; a keep-alive was due "
                        f"every {subscription.keep_alive_s:g} s"
                    )

    async def _publish(self) -> None:
        """Keep one publish request at the server, and pass on what it answers."""
        clock = self._context.clock
        while True:
            if not self._subscriptions:
                await asyncio.sleep(0.1)
                continue
            await self.outbox.space()
            request = ua.PublishRequest()
            request.Parameters.SubscriptionAcknowledgements, self._acks = self._acks, []
            try:
                data = bytes(await self._link.exchange(request, waits=False))
            except PeerError as error:
                if error.code == ua.StatusCodes.BadTooManyPublishRequests:
                    return  # The others suffice.
                raise LinkLost(f"{self._config.url}: {error}") from error
            received_ns = clock.wall_ns()
            try:
                publication = self._decode(data)
            except DataError as error:
                self._context.meter.errors["decode"] += 1
                raise LinkLost(f"{self._config.url}: {error}") from error
            self._take(publication, received_ns)

    @staticmethod
    def _decode(data: bytes) -> Publication:
        """Fast where it is plain, else by the library."""
        try:
            return decode_publish(data, decode_slowly)
        except DataError:
            return decode_whole(data)

    def _take(self, publication: Publication, received_ns: int) -> None:
        """Turn one publication into a batch, and owe the server an acknowledgement."""
        subscription = self._subscription(publication.subscription)
        if subscription is None:
            return
        subscription.heard_ns = self._context.clock.mono_ns()
        if publication.status is not None:
            raise LinkLost(f"the server ended a subscription: {code_name(publication.status)}")
        if publication.values is None:
            return
        self._acks.append(
            ua.SubscriptionAcknowledgement(
                SubscriptionId=ua.UInt32(publication.subscription),
                SequenceNumber=ua.UInt32(publication.sequence),
            )
        )
        self._put_values(publication.values, received_ns)

    def _subscription(self, identifier: int) -> Subscription | None:
        for subscription in self._subscriptions.values():
            if subscription.identifier == identifier:
                return subscription
        return None

    def _put_values(self, values: Values, received_ns: int) -> None:
        columns, meter = self._columns, self._context.meter
        lost = overflows(values.status)
        if lost:
            meter.errors["overflow"] += lost
            meter.samples_lost += lost
        rows = np.flatnonzero(columns.known(values.handle))
        handle = values.handle[rows]
        source_ns, server_ns = values_stamps(values)
        t_ns, off = self._clock_rule.apply(source_ns[rows], server_ns[rows], received_ns)
        if off:
            meter.errors["clock"] += off
        value = values.value[rows] * columns.scale[handle] + columns.offset[handle]
        self.outbox.put(
            make_batch(
                self._config.id,
                columns.number[handle],
                t_ns,
                value,
                quality_of(values.status[rows]),
                received_ns,
            )
        )
        for slow_handle, _ in values.slow:
            item = self._by_handle.get(slow_handle)
            if item is not None:
                meter.errors["type"] += 1
                meter.quarantined[item.name] = "the value is not a number"
                self._put_bad(item)
