"""Ways in which a Modbus device misbehaves, and what must come of each over each framing."""

import asyncio
from dataclasses import dataclass
from enum import StrEnum

from tests.faults.modbus_device import Asked, Behaviour, Device, Write, right

STALL_S = 0.5
GARBAGE = b"\xa5\x5a\x00"


async def wrong_transaction(device: Device, asked: Asked, write: Write) -> None:
    write(asked.tcp(asked.pdu(), transaction=asked.transaction + 7))


async def wrong_unit(device: Device, asked: Asked, write: Write) -> None:
    # Of a unit that nobody asks: where the next one is asked by then, nothing tells a late lie.
    write(device.frame(asked, asked.pdu(), unit=asked.unit + 100))


async def wrong_count(device: Device, asked: Asked, write: Write) -> None:
    count = bytes([asked.function, 2 * asked.count + 2])
    write(device.frame(asked, count + asked.pdu()[2:] + b"\0\0"))


async def wrong_function(device: Device, asked: Asked, write: Write) -> None:
    write(device.frame(asked, bytes([asked.function + 1]) + asked.pdu()[1:]))


async def short_frame(device: Device, asked: Asked, write: Write) -> None:
    write(device.frame(asked, asked.pdu()[:-1]))


async def long_frame(device: Device, asked: Asked, write: Write) -> None:
    write(device.frame(asked, asked.pdu() + b"\0"))


async def cut_short(device: Device, asked: Asked, write: Write) -> None:
    write(device.frame(asked, asked.pdu())[:-3])


async def no_exception(device: Device, asked: Asked, write: Write) -> None:
    write(device.frame(asked, asked.refusal(0)))


async def busy(device: Device, asked: Asked, write: Write) -> None:
    write(device.frame(asked, asked.refusal(6)))


async def refused(device: Device, asked: Asked, write: Write) -> None:
    write(device.frame(asked, asked.refusal(2)))


async def unreachable(device: Device, asked: Asked, write: Write) -> None:
    write(device.frame(asked, asked.refusal(11)))


async def silence(device: Device, asked: Asked, write: Write) -> None:
    pass


async def bad_checksum(device: Device, asked: Asked, write: Write) -> None:
    frame = bytearray(device.frame(asked, asked.pdu()))
    frame[-5] ^= 1
    write(bytes(frame))


async def no_digits(device: Device, asked: Asked, write: Write) -> None:
    write(device.frame(asked, asked.pdu()).replace(b"0", b"?", 1))


async def byte_by_byte(device: Device, asked: Asked, write: Write) -> None:
    for byte in device.frame(asked, asked.pdu()):
        write(bytes([byte]))
        await asyncio.sleep(0.001)


async def noise_around(device: Device, asked: Asked, write: Write) -> None:
    write(b"\xfe\x00\x13" + device.frame(asked, asked.pdu()) + b"\x00\xff")


async def twice(device: Device, asked: Asked, write: Write) -> None:
    write(device.frame(asked, asked.pdu()))
    write(device.frame(asked, asked.pdu()))


async def stall(device: Device, asked: Asked, write: Write) -> None:
    reply = device.frame(asked, asked.pdu())
    device.later(STALL_S, lambda: write(reply))


async def garbage(device: Device, asked: Asked, write: Write) -> None:
    write(200 * GARBAGE)


async def babble(device: Device, asked: Asked, write: Write) -> None:
    """Garbage for ever, asked or not, with the right reply amid it."""

    def more() -> None:
        if device.behaviour is not right:
            write(20 * GARBAGE)
            device.later(0.01, more)

    if not device.timers:
        more()
    write(device.frame(asked, asked.pdu()))


async def finish(device: Device, asked: Asked, write: Write) -> None:
    device.hang_up(reset=False)


async def reset(device: Device, asked: Asked, write: Write) -> None:
    device.hang_up(reset=True)


