"""A machine that stands is not judged, not learned from and not called about; what stood stays."""

import asyncio
import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray

from gateway.cli import group
from gateway.cli.stored import stored_record
from gateway.config import parse
from gateway.core.alarm import Cause, Condition
from gateway.core.assessment import Abstained
from gateway.core.batch import Batch, make_batch
from gateway.core.clock import SystemClock
from gateway.core.errors import ConfigError
from gateway.core.signals import Signal
from gateway.pipeline.config import AssetConfig, DeriveConfig
from gateway.pipeline.derive import Derive
from gateway.pipeline.fleet import Assignment, muster
from gateway.pipeline.running import START_NS, Running
from gateway.pipeline.windows import WindowBuilder
from gateway.store.config import StoreConfig
from gateway.store.log import Log
from gateway.store.reader import LogReader
from models.bundle import read
from models.record import RUNNING
from tests.gateway.test_flow import STEP_NS, Bench
from tests.gateway.test_windows import S, run, samples, watch
from tests.models.plants import healthy

RULE = "speed > 50"
SOURCE = """
[gateway]
data_dir = "."

[[source]]
kind = "modbus"
id = "plc"
url = "tcp://192.0.2.10:502"
signals = [
  {{ asset = "pump", signal = "{other}", address = "holding:1" }},
  {{ asset = "pump", signal = "heat", unit = "°C", address = "holding:2" }},
]

[[asset]]
id = "pump"
running = "{rule}"
"""


