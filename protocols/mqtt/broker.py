"""Connects to the broker, and says what keeps us from it and who must act."""

import asyncio
import contextlib
import logging
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiomqtt
from aiomqtt.exceptions import MqttConnectError
from paho.mqtt.client import MQTT_CLEAN_START_FIRST_ONLY
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from gateway.core.errors import ConfigError, LinkError, LinkRefused, LinkTimeout
from protocols.mqtt.inbox import Inbox
from protocols.mqtt.settings import Settings
from protocols.reach import unreached

REFUSED_CODES = frozenset({1, 2, 4, 5, 128, 132, 133, 134, 135, 138, 140})
"""CONNACK codes of 3.1.1 and 5 that a person must act on: name, password, rights, version."""
QUIET = logging.getLogger("forewarn.mqtt")
"""aiomqtt's own lines go nowhere: what they tell, the link's state and counters tell once."""
QUIET.addHandler(logging.NullHandler())
QUIET.propagate = False


@asynccontextmanager
async def connected(config: Settings, inbox: Inbox) -> AsyncIterator[aiomqtt.Client]:
    """A client that is connected, and puts what arrives into `inbox`."""
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
