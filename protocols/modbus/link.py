"""Owns one socket or serial port: sends requests, hands out what came of them, keeps time.

Knows nothing of signals. No task runs here: bytes arrive by callback, and whoever waits, waits in
`wait`, which may be cancelled at any moment without losing anything.
"""

import asyncio
import os
import ssl
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from typing_extensions import override

from gateway.core.clock import Clock
from gateway.core.errors import (
    ConfigError,
    DataError,
    LinkError,
    LinkLost,
    LinkRefused,
    LinkTimeout,
)
from gateway.core.source import SourceContext
from gateway.core.tap import Tap
from protocols.modbus.config import Config
from protocols.modbus.frame import Ascii, Framing, Mbap, Outcome, Rtu
from protocols.modbus.plan import Request

RESYNC_S_MAX = 1.0
"""Longest wait for a noisy serial line to fall silent before the next request is sent anyway."""


class Wire(Protocol):
    """What carries the bytes."""

    def send(self, data: bytes) -> None: ...

    def close(self) -> None: ...


@dataclass(slots=True)
class Pending:
    """A request under way."""

    request: Request
    sent_ns: int
    deadline_ns: int


@dataclass(frozen=True, slots=True)
class Done:
    """A request that is settled, and how long it took."""

    request: Request
    outcome: Outcome
    took_ns: int


class Link:
    """One open link. `send` while `ready`, then `wait`, then `take`.

    Attributes:
        silence_ns: Silence kept on the wire before a request; 0 where the framing needs none.
        has_ids: A reply says which request it answers.
    """

    def __init__(
        self, framing: Framing, clock: Clock, silence_ns: int, name: str, tap: Tap
    ) -> None:
        self.silence_ns = silence_ns
        self.has_ids = isinstance(framing, Mbap)
        self._framing = framing
        self._clock = clock
        self._name = name
        self._tap = tap
        self._wire: Wire | None = None
        self._pending: dict[int, Pending] = {}
        self._done: list[Done] = []
        self._n = 0
        self._wake: asyncio.Future[None] | None = None
        self._lost: LinkError | None = None
        self._heard_ns = 0
        self._noisy_since_ns = 0

    def __len__(self) -> int:
        return len(self._pending)

    def attach(self, wire: Wire) -> None:
        """The wire is open."""
        self._wire = wire

    def close(self) -> None:
        """Close the wire; whoever waits is told."""
        if self._wire is not None:
            self._wire.close()
            self._wire = None

    def free_at_ns(self) -> int:
        """When the line has been silent long enough for the next request (monotonic)."""
        if not self.silence_ns:
            return 0
        free_ns = self._heard_ns + self.silence_ns
        if self._noisy_since_ns:
            # Garbage for ever must not keep us silent for ever.
            free_ns = min(free_ns, self._noisy_since_ns + round(RESYNC_S_MAX * 1e9))
        return free_ns

    def send(self, request: Request, timeout_ns: int) -> None:
        """Put a request on the wire.

        Raises:
            LinkLost: The wire is gone.
        """
        if self._lost is not None or self._wire is None:
            raise self._lost or LinkLost(f"{self._name}: closed")
        self._n += 1
        now_ns = self._clock.mono_ns()
        self._pending[self._n] = Pending(request, now_ns, now_ns + timeout_ns)
        self._noisy_since_ns = 0
        data = self._framing.ask(self._n, request)
        if self._tap.open:
            self._tap.sent(data)
        try:
            self._wire.send(data)
        except OSError as error:
            self._lost = LinkLost(f"{self._name}: {error}")
            raise self._lost from error

    async def wait(self, until_ns: int) -> None:
        """Return when a request is settled or overdue, or at `until_ns` (monotonic).

        Raises:
            LinkLost: The wire is gone.
        """
        for pending in self._pending.values():
            until_ns = min(until_ns, pending.deadline_ns)
        if not self._done and self._lost is None:
            now_ns = self._clock.mono_ns()
            if now_ns < until_ns:
                loop = asyncio.get_running_loop()
                self._wake = loop.create_future()
                timer = loop.call_later((until_ns - now_ns) / 1e9, self._notify)
                try:
                    await self._wake
                finally:
                    timer.cancel()
                    self._wake = None
        if self._lost is not None and not self._done:
            raise self._lost

    def take(self) -> list[Done]:
        """What was settled since the last call; an overdue request is settled as `timeout`."""
        now_ns = self._clock.mono_ns()
        for n, pending in list(self._pending.items()):
            if now_ns >= pending.deadline_ns:
                self._framing.forget(n)
                del self._pending[n]
                self._done.append(
                    Done(pending.request, Outcome(fault="timeout"), now_ns - pending.sent_ns)
                )
        done, self._done = self._done, []
        return done

    def received(self, data: bytes) -> None:
        """Bytes came off the wire."""
        now_ns = self._clock.mono_ns()
        self._heard_ns = now_ns
        if self._tap.open:
            self._tap.received(data)
        if not self._pending and not self._noisy_since_ns:
            self._noisy_since_ns = now_ns
        try:
            settled = self._framing.feed(data)
        except DataError as error:
            self.lost(LinkLost(f"{self._name}: framing is lost: {error}"))
            return
        for n, outcome in settled:
            pending = self._pending.pop(n, None)
            if pending is not None:
                self._done.append(Done(pending.request, outcome, now_ns - pending.sent_ns))
        if settled:
            self._notify()

    def lost(self, error: LinkError) -> None:
        """The wire ended."""
        if self._lost is None:
            self._lost = error
        self._notify()

    def _notify(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)