def test_a_window_ran_stood_or_is_not_known() -> None:
    one = watch(running=np.array([2], dtype=np.int32), cells=4, hop_cells=2)
    builder = WindowBuilder([one], 3)
    states: list[tuple[int, int]] = []
    for second in range(1, 40):
        rows = [(0, float(second), 1.0), (1, float(second), 1.0)]
        if second < 30:
            rows.append((2, second, 0.0 if second == 12 else 1.0))
        for windows in run(builder, samples(rows)):
            assert windows.running is not None
            states += zip((windows.end_ns // S).tolist(), windows.running.tolist(), strict=True)
    told = dict(states)
    assert [end for end, state in told.items() if state == 0] == [12, 14, 16, 18]
    assert told[10] == told[20] == 1
    assert told[38] == -1


class Stopping(Bench):
    """The lathe of `Bench`, with a rule, standing for a while in the middle."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        asset = AssetConfig(id="lathe-1", running=RULE)
        self.derive = Derive(
            [DeriveConfig(asset="lathe-1", signal=RUNNING, expression=RULE)],
            self.sources,
            self.log.signals,
        )
        every = self.sources | self.derive.sources
        self.wanted = [Assignment(asset, self.wanted[0].path, "asset[0].bundle")]
        posts = muster(self.wanted, every, self.log.signals)
        self.flow = self._flow(posts)
        state = self.log.signals.intern(Signal("lathe-1", RUNNING, ""))
        running = Running({state: "lathe-1"})
        stages = replace(self.flow.stages, derive=self.derive, running=running)
        self.flow.station(posts, stages)
        names = [signal.name for signal in self.manifest.signals]
        self.rows[400:700, names.index("speed")] = 0.0
        self.low = Condition("lathe-1", "speed.low", Cause.LIMIT, active=True, t_ns=0, on_delay_s=0)

    def view(self, alarm: str) -> str:
        found = self.annunciator.engine.find("lathe-1", alarm, 0)
        return "" if found is None else found.state


def test_standing_is_neither_judged_nor_called_about(tmp_path: Path) -> None:
    async def main() -> None:
        bench = Stopping(tmp_path)
        try:
            await bench.pour(0, 380)
            high = Condition("lathe-1", "heat.high", Cause.LIMIT, active=True, t_ns=0, on_delay_s=0)
            bench.annunciator.report(high)
            await bench.flow.tick()
            assert not bench.flow.stages.running.stands("lathe-1")
            await bench.pour(380, 600)
            assert bench.flow.stages.running.stands("lathe-1")
            bench.annunciator.report(bench.low)
            await bench.flow.tick()
            # Low speed of a machine that stands is no news; what stood when it stopped still is.
            assert bench.view("speed.low") == "suppressed"
            assert bench.view("heat.high") == "active_unacked"
            await bench.pour(600, len(bench.rows))
            assert not bench.flow.stages.running.stands("lathe-1")
            # Nor while it comes up: an alarm returns only some time after its cause has gone.
            assert bench.view("speed.low") == "suppressed"
            starting = bench.flow.stages.running.starting
            starting["lathe-1"] += 10**12
            await bench.flow.tick()
            assert bench.view("speed.low") == "suppressed"
            starting["lathe-1"] = 0
            await bench.flow.tick()
            assert bench.view("speed.low") == "active_unacked"
            ends, abstained = await bench.ends()
            cells = bench.manifest.window.cells
            row = (np.array(ends) - ends[0]) // STEP_NS
            first = next(i for i, why in enumerate(abstained) if why is Abstained.STOPPED)
            stood = row[[why is Abstained.STOPPED for why in abstained]]
            assert abstained.count(Abstained.STOPPED) * bench.manifest.window.hop_cells >= 300
            assert stood.max() - stood.min() < 300 + cells + 12
            assert first > 0
            assert abstained[-1] is Abstained.NO
            reader = LogReader(bench.log.path)
            alarms = [t.alarm for t in reader.transitions()]
            reader.close()
            assert not [alarm for alarm in alarms if alarm.endswith(".sensor")]
        finally:
            bench.log.close()

    asyncio.run(main())


def test_edges_come_once_and_a_bad_state_says_nothing() -> None:
    running = Running({3: "pump"})

    def batch(value: float, t: int) -> Batch:
        quality = np.array([2 if np.isnan(value) else 0], dtype=np.uint8)
        number, when = np.array([3], np.int32), np.array([t], np.int64)
        return Batch("s", number, when, np.array([value]), quality, 0)

    assert running.update(batch(0.0, 1), 1) == [("pump", False)]
    assert running.update(batch(0.0, 2), 2) == []
    assert running.update(batch(np.nan, 3), 3) == []
    assert running.stands("pump")
    assert running.update(batch(1.0, 4), 4) == [("pump", True)]
    again = Running({4: "pump"})
    again.carry(running)
    assert again.runs == {"pump": True}
    assert again.started(3 + START_NS) == []
    assert again.started(4 + START_NS) == ["pump"]
    assert again.started(4 + START_NS) == []


def test_training_from_the_log_leaves_out_what_stood(tmp_path: Path) -> None:
    file = tmp_path / "forewarn.toml"
    file.write_text(SOURCE.format(other="speed", rule=RULE))
    log = Log.open(tmp_path, StoreConfig(), SystemClock())
    n, start_ns = 600, 1_700_438_400 * 10**9
    t_ns = start_ns + 10**9 * np.arange(n)
    speed = np.full(n, 900.0)
    speed[200:300] = 0
    columns: list[tuple[str, str, NDArray[np.float64]]] = [
        ("speed", "", speed),
        ("heat", "°C", np.arange(n, dtype=np.float64)),
        (RUNNING, "", np.where(speed > 50, 1.0, 0.0)),
    ]
    for name, unit, value in columns:
        number = np.full(n, log.signals.intern(Signal("pump", name, unit)), np.int32)
        log.append(make_batch("plc", number, t_ns, value, np.zeros(n, np.uint8), int(t_ns[-1])))
    log.close()
    for signals in ((), ("heat",)):
        record = stored_record(
            file,
            asset="pump",
            source="log",
            start="2023-11-20T00:00",
            end="2023-11-20T00:10",
            signals=signals,
        )
        assert set(record.names) == set(signals or ("heat", "speed"))
        assert len(record) == 500
        assert len(record.groups) == 2


def test_the_rule_makes_a_signal_and_counts_the_hours(tmp_path: Path) -> None:
    config = parse(SOURCE.format(other="speed", rule=RULE), tmp_path / "forewarn.toml")
    (derive,) = config.settings.derive
    assert (derive.asset, derive.signal, derive.expression) == ("pump", RUNNING, RULE)
    (told,) = config.settings.cloud.asset
    assert (told.id, told.run, told.run_above) == ("pump", RUNNING, 0.0)
    own = parse(SOURCE.format(other="running", rule="running"), tmp_path / "forewarn.toml")
    assert own.settings.derive == ()


@pytest.mark.parametrize(
    ("other", "rule", "said"),
    [
        ("speed", "sped > 50", "must mean one column"),
        ("speed", "3 > 2", "must name at least one signal"),
        ("speed", "speed > ", "cannot be read"),
        ("running", "heat > 2", "must be just that"),
    ],
)
def test_a_wrong_rule_is_told_with_its_line(
    tmp_path: Path, other: str, rule: str, said: str
) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        parse(SOURCE.format(other=other, rule=rule), tmp_path / "forewarn.toml")
    assert "asset[0].running" in str(caught.value)
    assert "forewarn.toml:16" in str(caught.value)


def test_files_are_learned_and_judged_only_while_the_machine_runs(tmp_path: Path) -> None:
    record = healthy(4000)
    values = record.values.copy()
    stops = np.zeros(4000, bool)
    for start in (900, 2100, 3300):
        stops[start : start + 80] = True
    values[stops] = (0.0, 0.1, 30.0, 0.0)
    lines = ["time,speed,current,temperature,vibration"]
    lines += [f"{i}," + ",".join(f"{v:.6g}" for v in row) for i, row in enumerate(values)]
    data, out, scores = tmp_path / "week.csv", tmp_path / "m.fwm", tmp_path / "s.csv"
    data.write_text("\n".join(lines), encoding="utf-8")

    def call(*words: object) -> str:
        result = CliRunner().invoke(group, [str(word) for word in words])
        assert result.exit_code == 0, result.output
        return result.output

    call("train", "--data", data, "--running", RULE, "--false-alarms", "1/1h", "--out", out)
    manifest = read(out).manifest
    assert manifest.detail["running"] == RULE
    assert [s.name for s in manifest.signals] == ["speed", "current", "temperature", "vibration"]
    assert manifest.metrics["rows"] == 4000 - stops.sum()
    assert manifest.metrics["sequences"] == 4
    call("score", out, "--data", data, "--out", scores)
    rows = list(csv.DictReader(scores.read_text(encoding="utf-8").splitlines()))
    judged = np.array([row["score"] != "" for row in rows])
    assert not judged[stops].any()
    window = manifest.window.cells
    assert not judged[980 : 980 + window - 1].any(), "nor while the stop is in the window"
    assert judged[980 + window + 3 : 2100].all()
    assert np.mean([row["anomalous"] == "1" for row in rows]) < 0.01
    data.write_text("time,current,temperature,vibration\n1,2,3,4\n", encoding="utf-8")
    refused = CliRunner().invoke(group, ["score", str(out), "--data", str(data), "--out", "x.csv"])
    assert refused.exit_code != 0
