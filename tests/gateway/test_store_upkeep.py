"""Bounds: who goes first, what is counted, what waits for a reader; and blocks that are merged."""

import sqlite3
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gateway.core.batch import make_batch
from gateway.store.config import Bound, StoreConfig
from gateway.store.journal import Journal
from gateway.store.pending import Group, Pending
from gateway.store.reader import LogReader
from gateway.store.record import Kind, Packed
from gateway.store.schema import FILE_NAME
from gateway.store.upkeep import MERGE_ROWS, PASSES_BEFORE_PRECIOUS, Upkeep

from .storing import SECOND_NS, T0_NS, assessments, numbered, transition

DAY_NS = 86_400 * SECOND_NS


def nobody_reads(kind: Kind, start: int, end: int) -> int:
    return 0


def somebody_needs_all(kind: Kind, start: int, end: int) -> int:
    return end - start


@dataclass
class Kept:
    """A journal and its upkeep, driven by hand."""

    journal: Journal
    upkeep: Upkeep
    reader: LogReader

    def commit(self, *items: object, now_ns: int = T0_NS) -> None:
        pending = Pending(1 << 30)
        for item in items:
            pending.append(item)  # type: ignore[arg-type]
        self.journal.commit(pending.take(), now_ns)

    def values(self) -> list[float]:
        parts = [c[2] for c in self.reader.sample_blocks(-(1 << 62), 1 << 62)]
        return np.concatenate(parts).tolist() if parts else []


def kept(folder: Path, config: StoreConfig, *, unread: bool = False) -> Kept:
    journal = Journal(folder / FILE_NAME, single=False)
    upkeep = Upkeep(config, somebody_needs_all if unread else nobody_reads)
    return Kept(journal, upkeep, LogReader(folder / FILE_NAME))


def noise(n: int, seed: int) -> object:
    """Samples that do not compress."""
    value = np.random.default_rng(seed).normal(size=n)
    return make_batch(
        "s", np.zeros(n, np.int32), T0_NS + np.arange(n), value, np.zeros(n, np.uint8), 0
    )


def test_small_blocks_become_one_and_every_sample_keeps_its_number(tmp_path: Path) -> None:
    at = kept(tmp_path, StoreConfig())
    for start in range(0, 10 * MERGE_ROWS, 10):
        at.commit(numbered(start, 10, signals=3))
    before, size = at.values(), at.journal.bytes[Kind.SAMPLES]
    at.upkeep.work(at.journal, T0_NS)
    assert at.values() == before == list(range(10 * MERGE_ROWS))
    assert at.journal.bytes[Kind.SAMPLES] < size / 5
    (rows, total) = (
        sqlite3.connect(tmp_path / FILE_NAME)
        .execute("SELECT count(*), sum(length(payload)) FROM samples")
        .fetchone()
    )
    assert rows == 1
    assert total == at.journal.bytes[Kind.SAMPLES]
    for place in (1, 2, 1000, 2559, 2560):
        (record,) = at.reader.read(Kind.SAMPLES, place, 1 << 62)
        assert record.columns()[2].tolist() == list(range(place - 1, 2560))
    at.commit(numbered(2560, 5))
    assert at.values() == list(range(2565))


def test_raw_data_goes_first_and_alarms_only_after_the_operator_had_time(tmp_path: Path) -> None:
    config = StoreConfig(gb_max=0.000_3)
    at = kept(tmp_path, config, unread=True)
    at.commit(assessments(T0_NS), transition(T0_NS))
    for i in range(20):
        at.commit(noise(5000, i))
    for _ in range(5):
        at.upkeep.work(at.journal, T0_NS)
    counts = {kind: at.journal.head[kind] - 1 for kind in (Kind.ASSESSMENT, Kind.TRANSITION)}
    assert counts == {Kind.ASSESSMENT: 1, Kind.TRANSITION: 1}
    assert len(list(at.reader.transitions())) == 1
    assert len(list(at.reader.assessments(0, 1 << 62))) == 1
    assert len(at.values()) + at.journal.dropped[Kind.SAMPLES] == 100_000
    assert 0 < at.journal.dropped[Kind.SAMPLES] < 100_000
    assert at.upkeep.room.lost == at.journal.dropped[Kind.SAMPLES]

    for i in range(1000):
        summary = Packed(Kind.SUMMARY, T0_NS, np.random.default_rng(i).bytes(2000))
        at.commit(transition(T0_NS, occurrence=i), summary)
    at.upkeep.work(at.journal, T0_NS)
    assert at.values() == []
    assert at.upkeep.room.only_precious
    for _ in range(PASSES_BEFORE_PRECIOUS - 1):
        at.upkeep.work(at.journal, T0_NS)
        assert at.journal.dropped[Kind.SUMMARY] == 0
    at.upkeep.work(at.journal, T0_NS)
    assert at.journal.dropped[Kind.SUMMARY] > 0
    assert at.journal.dropped[Kind.TRANSITION] == 0


def test_age_takes_what_every_reader_had_and_nothing_else(tmp_path: Path) -> None:
    config = StoreConfig(samples=Bound(days=1, gb=1))
    for unread, left in ((True, [1.0, 2.0]), (False, [2.0])):
        folder = tmp_path / str(unread)
        folder.mkdir()
        at = kept(folder, config, unread=unread)
        at.commit(numbered(1, 1), now_ns=T0_NS)
        at.commit(numbered(2, 1), now_ns=T0_NS + 2 * DAY_NS)
        at.upkeep.work(at.journal, T0_NS + 2 * DAY_NS)
        assert at.values() == left
        assert at.journal.dropped[Kind.SAMPLES] == 0


def test_a_clock_that_is_years_off_does_not_empty_the_log_at_once(tmp_path: Path) -> None:
    at = kept(tmp_path, StoreConfig())
    for hour in range(100):
        at.commit(numbered(hour, 1), now_ns=T0_NS + hour * 3600 * SECOND_NS)
    at.upkeep.work(at.journal, T0_NS + 3650 * DAY_NS)
    assert at.values() == list(range(1, 100))


def test_data_committed_before_the_clock_was_set_is_not_old(tmp_path: Path) -> None:
    at = kept(tmp_path, StoreConfig())
    at.commit(numbered(0, 5), now_ns=10 * SECOND_NS)  # 1970.
    at.commit(numbered(5, 5), now_ns=T0_NS)
    for _ in range(3):
        at.upkeep.work(at.journal, T0_NS)
    assert at.values() == list(range(10))


def test_near_full_is_told_while_a_reader_still_needs_the_oldest(tmp_path: Path) -> None:
    config = StoreConfig(samples=Bound(days=30, gb=0.001))
    for unread in (True, False):
        folder = tmp_path / str(unread)
        folder.mkdir()
        at = kept(folder, config, unread=unread)
        for i in range(30):
            at.commit(noise(5000, i))
        at.upkeep.work(at.journal, T0_NS)
        assert at.upkeep.room.near_full is unread
        at.commit(noise(5000, 99))
        at.upkeep.work(at.journal, T0_NS)
        assert at.journal.bytes[Kind.SAMPLES] <= 1_000_000


def test_an_empty_group_commits_nothing() -> None:
    assert not Group()