class _Stream(asyncio.Protocol):
    """TCP and TLS."""

    def __init__(self, link: Link, config: Config) -> None:
        self._link = link
        self._name = config.url
        self._closed = "the peer closed the connection"
        if config.target().scheme == "tls" and config.tls_cert is None:
            self._closed += "; if it wants a certificate of ours, set tls_cert and tls_key"
        self._transport: asyncio.Transport | None = None

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    @override
    def data_received(self, data: bytes) -> None:
        self._link.received(data)

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        if isinstance(exc, ssl.SSLError):
            # From TLS 1.3 on, the server judges our certificate after the handshake.
            self._link.lost(LinkRefused(f"{self._name}: TLS refused: {exc}; check tls_cert"))
        else:
            self._link.lost(LinkLost(f"{self._name}: {exc or self._closed}"))

    def send(self, data: bytes) -> None:
        assert self._transport is not None
        self._transport.write(data)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()


class _Datagrams(asyncio.DatagramProtocol):
    """UDP; an ICMP refusal is a lost link, a lost datagram a time-out."""

    def __init__(self, link: Link, name: str) -> None:
        self._link = link
        self._name = name
        self._transport: asyncio.DatagramTransport | None = None

    @override
    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    @override
    def datagram_received(self, data: bytes, addr: Any) -> None:
        self._link.received(data)

    @override
    def error_received(self, exc: Exception) -> None:
        self._link.lost(LinkLost(f"{self._name}: {exc}"))

    def send(self, data: bytes) -> None:
        assert self._transport is not None
        self._transport.sendto(data)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()


class _Port:
    """A serial port, read when the event loop says that bytes are there."""

    def __init__(self, config: Config, link: Link) -> None:
        import termios  # noqa: PLC0415 (not on every system)

        import serial  # noqa: PLC0415 (loaded when used)

        self._link = link
        self._name = config.url
        path = config.target().path
        # A pseudo-terminal (a serial server's, a simulator's) has no parity, and refuses it.
        pseudo = os.path.realpath(path).startswith("/dev/pts/")
        try:
            self._port = serial.Serial(
                path,
                baudrate=config.baudrate,
                bytesize=config.data_bits,
                parity="N" if pseudo else config.parity[0].upper(),
                stopbits=config.stop_bits,
                timeout=0,
                write_timeout=0,
                exclusive=True,
            )
        except (OSError, ValueError, termios.error) as error:  # SerialException is an OSError.
            raise LinkLost(f"{config.url}: cannot be opened: {error}") from error
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
            self._link.received(data)
        else:
            self._gone("the port was unplugged or closed at its other end")

    def _gone(self, why: str) -> None:
        asyncio.get_running_loop().remove_reader(self._port.fileno())
        self._link.lost(LinkLost(f"{self._name}: {why}"))

    def send(self, data: bytes) -> None:
        self._port.write(data)

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._port.fileno())
        self._port.close()


def silence_s(config: Config) -> float:
    """Silence between frames: 3.5 characters, 1.75 ms from 19,200 baud on; 0 on a network."""
    if config.interframe_s is not None:
        return config.interframe_s
    if config.target().scheme in ("tcp", "tls", "udp", "ascii", "ascii-over-tcp"):
        return 0.0
    if config.target().scheme == "rtu-over-tcp" or config.baudrate > 19_200:
        return 0.00175
    bits = 1 + config.data_bits + config.stop_bits + (config.parity != "none")
    return 3.5 * bits / config.baudrate


def tls_context(config: Config) -> ssl.SSLContext:
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


@asynccontextmanager
async def open_link(config: Config, context: SourceContext) -> AsyncIterator[Link]:
    """Open the link that the configuration names.

    Raises:
        LinkTimeout, LinkLost: It cannot be had now.
        LinkRefused: A certificate, ours or theirs, is not accepted.
        ConfigError: A TLS file cannot be used.
    """
    target = config.target()
    errors = context.meter.errors
    link = Link(
        _framing(target.scheme, errors, context.random.randrange(65536)),
        context.clock,
        round(silence_s(config) * 1e9),
        config.url,
        context.tap,
    )
    try:
        if target.serial:
            link.attach(_Port(config, link))
        else:
            link.attach(await _connect(config, link))
        yield link
    finally:
        link.close()


def _framing(scheme: str, errors: Counter[str], first: int) -> Framing:
    if scheme in ("rtu", "rtu-over-tcp"):
        return Rtu(errors)
    if scheme in ("ascii", "ascii-over-tcp"):
        return Ascii(errors)
    return Mbap(errors, datagrams=scheme == "udp", first=first)


async def _connect(config: Config, link: Link) -> Wire:
    target = config.target()
    loop = asyncio.get_running_loop()
    secure = tls_context(config) if target.scheme == "tls" else None
    try:
        async with asyncio.timeout(config.connect_timeout_s):
            if target.scheme == "udp":
                _, datagrams = await loop.create_datagram_endpoint(
                    lambda: _Datagrams(link, config.url), remote_addr=(target.host, target.port)
                )
                return datagrams
            _, stream = await loop.create_connection(
                lambda: _Stream(link, config),
                target.host,
                target.port,
                ssl=secure,
                server_hostname=(config.tls_server_name or target.host) if secure else None,
            )
            return stream
    except TimeoutError:
        raise LinkTimeout(
            f"{config.url}: no connection within {config.connect_timeout_s} s"
        ) from None
    except ssl.SSLError as error:
        raise LinkRefused(
            f"{config.url}: TLS refused: {error}; check tls_ca, tls_server_name and tls_cert"
        ) from error
    except OSError as error:
        raise LinkLost(f"{config.url}: {error}") from error
