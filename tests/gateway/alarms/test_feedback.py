"""What people said decides what the next training may call healthy."""

from pathlib import Path

import numpy as np

from gateway.alarms.feedback import LEAD_NS, episodes, unhealthy
from gateway.cli.stored import stored_record
from gateway.core.alarm import Cause, Verdict
from gateway.core.batch import make_batch
from gateway.core.clock import SystemClock
from gateway.core.signals import Signal
from gateway.store.config import StoreConfig
from gateway.store.log import Log
from tests.gateway.alarms.test_outbox import MONDAY_NS, SECOND, transition

CONFIG = """
[gateway]
data_dir = "."

[[source]]
kind = "modbus"
id = "plc"
url = "tcp://192.0.2.10:502"
signals = [{ asset = "pump", signal = "speed", unit = "rpm", address = "holding:1" }]
"""


def test_the_last_word_counts_and_what_lasts_has_no_end() -> None:
    log = [
        transition("active", 100),
        transition("feedback.real", 150),
        transition("gone", 200),
        transition("feedback.false", 300, note="door"),
        transition("active", 400, occurrence=2),
    ]
    first, second = episodes(log)
    assert (first.verdict, first.note) == (Verdict.FALSE, "door")
    assert (first.start_ns, first.end_ns) == (MONDAY_NS + 100 * SECOND, MONDAY_NS + 200 * SECOND)
    assert (second.verdict, second.end_ns) == (None, None)


def test_only_alarms_of_the_machine_that_nobody_called_false() -> None:
    log = [
        transition("active", 1000, "real"),
        transition("gone", 1100, "real"),
        transition("active", 2000, "false"),
        transition("gone", 2100, "false"),
        transition("feedback.false", 2200, "false"),
        transition("active", 3000, "link", cause=Cause.SYSTEM),
        transition("active", 3000, "other", asset="press"),
    ]
    t_ns = MONDAY_NS + SECOND * np.arange(0, 4000, 10)
    marked = t_ns[unhealthy(episodes(log), "pump", t_ns)]
    assert (marked.min(), marked.max()) == (
        MONDAY_NS + 1000 * SECOND - LEAD_NS,
        MONDAY_NS + 1100 * SECOND,
    )


def test_training_from_the_log_leaves_out_what_was_not_healthy(tmp_path: Path) -> None:
    (tmp_path / "forewarn.toml").write_text(CONFIG)
    log = Log.open(tmp_path, StoreConfig(), SystemClock())
    number = log.signals.intern(Signal("pump", "speed", "rpm"))
    n = 600
    t_ns = MONDAY_NS + SECOND * np.arange(n)
    quality = np.zeros(n, dtype=np.uint8)
    signal = np.full(n, number, dtype=np.int32)
    log.append(make_batch("plc", signal, t_ns, np.arange(n, dtype=float), quality, int(t_ns[-1])))
    log.append(transition("active", 300))
    log.append(transition("gone", 400))
    log.close()
    span = {"start": "2023-11-20T00:00", "end": "2023-11-20T00:10"}
    times = {"asset": "pump", "source": "log", **span}
    record = stored_record(tmp_path / "forewarn.toml", **times)  # type: ignore[arg-type]
    seconds = np.asarray(record.time_s) - MONDAY_NS / 1e9
    assert not ((seconds >= 240) & (seconds <= 400)).any()
    assert len(record.groups) == 2, "the hole is a border"
    log = Log.open(tmp_path, StoreConfig(), SystemClock())
    log.append(transition("feedback.false", 500))
    log.close()
    record = stored_record(tmp_path / "forewarn.toml", **times)  # type: ignore[arg-type]
    assert len(record.groups) == 1, "a false alarm is healthy running, and is learned"


def test_a_correction_takes_the_baseline_and_the_false_alarm_and_nothing_in_between(
    tmp_path: Path,
) -> None:
    (tmp_path / "forewarn.toml").write_text(CONFIG)
    log = Log.open(tmp_path, StoreConfig(), SystemClock())
    number = log.signals.intern(Signal("pump", "speed", "rpm"))
    n = 900
    t_ns = MONDAY_NS + SECOND * np.arange(n)
    signal, quality = np.full(n, number, dtype=np.int32), np.zeros(n, dtype=np.uint8)
    log.append(make_batch("plc", signal, t_ns, np.arange(n, dtype=float), quality, int(t_ns[-1])))
    for event, second in (("active", 600), ("gone", 650), ("feedback.false", 660)):
        log.append(transition(event, second, "anomaly", cause=Cause.ANOMALY))
    log.close()
    record = stored_record(
        tmp_path / "forewarn.toml",
        asset="pump",
        source="log",
        start="2023-11-20T00:00",
        end="2023-11-20T00:05",
        corrected_s=20.0,
    )
    seconds = np.round(np.asarray(record.time_s) - MONDAY_NS / 1e9)
    assert seconds[record.group == 0].tolist() == list(range(300))
    assert seconds[record.group == 1].tolist() == list(range(580, 670))
