"""Which settings of a Modbus source are refused, and what a profile adds to them."""

from pathlib import Path
from typing import Any

import pytest

from gateway.config import parse
from gateway.core.errors import ConfigError
from tests.protocols.modbus_peers import make_config


@pytest.mark.parametrize(
    ("settings", "rule"),
    [
        ({"url": "rtu:///dev/ttyS0", "in_flight": 2}, "in_flight"),
        ({"url": "rtu:///dev/ttyS0", "data_bits": 7}, "data_bits"),
        ({"url": "rtu:///dev/ttyS0", "unit_id": 248}, "1 to 247"),
        ({"tls_cert": "a.pem"}, "tls_cert and tls_key"),
        ({"tls_ca": "a.pem"}, "only for a tls"),
        ({"devices": [{"unit_id": 3}, {"unit_id": 3}]}, "listed twice"),
        ({"devices": [{"unit_id": 3, "profile": "no-such", "asset": "b"}]}, "eastron-sdm630"),
        ({"devices": [{"unit_id": 3, "profile": "eastron-sdm630"}]}, "asset"),
        (
            {"devices": [{"unit_id": 3, "profile": "eastron-sdm630", "asset": "b", "pick": ["x"]}]},
            "voltage_l1",
        ),
        ({"devices": [{"unit_id": 3, "profile": "no/such.toml", "asset": "b"}]}, "cannot be read"),
    ],
)
def test_wrong_settings_say_the_rule(settings: dict[str, Any], rule: str) -> None:
    with pytest.raises(ValueError, match=rule):
        make_config(settings.pop("url", "tcp://plc"), [{"address": "holding:1"}], **settings)


def test_a_profile_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "drive.toml"
    path.write_text(
        "[device]\ntimeout_s = 2.5\nregisters_max = 20\n"
        '[[signal]]\nsignal = "speed"\nunit = "rpm"\naddress = 40010\n'
        '[[signal]]\nsignal = "temp"\naddress = 40011\npoll_s = 60\n'
    )
    devices = [
        {"unit_id": 4, "profile": str(path), "asset": "fan", "registers_max": 10, "poll_s": 2}
    ]
    written = {"asset": "fan", "signal": "speed", "address": 40012, "unit_id": 4}
    config = make_config("tcp://plc", [written], devices=devices)
    by_name = {signal.signal: signal for signal in config.signals}
    assert by_name["speed"].address == "40012"  # What is written out wins.
    assert config.poll_of(by_name["temp"]) == 60
    assert config.tuning(4).timeout_s == 2.5
    assert config.tuning(4).registers_max == 10
    assert config.tuning(1).registers_max == 125


def test_every_fault_of_a_file_is_named_at_once_and_once(tmp_path: Path) -> None:
    text = """[[source]]
kind = "modbus"
id = "x"
url = "tcpx://plc:502"
devices = [
  { unit_id = 3, profile = "nope", asset = "b" },
  { unit_id = 4, profile = "eastron-sdm630", asset = "b", pick = ["x"] },
]
signals = [
  { asset = "a", signal = "s", address = "holding:70000" },
  { asset = "a", signal = "t", address = "coil:7", type = "int16" },
]
"""
    with pytest.raises(ConfigError) as caught:
        parse(text, tmp_path / "f.toml")
    faults = [str(fault) for fault in caught.value.faults]
    assert [fault.line for fault in caught.value.faults] == [4, 6, 7, 10, 11]
    assert all(fault.count("was") == 1 for fault in faults)
    assert faults[3] == (
        "source[0].signals[0].address: holding register number must be 0 to 65535,"
        " was 'holding:70000' (f.toml:10)"
    )
