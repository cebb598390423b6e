"""Addresses as operators write them, and requests cut to what a server takes."""

from collections.abc import Sequence

import pytest

from gateway.core.errors import PeerError
from protocols.opcua.address import NodeAddress, PathAddress, parse_address, parse_field
from protocols.opcua.items import TOO_MUCH, in_chunks


async def test_too_much_at_once_is_asked_for_in_halves() -> None:
    calls: list[int] = []

    async def call(chunk: Sequence[int]) -> None:
        calls.append(len(chunk))
        if len(chunk) > 3:
            raise PeerError("too much", code=next(iter(TOO_MUCH)))

    await in_chunks(list(range(10)), 10, call)
    assert calls == [10, 5, 2, 2, 2, 2, 2]


def test_addresses_and_fields() -> None:
    assert parse_address("i=2258") == NodeAddress(0, "i", "2258")
    assert parse_address("ns=2;s=a;b=c") == NodeAddress(2, "s", "a;b=c")
    guid = "00000000-0000-0000-0000-000000000000"
    assert parse_address(f"nsu=http://x/y;g={guid}") == NodeAddress("http://x/y", "g", guid)
    assert parse_address("/Objects/{http://x/y}A/B/3:C&/D&&") == PathAddress(
        ((0, "Objects"), ("http://x/y", "A"), ("http://x/y", "B"), (3, "C/D&"))
    )
    assert parse_field("Motor.Windings[2].Temp") == ("Motor", "Windings", 2, "Temp")
    assert parse_field("[0]") == (0,)
    for wrong in ("", "Pump", "ns=2", "i=-1", "i=4294967296", "g=1", "ns=99999;i=1", "/", "/a//b"):
        with pytest.raises(ValueError, match=r"\S"):
            parse_address(wrong)
    for wrong in (".a", "a..b", "a[", "a[x]", "a]b", "[1]b"):
        with pytest.raises(ValueError, match="must be like"):
            parse_field(wrong)
