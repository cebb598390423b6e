"""Sockets and serial ports: carry bytes out, and hand a sink those that come, by callback."""

import asyncio
import os
import ssl
from typing import Any, Protocol

from typing_extensions import override

from gateway.core.errors import ConfigError, LinkError, LinkLost, LinkRefused, LinkTimeout
from protocols.modbus.settings import Settings
from protocols.reach import unopened, unreached


class Sink(Protocol):
    """Who takes what comes off a wire."""

    def received(self, data: bytes) -> None: ...

    def lost(self, error: LinkError) -> None: ...


class Wire(Protocol):
    """What carries the bytes."""

    def send(self, data: bytes) -> None: ...

    def close(self) -> None: ...


class _Stream(asyncio.Protocol):
    """TCP and TLS."""

    def __init__(self, sink: Sink, config: Settings) -> None:
        self._sink = sink
        self._name = config.url
        self._closed = (
            "the peer closed the connection; it may have none left for us (close other masters), "
            "or not like the unit_id, or end those that are idle (lower poll_s)"
        )
        if config.target().scheme == "tls":
            # Its reset may overtake its reason.
            self._closed += (
                "; if it wants a certificate of ours, set tls_cert and tls_key"
                if config.tls_cert is None
                else "; or it does not take our certificate: see tls_cert, and the server's log"
            )
        self._transport: asyncio.Transport | None = None

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    @override
    def data_received(self, data: bytes) -> None:
        self._sink.received(data)

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        if isinstance(exc, ssl.SSLError):
            # From TLS 1.3 on, the server judges our certificate after the handshake.
            self._sink.lost(LinkRefused(f"{self._name}: TLS refused: {exc}; check tls_cert"))
        else:
            # A reset says the same as an end: bytes of ours were still under way to it.
            reset = isinstance(exc, ConnectionResetError | BrokenPipeError)
            why = self._closed if exc is None or reset else unreached(exc)
            self._sink.lost(LinkLost(f"{self._name}: {why}"))

    def send(self, data: bytes) -> None:
        assert self._transport is not None
        self._transport.write(data)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()


class _Datagrams(asyncio.DatagramProtocol):
    """UDP; an ICMP refusal is a lost link, a lost datagram a time-out."""

    def __init__(self, sink: Sink, name: str) -> None:
        self._sink = sink
        self._name = name
        self._transport: asyncio.DatagramTransport | None = None

    @override
    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    @override
    def datagram_received(self, data: bytes, addr: Any) -> None:
        self._sink.received(data)

    @override
    def error_received(self, exc: Exception) -> None:
        self._sink.lost(LinkLost(f"{self._name}: {unreached(exc)}"))

    def send(self, data: bytes) -> None:
        assert self._transport is not None
        self._transport.sendto(data)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()


class _Port:
    """A serial port, read when the event loop says that bytes are there."""

    def __init__(self, config: Settings, sink: Sink) -> None:
        import termios  # noqa: PLC0415 (not on every system)

        import serial  # noqa: PLC0415 (loaded when used)

        self._sink = sink
        self._name = config.url
        try:
            self._port = serial.Serial(
                config.target().path,
                baudrate=config.baudrate,
                bytesize=config.data_bits,
                parity=parity_letter(config),
                stopbits=config.stop_bits,
                timeout=0,
                write_timeout=0,
                exclusive=True,
            )
        except (OSError, ValueError, termios.error) as error:  # SerialException is an OSError.
            raise unopened(config.url, error) from error
        self._port.reset_input_buffer()
        asyncio.get_running_loop().add_reader(self._port.fileno(), self._readable)

    def _readable(self) -> None:
        try:
            data = self._port.read(4096)
        except OSError as error:
            data = b""
            self._gone(str(error))
            return
        if data:
            self._sink.received(data)
        else:
            self._gone("the port was unplugged or closed at its other end")

    def _gone(self, why: str) -> None:
        asyncio.get_running_loop().remove_reader(self._port.fileno())
        self._sink.lost(LinkLost(f"{self._name}: {why}"))

    def send(self, data: bytes) -> None:
        self._port.write(data)

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._port.fileno())
        self._port.close()


def parity_letter(config: Settings) -> str:
    """N, E or O; a pseudo-terminal (a serial server's, a simulator's) has none, and refuses it."""
    pseudo = os.path.realpath(config.target().path).startswith("/dev/pts/")
    return "N" if pseudo else config.parity[0].upper()


def tls_context(config: Settings) -> ssl.SSLContext:
    """Verify the server by CA and name; show our own certificate where one is set.

    Raises:
        ConfigError: A file cannot be read or is not what it should be.
    """
    try:
        context = ssl.create_default_context(cafile=config.tls_ca)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if config.tls_cert is not None:
            password = config.tls_key_password.reveal() if config.tls_key_password else None
            context.load_cert_chain(config.tls_cert, config.tls_key, password or "")
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            f"source {config.id}: tls_ca, tls_cert or tls_key cannot be used: {error}"
        ) from error
    return context


async def open_wire(config: Settings, sink: Sink) -> Wire:
    """Open the socket or port that the configuration names.

    Raises:
        LinkTimeout, LinkLost: It cannot be had now.
        LinkRefused: A certificate, ours or theirs, is not accepted.
        ConfigError: A TLS file cannot be used.
    """
    if config.target().serial:
        return _Port(config, sink)
    return await _connect(config, sink)


async def _connect(config: Settings, sink: Sink) -> Wire:
    target = config.target()
    loop = asyncio.get_running_loop()
    secure = tls_context(config) if target.scheme == "tls" else None
    try:
        async with asyncio.timeout(config.connect_timeout_s):
            if target.scheme == "udp":
                _, datagrams = await loop.create_datagram_endpoint(
                    lambda: _Datagrams(sink, config.url), remote_addr=(target.host, target.port)
                )
                return datagrams
            _, stream = await loop.create_connection(
                lambda: _Stream(sink, config),
                target.host,
                target.port,
                ssl=secure,
                server_hostname=(config.tls_server_name or target.host) if secure else None,
            )
            return stream
    except TimeoutError:
        raise LinkTimeout(
            f"{config.url}: no connection within {config.connect_timeout_s:g} s; see that it is on,"
            f" its address, and the firewall between{', or that it speaks TLS' * bool(secure)}"
        ) from None
    except ssl.SSLError as error:
        raise LinkRefused(
            f"{config.url}: TLS refused: {error}; check tls_ca, tls_server_name and tls_cert"
        ) from error
    except OSError as error:
        raise LinkLost(f"{config.url}: {unreached(error)}") from error
