"""Checks against the published catalogue, and what a check is for: noise does not pass."""

import binascii
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.serial.checks import ALIASES, CRCS, NAMES, SUMS, find

DIGITS = b"123456789"


@pytest.mark.parametrize("name", CRCS)
def test_published_check_value(name: str) -> None:
    width, function = find(name)
    assert width == CRCS[name].width // 8
    assert function(DIGITS) == CRCS[name].check


def test_sums_by_hand() -> None:
    assert find("SUM-8")[1](b"\xff\x02") == 0x01
    assert find("SUM-16")[1](b"\xff\x02") == 0x0101
    assert find("SUM-8/ONES-COMPLEMENT")[1](b"\x01\x02") == 0xFC
    # Modbus ASCII, address 17, function 3, 0x006B, 3 registers: the LRC in its specification.
    assert find("lrc")[1](bytes.fromhex("1103006B0003")) == 0x7E
    # NMEA 0183's XOR over what stands between "$" and "*".
    assert find("XOR")[1](b"GPGLL,5057.970,N,00146.110,E,142451,A") == 0x27


def test_every_alias_leads_somewhere() -> None:
    assert not set(ALIASES) & (set(CRCS) | set(SUMS))
    for name in NAMES:
        width, function = find(name.lower())
        assert 0 <= function(DIGITS) < 1 << 8 * width
    with pytest.raises(KeyError):
        find("CRC-17")


@given(st.binary(max_size=200))
def test_the_two_that_python_has(data: bytes) -> None:
    assert find("CRC-32/ISO-HDLC")[1](data) == zlib.crc32(data)
    assert find("CRC-16/XMODEM")[1](data) == binascii.crc_hqx(data, 0)


@given(st.sampled_from(sorted(CRCS)), st.binary(min_size=1, max_size=50), st.data())
def test_one_flipped_bit_is_always_seen(name: str, data: bytes, draw: st.DataObject) -> None:
    bit = draw.draw(st.integers(0, 8 * len(data) - 1))
    flipped = bytearray(data)
    flipped[bit // 8] ^= 1 << bit % 8
    function = find(name)[1]
    assert function(bytes(flipped)) != function(data)
