"""Modbus framing without I/O: requests to bytes, bytes to the replies that were asked for.

Whatever arrives, a
reply is accepted only for the request that is under way: by transaction id over TCP, by unit,
function and length where the framing has no id. What else arrives is counted and dropped.

Source: MODBUS Messaging on TCP/IP V1.0b; MODBUS over Serial Line V1.02.
"""

import struct
from collections import Counter
from typing import Protocol

from typing_extensions import override

from gateway.core.errors import DataError
from protocols.modbus.pdu import TOO_FEW, Outcome, data_bytes, read_pdu, request_pdu
from protocols.modbus.plan import Request

MBAP_PDU_BYTES_MAX = 253
RTU_FRAME_BYTES_MAX = 256
SERIAL_BUFFER_BYTES_MAX = 1024
"""Garbage beyond this is dropped from the front."""

_MBAP = struct.Struct(">HHHB")


def crc16(data: bytes) -> int:
    """CRC-16/MODBUS: polynomial 0x8005 reflected, start 0xFFFF; sent low byte first."""
    crc = 0xFFFF
    for byte in data:
        crc = (crc >> 8) ^ _CRC[(crc ^ byte) & 0xFF]
    return crc


def _crc_table() -> tuple[int, ...]:
    table = []
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = (crc >> 1) ^ 0xA001 if crc & 1 else crc >> 1
        table.append(crc)
    return tuple(table)


_CRC = _crc_table()


def lrc(data: bytes) -> int:
    """Longitudinal check of ASCII frames: two's complement of the sum of the bytes."""
    return -sum(data) & 0xFF


class Framing(Protocol):
    """Turns requests into bytes and bytes into outcomes. `n` names a request under way."""

    def ask(self, n: int, request: Request) -> bytes:
        """Bytes that ask for `request`; its reply is awaited from now on."""
        ...

    def forget(self, n: int) -> None:
        """Await that reply no longer: should it come after all, it is dropped as late."""
        ...

    def feed(self, data: bytes) -> list[tuple[int, Outcome]]:
        """Take bytes; give what came of the requests that they settle.

        Raises:
            DataError: Framing is lost; nothing later can be trusted on this link.
        """
        ...


class Mbap:
    """Framing of Modbus TCP, TLS and UDP: a header with transaction id, length and unit."""

    def __init__(self, errors: Counter[str], *, datagrams: bool = False, first: int = 0) -> None:
        self._errors = errors
        self._datagrams = datagrams
        self._transaction = first & 0xFFFF
        self._waiting: dict[int, tuple[int, Request]] = {}
        self._rest = b""

    def ask(self, n: int, request: Request) -> bytes:
        # A number comes round after 65,536 requests; the reply to its last use is long dead.
        self._transaction = (self._transaction + 1) & 0xFFFF
        self._waiting[self._transaction] = (n, request)
        return _MBAP.pack(self._transaction, 0, 6, request.unit) + request_pdu(request)

    def forget(self, n: int) -> None:
        self._waiting = {t: (m, r) for t, (m, r) in self._waiting.items() if m != n}

    def feed(self, data: bytes) -> list[tuple[int, Outcome]]:
        if self._rest:
            data = self._rest + data
        settled: list[tuple[int, Outcome]] = []
        at = 0
        while len(data) - at >= 7:
            transaction, protocol, length, unit = _MBAP.unpack_from(data, at)
            if protocol or not 2 <= length <= MBAP_PDU_BYTES_MAX + 1:
                self._rest = b""
                if self._datagrams:
                    self._errors["malformed"] += 1
                    return settled
                self._errors["framing"] += 1
                raise DataError(f"not a Modbus TCP header: {data[at : at + 7].hex(' ')}")
            end = at + 6 + length
            if len(data) < end:
                break
            settled += self._settle(transaction, unit, data[at + 7 : end])
            at = end
        self._rest = data[at:]
        if self._datagrams and self._rest:
            self._rest = b""
            self._errors["short_frame"] += 1
        return settled

    def _settle(self, transaction: int, unit: int, pdu: bytes) -> list[tuple[int, Outcome]]:
        waiting = self._waiting.pop(transaction, None)
        if waiting is None:
            self._errors["late_reply"] += 1
            return []
        n, request = waiting
        if unit != request.unit:
            return [(n, Outcome(fault="wrong_unit"))]
        outcome = read_pdu(pdu, request)
        if outcome.fault == "wrong_count" and len(pdu) == 2 + pdu[1] < 2 + data_bytes(request):
            # Whole, and by its number the reply to this: the unit holds no more.
            outcome = Outcome(fault=TOO_FEW)
        return [(n, outcome)]


