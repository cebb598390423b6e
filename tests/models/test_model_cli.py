"""`forewarn model` and `forewarn devices`, as a user calls them."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from gateway.cli import group
from gateway.demo.configuration import ARTIFACTS
from models.errors import BundleError
from tests.models import bundles


@pytest.fixture
def pump(tmp_path: Path) -> Path:
    bundles.make(tmp_path / "pump.fwm")
    return tmp_path / "pump.fwm"


def call(*words: object) -> Result:
    return CliRunner().invoke(group, [str(word) for word in words])


def test_show(pump: Path) -> None:
    told = call("model", "show", pump)
    assert told.exit_code == 0
    assert "pump-0123abcd" in told.output
    assert "not supported" in told.output
    held = json.loads(call("model", "show", pump, "--json").output)
    assert held["kind"] == "failure"
    assert held["signer"] is None


def test_how_often_a_model_judges_and_what_it_remembers_are_shown() -> None:
    told = call("model", "show", ARTIFACTS / "pump.fwm").output
    assert "64 cells of 0.25 s, judged every 2 s" in told
    assert "what lasts counts, over 512 cells" in told


def test_a_signal_is_shown_by_its_whole_name(tmp_path: Path) -> None:
    signals = [{"name": f"s{i} [m3/h]", "unit": "m3/h"} for i in range(bundles.D)]
    of = tuple(f"s{i} [m3/h]:mean" for i in range(bundles.D))
    bundles.make(tmp_path / "flow.fwm", signals=signals, features=of)
    assert "s3 [m3/h]" in call("model", "show", tmp_path / "flow.fwm").output


def test_each_output_is_named_once() -> None:
    told = call("model", "show", ARTIFACTS / "conveyor-life.fwm").output
    assert "outputs        rul, low, high " in told


def test_sign_and_verify(pump: Path, tmp_path: Path) -> None:
    key, public = tmp_path / "plant.pem", tmp_path / "plant.pub.pem"
    assert call("model", "verify", pump).exit_code == 0
    signed = call("model", "sign", pump, "--key", key, "--new-key")
    assert signed.exit_code == 0
    assert key.stat().st_mode & 0o077 == 0
    good = call("model", "verify", pump, "--trust", public)
    assert good.exit_code == 0
    assert "trusted" in good.output
    other = call("model", "sign", pump, "--key", tmp_path / "other.pem", "--new-key")
    assert other.exit_code == 0
    bad = json.loads(call("model", "verify", pump, "--trust", public, "--json").output)
    assert not bad["good"]
    assert "must be by a trusted key" in bad["problem"]
    assert call("model", "verify", pump, "--trust", public).exit_code == 1
    # A key is never written over.
    assert call("model", "sign", pump, "--key", key, "--new-key").exit_code == 2
    assert call("model", "sign", pump, "--key", public).exit_code == 2


def test_a_damaged_bundle_is_a_no(pump: Path) -> None:
    data = bytearray(pump.read_bytes())
    data[len(data) // 2] ^= 1
    pump.write_bytes(bytes(data))
    assert call("model", "verify", pump).exit_code == 1
    assert isinstance(call("model", "show", pump).exception, BundleError)


def test_export(pump: Path, tmp_path: Path) -> None:
    out = tmp_path / "pump.onnx"
    assert call("model", "export", pump, "--out", out).exit_code == 0
    assert out.read_bytes() == bundles.parts()[0]


def test_devices(pump: Path) -> None:
    assert "cpu" in call("devices").output.split()
    rows = json.loads(call("devices", pump, "--json").output)
    by_name = {(row["device"], row["precision"]): row for row in rows}
    assert not by_name["cpu", "int8"]["refused"]
    assert by_name["cpu", "fp32"]["off"] <= 1
    told = call("devices", pump, "--server", "http://127.0.0.1:9")
    assert told.exit_code == 0
    assert "refused" in told.output
