"""Owns the port: bytes in as they come, the configured questions out, an error when it is gone."""

import asyncio
import contextlib
import errno
import os
import select
import socket
import termios
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from gateway.core.clock import Clock
from gateway.core.errors import LinkError, LinkLost, LinkRefused, LinkTimeout
from gateway.core.tap import Tap
from protocols.reach import unopened, unreached

if TYPE_CHECKING:
    from protocols.serial.settings import Settings

BUFFER_BYTES_MAX = 1_048_576
"""Bytes held for a reader that does not come; then the operating system is left to push back."""
CHUNK_BYTES = 65_536
RFC2217_WAIT_S = 0.2
"""How long pyserial's RFC 2217 port is waited for at a time; it has no descriptor to watch."""
KEEPALIVE = ((socket.TCP_KEEPIDLE, 10), (socket.TCP_KEEPINTVL, 5), (socket.TCP_KEEPCNT, 3))
"""A network port whose peer vanished is found within 25 s, however silent the device is."""


class Wire(Protocol):
    """An open port. Used by one task."""

    async def receive(self) -> tuple[bytes, int]:
        """Wait for bytes; give all there are, and the UTC ns when the last of them arrived.

        Cancelling loses no byte.

        Raises:
            LinkLost: The port is gone, and every byte that came before has been given.
        """
        ...

    def ask(self, request: bytes) -> None:
        """Send the bytes of one configured read request; there is no other way to send.

        Raises:
            LinkLost: The port is gone, or takes nothing.
        """
        ...

    def discard(self) -> int:
        """Drop what arrived and was not received; give how many bytes that was."""
        ...

    async def close(self) -> None:
        """Give the port back."""
        ...


async def open_wire(config: "Settings", clock: Clock, tap: Tap) -> Wire:
    """Open `config.port`.

    Raises:
        LinkError: It is not there, or somebody else has it.
        LinkRefused: It cannot do what the configuration asks, or a person must act otherwise.
    """
    if config.port.startswith("socket://"):
        return await _open_socket(config, clock, tap)
    if config.port.startswith("rfc2217://"):
        return await _open_rfc2217(config, clock, tap)
    return _open_device(config, clock, tap)


class _Inbox:
    """Bytes that arrived, and the end of the link behind them."""

    def __init__(self, clock: Clock, tap: Tap) -> None:
        self._clock = clock
        self._tap = tap
        self._buffer = bytearray()
        self._received_ns = 0
        self._lost: LinkError | None = None
        self._arrived = asyncio.Event()

    def __len__(self) -> int:
        return len(self._buffer)

    def put(self, data: bytes) -> None:
        if self._tap.open:
            self._tap.received(data)
        self._buffer += data
        self._received_ns = self._clock.wall_ns()
        self._arrived.set()

    def end(self, error: LinkError) -> None:
        self._lost = self._lost or error
        self._arrived.set()

    async def get(self) -> tuple[bytes, int]:
        while not self._buffer:
            if self._lost is not None:
                raise self._lost
            self._arrived.clear()
            await self._arrived.wait()
        data = bytes(self._buffer)
        self._buffer.clear()
        return data, self._received_ns

    def drop(self) -> int:
        n = len(self._buffer)
        self._buffer.clear()
        return n


