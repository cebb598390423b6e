"""Checks of frames by their catalogue name: sums, XOR, LRC, CRC. Numbers only.

Source: parameters of the CRCs from the CRC RevEng catalogue (Greg Cook), whose published check
values, the CRC of the nine ASCII digits "123456789", are verified in the tests.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, reduce
from operator import xor


@dataclass(frozen=True, slots=True)
class Crc:
    """One row of the catalogue (the Rocksoft model).

    Attributes:
        width: Bits, 8, 16 or 32.
        poly: Generator, highest power left out.
        init: Register before the first byte.
        reflected: Lowest bit first, both in and out.
        xor_out: Mixed into the result.
        check: CRC of b"123456789".
    """

    width: int
    poly: int
    init: int
    reflected: bool
    xor_out: int
    check: int


CRCS = {
    "CRC-8/AUTOSAR": Crc(8, 0x2F, 0xFF, False, 0xFF, 0xDF),
    "CRC-8/CDMA2000": Crc(8, 0x9B, 0xFF, False, 0x00, 0xDA),
    "CRC-8/DVB-S2": Crc(8, 0xD5, 0x00, False, 0x00, 0xBC),
    "CRC-8/I-432-1": Crc(8, 0x07, 0x00, False, 0x55, 0xA1),
    "CRC-8/MAXIM-DOW": Crc(8, 0x31, 0x00, True, 0x00, 0xA1),
    "CRC-8/NRSC-5": Crc(8, 0x31, 0xFF, False, 0x00, 0xF7),
    "CRC-8/ROHC": Crc(8, 0x07, 0xFF, True, 0x00, 0xD0),
    "CRC-8/SAE-J1850": Crc(8, 0x1D, 0xFF, False, 0xFF, 0x4B),
    "CRC-8/SMBUS": Crc(8, 0x07, 0x00, False, 0x00, 0xF4),
    "CRC-16/ARC": Crc(16, 0x8005, 0x0000, True, 0x0000, 0xBB3D),
    "CRC-16/DNP": Crc(16, 0x3D65, 0x0000, True, 0xFFFF, 0xEA82),
    "CRC-16/EN-13757": Crc(16, 0x3D65, 0x0000, False, 0xFFFF, 0xC2B7),
    "CRC-16/GENIBUS": Crc(16, 0x1021, 0xFFFF, False, 0xFFFF, 0xD64E),
    "CRC-16/IBM-3740": Crc(16, 0x1021, 0xFFFF, False, 0x0000, 0x29B1),
    "CRC-16/IBM-SDLC": Crc(16, 0x1021, 0xFFFF, True, 0xFFFF, 0x906E),
    "CRC-16/KERMIT": Crc(16, 0x1021, 0x0000, True, 0x0000, 0x2189),
    "CRC-16/MAXIM-DOW": Crc(16, 0x8005, 0x0000, True, 0xFFFF, 0x44C2),
    "CRC-16/MCRF4XX": Crc(16, 0x1021, 0xFFFF, True, 0x0000, 0x6F91),
    "CRC-16/MODBUS": Crc(16, 0x8005, 0xFFFF, True, 0x0000, 0x4B37),
    "CRC-16/SPI-FUJITSU": Crc(16, 0x1021, 0x1D0F, False, 0x0000, 0xE5CC),
    "CRC-16/UMTS": Crc(16, 0x8005, 0x0000, False, 0x0000, 0xFEE8),
    "CRC-16/USB": Crc(16, 0x8005, 0xFFFF, True, 0xFFFF, 0xB4C8),
    "CRC-16/XMODEM": Crc(16, 0x1021, 0x0000, False, 0x0000, 0x31C3),
    "CRC-32/AUTOSAR": Crc(32, 0xF4ACFB13, 0xFFFFFFFF, True, 0xFFFFFFFF, 0x1697D06A),
    "CRC-32/BZIP2": Crc(32, 0x04C11DB7, 0xFFFFFFFF, False, 0xFFFFFFFF, 0xFC891918),
    "CRC-32/CKSUM": Crc(32, 0x04C11DB7, 0x00000000, False, 0xFFFFFFFF, 0x765E7680),
    "CRC-32/ISCSI": Crc(32, 0x1EDC6F41, 0xFFFFFFFF, True, 0xFFFFFFFF, 0xE3069283),
    "CRC-32/ISO-HDLC": Crc(32, 0x04C11DB7, 0xFFFFFFFF, True, 0xFFFFFFFF, 0xCBF43926),
    "CRC-32/JAMCRC": Crc(32, 0x04C11DB7, 0xFFFFFFFF, True, 0x00000000, 0x340BC6D9),
    "CRC-32/MPEG-2": Crc(32, 0x04C11DB7, 0xFFFFFFFF, False, 0x00000000, 0x0376E6E7),
}

ALIASES = {
    "CRC-8": "CRC-8/SMBUS",
    "CRC-8/ITU": "CRC-8/I-432-1",
    "CRC-8/MAXIM": "CRC-8/MAXIM-DOW",
    "CRC-16": "CRC-16/ARC",
    "CRC-16/IBM": "CRC-16/ARC",
    "CRC-16/AUG-CCITT": "CRC-16/SPI-FUJITSU",
    "CRC-16/BUYPASS": "CRC-16/UMTS",
    "CRC-16/CCITT": "CRC-16/KERMIT",
    "CRC-16/CCITT-FALSE": "CRC-16/IBM-3740",
    "CRC-16/MAXIM": "CRC-16/MAXIM-DOW",
    "CRC-16/X-25": "CRC-16/IBM-SDLC",
    "CRC-32": "CRC-32/ISO-HDLC",
    "CRC-32/ADCCP": "CRC-32/ISO-HDLC",
    "CRC-32C": "CRC-32/ISCSI",
    "CRC-32/POSIX": "CRC-32/CKSUM",
    "LRC": "SUM-8/TWOS-COMPLEMENT",
    "SUM": "SUM-8",
    "XOR": "XOR-8",
}
"""Other names that manuals use. A bare "CRC-16" in a manual may mean any of them: try."""


def _sum(width: int) -> Callable[[bytes], int]:
    mask = (1 << width) - 1
    return lambda data: sum(data) & mask


SUMS: dict[str, tuple[int, Callable[[bytes], int]]] = {
    "SUM-8": (8, _sum(8)),
    "SUM-16": (16, _sum(16)),
    "SUM-32": (32, _sum(32)),
    "SUM-8/ONES-COMPLEMENT": (8, lambda data: ~sum(data) & 0xFF),
    "SUM-8/TWOS-COMPLEMENT": (8, lambda data: -sum(data) & 0xFF),
    "XOR-8": (8, lambda data: reduce(xor, data, 0)),
}
"""Name -> width in bits and the function. "SUM-8/TWOS-COMPLEMENT" is the LRC of Modbus ASCII."""

NAMES = (*CRCS, *SUMS, *ALIASES)


def find(name: str) -> tuple[int, Callable[[bytes], int]]:
    """The check called `name`, upper or lower case.

    Returns:
        Its width in bytes, and the function from bytes to an unsigned number of that width.

    Raises:
        KeyError: No such check.
    """
    name = name.upper()
    name = ALIASES.get(name, name)
    if name in SUMS:
        bits, function = SUMS[name]
        return bits // 8, function
    return CRCS[name].width // 8, _crc(name)


@cache
def _crc(name: str) -> Callable[[bytes], int]:
    row = CRCS[name]
    mask = (1 << row.width) - 1
    if row.reflected:
        return _crc_reflected(row)
    table = [_shift_left(i << (row.width - 8), row, mask) for i in range(256)]
    top = row.width - 8

    def crc(data: bytes) -> int:
        register = row.init
        for byte in data:
            register = (register << 8 & mask) ^ table[register >> top ^ byte]
        return register ^ row.xor_out

    return crc


def _crc_reflected(row: Crc) -> Callable[[bytes], int]:
    poly = _reverse(row.poly, row.width)
    table = [_shift_right(i, poly) for i in range(256)]
    init = _reverse(row.init, row.width)

    def crc(data: bytes) -> int:
        register = init
        for byte in data:
            register = register >> 8 ^ table[(register ^ byte) & 0xFF]
        return register ^ row.xor_out

    return crc


def _shift_left(register: int, row: Crc, mask: int) -> int:
    for _ in range(8):
        carry = register >> (row.width - 1) & 1
        register = (register << 1 & mask) ^ (row.poly if carry else 0)
    return register


def _shift_right(register: int, poly: int) -> int:
    for _ in range(8):
        register = register >> 1 ^ (poly if register & 1 else 0)
    return register


def _reverse(number: int, width: int) -> int:
    return int(f"{number:0{width}b}"[::-1], 2)
