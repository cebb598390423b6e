"""The log: what was committed is there, in order, once, and a reader's place survives."""

import asyncio
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.batch import Waveform
from gateway.core.clock import SystemClock
from gateway.core.errors import StoreError
from gateway.core.signals import Signal
from gateway.store import schema
from gateway.store.config import StoreConfig
from gateway.store.cursor import Part
from gateway.store.log import Log
from gateway.store.record import Kind, Packed
from gateway.store.spans import OPEN_END, Spans

from .storing import SECOND_NS, T0_NS, assessments, numbered, opened, transition


async def test_what_was_flushed_is_there_after_reopening(tmp_path: Path) -> None:
    async with opened(tmp_path) as log:
        assert log.signals.intern(Signal("pump", "power", "kW")) == 1
        for start in range(0, 1000, 100):
            log.append(numbered(start, 100, signals=2))
        log.append(Waveform("v", 0, T0_NS, 1000.0, np.arange(64, dtype=np.float32), T0_NS))
        log.append(assessments(T0_NS, assets=("pump", "fan")))
        log.append(transition(T0_NS))
        log.append(Packed(Kind.SUMMARY, T0_NS, b"sum"))
        log.state_put("alarms", "pump/anomaly", b"active")
        await log.flush()

    async with opened(tmp_path) as log:
        assert [str(s) for s in log.signals.signals()] == ["pump/vibration", "pump/power"]
        signal, t_ns, value, quality = log.samples(T0_NS, T0_NS + SECOND_NS)
        assert value.tolist() == list(range(1000))
        assert np.array_equal(signal, np.arange(1000) % 2)
        assert np.array_equal(t_ns, T0_NS + np.arange(1000) * 1_000_000)
        assert not quality.any()
        only = log.samples(T0_NS + 500_000_000, T0_NS + 600_000_000, [1])
        assert only[2].tolist() == list(range(501, 600, 2))
        assert list(log.transitions()) == [transition(T0_NS)]
        assert log.state_get("alarms", "pump/anomaly") == b"active"
        cursor = log.cursor("x")
        (wave,) = cursor.read(Kind.WAVEFORM)
        assert wave.waveform().value.tolist() == list(range(64))
        (judged,) = cursor.read(Kind.ASSESSMENT)
        assert judged.assessments().assets == ("pump", "fan")
        assert judged.assessments().contribution.tolist() == [[0.75, 0.25]] * 2
        (summary,) = cursor.read(Kind.SUMMARY)
        assert summary.payload == b"sum"


async def test_a_cursor_keeps_its_place_and_gives_the_rest_of_a_block(tmp_path: Path) -> None:
    async with opened(tmp_path) as log:
        log.append(numbered(0, 100))
        await log.flush()
        cursor = log.cursor("influx")
        (record,) = cursor.read(Kind.SAMPLES)
        assert (record.seq, record.n, cursor.lag()) == (1, 100, 100)
        cursor.done(Kind.SAMPLES, 1, 31)
        await log.flush()

    async with opened(tmp_path) as log:
        cursor = log.cursor("influx")
        (record,) = cursor.read(Kind.SAMPLES)
        assert (record.seq, cursor.lag()) == (31, 70)
        assert record.columns()[2].tolist() == list(range(30, 100))
        cursor.advance(record)
        assert not cursor.read(Kind.SAMPLES)
        assert cursor.lag() == 0


async def test_a_cursor_may_take_live_data_before_its_backlog(tmp_path: Path) -> None:
    async with opened(tmp_path) as log:
        cursor = log.cursor("influx")
        for start in range(0, 300, 100):
            log.append(numbered(start, 100))
            await log.flush()
        assert cursor.skip_to_live(Kind.SAMPLES)
        log.append(numbered(300, 100))
        await log.flush()
        (live,) = cursor.read(Kind.SAMPLES, part=Part.LIVE)
        assert live.columns()[2].tolist() == list(range(300, 400))
        cursor.advance(live)
        assert cursor.lag() == 300
        seen: list[float] = []
        while records := cursor.read(Kind.SAMPLES, records_max=1):
            seen += records[0].columns()[2].tolist()
            cursor.advance(records[0])
        assert seen == list(range(300))
        assert cursor.ranges(Kind.SAMPLES) == 1


