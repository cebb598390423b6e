"""Source profiles: data that a source is laid over; those shipped, by their standards' frames."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from gateway.config import parse
from gateway.core.errors import ConfigError
from protocols import find_profile, merge_profile, profiles
from protocols.serial import Config
from protocols.serial.checks import find
from protocols.serial.frames import framer
from protocols.serial.text import Splitter

FIELD = {"name": "v", "offset": 1, "type": "u8"}


def laid_over(name: str, **settings: Any) -> Config:
    source = {"profile": name, "id": "s", "port": "/dev/x", "asset": "a"} | settings
    profile = find_profile(name, {})
    assert profile is not None
    return Config.model_validate(merge_profile(source, profile))


def test_settings_are_merged_table_by_table() -> None:
    profile: dict[str, Any] = {"kind": "serial", "text": {"delimiter": ";", "encoding": "ascii"}}
    source: dict[str, Any] = {"profile": "p", "text": {"delimiter": "\r"}, "id": "s"}
    assert merge_profile(source, profile) == {
        "kind": "serial",
        "id": "s",
        "text": {"delimiter": "\r", "encoding": "ascii"},
        "signals": [],
    }
    assert profile["text"]["delimiter"] == ";"


def test_the_files_own_goes_before_the_shipped() -> None:
    own = {"hdlc": {"kind": "serial"}}
    assert find_profile("hdlc", own) == {"kind": "serial"}
    assert find_profile("nowhere", own) is None


def test_nmea_0183() -> None:
    signals = [{"signal": "v", "asset": "a"}]
    config = laid_over("nmea0183", signals=signals, text={"pattern": r"GLL,(?P<v>[\d.]+)"})
    assert config.text is not None
    assert config.baud_rate == 4800
    errors: Counter[str] = Counter()
    good = b"$GPGLL,5057.970,N,00146.110,E,142451,A*27\r\n"
    got = Splitter(config.text, errors).feed(good + good.replace(b"*27", b"*28"))
    assert [record.data for record in got] == [good[:-2]]
    assert errors == {"checksum": 1}


def test_hdlc() -> None:
    body = b"\x01\x7e\x7d"
    fcs = find("CRC-16/X-25")[1](body).to_bytes(2, "little")
    escaped = b"".join(
        bytes([0x7D, byte ^ 0x20]) if byte in (0x7E, 0x7D) else bytes([byte]) for byte in body + fcs
    )
    signals = [{"signal": "v", "asset": "a"}]
    config = laid_over("hdlc", signals=signals, binary={"fields": [FIELD]})
    assert config.binary is not None
    got = framer(config.binary, Counter()).feed(b"\x7e" + escaped + b"\x7e")
    assert [record.data for record in got] == [b"\x7e" + body + fcs]


def test_slip() -> None:
    signals = [{"signal": "v", "asset": "a"}]
    config = laid_over("slip", signals=signals, binary={"fields": [FIELD]})
    assert config.binary is not None
    got = framer(config.binary, Counter()).feed(b"\xc0\x01\xdb\xdc\xdb\xdd\xc0")
    assert [record.data for record in got] == [b"\xc0\x01\xc0\xdb"]


def test_every_shipped_profile_is_tried_here() -> None:
    assert profiles.names() == ("hdlc", "nmea0183", "slip")
    with pytest.raises(KeyError):
        profiles.load("../serial/lathe")


def test_through_the_configuration_file() -> None:
    text = """
[[source]]
profile = "slip"
id = "node"
port = "/dev/ttyX"
asset = "fan"
signals = [{ asset = "fan", signal = "v" }]
[source.binary]
fields = [{ name = "v", offset = 1, type = "u8" }]
"""
    (source,) = parse(text, Path("forewarn.toml")).sources
    assert source.kind == "serial"
    with pytest.raises(ConfigError, match=r"must name a \[profile.NAME\] \(hdlc, nmea0183, slip\)"):
        parse(text.replace('"slip"', '"slap"'), Path("forewarn.toml"))
