"""A log that was altered on the disk: set aside, salvaged as far as it reads, and told."""

import sqlite3
from pathlib import Path

import numpy as np
import pytest

from gateway.core.errors import StoreError
from gateway.core.signals import Signal
from gateway.store.config import StoreConfig
from gateway.store.record import Kind
from gateway.store.schema import APPLICATION_ID, FILE_NAME

from ..gateway.storing import SECOND_NS, T0_NS, numbered, opened, transition

END_NS = T0_NS + 10_000 * SECOND_NS


async def fill(folder: Path, blocks: int, *, start: int = 0) -> None:
    """Blocks of a thousand samples whose value is their number, each in a commit of its own."""
    async with opened(folder) as log:
        log.signals.intern(Signal("pump", "power", "kW"))
        for i in range(start, start + blocks):
            log.append(numbered(i * 1000, 1000, signals=2))
            log.append(transition(T0_NS + i, occurrence=i))
            await log.flush()


def aside(folder: Path) -> list[Path]:
    """Logs that were set aside."""
    return list(folder.glob("log.db.damaged-*"))


def flip(path: Path, places: list[int], *, count: int = 1) -> None:
    """Alter bytes of the file."""
    raw = bytearray(path.read_bytes())
    for at in places:
        for i in range(at, min(len(raw), at + count)):
            raw[i] ^= 0xA5
    path.write_bytes(bytes(raw))


async def test_a_flipped_byte_in_a_block_costs_that_block_only(tmp_path: Path) -> None:
    await fill(tmp_path, 5)
    with sqlite3.connect(tmp_path / FILE_NAME) as db:
        rows = db.execute("SELECT seq, payload FROM samples ORDER BY seq").fetchall()
        worst = rows[len(rows) // 2]
        altered = bytearray(worst[1])
        altered[20] ^= 1
        db.execute("UPDATE samples SET payload = ? WHERE seq = ?", (bytes(altered), worst[0]))
    async with opened(tmp_path) as log:
        value = log.samples(T0_NS, END_NS)[2]
        assert set(value.tolist()) <= set(range(5000))
        assert len(set(value.tolist())) == len(value)
        lost = log.counters()["damaged"]
        assert lost == 5000 - len(value)
        assert lost >= 1000


@pytest.mark.parametrize("seed", range(6))
async def test_a_file_with_ruined_pages_gives_back_what_still_reads(
    tmp_path: Path, seed: int
) -> None:
    await fill(tmp_path, 40)
    path = tmp_path / FILE_NAME
    random = np.random.default_rng(seed)
    pages = path.stat().st_size // 4096
    # Not the first page: without it nothing is known of the file (the test below).
    ruined = 1 + random.choice(pages - 1, size=3, replace=False)
    flip(path, [int(page) * 4096 for page in ruined], count=4096)

    async with opened(tmp_path) as log:
        # The damage may show only when it is read, or written to.
        for i in range(40, 45):
            log.append(numbered(i * 1000, 1000, signals=2))
            await log.flush()
        try:
            log.samples(T0_NS, END_NS)
        except StoreError:
            log.append(numbered(45_000, 1))
            await log.flush()
        value = log.samples(T0_NS, END_NS)[2]
        got = set(value.tolist())
        assert got <= set(range(45_001))  # Nothing is invented,
        assert len(got) == len(value)  # nothing is there twice,
        assert got >= set(range(40_000, 45_000))  # and what is new is kept.
        if log.state.damaged:
            assert aside(tmp_path)
            assert log.signals[1] == Signal("pump", "power", "kW")


@pytest.mark.parametrize("what", ["first page", "all", "empty", "short"])
async def test_a_file_that_is_no_longer_one_is_set_aside(tmp_path: Path, what: str) -> None:
    await fill(tmp_path, 3)
    path = tmp_path / FILE_NAME
    match what:
        case "first page":
            flip(path, [0], count=4096)
        case "all":
            path.write_bytes(np.random.default_rng(1).bytes(50_000))
        case "empty":
            path.write_bytes(b"")
        case _:
            path.write_bytes(path.read_bytes()[:9000])
    async with opened(tmp_path) as log:
        log.append(numbered(7000, 100))
        await log.flush()
        got = log.samples(T0_NS, END_NS)[2].tolist()
        assert set(got) <= {*range(3000), *range(7000, 7100)}
        assert set(got) >= set(range(7000, 7100))
        if what != "empty":
            assert log.state.damaged
            assert aside(tmp_path)


async def test_no_number_is_given_twice_after_a_salvage(tmp_path: Path) -> None:
    await fill(tmp_path, 20)
    path = tmp_path / FILE_NAME
    async with opened(tmp_path) as log:
        log.cursor("influx").done(Kind.SAMPLES, 1, 15_001)
        await log.flush()
    flip(path, [path.stat().st_size - 4096], count=4096)
    with sqlite3.connect(path) as db:
        (whole,) = db.execute("PRAGMA quick_check(1)").fetchone()
    assert whole != "ok"
    async with opened(tmp_path) as log:
        log._writer.suspect()
        log.append(numbered(20_000, 100))
        await log.flush()
        assert log.state.damaged
        cursor = log.cursor("influx")
        seen: list[float] = []
        while records := cursor.read(Kind.SAMPLES):
            for record in records:
                assert record.seq > 15_000
                seen += record.columns()[2].tolist()
                cursor.advance(record)
        assert len(seen) == len(set(seen))
        assert set(seen) <= set(range(15_000, 20_100))
        assert set(seen) >= set(range(20_000, 20_100))
        assert cursor.lag() == 0


async def test_another_programs_file_is_left_alone(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / FILE_NAME) as db:
        db.execute("CREATE TABLE mine (x)")
    with pytest.raises(StoreError, match="another SQLite file"):
        async with opened(tmp_path):
            pass
    assert (tmp_path / FILE_NAME).exists()


async def test_a_newer_log_is_refused_with_what_to_do(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / FILE_NAME) as db:
        db.execute("CREATE TABLE something (x)")
        db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        db.execute("PRAGMA user_version = 99")
    with pytest.raises(StoreError, match="a newer Forewarn wrote it"):
        async with opened(tmp_path, StoreConfig()):
            pass