@given(st.lists(st.tuples(st.integers(1, 60), st.integers(0, 20), st.booleans())))
def test_spans_are_the_set_of_what_is_not_done(steps: list[tuple[int, int, bool]]) -> None:
    spans, undone = Spans(), set(range(1, 100))
    for start, length, skip in steps:
        if skip:
            spans.skip_to(start)
        spans.done(start, start + length)
        undone -= set(range(start, start + length))
    assert {i for i in range(1, 100) if any(a <= i < b for a, b in spans)} == undone
    assert spans.undone(100) == len(undone)
    assert Spans.from_json(spans.to_json()) == spans
    assert list(spans)[-1][1] == OPEN_END


async def test_a_waiter_wakes_when_its_record_is_committed(tmp_path: Path) -> None:
    async with opened(tmp_path) as log:
        waiting = asyncio.create_task(log.wait_for(Kind.SAMPLES, 1))
        log.append(numbered(0, 1))
        async with asyncio.timeout(30):
            await waiting


async def test_a_directory_has_one_owner_and_the_refusal_names_it(tmp_path: Path) -> None:
    async with opened(tmp_path):
        with pytest.raises(StoreError, match=r"in use by process [0-9]+"):
            Log.open(tmp_path, StoreConfig(), SystemClock())
    async with opened(tmp_path):
        pass


async def test_a_full_memory_drops_the_oldest_raw_samples_and_counts_them(tmp_path: Path) -> None:
    async with opened(tmp_path, StoreConfig(commit_s=0.25, memory_mb_max=0.1)) as log:
        log.append(transition(T0_NS))
        for start in range(0, 10_000, 1000):
            log.append(numbered(start, 1000))
        await log.flush()
        kept = log.samples(T0_NS, T0_NS + 100 * SECOND_NS)[2]
        dropped = log.counters()["samples_dropped"]
        assert dropped > 0
        assert len(kept) + dropped == 10_000
        assert kept.tolist() == list(range(dropped, 10_000))
        assert len(list(log.transitions())) == 1


async def test_an_older_log_is_migrated_and_its_data_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(tmp_path) as log:
        log.append(numbered(0, 100))
        await log.flush()
    step = "ALTER TABLE signal ADD COLUMN note TEXT NOT NULL DEFAULT ''; CREATE TABLE extra (x)"
    monkeypatch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, step))
    monkeypatch.setattr(schema, "VERSION", schema.VERSION + 1)
    async with opened(tmp_path) as log:
        log.append(numbered(100, 100))
        await log.flush()
        assert log.samples(T0_NS, T0_NS + SECOND_NS)[2].tolist() == list(range(200))
        assert log._reader.query("SELECT count(*) FROM extra") == [(0,)]
        assert log._reader.query("PRAGMA user_version") == [(schema.VERSION,)]


async def test_a_migration_that_fails_leaves_the_file_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(tmp_path) as log:
        log.append(numbered(0, 100))
        await log.flush()
    with monkeypatch.context() as patch:
        steps = (*schema.MIGRATIONS, "CREATE TABLE extra (x); CREATE TABLE signal (x)")
        patch.setattr(schema, "MIGRATIONS", steps)
        patch.setattr(schema, "VERSION", schema.VERSION + 1)
        with pytest.raises(StoreError, match="already exists"):
            async with opened(tmp_path):
                pass
    async with opened(tmp_path) as log:
        assert len(log.samples(T0_NS, T0_NS + SECOND_NS)[2]) == 100
        assert log._reader.query("SELECT count(*) FROM sqlite_master WHERE name = 'extra'") == [
            (0,)
        ]
