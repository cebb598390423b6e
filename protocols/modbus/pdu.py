"""What a request to read says and what its reply does, however they are framed.

Holds read requests only; there is no way to write to a machine from here.

Source: MODBUS Application Protocol V1.1b3.
"""

import struct
from dataclasses import dataclass

from protocols.modbus.plan import Request

_PDU = struct.Struct(">BHH")

TOO_FEW = "too_few"
"""The fault of a reply with less than was asked, as some devices say that there is no more."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a request: data bytes, an exception code, or a fault by the name it is counted.

    Exactly one of the three is set.
    """

    payload: bytes | None = None
    exception: int = 0
    fault: str = ""


def data_bytes(request: Request) -> int:
    """Length of the data in the reply."""
    return (request.count + 7) // 8 if request.table.bits else 2 * request.count


def request_pdu(request: Request) -> bytes:
    """Function code, first address and count."""
    return _PDU.pack(request.table.value, request.start, request.count)


def read_pdu(pdu: bytes, request: Request) -> Outcome:
    """Judge the PDU of a reply to `request`."""
    function = request.table.value
    if len(pdu) < 2:
        return Outcome(fault="short_frame")
    if pdu[0] == function | 0x80:
        return Outcome(exception=pdu[1]) if len(pdu) == 2 and pdu[1] else Outcome(fault="malformed")
    if pdu[0] != function:
        return Outcome(fault="wrong_function")
    if pdu[1] != data_bytes(request):
        return Outcome(fault="wrong_count")
    if len(pdu) != 2 + pdu[1]:
        return Outcome(fault="short_frame" if len(pdu) < 2 + pdu[1] else "long_frame")
    return Outcome(payload=pdu[2:])