async def half_and_finish(device: Device, asked: Asked, write: Write) -> None:
    frame = device.frame(asked, asked.pdu())
    write(frame[: len(frame) // 2])
    device.hang_up(reset=False)


class Effect(StrEnum):
    """What a fault of one unit does while it lasts; the other unit is GOOD unless it is DOWN."""

    GOOD = "the values arrive all the same"
    BAD = "its signals are BAD"
    DOWN = "the link ends and is opened again"
    ANY = "the values arrive or they do not"


@dataclass(frozen=True)
class Fault:
    """One row of the matrix: what a unit does, and what comes of it, by framing.

    Attributes:
        behave: Of every reply of the unit while the fault lasts.
        mbap, udp, rtu, ascii: The effect and what is counted (`a|b` for either); None where there
            is no such fault.
        whole_link: Both units do it.
        streams: Only a connection can do it.
    """

    behave: Behaviour
    mbap: tuple[Effect, str] | None = None
    udp: tuple[Effect, str] | None = None
    rtu: tuple[Effect, str] | None = None
    ascii: tuple[Effect, str] | None = None
    whole_link: bool = False
    streams: bool = False

    def on(self, transport: str) -> tuple[Effect, tuple[str, ...]] | None:
        """What must come of it over this transport."""
        if self.streams and transport in ("udp", "rtu", "ascii"):
            return None
        kind = transport.removesuffix("-over-tcp")
        found = {"udp": self.udp, "rtu": self.rtu, "ascii": self.ascii}.get(kind, self.mbap)
        return None if found is None else (found[0], tuple(found[1].split()))


def everywhere(
    behave: Behaviour, effect: Effect, counted: str, *, whole_link: bool = False,
    streams: bool = False,
) -> Fault:  # fmt: skip
    """A fault that does the same over every framing."""
    row = (effect, counted)
    return Fault(behave, row, row, row, row, whole_link=whole_link, streams=streams)


_GOOD, _BAD, _DOWN, _ANY = Effect.GOOD, Effect.BAD, Effect.DOWN, Effect.ANY

FAULTS = {
    "wrong transaction": Fault(
        wrong_transaction, mbap=(_BAD, "late_reply timeout"), udp=(_BAD, "late_reply timeout")
    ),
    "wrong unit": Fault(
        wrong_unit,
        mbap=(_BAD, "wrong_unit"),
        udp=(_BAD, "wrong_unit"),
        rtu=(_BAD, "late_reply timeout"),
        ascii=(_BAD, "late_reply timeout"),
    ),
    "wrong function": everywhere(wrong_function, _BAD, "wrong_function"),
    "wrong count": everywhere(wrong_count, _BAD, "wrong_count"),
    "short frame": Fault(
        short_frame,
        mbap=(_BAD, "short_frame"),
        udp=(_BAD, "short_frame"),
        rtu=(_BAD, "noise timeout"),
        ascii=(_BAD, "short_frame"),
    ),
    "long frame": Fault(
        long_frame,
        mbap=(_BAD, "long_frame"),
        udp=(_BAD, "long_frame"),
        rtu=(_BAD, "checksum"),
        ascii=(_BAD, "long_frame"),
    ),
    "cut short": Fault(
        cut_short,
        mbap=(_DOWN, "timeout framing"),
        udp=(_BAD, "short_frame timeout"),
        rtu=(_BAD, "noise timeout"),
        ascii=(_BAD, "noise timeout"),
    ),
    "bad checksum": Fault(bad_checksum, rtu=(_BAD, "checksum"), ascii=(_BAD, "checksum")),
    "no digits": Fault(no_digits, ascii=(_BAD, "malformed")),
    "exception 0": everywhere(no_exception, _BAD, "malformed"),
    "exception 2, illegal address": everywhere(refused, _BAD, "exception_2"),
    "exception 6, busy": everywhere(busy, _BAD, "exception_6"),
    "exception 11, unreachable": everywhere(unreachable, _BAD, "exception_11"),
    "silence": everywhere(silence, _BAD, "timeout"),
    "late by 500 ms": Fault(
        stall,
        mbap=(_BAD, "late_reply timeout"),
        udp=(_BAD, "late_reply timeout"),
        # It may come while a decoy is under way, and then it is of the wrong length.
        rtu=(_BAD, "late_reply|wrong_count timeout"),
        ascii=(_BAD, "late_reply|wrong_count timeout"),
    ),
    "byte by byte": Fault(
        byte_by_byte,
        mbap=(_GOOD, ""),
        udp=(_BAD, "short_frame timeout"),
        rtu=(_GOOD, ""),
        ascii=(_GOOD, ""),
    ),
    "twice": Fault(
        twice,
        mbap=(_GOOD, "late_reply"),
        udp=(_GOOD, "late_reply"),
        rtu=(_GOOD, "noise"),
        ascii=(_GOOD, "noise"),
    ),
    "noise around": Fault(
        noise_around,
        mbap=(_DOWN, "framing"),
        udp=(_BAD, "malformed timeout"),
        rtu=(_GOOD, "noise"),
        ascii=(_GOOD, "noise"),
    ),
    "garbage": Fault(
        garbage,
        mbap=(_DOWN, "framing"),
        udp=(_BAD, "malformed timeout"),
        rtu=(_BAD, "noise timeout"),
        ascii=(_BAD, "noise timeout"),
    ),
    "garbage for ever": Fault(
        babble,
        mbap=(_DOWN, "framing"),
        udp=(_GOOD, "malformed"),
        rtu=(_ANY, "noise"),
        ascii=(_ANY, "noise"),
    ),
    "black hole": everywhere(silence, _DOWN, "timeout LinkTimeout", whole_link=True),
    "end of connection": everywhere(finish, _DOWN, "LinkLost", streams=True),
    "reset": everywhere(reset, _DOWN, "LinkLost", streams=True),
    "half a frame, then the end": everywhere(half_and_finish, _DOWN, "LinkLost", streams=True),
}
"""Every fault that is the device's; pulled cables and ports are in `test_modbus_wire.py`."""
