"""What is stored comes back: as tables for training, as files for people."""

import csv
import io
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from gateway.cli import stored
from gateway.cli.export import command as export
from gateway.cli.influx import command as influx_command
from gateway.cli.stored import stored_record
from gateway.cli.train import command as train
from gateway.core.batch import make_batch
from gateway.core.clock import SystemClock
from gateway.core.errors import ConfigError
from gateway.core.signals import Signal
from gateway.flow.memory import NO_VALUE
from gateway.store import readback
from gateway.store.blocks import Columns
from gateway.store.config import InfluxConfig, TrendBounds
from gateway.store.influx_link import PlainLink
from gateway.store.influx_readback import PAGE_ROWS, StoredInInflux
from gateway.store.line_protocol import Encoder
from gateway.store.log import Log
from gateway.store.quarantine import Quarantine, Refused
from gateway.store.readback import StoredInLog
from gateway.store.reader import LogReader
from gateway.store.trends import Trends, take_in
from models.bundle import read

from ..servers import influxd
from .storing import SECOND_NS, T0_NS, assessments, opened, transition

FROM, TO = "2096-10-01T00:00", "2096-10-04T00:00"


def fill(log: Log, seconds: int = 100) -> None:
    """Vibration ten times a second, power once a second with a BAD one in ten."""
    log.signals.intern(Signal("pump", "power", "kW"))
    for signal, rate in ((0, 10), (1, 1)):
        n = seconds * rate
        number = np.arange(n)
        quality = np.where((signal == 1) & (number % 10 == 3), 2, 0).astype(np.uint8)
        log.append(
            make_batch(
                "s",
                np.full(n, signal, dtype=np.int32),
                T0_NS + number * (SECOND_NS // rate),
                number.astype(np.float64),
                quality,
                T0_NS,
            )
        )


def config(folder: Path, influx: str = "") -> Path:
    """A configuration whose data directory is `folder`/data."""
    file = folder / "forewarn.toml"
    file.write_text(
        f"""
[gateway]
data_dir = "data"
{influx}
[[source]]
kind = "modbus"
id = "s"
url = "tcp://127.0.0.1:9"
unit_id = 1
signals = [
  {{ asset = "pump", signal = "vibration", unit = "mm/s", address = "holding:1", type = "uint16" }},
]
"""
    )
    return file


async def test_the_log_comes_back_as_a_table(tmp_path: Path) -> None:
    async with opened(tmp_path) as log:
        fill(log)
        await log.flush()
        end_ns = T0_NS + 50 * SECOND_NS
        table = StoredInLog(log._reader, "pump", None).table(T0_NS, end_ns, 0.1)
        assert table.names == ("vibration", "power")
        assert table.value.shape == (500, 2)
        assert table.value[:, 0].tolist() == list(range(500))
        assert np.isfinite(table.value[:, 1]).sum() == 45 * 4, "each stands for three rows more"
        grid = StoredInLog(log._reader, "pump", ["power"]).table(T0_NS, end_ns, 1.0)
        assert grid.value[:5, 0].tolist() == [0, 1, 2, 2, 4]  # The last usable one is held.
        with pytest.raises(ConfigError, match="has no signal torque; it has vibration, power"):
            StoredInLog(log._reader, "pump", ["torque"])
        with pytest.raises(ConfigError, match="nothing is stored of it"):
            StoredInLog(log._reader, "fan", None)


async def test_a_long_log_is_laid_in_slices_and_asked_of_its_end_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(tmp_path) as log:
        fill(log)
        await log.flush()
        end_ns = T0_NS + 100 * SECOND_NS
        stored = StoredInLog(log._reader, "pump", None)
        whole = stored.table(T0_NS, end_ns, 0.7)
        comes_s = stored.intervals_s(T0_NS, end_ns)
        assert comes_s == {"vibration": 0.1, "power": 1.0}
        asked: list[tuple[int, int]] = []
        monkeypatch.setattr(readback, "SLICE_VALUES", 20)
        monkeypatch.setattr(readback, "INTERVAL_NS", 5 * SECOND_NS)
        monkeypatch.setattr(readback, "INTERVAL_SAMPLES", 150)
        samples = LogReader.samples

        def seen(self: LogReader, low_ns: int, high_ns: int, signals: Sequence[int]) -> Columns:
            asked.append((low_ns, high_ns))
            return samples(self, low_ns, high_ns, signals)

        monkeypatch.setattr(LogReader, "samples", seen)
        sliced = stored.table(T0_NS, end_ns, 0.7)
        np.testing.assert_array_equal(sliced.value, whole.value)
        np.testing.assert_array_equal(sliced.t_ns, whole.t_ns)
        assert len(asked) == 15, "ten rows of two signals at a time"
        asked.clear()
        assert stored.intervals_s(T0_NS, end_ns) == comes_s
        assert [high - low for low, high in asked] == [5 * SECOND_NS, 20 * SECOND_NS]


async def test_influxdb_gives_the_same_table_page_by_page(tmp_path: Path) -> None:
    with influxd(tmp_path / "influxd") as server:
        server.query("CREATE DATABASE forewarn")
        settings = InfluxConfig(url=server.url, api="v1")
        async with opened(tmp_path) as log:
            fill(log, 2 * PAGE_ROWS // 10 + 7)
            await log.flush()
            encoder = Encoder(log.signals, "gw")
            link = PlainLink(settings)
            for columns in log._reader.sample_blocks(T0_NS, 1 << 62):
                assert link.write("\n".join(encoder.samples(columns)).encode()).status == 204
            names, end_ns = ["vibration", "power"], T0_NS + 80 * 3600 * SECOND_NS  # Over 72 hours.
            ours = StoredInLog(log._reader, "pump", names).table(T0_NS, end_ns, 0.1)
            theirs = StoredInInflux(link, "pump", names).table(T0_NS, end_ns, 0.1)
            link.close()
    assert theirs.names == ours.names
    assert np.array_equal(theirs.t_ns, ours.t_ns)
    assert np.array_equal(theirs.value, ours.value, equal_nan=True)
    assert np.isfinite(ours.value[:, 0]).sum() == 2 * PAGE_ROWS + 70 + 3


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


async def test_export_writes_what_is_stored(tmp_path: Path) -> None:
    file = config(tmp_path)
    async with opened(tmp_path / "data") as log:
        fill(log)
        log.append(assessments(T0_NS, 2.0))
        log.append(transition(T0_NS))
        await log.flush()
        trends = Trends(log, TrendBounds(), SystemClock())
        trend_file = trends._open()
        take_in(log.cursor("trends"), trend_file)
        trend_file.close()
        trends.close()
        quarantine = Quarantine(tmp_path / "data")
        quarantine.add([Refused(T0_NS, "samples", 7, "field type conflict", "signal value=1 2")])
        quarantine.close()

        def run(*words: str) -> str:
            result = CliRunner().invoke(export, [str(file), "--from", FROM, "--to", TO, *words])
            assert result.exit_code == 0, result.output
            return result.stdout

        rows = rows_of(run("--signal", "power"))
        assert len(rows) == 100
        assert rows[1] == {
            "time": "2096-10-02T07:00:01.000000000Z",
            "asset": "pump",
            "signal": "power",
            "unit": "kW",
            "value": "1.0",
            "quality": "good",
        }
        assert (rows[3]["value"], rows[3]["quality"]) == ("", "bad")
        trend = rows_of(run("--what", "trends", "--signal", "vibration"))
        assert [row["count"] for row in trend] == ["100"] * 10
        assert [row["max"] for row in trend][:2] == ["99.0", "199.0"]
        (judged,) = rows_of(run("--what", "assessments"))
        assert (judged["score"], judged["top"]) == ("2.0", "vibration=0.75 power=0.25")
        (alarm,) = rows_of(run("--what", "alarms"))
        assert (alarm["state"], alarm["text"]) == ("active", "The bearing, ä, is hot.")
        (refused,) = rows_of(run("--quarantine"))
        assert (refused["seq"], refused["line"]) == ("7", "signal value=1 2")

        run("--out", str(tmp_path / "all.parquet"))
        parquet = pytest.importorskip("pyarrow.parquet")
        assert parquet.read_table(tmp_path / "all.parquet").num_rows == 1100


def test_influx_setup_makes_what_is_missing_and_leaves_the_rest(tmp_path: Path) -> None:
    with influxd(tmp_path / "influxd") as server:
        file = config(tmp_path, f'[influx]\nurl = "{server.url}"\napi = "v1"\n')
        missing = CliRunner().invoke(influx_command, ["check", str(file)])
        assert missing.exit_code == 1
        assert "run forewarn influx setup" in missing.stderr
        made = CliRunner().invoke(influx_command, ["setup", str(file), "--days", "400"])
        assert made.exit_code == 0, made.output
        assert "database forewarn: made" in made.stdout
        assert "retention policy forewarn: made, keeps 9600h" in made.stdout
        again = CliRunner().invoke(influx_command, ["setup", str(file), "--days", "400"])
        assert "database forewarn: is there, left as it is" in again.stdout
        (policies,) = server.query("SHOW RETENTION POLICIES ON forewarn")
        assert ["forewarn", "9600h0m0s", "168h0m0s", 1, True] in policies["values"]
        assert server.count("check", "gateway") == 2


def test_a_server_that_is_away_is_an_answer_and_no_traceback(tmp_path: Path) -> None:
    file = config(tmp_path, '[influx]\nurl = "http://127.0.0.1:9"\napi = "v1"\n')
    for verb in ("check", "setup"):
        result = CliRunner().invoke(influx_command, [verb, str(file)])
        assert result.exit_code == 1
        assert result.stderr.startswith("forewarn: ")
        assert "Traceback" not in result.stderr
    assert json.dumps(result.stderr)


async def test_train_takes_its_period_from_the_gateways_own_log(tmp_path: Path) -> None:
    file = config(tmp_path)
    random = np.random.default_rng(1)
    async with opened(tmp_path / "data") as log:
        log.signals.intern(Signal("pump", "power", "kW"))
        for signal in (0, 1):
            for first in (0, 5000):  # A hole parts two sequences.
                n = 500
                log.append(
                    make_batch(
                        "s",
                        np.full(n, signal, dtype=np.int32),
                        T0_NS + (first + np.arange(n)) * SECOND_NS,
                        10 + random.normal(size=n),
                        np.zeros(n, dtype=np.uint8),
                        T0_NS,
                    )
                )
        await log.flush()
        words = ["--data", str(file), "--asset", "pump", "--from", FROM, "--to", TO]
        words += ["--out", str(tmp_path / "pump.fwm"), "--window", "30s", "--json"]
        result = CliRunner().invoke(train, words)
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report["signals"] == ["vibration", "power"]
    assert (tmp_path / "pump.fwm").exists()
    record = stored_record(file, asset="pump", source="log", start=FROM, end=TO)
    assert len(record) == 1006  # The last value is held for three steps more.
    assert record.groups == ("0", "1")
    assert record.units == ("mm/s", "")  # As configured.


async def test_a_code_for_no_value_is_learned_from_the_log_and_a_known_one_is_carried_on(
    tmp_path: Path,
) -> None:
    file = config(tmp_path)
    twice = '[[derive]]\nasset = "pump"\nsignal = "twice"\nexpression = "vibration * 2"\n'
    file.write_text(file.read_text() + twice)
    n, random = 600, np.random.default_rng(1)
    vibration = 10 + random.normal(size=n)
    vibration[100:120] = -9999.0
    columns = (vibration, 10 + random.normal(size=n), 2 * vibration)
    async with opened(tmp_path / "data") as log:
        for name in ("power", "twice"):
            log.signals.intern(Signal("pump", name, ""))
        for number, value in enumerate(columns):
            numbers, t_ns = np.full(n, number, np.int32), T0_NS + np.arange(n) * SECOND_NS
            log.append(make_batch("s", numbers, t_ns, value, np.zeros(n, np.uint8), T0_NS))
        # What a model took for none the log has no more of.
        log.state_put(NO_VALUE, "pump", b'{"power": [-32768.0]}')
        await log.flush()
        record = stored_record(file, asset="pump", source="log", start=FROM, end=TO)
        words = ["--data", str(file), "--asset", "pump", "--from", FROM, "--to", TO]
        words += ["--out", str(tmp_path / "pump.fwm"), "--window", "30s"]
        result = CliRunner().invoke(train, words)
    assert result.exit_code == 0, result.output
    assert np.isnan(record.values).sum(axis=0).tolist() == [20, 0, 20]
    assert np.nanmin(record.values) > 0
    learned = read(tmp_path / "pump.fwm").manifest.detail["no_value"]
    assert learned == {"vibration": [-9999.0], "power": [-32768.0]}


async def test_more_values_than_memory_holds_are_taken_at_longer_steps_and_it_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = config(tmp_path)
    async with opened(tmp_path / "data") as log:
        fill(log)
        await log.flush()
        start, end = (
            datetime.fromtimestamp(T0_NS / 1e9 + at_s, UTC).isoformat() for at_s in (0, 100)
        )
        every = stored_record(file, asset="pump", source="log", start=start, end=end)
        monkeypatch.setattr(stored, "VALUES_MAX", 70)
        fewer = stored_record(file, asset="pump", source="log", start=start, end=end)
    assert every.notes == ()
    assert len(fewer) == -(-len(every) // 3)
    assert fewer.time_s is not None
    assert np.diff(fewer.time_s).tolist() == [3.0] * (len(fewer) - 1)
    assert "a row stands for 3 s" in fewer.notes[0]


def test_train_from_a_gateway_needs_an_asset(tmp_path: Path) -> None:
    words = ["--data", str(config(tmp_path)), "--out", str(tmp_path / "x.fwm")]
    result = CliRunner().invoke(train, words)
    assert result.exit_code == 2
    assert "--asset" in result.output
