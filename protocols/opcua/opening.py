"""Opens a link: connects, checks certificates, signs in; closes in order. Bounds what may come.

The library's own reconnection, watchdog and publish loop are not used: they start tasks that nobody
owns, and a new client for every link is what can be trusted.
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import cryptography.exceptions
from asyncua import Client, ua
from asyncua.client.ua_client import UASocketProtocol
from asyncua.crypto.uacrypto import InvalidSignature
from asyncua.ua.uaerrors import UaError
from typing_extensions import override

from gateway.core.errors import ConfigError, LinkLost, LinkRefused, LinkTimeout
from gateway.core.source import SourceContext
from protocols.opcua.link import UNREADABLE, Link, link_error
from protocols.opcua.security import Ends, check_password, secure
from protocols.opcua.settings import Settings

SESSION_TIMEOUT_S = 60.0
CHANNEL_LIFETIME_S = 600.0
CLOSE_TIMEOUT_S = 1.0


@asynccontextmanager
async def open_link(config: Settings, context: SourceContext) -> AsyncIterator[Link]:
    """Connect, check certificates, sign in; close in order, or at once where the peer is gone."""
    # What the library logs, it also raises; a line per retry is not wanted.
    logging.getLogger("asyncua").setLevel(logging.CRITICAL + 1)
    client = Client(config.url, timeout=config.timeout_s)
    client.name = client.description = "Forewarn"
    client.session_timeout = round(SESSION_TIMEOUT_S * 1000)
    client.secure_channel_timeout = round(CHANNEL_LIFETIME_S * 1000)
    client.max_messagesize = config.message_bytes_max
    _bound(client, config.message_bytes_max)
    try:
        ends = await _connect(client, config, context)
        yield Link(client, config, context, ends)
    finally:
        await _close(client)


async def _connect(client: Client, config: Settings, context: SourceContext) -> Ends:
    try:
        ends = await secure(client, config, context)
        await client.connect_socket()
        await client.send_hello()
        _limit_messages(client, config.message_bytes_max)
        await _open_channel(client, config)
        await client.create_session()
        check_password(client, config)
        password = config.password.reveal() if config.password else None
        await client.activate_session(
            username=config.username or None,
            password=password,
            certificate=client.user_certificate,
        )
    except ConfigError as error:
        # A file that is missing stops this source; the other machines are watched on.
        raise LinkRefused(str(error)) from error
    except TimeoutError:
        raise LinkTimeout(f"{config.url}: no answer within {config.timeout_s:g} s") from None
    except (OSError, AssertionError, *UNREADABLE) as error:
        # The library asserts that an answer is of the kind that it asked for.
        known = link_error(error)
        if isinstance(known, LinkRefused):
            raise LinkRefused(f"{config.url}: {known}") from error
        raise LinkLost(f"{config.url}: {known}") from error
    except (InvalidSignature, cryptography.exceptions.InvalidSignature) as error:
        raise LinkRefused(
            f"{config.url}: the server does not hold its certificate's key"
        ) from error
    return ends


async def _open_channel(client: Client, config: Settings) -> None:
    """Open the secure channel; a server that hangs up at it most often does not know us."""
    try:
        await client.open_secure_channel()
    except OSError as error:
        if config.security_policy == "None":
            raise
        raise LinkLost(
            f"{config.url}: the server hangs up at the secure channel; most often it does not "
            "trust the gateway's certificate: accept it on the server (its list of rejected ones)"
        ) from error


class _Bounded(UASocketProtocol):
    """The library's protocol, but for peers that never end a message: it would gather for ever.

    And a server that turns us away with its last word is heard: the library only hangs up.
    """

    bytes_max = 0

    @override
    def _process_received_message(
        self, msg: ua.Message | ua.Acknowledge | ua.ErrorMessage | None
    ) -> None:
        if not isinstance(msg, ua.ErrorMessage):
            super()._process_received_message(msg)
            return
        try:
            if msg.Error is not None:
                msg.Error.check()
        except UaError as error:
            self._fail_all_pending(error)
        self.disconnect_socket()

    @override
    def data_received(self, data: bytes) -> None:
        if len(self.receive_buffer or b"") + len(data) > self.bytes_max:
            self._fail_all_pending(LinkLost(f"a message of more than {self.bytes_max} bytes"))
            self.disconnect_socket()
            return
        super().data_received(data)


def _bound(client: Client, bytes_max: int) -> None:
    """Make the client use a protocol that gives up on what is too long."""
    uaclient = client.uaclient

    def make() -> UASocketProtocol:
        made = _make()
        made.__class__ = _Bounded
        assert isinstance(made, _Bounded)
        made.bytes_max = bytes_max
        return made

    _make = uaclient._make_protocol  # noqa: SLF001  # It offers no other way.
    uaclient._make_protocol = make  # type: ignore[method-assign]  # noqa: SLF001


def _limit_messages(client: Client, bytes_max: int) -> None:
    """Refuse messages of many chunks too: the library takes any after the handshake."""
    protocol = client.uaclient.protocol
    if protocol is not None:
        limits = protocol._connection._limits  # noqa: SLF001  # It offers no other way.
        limits.max_message_size = bytes_max
        limits.max_chunk_count = 0


async def _close(client: Client) -> None:
    try:
        async with asyncio.timeout(CLOSE_TIMEOUT_S):
            if client.uaclient.protocol is not None and not client.uaclient.protocol.is_closed:
                await client.close_session()
                await client.close_secure_channel()
    except (TimeoutError, UaError, OSError):
        pass  # It goes away either way; that is what closing is for.
    finally:
        client.disconnect_socket()
