"""`forewarn run` against the simulated plant: starts, stops, dies, comes back, reloads."""

import re
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from gateway.cli import group
from gateway.core.errors import StoreError
from gateway.store.record import Kind
from models.record import RUNNING
from tests.e2e.processes import Gateway, gateway, plant
from tests.eventually import eventually_blocking


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Gateway]:
    with plant(tmp_path), gateway(tmp_path / "forewarn.toml") as one:
        one.start()
        yield one


def samples(one: Gateway) -> int:
    try:
        with one.log() as log:
            return log.heads().get(Kind.SAMPLES, 1) - 1  # Numbers begin at 1.
    except StoreError:
        return 0  # The file is there, its tables are not yet.


def test_four_transports_reach_the_log_and_sigterm_ends_it_in_order(running: Gateway) -> None:
    eventually_blocking(lambda: len(running.told("source.up")) == 4, timeout_s=30)
    eventually_blocking(lambda: samples(running) > 500, timeout_s=30)
    assert running.stop() == 0
    (stopped,) = running.told("gateway.stop")
    with running.log() as log:
        signal_, t_ns, value, quality = log.samples(0, 1 << 62)
        table = log.signals().signals()
        assert log.state("strange"), "how strange machines have been is kept for the next start"
        names = {(s.asset, s.name) for s in table}
    # Nothing that was taken is missing from the log. That a machine runs is made here, not taken.
    taken = [number for number, s in enumerate(table) if s.name != RUNNING]
    assert np.isin(signal_, taken).sum() == stopped["samples"]
    assert {asset for asset, _ in names} == {"pump-1", "compressor-1", "conveyor-1", "lathe-1"}
    assert set(signal_.tolist()) == set(range(len(names)))
    assert np.isfinite(value[quality == 0]).all()
    for number in range(len(names)):
        assert (np.diff(t_ns[signal_ == number]) >= 0).all()


def test_after_kill_9_what_was_committed_is_there_and_it_goes_on(running: Gateway) -> None:
    eventually_blocking(lambda: samples(running) > 200, timeout_s=30)
    for _ in range(3):
        before = samples(running)
        running.stop(signal.SIGKILL)
        after = samples(running)
        assert after >= before
        running.start()
        goal = samples(running) + 100
        eventually_blocking(lambda goal=goal: bool(samples(running) > goal), timeout_s=30)  # type: ignore[misc]
    starts = running.told("gateway.start")
    assert len(starts) == 4


def test_a_source_that_is_away_at_start_stops_nobody_else(tmp_path: Path) -> None:
    with plant(tmp_path) as process, gateway(tmp_path / "forewarn.toml") as one:
        text = one.config.read_text()
        one.config.write_text(
            re.sub(r'url = "opc\.tcp://[^"]+"', 'url = "opc.tcp://127.0.0.1:9/"', text)
        )
        one.start()
        eventually_blocking(lambda: len(one.told("source.up")) == 3, timeout_s=30)
        eventually_blocking(lambda: len(one.told("source.down")) == 1, timeout_s=30)
        eventually_blocking(lambda: samples(one) > 200, timeout_s=30)
        (down,) = one.told("source.down")
        assert down["source"] == "pump-1"
        said = CliRunner().invoke(group, ["health", str(one.config)])
        assert said.output.startswith("well: 3 of 4 sources up\npump-1: "), said.output
        assert "127.0.0.1:9" in said.output
        # The whole plant goes away: every link says so once, and the gateway lives.
        process.terminate()
        eventually_blocking(lambda: len(one.told("source.down")) == 4, timeout_s=40)
        assert one.running
        assert one.stop() == 0


def test_a_changed_file_is_taken_without_touching_the_other_links(running: Gateway) -> None:
    eventually_blocking(lambda: len(running.told("source.up")) == 4, timeout_s=30)
    eventually_blocking(lambda: samples(running) > 200, timeout_s=30)
    good = running.config.read_text()
    running.config.write_text(good + "\n[gatewy]\nid = 'x'\n")
    eventually_blocking(lambda: len(running.told("config.refused")) == 1, timeout_s=15)
    assert "gatewy" in running.told("config.refused")[0]["error"]
    # One signal less on the Modbus TCP source.
    one_less = re.sub(r'  \{ asset = "compressor-1", signal = "inlet_temperature".*\n', "", good)
    assert one_less != good
    running.config.write_text(one_less)
    # Its model was trained on that signal: refused, with the difference, and all goes on as before.
    eventually_blocking(lambda: len(running.told("config.refused")) == 2, timeout_s=15)
    assert "was trained on signal 'inlet_temperature'" in running.told("config.refused")[1]["error"]
    without_model = re.sub(r'bundle = ".*compressor\.fwm"\n', "", one_less)
    assert without_model != one_less
    running.config.write_text(without_model)
    eventually_blocking(lambda: len(running.told("config.reloaded")) == 1, timeout_s=15)
    before = samples(running)
    eventually_blocking(lambda: samples(running) > before + 100, timeout_s=15)
    assert len(running.told("source.up")) == 4
    assert running.told("source.down") == []
    assert running.stop() == 0


def test_two_gateways_never_share_a_data_directory(running: Gateway) -> None:
    eventually_blocking(lambda: samples(running) > 0, timeout_s=30)
    with gateway(running.config) as second:
        second.start()
        eventually_blocking(lambda: not second.running, timeout_s=15)
    assert running.running
