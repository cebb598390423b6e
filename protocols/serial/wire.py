"""Owns the port: bytes in as they come, the configured questions out, an error when it is gone."""

import asyncio
import contextlib
import errno
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from gateway.core.clock import Clock
from gateway.core.errors import ConfigError, LinkError, LinkLost, LinkRefused

if TYPE_CHECKING:
    from protocols.serial.config import Config

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

    async def close(self) -> None:
        """Give the port back."""
        ...


async def open_wire(config: "Config", clock: Clock) -> Wire:
    """Open `config.port`.

    Raises:
        LinkError: It is not there, or somebody else has it.
        ConfigError: The port cannot do what the configuration asks.
    """
    return _open_device(config, clock)


class FdWire:
    """A port with a file descriptor that the event loop can watch."""

    def __init__(self, name: str, fd: int, clock: Clock, release: Callable[[], None]) -> None:
        self._name = name
        self._fd = fd
        self._clock = clock
        self._release = release
        self._loop = asyncio.get_running_loop()
        self._buffer = bytearray()
        self._received_ns = 0
        self._lost: LinkError | None = None
        self._arrived = asyncio.Event()
        self._watching = False
        os.set_blocking(fd, False)
        self._watch()

    async def receive(self) -> tuple[bytes, int]:
        while not self._buffer:
            if self._lost is not None:
                raise self._lost
            self._arrived.clear()
            await self._arrived.wait()
        data = bytes(self._buffer)
        self._buffer.clear()
        if not self._watching and self._lost is None:
            self._watch()
        return data, self._received_ns

    async def close(self) -> None:
        self._unwatch()
        with contextlib.suppress(OSError):
            self._release()

    def _watch(self) -> None:
        self._loop.add_reader(self._fd, self._on_readable)
        self._watching = True

    def _unwatch(self) -> None:
        if self._watching:
            self._loop.remove_reader(self._fd)
            self._watching = False

    def _on_readable(self) -> None:
        try:
            data = os.read(self._fd, CHUNK_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            # EIO is what Linux says of a terminal whose other end, or whose USB plug, is gone.
            why = "it was unplugged" if error.errno == errno.EIO else str(error)
            self._end(LinkLost(f"port {self._name} is gone: {why}; plug it in again"))
            return
        if not data:
            self._end(LinkLost(f"port {self._name} is gone: the other end closed it"))
            return
        self._buffer += data
        self._received_ns = self._clock.wall_ns()
        if len(self._buffer) >= BUFFER_BYTES_MAX:
            self._unwatch()
        self._arrived.set()

    def _end(self, error: LinkError) -> None:
        self._unwatch()
        self._lost = error
        self._arrived.set()


def _open_device(config: "Config", clock: Clock) -> Wire:
    import serial  # noqa: PLC0415

    port = serial.Serial()
    port.port = config.port
    port.baudrate = config.baud_rate
    port.bytesize = config.data_bits
    port.parity = config.parity[0].upper()
    port.stopbits = config.stop_bits
    port.rtscts = config.flow_control == "rts_cts"
    port.xonxoff = config.flow_control == "xon_xoff"
    port.dtr = config.dtr
    port.rts = config.rts
    port.exclusive = True
    port.timeout = 0
    try:
        port.open()
    except ValueError as error:
        raise ConfigError(f"source {config.id}: port {config.port}: {error}") from error
    except serial.SerialException as error:
        raise _open_error(config.port, error) from error
    return FdWire(config.port, port.fileno(), clock, port.close)


def _open_error(name: str, error: OSError) -> LinkError:
    match error.errno:
        case errno.ENOENT | errno.ENXIO | errno.ENODEV:
            return LinkError(f"port {name} is not there; plug it in, or see /dev/serial/by-id")
        case errno.EACCES | errno.EPERM:
            return LinkRefused(
                f"port {name}: permission denied; add the gateway's user to the group that owns it"
            )
        case errno.EBUSY | errno.EAGAIN:
            return LinkRefused(f"port {name} is in use by another program; stop that one")
        case _:
            return LinkError(f"port {name} cannot be opened: {error}")
