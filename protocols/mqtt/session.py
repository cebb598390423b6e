"""Owns the link to the broker: connects, subscribes, listens. It never publishes."""

import asyncio
import contextlib
import logging
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import aiomqtt
from aiomqtt.exceptions import MqttConnectError
from paho.mqtt.client import MQTT_CLEAN_START_FIRST_ONLY
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from gateway.core.batch import Batch, Waveform
from gateway.core.errors import ConfigError, LinkError, LinkLost, LinkRefused, LinkTimeout
from gateway.core.source import Source, SourceContext
from protocols.mqtt.inbox import Inbox
from protocols.mqtt.messages import UNREADABLE_MIN, Messages
from protocols.mqtt.resent import not_logged
from protocols.mqtt.settings import Settings
from protocols.reach import unreached

FILTERS_PER_REQUEST = 100
REFUSED_CODES = frozenset({1, 2, 4, 5, 128, 132, 133, 134, 135, 138, 140})
"""CONNACK codes of 3.1.1 and 5 that a person must act on: name, password, rights, version."""
SUBACK_FAILED_MIN = 128
QUIET = logging.getLogger("forewarn.mqtt")
"""aiomqtt's own lines go nowhere: what they tell, the link's state and counters tell once."""
QUIET.addHandler(logging.NullHandler())
QUIET.propagate = False


@asynccontextmanager
async def open_session(config: Settings, context: SourceContext) -> AsyncIterator["MqttSession"]:
    """Connect, subscribe, and watch the link for as long as the context is open."""
    inbox = Inbox(config.queue_messages_max, context.meter.errors, kept=config.persistent)
    async with _connected(config, inbox) as client:
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


@asynccontextmanager
async def _connected(config: Settings, inbox: Inbox) -> AsyncIterator[aiomqtt.Client]:
    client = _client(config, inbox)
    # A connection half made cannot be dropped: aiomqtt would leave its socket and its timer
    # behind. So a cancelled opening is seen to its end, which paho's own time-out bounds.
    opening = asyncio.ensure_future(client.__aenter__())
    try:
        await asyncio.shield(opening)
    except asyncio.CancelledError:
        try:
            await opening
        except aiomqtt.MqttError:
            _drop(client)
        else:
            with contextlib.suppress(aiomqtt.MqttError):
                await client.__aexit__(None, None, None)
        raise
    except MqttConnectError as error:
        _drop(client)
        raise _refusal(config, error) from error
    except aiomqtt.MqttError as error:
        _drop(client)
        raise _failure(config, error) from error
    try:
        yield client
    finally:
        with contextlib.suppress(aiomqtt.MqttError):
            await client.__aexit__(None, None, None)


def _drop(client: aiomqtt.Client) -> None:
    """Close what aiomqtt leaves open where the broker accepted the link but never answered."""
    client._client.disconnect()  # noqa: SLF001 (aiomqtt's own needs a link that is up)


def _client(config: Settings, inbox: Inbox) -> aiomqtt.Client:
    five = config.version == "5"
    # MQTT 5 says by its session's expiry what 3.1.1 says by a flag.
    properties: Any = None
    if five and config.persistent:
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.SessionExpiryInterval = 0xFFFF_FFFF
    client = aiomqtt.Client(
        config.host,
        config.port_number,
        username=config.username or None,
        password=_password(config),
        identifier=config.client_id or f"forewarn-{config.id}",
        protocol=aiomqtt.ProtocolVersion.V5 if five else aiomqtt.ProtocolVersion.V311,
        clean_session=None if five else not config.persistent,
        clean_start=not config.persistent if five else MQTT_CLEAN_START_FIRST_ONLY,
        properties=properties,
        keepalive=config.keepalive_s,
        timeout=config.open_timeout_s,
        tls_context=_tls(config),
        logger=QUIET,
    )
    # What aiomqtt does not pass on: how long connecting may block, that a message which arrived
    # is not ours yet, and whether it is sent again. Waiting on aiomqtt's iterator takes a task for
    # each message, too, and loses one when it is cancelled at the wrong moment.
    client._client.connect_timeout = config.open_timeout_s  # noqa: SLF001
    client._client.manual_ack_set(True)  # noqa: SLF001
    client._client.on_message = lambda _client, _userdata, message: inbox.put(message)  # noqa: SLF001
    inbox.acknowledge = lambda message: client._client.ack(message.mid, message.qos)  # noqa: SLF001
    return client


def _password(config: Settings) -> str | None:
    try:
        return config.password.reveal() if config.password is not None else None
    except ConfigError as error:
        # One missing secret is one source that is refused; the others run.
        raise LinkRefused(f"broker {config.broker}: {error}") from error


def _tls(config: Settings) -> ssl.SSLContext | None:
    tls = config.tls
    if tls is None:
        return None
    try:
        context = ssl.create_default_context(cafile=tls.ca_file or None)
        if tls.certificate_file:
            context.load_cert_chain(tls.certificate_file, tls.key_file or None)
    except (OSError, ssl.SSLError) as error:
        raise LinkRefused(
            f"broker {config.broker}: a file of [source.tls] cannot be read as a certificate or "
            f"key: {error}"
        ) from error
    return context


def _refusal(config: Settings, error: MqttConnectError) -> LinkError:
    code = error.rc if isinstance(error.rc, int) else getattr(error.rc, "value", 0)
    if code in REFUSED_CODES:
        return LinkRefused(
            f"broker {config.broker} refuses us: {error}; see username, password, client_id "
            "and the broker's access list"
        )
    return LinkError(f"broker {config.broker} cannot serve us now: {error}")


def _failure(config: Settings, error: aiomqtt.MqttError) -> LinkError:
    text = str(error)
    if "CERTIFICATE_VERIFY_FAILED" in text:
        return LinkRefused(
            f"broker {config.broker}: its certificate is not trusted ({text}); see tls.ca_file"
        )
    if "timed out" in text:
        return LinkTimeout(
            f"broker {config.broker} did not answer in {config.open_timeout_s:g} s; "
            "see its address and the firewall"
        )
    return LinkError(f"broker {config.broker} cannot be reached: {unreached(error)}")
