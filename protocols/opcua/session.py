"""One session: which signals are monitored how, and what becomes of those that cannot be."""

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from gateway.core.batch import Batch, Waveform
from gateway.core.errors import LinkError, LinkLost, PeerError
from gateway.core.source import Session, Source, SourceContext
from protocols.opcua.address import parse_field
from protocols.opcua.crew import Crew
from protocols.opcua.expiry import watch_expiry
from protocols.opcua.gaps import GapFiller
from protocols.opcua.harvest import Harvest
from protocols.opcua.intake import Intake
from protocols.opcua.items import Item, Limits, read_server, resolve
from protocols.opcua.link import Link
from protocols.opcua.opening import open_link
from protocols.opcua.outbox import Outbox
from protocols.opcua.poll import Poller
from protocols.opcua.publish import PUBLISH_REQUESTS, Publisher
from protocols.opcua.resume import Resume, recall
from protocols.opcua.settings import Settings, SignalSettings
from protocols.opcua.subscription import NO_SUBSCRIPTION, Subscription, create_subscription


@asynccontextmanager
async def open_session(config: Settings, context: SourceContext) -> AsyncIterator[Session]:
    """Connect, subscribe, and serve until the block ends."""
    # Before the link: a gateway that is killed while the server is away knows it all the same.
    resume = await recall(config, context)
    async with open_link(config, context) as link:
        session = OpcUaSession(config, context, link, resume)
        async with Crew(session.outbox.fail) as crew:
            try:
                await session.start(crew)
                yield session
            finally:
                session.remember()


