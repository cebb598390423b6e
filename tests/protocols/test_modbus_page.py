"""The page and the samples of Modbus say what the code does."""

import tomllib
from importlib.resources import files

import pytest

from protocols.modbus import Config
from protocols.modbus.profile import names
from protocols.modbus.settings import Device
from protocols.modbus.signal import ModbusSignal

FOLDER = files("protocols.modbus")


@pytest.mark.parametrize("model", [Config, ModbusSignal, Device])
def test_every_setting_is_on_the_page(model: type[Config | ModbusSignal | Device]) -> None:
    page = (FOLDER / "modbus.md").read_text("utf-8")
    missing = [name for name in model.model_fields if f"`{name}`" not in page]
    assert not missing


def test_every_profile_is_on_the_page() -> None:
    page = (FOLDER / "modbus.md").read_text("utf-8")
    assert names()
    assert not [name for name in names() if f"`{name}`" not in page]


@pytest.mark.parametrize("name", ["tcp", "rtu", "tls"])
def test_samples_are_valid(name: str) -> None:
    for table in tomllib.loads((FOLDER / f"{name}.toml").read_text("utf-8"))["source"]:
        config = Config.model_validate(table)
        assert Config.model_validate(config.model_dump(mode="json")) == config


@pytest.mark.parametrize("name", names())
def test_profiles_are_valid(name: str) -> None:
    config = Config.model_validate(
        {
            "kind": "modbus",
            "id": "meter",
            "url": "rtu:///dev/ttyUSB0",
            "devices": [{"unit_id": 3, "profile": name, "asset": "press-1"}],
        }
    )
    assert {config.unit_of(signal) for signal in config.signals} == {3}
    assert {signal.asset for signal in config.signals} == {"press-1"}