class FdWire:
    """A port with a file descriptor that the event loop can watch."""

    def __init__(
        self, name: str, fd: int, clock: Clock, tap: Tap, release: Callable[[], None]
    ) -> None:
        self._name = name
        self._tap = tap
        self._fd = fd
        self._release = release
        self._loop = asyncio.get_running_loop()
        self._inbox = _Inbox(clock, tap)
        self._watching = False
        self._ended = False
        os.set_blocking(fd, False)
        self._watch()

    async def receive(self) -> tuple[bytes, int]:
        received = await self._inbox.get()
        self._watch()
        return received

    def ask(self, request: bytes) -> None:
        if self._tap.open:
            self._tap.sent(request)
        try:
            sent = os.write(self._fd, request)
        except OSError as error:
            raise _lost(self._name, error) from error
        if sent < len(request):
            raise LinkLost(f"port {self._name} takes no more bytes; see its flow_control")

    def discard(self) -> int:
        # Asked first, since a terminal in pyserial's mode reads as ended where it is only empty.
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        if not self._ended and poll.poll(0):
            self._on_readable()
        return self._inbox.drop()

    async def close(self) -> None:
        self._unwatch()
        with contextlib.suppress(OSError):
            self._release()

    def _watch(self) -> None:
        if not self._watching and not self._ended:
            self._loop.add_reader(self._fd, self._on_readable)
            self._watching = True

    def _unwatch(self) -> None:
        if self._watching:
            self._loop.remove_reader(self._fd)
            self._watching = False

    def _on_readable(self) -> None:
        if self._ended:
            return
        try:
            data = os.read(self._fd, CHUNK_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._end(_lost(self._name, error))
            return
        if not data:
            self._end(LinkLost(f"port {self._name} is gone: the other end closed it"))
            return
        self._inbox.put(data)
        if len(self._inbox) >= BUFFER_BYTES_MAX:
            self._unwatch()

    def _end(self, error: LinkError) -> None:
        self._unwatch()
        self._ended = True
        self._inbox.end(error)


class PumpedWire:
    """A pyserial port without a descriptor, read by a thread of its own."""

    def __init__(self, name: str, port: Any, clock: Clock, tap: Tap) -> None:
        self._name = name
        self._tap = tap
        self._port = port
        self._loop = asyncio.get_running_loop()
        self._inbox = _Inbox(clock, tap)
        self._space = threading.Event()
        self._space.set()
        self._stopping = False
        self._pump = threading.Thread(target=self._run, name=f"rfc2217 {name}", daemon=True)
        self._pump.start()

    async def receive(self) -> tuple[bytes, int]:
        received = await self._inbox.get()
        self._space.set()
        return received

    def ask(self, request: bytes) -> None:
        if self._tap.open:
            self._tap.sent(request)
        try:
            self._port.write(request)
        except OSError as error:
            raise _lost(self._name, error) from error

    def discard(self) -> int:
        n = self._inbox.drop()
        self._space.set()
        return n

    async def close(self) -> None:
        self._stopping = True
        self._space.set()
        await asyncio.to_thread(self._pump.join)
        # pyserial forgets to close the socket of a link whose other end is gone already.
        raw = getattr(self._port, "_socket", None)
        await asyncio.to_thread(self._port.close)
        if raw is not None:
            raw.close()

    def _run(self) -> None:
        while not self._stopping:
            self._space.wait()
            try:
                data = self._port.read(max(1, min(self._port.in_waiting, CHUNK_BYTES)))
            except OSError as error:
                self._tell(self._inbox.end, _lost(self._name, error))
                return
            if data:
                self._tell(self._take, data)

    def _tell(self, function: Callable[..., None], value: object) -> None:
        # The loop may be closed by now, when the process ends in a hurry.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(function, value)

    def _take(self, data: bytes) -> None:
        self._inbox.put(data)
        if len(self._inbox) >= BUFFER_BYTES_MAX:
            self._space.clear()


def _lost(name: str, error: OSError) -> LinkLost:
    why = str(error)
    if error.errno in (errno.EIO, errno.ENXIO, errno.ENODEV):
        # EIO is what Linux says of a terminal whose other end, or whose USB plug, is gone.
        why = "it was unplugged; plug it in again"
    elif error.errno == errno.ETIMEDOUT:
        why = "the other end answers no more; see its cable and its power"
    elif "reader thread died" in why:  # By which pyserial means either.
        why = "the other end closed it, or the other end answers no more; see its cable and power"
    return LinkLost(f"port {name} is gone: {why}")


def _open_device(config: "Settings", clock: Clock, tap: Tap) -> Wire:
    import serial  # noqa: PLC0415

    port = serial.Serial()
    _set_line(port, config)
    port.exclusive = True
    port.timeout = 0
    try:
        port.port = config.port
        port.open()
    except ValueError as error:
        raise LinkRefused(f"port {config.port} cannot do what is asked of it: {error}") from error
    except serial.SerialException as error:
        raise unopened(config.port, error) from error
    except termios.error as error:
        raise LinkLost(
            f"{config.port}: the port does not take {config.data_bits} data bits with parity "
            f"{config.parity} ({error}); a pseudo-terminal takes parity none only"
        ) from error
    return FdWire(config.port, port.fileno(), clock, tap, port.close)


async def _open_socket(config: "Settings", clock: Clock, tap: Tap) -> Wire:
    host, _, number = config.port.removeprefix("socket://").rpartition(":")
    try:
        async with asyncio.timeout(config.open_timeout_s):
            raw = await _connect(host.strip("[]"), int(number))
    except TimeoutError:
        raise LinkTimeout(
            f"port {config.port} did not answer in {config.open_timeout_s:g} s; "
            "see that the serial server is on and its address is right"
        ) from None
    except OSError as error:
        raise LinkError(f"port {config.port} cannot be reached: {unreached(error)}") from error
    _keep_alive(raw)
    return FdWire(config.port, raw.fileno(), clock, tap, raw.close)


def _keep_alive(raw: socket.socket) -> None:
    """Let TCP find out that nobody is there any more: a device may be silent, and is not asked."""
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in KEEPALIVE:
        raw.setsockopt(socket.IPPROTO_TCP, option, value)


async def _connect(host: str, number: int) -> socket.socket:
    loop = asyncio.get_running_loop()
    failed: OSError = OSError("the name has no address")
    for family, kind, _, _, address in await loop.getaddrinfo(
        host, number, type=socket.SOCK_STREAM
    ):
        raw = socket.socket(family, kind)
        raw.setblocking(False)
        try:
            await loop.sock_connect(raw, address)
        except OSError as error:
            raw.close()
            failed = error
        except asyncio.CancelledError:
            raw.close()
            raise
        else:
            return raw
    raise failed


async def _open_rfc2217(config: "Settings", clock: Clock, tap: Tap) -> Wire:
    import serial  # noqa: PLC0415

    # pyserial's own time-out is a little longer, so that its thread ends soon after ours.
    patience_s = 1.5 * config.open_timeout_s
    # Servers that have no control lines, or a terminal without, do not answer for them; speed,
    # size and parity are waited for all the same.
    url = f"{config.port}?timeout={patience_s}&ign_set_control"
    port = serial.serial_for_url(url, do_not_open=True)
    _set_line(port, config)
    port.timeout = RFC2217_WAIT_S
    abandoned = threading.Event()

    def open_port() -> None:
        # A thread cannot be stopped: one that nobody waits for any more closes what it opened.
        port.open()
        _keep_alive(port._socket)  # type: ignore[attr-defined]  # noqa: SLF001  # No other way.
        if abandoned.is_set():
            port.close()

    try:
        async with asyncio.timeout(config.open_timeout_s):
            await asyncio.to_thread(open_port)
    except asyncio.CancelledError:
        abandoned.set()
        raise
    except TimeoutError:
        abandoned.set()
        raise LinkTimeout(
            f"port {config.port} did not answer in {config.open_timeout_s:g} s; "
            "see that the serial server is on and speaks RFC 2217"
        ) from None
    except ValueError as error:
        raise LinkRefused(f"port {config.port} cannot do what is asked of it: {error}") from error
    except OSError as error:
        raise LinkError(f"port {config.port} cannot be opened: {unreached(error)}") from error
    return PumpedWire(config.port, port, clock, tap)


def _set_line(port: Any, config: "Settings") -> None:
    port.baudrate = config.baud_rate
    port.bytesize = config.data_bits
    port.parity = config.parity[0].upper()
    port.stopbits = config.stop_bits
    port.rtscts = config.flow_control == "rts_cts"
    port.xonxoff = config.flow_control == "xon_xoff"
    port.dtr = config.dtr
    port.rts = config.rts