class OpcUaSession:
    """Reads what the tasks of its crew gather."""

    def __init__(
        self, config: Settings, context: SourceContext, link: Link, resume: Resume
    ) -> None:
        self.outbox = Outbox()
        self._config = config
        self._context = context
        self._link = link
        self._intake = Intake(config, context, self.outbox)
        self._items: dict[str, Item] = {}
        self._by_handle: dict[int, Item] = {}
        self._subscriptions: dict[str, Subscription] = {}
        self._harvest = Harvest(link, context, resume, self.outbox, self._intake, self._items)
        self._publisher = Publisher(
            link, context, self._intake, self.outbox, self._by_handle, self._harvest
        )
        self._pollers: dict[str, Poller] = {}
        self._resume = resume
        self._gaps = GapFiller(config, context, link, self.outbox, self._intake, resume)
        self._groups = ["", *(group.name for group in config.groups)]
        self._uris: list[str] = []
        self._limits = Limits(1, 1, 1, 1, 1)
        self._refused: set[Item] = set()
        self._wake_retry = asyncio.Event()
        self._changing = asyncio.Lock()
        self._crew: Crew | None = None

    async def read(self) -> Batch | Waveform:
        return await self.outbox.take()

    async def apply(self, source: Source) -> bool:
        if not isinstance(source, Settings):
            return False
        if source.model_copy(update={"signals": self._config.signals}) != self._config:
            return False
        self._config = source
        wanted = {str(signal.key()): signal for signal in source.signals}
        gone = [item for item in self._items.values() if wanted.get(item.name) != item.signal]
        try:
            async with self._changing:
                await self._remove(gone)
                await self._add([s for name, s in wanted.items() if name not in self._items])
        except PeerError as error:
            raise LinkLost(f"{source.url}: {error}") from error
        return True

    async def start(self, crew: Crew) -> None:
        """Learn about the server, subscribe, and start what keeps the session alive."""
        self._crew = crew
        quarantined = self._context.meter.quarantined
        for name in quarantined.keys() - {str(signal.key()) for signal in self._config.signals}:
            del quarantined[name]
        try:
            self._uris, self._limits = await read_server(
                self._link, self._config, self._resume.per_call
            )
            await self._harvest.claim()
            await self._add(self._config.signals)
            self._harvest.begin()
        except PeerError as error:
            raise LinkLost(f"{self._config.url}: {error}") from error
        except LinkError:
            if self._uris:  # It answered short requests.
                self._resume.shrink(min(self._limits.monitored, len(self._config.signals)))
            raise
        self._start("renew", self._link.renew_channel())
        self._start("expiry", watch_expiry(self._context, self._config.id, self._link.ends.known()))
        self._start("alive", self._link.keep_alive(self._config.keep_alive_s))
        self._start("retry", self._retry())
        self._start("watch", self._publisher.watch())
        self._start(
            "history", self._gaps.fill(self._items, self._limits.history, self._harvest.done)
        )
        for i in range(PUBLISH_REQUESTS):
            self._start(f"publish-{i}", self._publisher.run())

    def remember(self) -> None:
        """Keep for the next session where this one ended."""
        self._gaps.remember(self._items.values(), self._publisher.left())

    def _start(self, what: str, work: Coroutine[Any, Any, None]) -> None:
        assert self._crew is not None
        self._crew.start(work, f"source:{self._config.id}:{what}")

    async def _add(self, signals: Iterable[SignalSettings]) -> None:
        items = []
        for signal in signals:
            name, steps = str(signal.key()), parse_field(signal.field)
            handle = self._intake.columns.add(
                self._context.signals.intern(signal.key()),
                group=self._groups.index(signal.group),
                scale=signal.scale,
                offset=signal.offset,
                plain=not steps,
                resumed=self._gaps.resumed(name),
            )
            item = Item(signal, name, handle, steps)
            self._items[item.name] = self._by_handle[handle] = item
            items.append(item)
        await self._monitor(items)

    async def _learn_types(self, items: Sequence[Item]) -> None:
        """Ask what the structures are made of of which a field is wanted."""
        nodes = {i.node for i in items if i.node and any(isinstance(s, str) for s in i.steps)}
        if not nodes:
            return
        try:
            per_call = min(self._limits.read, self._limits.browse)
            await self._intake.structures.learn(self._link, list(nodes), per_call)
        except PeerError as error:
            # Standard structures are known without it; others become BAD with their reason.
            self._context.log.warning("structures.unknown", error=str(error))

    async def _remove(self, items: Sequence[Item]) -> None:
        for item in items:
            del self._items[item.name], self._by_handle[item.handle]
            self._intake.columns.remove(item.handle)
            self._refused.discard(item)
            self._context.meter.quarantined.pop(item.name, None)
        for name, subscription in self._subscriptions.items():
            mine = [item for item in items if item.signal.group == name and item.monitored_id]
            await subscription.remove(mine, self._limits.monitored)
        for poller in self._pollers.values():
            poller.remove(items)

    async def _monitor(self, items: Sequence[Item]) -> None:
        """Monitor what can be; what cannot becomes BAD, and is tried again later."""
        for item, name, reason in await resolve(
            self._link, items, self._uris, self._limits.translate
        ):
            self._refuse(item, name, reason)
        await self._learn_types(items)
        for group in sorted({item.signal.group for item in items}):
            mine = [i for i in items if i.signal.group == group and i.node is not None]
            if not mine:
                continue
            if self._config.group_of(mine[0].signal).mode == "poll" or group in self._pollers:
                self._poller(group, mine[0]).add(mine)
                continue
            try:
                subscription = await self._subscription(group, mine[0])
            except PeerError as error:
                if error.code not in NO_SUBSCRIPTION:
                    raise
                # Read instead: less often than it changes, perhaps, but read.
                self._context.meter.errors[str(error)] += 1
                self._context.log.warning("group.polled", group=group, reason=str(error))
                self._poller(group, mine[0]).add(mine)
                continue
            for item, name, reason in await subscription.add(mine, self._limits):
                self._refuse(item, name, reason)
            for item in mine:
                if item.monitored_id:
                    self._intake.columns.deadband[item.handle] = item.deadband
                    self._accept(item)

    async def _subscription(self, group: str, like: Item) -> Subscription:
        if group not in self._subscriptions:
            settings, number = self._config.group_of(like.signal), self._groups.index(group)
            made = await create_subscription(
                self._link, self._config, settings, number, self._context.log
            )
            self._subscriptions[group] = made
            self._publisher.add(made)
        return self._subscriptions[group]

    def _poller(self, group: str, like: Item) -> Poller:
        if group not in self._pollers:
            poller = Poller(
                self._link,
                self._context,
                self._intake,
                interval_s=self._config.group_of(like.signal).publishing_interval_s,
                per_call=self._limits.read,
                on_refused=self._refuse,
                on_accepted=self._accept,
            )
            self._pollers[group] = poller
            self._start(f"poll-{group}", poller.run())
        return self._pollers[group]

    def _accept(self, item: Item) -> None:
        item.backoff_ns = 0
        # A session before this one may have been refused it, before a download to the PLC.
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
        item.node = None
        self._refused.add(item)
        self._wake_retry.set()
        self._intake.put_bad(item)

    async def _retry(self) -> None:
        """Try refused nodes again, each when its time has come."""
        clock = self._context.clock
        while True:
            if not self._refused:
                self._wake_retry.clear()
                await self._wake_retry.wait()
            soonest_ns = min((item.retry_at_ns for item in self._refused), default=0)
            await asyncio.sleep(max(0, soonest_ns - clock.mono_ns()) / 1e9)
            try:
                async with self._changing:
                    now_ns = clock.mono_ns()
                    due = [item for item in self._refused if item.retry_at_ns <= now_ns]
                    self._refused.difference_update(due)
                    await self._monitor(due)
            except PeerError as error:
                raise LinkLost(f"{self._config.url}: {error}") from error
