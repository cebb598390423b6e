"""Asks units who they are (function 43/14), for people who scan; through pymodbus's own client.

One question a unit, on a link of its own after the scan: here the library's cost does not matter
(decision 015).
"""

import logging
from collections.abc import Sequence
from typing import Any

from protocols.modbus.settings import Settings
from protocols.modbus.wire import parity_letter, tls_context

BASIC = 1
"""Vendor, product and revision; regular and extended objects are the maker's own."""
TEXT_MAX = 80


async def identify(config: Settings, units: Sequence[int], timeout_s: float) -> dict[int, str]:
    """What each unit says of its maker, product and revision; units that say nothing are left out.

    Raises:
        ConfigError: A TLS file cannot be used.
    """
    from pymodbus.exceptions import ModbusException  # noqa: PLC0415 (loaded when used)

    # It logs what it raises as well, and to the terminal where nobody has said otherwise.
    logging.getLogger("pymodbus").setLevel(logging.CRITICAL)
    client = _client(config, timeout_s)
    found: dict[int, str] = {}
    try:
        for unit in units:
            if not client.connected and not await client.connect():
                break
            try:
                reply = await client.read_device_information(read_code=BASIC, device_id=unit)
            except ModbusException:
                continue  # Silence, or a reply that is none.
            if not reply.isError() and (text := _text(reply.information)):
                found[unit] = text
    finally:
        transport = client.ctx.transport
        client.close()
        if transport is not None and config.target().scheme == "tls":
            # A farewell by TLS takes longer than a command's event loop lasts.
            transport.abort()
    return found


def _text(information: dict[int, Any]) -> str:
    """The objects in order, without what could break a line."""
    words = [information[key] for key in sorted(information)]
    text = " ".join(word.decode("ascii", "replace") for word in words if isinstance(word, bytes))
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:TEXT_MAX]


def _client(config: Settings, timeout_s: float) -> Any:
    from pymodbus import client  # noqa: PLC0415 (loaded when used)
    from pymodbus.framer import FramerType  # noqa: PLC0415

    target = config.target()
    often: dict[str, Any] = {"timeout": timeout_s, "retries": 0, "reconnect_delay": 0}
    framer = {"rtu": FramerType.RTU, "ascii": FramerType.ASCII}.get(
        target.scheme.removesuffix("-over-tcp"), FramerType.SOCKET
    )
    if target.serial:
        return client.AsyncModbusSerialClient(
            target.path,
            framer=framer,
            baudrate=config.baudrate,
            bytesize=config.data_bits,
            parity=parity_letter(config),
            stopbits=config.stop_bits,
            **often,
        )
    if target.scheme == "tls":
        secure = tls_context(config)
        return client.AsyncModbusTlsClient(target.host, port=target.port, sslctx=secure, **often)
    if target.scheme == "udp":
        return client.AsyncModbusUdpClient(target.host, port=target.port, **often)
    return client.AsyncModbusTcpClient(target.host, port=target.port, framer=framer, **often)
