"""Two machines over MQTT, as the page has them: a worn race of a motor whose speed changes, and a
fan that gets unbalanced while its keyphasor tells its speed."""

import re
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import models
from gateway.cli import group
from gateway.core.alarm import Transition
from tests.e2e.processes import CONSOLE, Gateway, gateway
from tests.eventually import eventually_blocking
from tests.models import motors, rotors
from tests.protocols.mqtt_broker import Publisher, broker

PAGE = Path(models.__file__).with_name("vibration.md")
ASSETS = ("motor-1", "fan-2")
BURST_S = motors.SAMPLES / motors.RATE_HZ
FAN_BURST_S = rotors.SAMPLES / rotors.RATE_HZ
BUSY_S = 180.0
AT_ONCE = "[alarms.delays]\nanomaly = { on_s = 0, off_s = 60 }\n"
"""The bursts come faster than by their own clock, and an alarm waits by the gateway's."""


def train(data: Path, options: str, out: Path) -> None:
    options = f"--data {data} {options} --window 12rows --false-alarms 1/5min --out {out}"
    made = CliRunner().invoke(group, f"train {options}".split())
    assert made.exit_code == 0, made.output
    assert "state active" in made.output


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of both."""
    folder = tmp_path_factory.mktemp("trained")
    g, rpm = motors.bursts(400, worn=False, seed=0)
    at_s = BURST_S * np.arange(len(g))
    motor = folder / "motor.npz"
    np.savez(motor, vibration_g=g, rpm=rpm, rate_hz=motors.RATE_HZ, t0=at_s)
    train(motor, f"--bearing {motors.BEARING}", folder / "motor.fwm")
    made = rotors.bursts(400, seed=0)
    at_s = FAN_BURST_S * np.arange(len(made.g))
    fan, rate_hz = folder / "fan.npz", rotors.RATE_HZ
    np.savez(fan, vibration_g=made.g, keyphasor=made.keyphasor, rate_hz=rate_hz, t0=at_s)
    options = "--speed keyphasor --pulses-per-turn 1"
    train(fan, options, folder / "fan.fwm")
    return folder


def put(bundles: Path, folder: Path) -> Path:
    """Both bundles into a folder; the path of the configuration that is to be beside them."""
    for bundle in bundles.glob("*.fwm"):
        shutil.copy(bundle, folder)
    return folder / "forewarn.toml"


def example() -> str:
    """The configuration that the page shows."""
    found = re.search(r"```toml\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert found is not None
    return found[1]


@pytest.mark.parametrize(
    ("block", "told"),
    [
        (
            '[asset.bearing]\nnumber = "6205"\n',
            "motor-1 has no bearing; add [asset.bearing] with rollers = 9, roller_mm = 7.94",
        ),
        (
            '[asset.shaft]\nspeed = "keyphasor"\npulses_per_turn = 1\n',
            "fan-2 has no shaft; add [asset.shaft] with speed, the signal of its shaft's speed",
        ),
    ],
    ids=["bearing", "shaft"],
)
def test_a_bundle_with_orders_is_refused_where_nothing_tells_them(
    tmp_path: Path, bundles: Path, block: str, told: str
) -> None:
    config = put(bundles, tmp_path)
    config.write_text(example())
    checked = CliRunner().invoke(group, ["check", str(config)])
    assert checked.exit_code == 0, checked.output
    assert block in example()
    config.write_text(example().replace(block, ""))
    refused = CliRunner().invoke(group, ["check", str(config)])
    assert refused.exit_code == 2
    assert told in refused.output


def publish(publisher: Publisher, end_s: float, n: int, *, well: bool) -> None:
    """Bursts of both machines one after the other, the last of which ends at that time."""
    g, rpm = motors.bursts(n, worn=not well, seed=11 - well)
    fan = rotors.bursts(n, seed=21 - well, unbalance=1.0 if well else 2.0)
    every = round(motors.RATE_HZ / 100.0)
    for i in range(n):
        motor = {
            "ts": round((end_s - (n - 1 - i) * BURST_S) * 1e3),
            "vibration": np.round(g[i].astype(float), 4).tolist(),
            "rpm": np.round(rpm[i, ::every].astype(float), 1).tolist(),
        }
        publisher.say("motor-1/burst", motor)
        other = {
            "ts": round((end_s - (n - 1 - i) * FAN_BURST_S) * 1e3),
            "vibration": np.round(fan.g[i].astype(float), 4).tolist(),
            "keyphasor": np.round(fan.keyphasor[i].astype(float), 2).tolist(),
        }
        publisher.say("fan-2/burst", other)


def alarms(one: Gateway, asset: str) -> list[Transition]:
    """Those that a model gave its reasons for."""
    with one.log() as log:
        return [t for t in log.transitions() if t.asset == asset and t.drivers]


def judged(one: Gateway, asset: str) -> list[float]:
    """Severities so far."""
    with one.log() as log:
        every = (
            severity
            for a in log.assessments(0, 1 << 62)
            for name, severity in zip(a.assets, a.severity, strict=True)
            if name == asset
        )
        return [float(severity) for severity in every if np.isfinite(severity)]


def test_what_wears_or_gets_unbalanced_is_named_and_healthy_machines_are_silent(
    tmp_path: Path, bundles: Path
) -> None:
    config = put(bundles, tmp_path)
    with broker(tmp_path / "broker") as (running, publisher), gateway(config) as one:
        there = f'host = "127.0.0.1"\nport = {running.port}'
        config.write_text(example().replace('host = "192.0.2.30"', there) + CONSOLE + AT_ONCE)
        one.start()
        eventually_blocking(lambda: "SUBACK" in running.log(), timeout_s=BUSY_S)
        start_s = time.time() - 150 * BURST_S
        publish(publisher, start_s + 60 * BURST_S, 60, well=True)
        eventually_blocking(
            lambda: all(len(judged(one, asset)) >= 10 for asset in ASSETS), timeout_s=BUSY_S
        )
        assert max(max(judged(one, asset)) for asset in ASSETS) < 1
        publish(publisher, start_s + 120 * BURST_S, 60, well=False)
        eventually_blocking(lambda: all(alarms(one, asset) for asset in ASSETS), timeout_s=BUSY_S)
        first = alarms(one, "motor-1")[0]
        assert first.drivers[0].signal == "vibration_g outer race", first
        first = alarms(one, "fan-2")[0]
        assert re.search(
            r"vibration_g at 1x of the shaft( lately)? [\d.]+ g, high( for these conditions)?"
            r" \(usually [\d.]+ to [\d.]+\), in keeping with unbalance",
            first.text,
        ), first.text
        assert not one.told("waveform.orders_unknown")
