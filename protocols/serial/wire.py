"""An open port: bytes in as they come, the configured questions out, an error when it is gone."""

import asyncio
import contextlib
import errno
import os
import select
import threading
from collections.abc import Callable
from typing import Any, Protocol

from gateway.core.clock import Clock
from gateway.core.errors import LinkError, LinkLost
from gateway.core.tap import Tap

BUFFER_BYTES_MAX = 1_048_576
"""Bytes held for a reader that does not come; then the operating system is left to push back."""
CHUNK_BYTES = 65_536


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
