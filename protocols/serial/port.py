"""Opens the port that is configured: a device, a serial server's socket, or RFC 2217."""

import asyncio
import socket
import termios
import threading
from typing import TYPE_CHECKING, Any

from gateway.core.clock import Clock
from gateway.core.errors import LinkError, LinkLost, LinkRefused, LinkTimeout
from gateway.core.tap import Tap
from protocols.reach import unopened, unreached
from protocols.serial.wire import FdWire, PumpedWire, Wire

if TYPE_CHECKING:
    from protocols.serial.settings import Settings

RFC2217_WAIT_S = 0.2
"""How long pyserial's RFC 2217 port is waited for at a time; it has no descriptor to watch."""
KEEPALIVE = ((socket.TCP_KEEPIDLE, 10), (socket.TCP_KEEPINTVL, 5), (socket.TCP_KEEPCNT, 3))
"""A network port whose peer vanished is found within 25 s, however silent the device is."""


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