class _Serial:
    """What RTU and ASCII share: one request under way, found again amid noise."""

    def __init__(self, errors: Counter[str]) -> None:
        self._errors = errors
        self._buffer = b""
        self._waiting: tuple[int, Request] | None = None

    def forget(self, n: int) -> None:
        if self._waiting is not None and self._waiting[0] == n:
            self._waiting = None
            self.clear()

    def clear(self) -> None:
        """Drop what is left of earlier replies."""
        if self._buffer:
            self._errors["noise"] += 1
        self._buffer = b""

    def feed(self, data: bytes) -> list[tuple[int, Outcome]]:
        if self._waiting is None:
            # Nobody asked: the reply to a request that was given up, or noise.
            self._errors["late_reply"] += 1
            self._buffer = b""
            return []
        self._buffer += data
        n, request = self._waiting
        outcome = self._search(request)
        if outcome is None:
            if len(self._buffer) > SERIAL_BUFFER_BYTES_MAX:
                self._buffer = self._buffer[-RTU_FRAME_BYTES_MAX:]
                self._errors["noise"] += 1
            return []
        self._waiting = None
        return [(n, outcome)]

    def _search(self, request: Request) -> Outcome | None:
        raise NotImplementedError


class Rtu(_Serial):
    """Framing of RTU: unit, PDU, CRC; found by what was asked, not by silence.

    The silence that ends a frame cannot be seen through an operating system or a network. But the
    reply to a read is known in unit, function and length, so it is looked for at every offset, and
    the CRC says whether it was found.
    """

    def ask(self, n: int, request: Request) -> bytes:
        self.clear()
        self._waiting = (n, request)
        frame = bytes([request.unit]) + request_pdu(request)
        return frame + crc16(frame).to_bytes(2, "little")

    @override
    def _search(self, request: Request) -> Outcome | None:
        buffer = self._buffer
        function = request.table.value
        size = data_bytes(request)
        good = bytes([request.unit, function, size])
        refused = bytes([request.unit, function | 0x80])
        damaged = False
        if buffer.startswith(good) and len(buffer) < 3 + size + 2:
            return None  # Its data may look like anything; what it is, its end will tell.
        for head, length in ((good, 3 + size + 2), (refused, 5)):
            at = buffer.find(head)
            while 0 <= at <= len(buffer) - length:
                frame = buffer[at : at + length]
                if crc16(frame[:-2]) == int.from_bytes(frame[-2:], "little"):
                    if at:
                        self._errors["noise"] += 1
                    rest = buffer[at + length :]
                    self._buffer = b""
                    if rest:
                        self._errors["noise"] += 1
                    return read_pdu(frame[1:-2], request)
                damaged = damaged or (at == 0 and len(buffer) >= length)
                at = buffer.find(head, at + 1)
        if damaged:
            self._buffer = b""
            return Outcome(fault="checksum")
        return self._strange(request)

    def _strange(self, request: Request) -> Outcome | None:
        """Drop whole frames of others from the front; name what is wrong with one of ours."""
        buffer = self._buffer
        while len(buffer) >= 5 and buffer[1] & 0x7F in (1, 2, 3, 4):
            length = 5 if buffer[1] & 0x80 else 5 + buffer[2]
            if len(buffer) < length or crc16(buffer[: length - 2]) != int.from_bytes(
                buffer[length - 2 : length], "little"
            ):
                break
            unit, pdu = buffer[0], buffer[1 : length - 2]
            self._buffer = buffer = buffer[length:]
            if unit == request.unit and not buffer:
                # Ours by unit, wrong by shape: perhaps the reply to an earlier request, so the
                # right one may still come.
                self._errors[read_pdu(pdu, request).fault or "late_reply"] += 1
            else:
                self._errors["late_reply"] += 1
        return None


class Ascii(_Serial):
    """Framing of ASCII: a colon, hexadecimal digits, LRC, CR LF."""

    def ask(self, n: int, request: Request) -> bytes:
        self.clear()
        self._waiting = (n, request)
        frame = bytes([request.unit]) + request_pdu(request)
        return b":" + (frame + bytes([lrc(frame)])).hex().upper().encode() + b"\r\n"

    @override
    def _search(self, request: Request) -> Outcome | None:
        while b"\n" in self._buffer:
            line, _, self._buffer = self._buffer.partition(b"\n")
            before, colon, text = line.rpartition(b":")
            if before or not colon:
                self._errors["noise"] += 1
            if not colon:
                continue
            try:
                frame = bytes.fromhex(text.strip().decode("ascii"))
            except (ValueError, UnicodeDecodeError):
                return Outcome(fault="malformed")
            if len(frame) < 4:
                return Outcome(fault="short_frame")
            if lrc(frame[:-1]) != frame[-1]:
                return Outcome(fault="checksum")
            if frame[0] != request.unit:
                self._errors["late_reply"] += 1
                continue
            outcome = read_pdu(frame[1:-1], request)
            if outcome.fault in ("wrong_function", "wrong_count"):
                self._errors[outcome.fault] += 1
                continue
            return outcome
        return None
