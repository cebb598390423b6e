"""Owns the link to the broker: subscribes, listens. It never publishes."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import aiomqtt

from gateway.core.batch import Batch, Waveform
from gateway.core.errors import LinkError, LinkLost, LinkTimeout
from gateway.core.source import Source, SourceContext
from protocols.mqtt.broker import connected
from protocols.mqtt.inbox import Inbox
from protocols.mqtt.messages import UNREADABLE_MIN, Messages
from protocols.mqtt.resent import not_logged
from protocols.mqtt.settings import Settings

FILTERS_PER_REQUEST = 100
SUBACK_FAILED_MIN = 128


@asynccontextmanager
async def open_session(config: Settings, context: SourceContext) -> AsyncIterator["MqttSession"]:
    """Connect, subscribe, and watch the link for as long as the context is open."""
    inbox = Inbox(config.queue_messages_max, context.meter.errors, kept=config.persistent)
    async with connected(config, inbox) as client:
        session = MqttSession(config, context, client, inbox)
        ended: LinkError | None = None
        async with asyncio.TaskGroup() as tasks:
            work = [
                tasks.create_task(session.watch(), name=f"mqtt link of {config.id}"),
                tasks.create_task(inbox.tell(context.logged), name=f"mqtt inbox of {config.id}"),
            ]
            try:
                await session.subscribe()
                _tell_gap(config, context)
                yield session
            except LinkError as error:
                # Carried around the group, which would wrap it, and its reader knows it bare.
                ended = error
            finally:
                for task in work:
                    task.cancel()
                if ended is None:
                    await inbox.close(context.logged)
                inbox.shut()
        if ended is not None:
            raise ended


def _tell_gap(config: Settings, context: SourceContext) -> None:
    """Say what nobody kept while we were away: of a broker that was told to, we trust that it did.

    How long is not known to the second: a topic that was silent before may have missed nothing.
    """
    meter = context.meter
    if config.persistent or not meter.connects or not meter.last_sample_ns:
        return
    away_s = max(0.0, (context.clock.wall_ns() - meter.last_sample_ns) / 1e9)
    names = [str(signal.key()) for signal in config.signals]
    text = meter.miss(names, away_s, "the broker keeps nothing for us; see persistent")
    context.log.warning("mqtt.gap", gap_s=round(away_s, 3), signals=len(names), text=text)


class MqttSession:
    """Reads messages off one link."""

    def __init__(
        self, config: Settings, context: SourceContext, client: aiomqtt.Client, inbox: Inbox
    ) -> None:
        self._config = config
        self._context = context
        self._client = client
        self._inbox = inbox
        self._lost: LinkError | None = None
        self._unreadable = 0
        self._again = False
        self._doubtful: Batch | Waveform | None = None
        self._filters: set[str] = set()
        self._messages = self._understand(config)

    async def read(self) -> Batch | Waveform:
        """See `Session.read`."""
        inbox = self._inbox
        while True:
            if self._doubtful is None:
                self._doubtful = self._messages.pop()
            if self._doubtful is not None:
                # Asking the log may be cancelled, so it stays here until that is done.
                item = await self._new(self._doubtful)
                self._doubtful = None
                if item is not None:
                    return item
                continue
            inbox.passed_on()
            if inbox.messages:
                self._feed()
            elif self._lost is not None:
                raise self._lost
            else:
                inbox.changed.clear()
                await inbox.changed.wait()

    def _feed(self) -> None:
        """Understand what came; what is sent again apart from what is not."""
        messages, tap = self._inbox.messages, self._context.tap
        self._again = messages[0].dup
        self._messages.at(self._context.clock.wall_ns())
        while messages and messages[0].dup == self._again:
            message = messages.popleft()
            try:
                topic, payload = message.topic, bytes(message.payload)
            except UnicodeDecodeError:
                self._context.meter.errors["payload"] += 1
                continue
            if tap.open:
                tap.received(payload, topic)
            self._messages.feed(topic, payload, retained=message.retain)

    async def _new(self, item: Batch | Waveform) -> Batch | Waveform | None:
        """What the log lacks of an item: the broker sends again what it does not know we have."""
        if not self._again or isinstance(item, Waveform):
            return item
        new = await not_logged(item, self._context.logged)
        if new is not item:
            self._context.meter.errors["again"] += len(item) - (len(new) if new is not None else 0)
        return new

    async def apply(self, source: Source) -> bool:
        """See `Session.apply`. Topics come and go on the same link."""
        if not isinstance(source, Settings) or source.link() != self._config.link():
            return False
        before, self._messages = self._messages, self._understand(source)
        self._config = source
        self._messages.take_over(before)
        try:
            await self.subscribe()
        except LinkError as error:
            self._lost = error
        return True

    async def subscribe(self) -> None:
        """Subscribe to what is wanted and not yet had; drop what is had and not wanted."""
        wanted = self._messages.filters()
        new = [topic for topic in wanted if topic not in self._filters]
        old = sorted(self._filters.difference(wanted))
        try:
            for i in range(0, len(new), FILTERS_PER_REQUEST):
                await self._subscribe(new[i : i + FILTERS_PER_REQUEST])
            for i in range(0, len(old), FILTERS_PER_REQUEST):
                await self._client.unsubscribe(
                    old[i : i + FILTERS_PER_REQUEST], timeout=self._config.open_timeout_s
                )
        except aiomqtt.MqttError as error:
            raise LinkTimeout(
                f"broker {self._config.broker} did not answer our subscription: {error}"
            ) from error
        self._filters = set(wanted)

    async def watch(self) -> None:
        """Wait for the end of the link."""
        try:
            await anext(aiter(self._client.messages))
        except aiomqtt.MqttError as error:
            self._lost = LinkLost(
                f"broker {self._config.broker} is gone: {error.__cause__ or error}; "
                "see that it runs, and that no other client has our client_id"
            )
        self._inbox.changed.set()

    async def _subscribe(self, topics: Sequence[str]) -> None:
        asked: list[tuple[str, int]] = [(topic, self._config.qos) for topic in topics]
        codes: Sequence[Any] = await self._client.subscribe(
            asked, timeout=self._config.open_timeout_s
        )
        for topic, code in zip(topics, codes, strict=False):
            if getattr(code, "value", code) >= SUBACK_FAILED_MIN:
                self._context.meter.errors["subscription"] += 1
                self._messages.at(self._context.clock.wall_ns())
                self._messages.refused(topic, f"the broker refuses the topic {topic} ({code})")
            else:
                self._messages.granted(topic)

    def _understand(self, config: Settings) -> Messages:
        context = self._context
        return Messages(config, context.signals, context.meter, self._watch_payloads)

    def _watch_payloads(self, topic: str, payload: bytes, readable: bool) -> None:
        if readable:
            if self._unreadable >= UNREADABLE_MIN:
                self._context.log.info("mqtt.readable", after_messages=self._unreadable)
            self._unreadable = 0
            return
        self._unreadable += 1
        if self._unreadable == UNREADABLE_MIN:
            self._context.log.warning("mqtt.unreadable", topic=topic, payload=repr(payload[:80]))
