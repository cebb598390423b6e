"""A Modbus device that answers reads from a register image, on TCP and on a serial line.

Written from the Modbus specification and sharing nothing with the framing that the gateway reads
with, so that the demo is not one program talking to itself (decision 071). Writes are refused.
"""

import asyncio
import os
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import numpy as np
from numpy.typing import NDArray

from gateway.demo.serial_device import pty

READ_HOLDING, READ_INPUT = 3, 4
ILLEGAL_FUNCTION, ILLEGAL_ADDRESS, ILLEGAL_VALUE = 1, 2, 3
REGISTERS_READ_MAX = 125
RTU_REQUEST_BYTES = 8
RTU_BACKLOG_BYTES_MAX = 256


def answer_pdu(pdu: bytes, registers: NDArray[np.uint16]) -> bytes:
    """The answer to one request, an exception where the request asks what is not there."""
    function = pdu[0]
    if function not in (READ_HOLDING, READ_INPUT):
        return bytes([function | 0x80, ILLEGAL_FUNCTION])
    if len(pdu) != 5:
        return bytes([function | 0x80, ILLEGAL_VALUE])
    address, count = struct.unpack(">HH", pdu[1:])
    if not 1 <= count <= REGISTERS_READ_MAX:
        return bytes([function | 0x80, ILLEGAL_VALUE])
    if address + count > len(registers):
        return bytes([function | 0x80, ILLEGAL_ADDRESS])
    data = registers[address : address + count].astype(">u2").tobytes()
    return bytes([function, len(data)]) + data


def crc16(data: bytes) -> int:
    """CRC-16/MODBUS: polynomial 0x8005 reflected, start 0xFFFF."""
    crc = 0xFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ 0xA001 if crc & 1 else crc >> 1
    return crc


def answer_rtu(
    buffer: bytes, unit: int, registers: NDArray[np.uint16]
) -> tuple[list[bytes], bytes]:
    """Answers to the requests in `buffer`, and what of it is not yet a whole request.

    Every read request is 8 bytes; bytes before a good check sum are noise and skipped.
    """
    answers: list[bytes] = []
    while len(buffer) >= RTU_REQUEST_BYTES:
        frame = buffer[:RTU_REQUEST_BYTES]
        if crc16(frame[:-2]) != int.from_bytes(frame[-2:], "little"):
            buffer = buffer[1:]
            continue
        buffer = buffer[RTU_REQUEST_BYTES:]
        if frame[0] == unit:
            body = bytes([unit]) + answer_pdu(frame[1:-2], registers)
            answers.append(body + crc16(body).to_bytes(2, "little"))
    return answers, buffer


@asynccontextmanager
async def modbus_tcp(
    unit: int, registers: NDArray[np.uint16], host: str = "127.0.0.1", port: int = 0
) -> AsyncIterator[int]:
    """Serve `registers` as unit `unit`, on a free port unless one is named; gives the port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                transaction, protocol, length, asked = struct.unpack(
                    ">HHHB", await reader.readexactly(7)
                )
                if protocol != 0 or not 2 <= length <= 254:
                    return
                pdu = await reader.readexactly(length - 1)
                if asked not in (unit, 0, 255):
                    continue
                answer = answer_pdu(pdu, registers)
                writer.write(struct.pack(">HHHB", transaction, 0, len(answer) + 1, asked) + answer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            writer.close()

    server = await asyncio.start_server(serve, host, port)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


@asynccontextmanager
async def modbus_rtu(unit: int, registers: NDArray[np.uint16]) -> AsyncIterator[str]:
    """Serve `registers` as unit `unit` on a pseudo-terminal; gives the path to open."""
    loop = asyncio.get_running_loop()
    buffer = b""

    def serve() -> None:
        nonlocal buffer
        answers, buffer = answer_rtu(buffer + os.read(ours, 4096), unit, registers)
        buffer = buffer[-RTU_BACKLOG_BYTES_MAX:]
        for answer in answers:
            try:
                os.write(ours, answer)
            except BlockingIOError:
                # Nobody takes the answers; a real line would lose them as well.
                return

    with pty() as (ours, _, path):
        loop.add_reader(ours, serve)
        try:
            yield path
        finally:
            loop.remove_reader(ours)
