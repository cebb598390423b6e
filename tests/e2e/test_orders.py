"""A motor whose speed changes while it is measured, over MQTT: its worn race is named, no other."""

import re
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
from tests.models import motors
from tests.protocols.mqtt_broker import Publisher, broker

PAGE = Path(models.__file__).with_name("vibration.md")
BURST_S = motors.SAMPLES / motors.RATE_HZ
BUSY_S = 180.0
AT_ONCE = "[alarms.delays]\nanomaly = { on_s = 0, off_s = 60 }\n"
"""The bursts come faster than by their own clock, and an alarm waits by the gateway's."""


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("trained")
    g, rpm = motors.bursts(400, worn=False, seed=0)
    np.savez(
        folder / "healthy.npz",
        vibration_g=g,
        rpm=rpm,
        rate_hz=motors.RATE_HZ,
        t0=BURST_S * np.arange(len(g)),
    )
    made = CliRunner().invoke(
        group,
        f"train --data {folder / 'healthy.npz'} --bearing {motors.BEARING} --window 12rows"
        f" --false-alarms 1/5min --out {folder / 'motor.fwm'}".split(),
    )
    assert made.exit_code == 0, made.output
    assert "state active" in made.output
    return (folder / "motor.fwm").read_bytes()


def example() -> str:
    """The configuration that the page shows."""
    found = re.search(r"```toml\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert found is not None
    return found[1]


def test_a_bundle_with_orders_is_refused_where_no_bearing_is_known(
    tmp_path: Path, bundle: bytes
) -> None:
    (tmp_path / "motor.fwm").write_bytes(bundle)
    config = tmp_path / "forewarn.toml"
    config.write_text(example())
    checked = CliRunner().invoke(group, ["check", str(config)])
    assert checked.exit_code == 0, checked.output
    config.write_text(example().partition("[asset.bearing]")[0])
    refused = CliRunner().invoke(group, ["check", str(config)])
    assert refused.exit_code == 2
    told = "motor-1 has no bearing; add [asset.bearing] with rollers = 9, roller_mm = 7.94"
    assert told in refused.output


def publish(publisher: Publisher, end_s: float, n: int, *, worn: bool) -> None:
    """Bursts one after the other, the last of which ends at that time."""
    g, rpm = motors.bursts(n, worn=worn, seed=10 + worn)
    every = round(motors.RATE_HZ / 100.0)
    for i in range(n):
        burst = {
            "ts": round((end_s - (n - 1 - i) * BURST_S) * 1e3),
            "vibration": np.round(g[i].astype(float), 4).tolist(),
            "rpm": np.round(rpm[i, ::every].astype(float), 1).tolist(),
        }
        publisher.say("motor-1/burst", burst)


def alarms(one: Gateway) -> list[Transition]:
    """Those that a model gave its reasons for."""
    with one.log() as log:
        return [t for t in log.transitions() if t.asset == "motor-1" and t.drivers]


def judged(one: Gateway) -> list[float]:
    """Severities so far."""
    with one.log() as log:
        return [float(s) for a in log.assessments(0, 1 << 62) for s in a.severity if s == s]  # noqa: PLR0124 (NaN)


def test_the_worn_race_is_named_and_a_healthy_motor_is_silent(
    tmp_path: Path, bundle: bytes
) -> None:
    (tmp_path / "motor.fwm").write_bytes(bundle)
    config = tmp_path / "forewarn.toml"
    with broker(tmp_path / "broker") as (running, publisher), gateway(config) as one:
        there = f'host = "127.0.0.1"\nport = {running.port}'
        config.write_text(example().replace('host = "192.0.2.30"', there) + CONSOLE + AT_ONCE)
        one.start()
        eventually_blocking(lambda: "SUBACK" in running.log(), timeout_s=BUSY_S)
        start_s = time.time() - 150 * BURST_S
        publish(publisher, start_s + 60 * BURST_S, 60, worn=False)
        eventually_blocking(lambda: len(judged(one)) >= 10, timeout_s=BUSY_S)
        assert max(judged(one)) < 1
        publish(publisher, start_s + 120 * BURST_S, 60, worn=True)
        eventually_blocking(lambda: bool(alarms(one)), timeout_s=BUSY_S)
        first = alarms(one)[0]
        assert first.drivers[0].signal == "vibration_g outer race", first
        assert not one.told("waveform.orders_unknown")
