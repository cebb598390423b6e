"""Sets a damaged log aside and copies out of it what can still be read.

Nothing is ever deleted here: the damaged file stays beside the new one for whoever wants to try
harder. Numbers go on after a gap, so that none is given twice.
"""

import sqlite3
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import structlog

from gateway.core.errors import DataError
from gateway.store.journal import INSERT, Transaction
from gateway.store.record import Kind
from gateway.store.schema import connect_writer
from gateway.store.spans import Spans

GAP = 1_000_000
"""Between the greatest number seen and the next one given: some of the newest may be unreadable."""
STEP_MAX = 1 << 40
SALVAGING = ".salvaging"
SEALED = (Kind.SAMPLES, Kind.WAVEFORM, Kind.ASSESSMENT, Kind.TRANSITION)
"""Kinds whose payload begins with its own checksum."""

_events = structlog.get_logger()


@dataclass(slots=True)
class Salvaged:
    """What became of a damaged log: where it lies, and how much was copied and lost of each kind.

    `unreadable` counts rows that were found and could not be read; rows in pages that are gone
    altogether cannot be counted.
    """

    aside: Path
    copied: Counter[Kind] = field(default_factory=Counter)
    unreadable: Counter[Kind] = field(default_factory=Counter)

    def __str__(self) -> str:
        copied = ", ".join(f"{n} {kind.value}" for kind, n in self.copied.items()) or "nothing"
        return f"copied {copied}; {self.unreadable.total()} rows could not be read"


def set_aside(path: Path) -> Path:
    """Move a log and what belongs to it out of the way, to be salvaged; returns its new name."""
    return _move(path, path.with_name(path.name + SALVAGING))


def unfinished(path: Path) -> Path | None:
    """A damaged log that was set aside and whose salvage was cut short."""
    aside = path.with_name(path.name + SALVAGING)
    return aside if aside.exists() else None


def _move(path: Path, to: Path) -> Path:
    for suffix in ("-wal", "-shm", ""):
        beside = path.with_name(path.name + suffix)
        if beside.exists():
            beside.rename(to.with_name(to.name + suffix))
    return to


def salvage(path: Path, aside: Path) -> Salvaged:
    """Make a new log at `path` of what can be read of the one at `aside`.

    Raises:
        sqlite3.Error: The new one cannot be written; nothing is at `path` then.
    """
    result = Salvaged(aside)
    fresh = path.with_name(path.name + ".new")
    for leftover in (
        fresh,
        fresh.with_name(fresh.name + "-wal"),
        fresh.with_name(fresh.name + "-shm"),
    ):
        leftover.unlink(missing_ok=True)
    new = connect_writer(fresh)
    try:
        old = _open_damaged(aside)
        if old is not None:
            try:
                _copy(old, new, result)
            finally:
                old.close()
        new.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    finally:
        new.close()
    fresh.replace(path)
    n = 1
    while (kept := path.with_name(f"{path.name}.damaged-{n}")).exists():
        n += 1
    result.aside = _move(aside, kept)
    _events.error("log.salvaged", aside=str(result.aside), result=str(result))
    return result


def _open_damaged(aside: Path) -> sqlite3.Connection | None:
    """The damaged file with its write-ahead log, or without where that is what is damaged."""
    for mode in ("mode=rw", "immutable=1"):
        try:
            db = sqlite3.connect(
                f"{aside.resolve().as_uri()}?{mode}", uri=True, isolation_level=None
            )
            db.execute("SELECT count(*) FROM sqlite_master").fetchone()
        except sqlite3.Error:
            continue
        return db
    return None


def _copy(old: sqlite3.Connection, new: sqlite3.Connection, result: Salvaged) -> None:
    signals = list(_rows(old, "SELECT id, asset, name, unit FROM signal ORDER BY id"))
    if [row[0] for row in signals] != list(range(len(signals))):
        # Samples whose signals are not known would be somebody else's: they stay in the old file.
        signals = []
    heads = {
        Kind(k): head for k, head in _rows(old, "SELECT kind, head FROM kind") if k in set(Kind)
    }
    with Transaction(new):
        new.executemany("INSERT INTO signal VALUES (?, ?, ?, ?)", signals)
        if len(heads) == len(Kind):
            # Without the heads a number may be given twice; then the new log is another one.
            for name, value in _rows(old, "SELECT key, value FROM meta"):
                new.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, value))
        for row in _rows(old, "SELECT namespace, key, value FROM state"):
            new.execute("INSERT OR REPLACE INTO state VALUES (?, ?, ?)", row)
    for kind in Kind:
        end = 1
        size = 0
        if signals or kind not in (Kind.SAMPLES, Kind.WAVEFORM):
            with Transaction(new):
                for row in _by_seq(old, kind, result):
                    new.execute(INSERT[kind], row)
                    result.copied[kind] += row[1]
                    size += len(row[5])
                    end = row[0] + row[1]
        seen = max(end, heads.get(kind, 1))
        head = seen + GAP if seen > 1 else 1
        with Transaction(new):
            new.execute(
                "UPDATE kind SET head = ?, bytes = ? WHERE kind = ?", (head, size, kind.value)
            )
            _copy_cursors(old, new, kind, seen, head)


def _copy_cursors(
    old: sqlite3.Connection, new: sqlite3.Connection, kind: Kind, seen: int, head: int
) -> None:
    rows = _rows(old, "SELECT name, spans, missed FROM cursor WHERE kind = ?", (kind.value,))
    for name, text, missed in rows:
        try:
            spans = Spans.from_json(text)
        except DataError:
            continue
        spans.done(seen, head)
        new.execute(
            "INSERT OR REPLACE INTO cursor VALUES (?, ?, ?, ?)",
            (name, kind.value, spans.to_json(), missed),
        )


def _rows(db: sqlite3.Connection, sql: str, parameters: tuple[Any, ...] = ()) -> Iterator[Any]:
    """Rows as far as they can be read."""
    try:
        yield from db.execute(sql, parameters)
    except sqlite3.Error:
        return


def _by_seq(db: sqlite3.Connection, kind: Kind, result: Salvaged) -> Iterator[Any]:
    """Rows of a kind, stepping over what cannot be read with steps that double."""
    after, step = 0, 1
    while True:
        try:
            row = db.execute(
                f"SELECT seq, n, t_min, t_max, t_log, payload FROM {kind.value} NOT INDEXED "  # noqa: S608
                "WHERE seq > ? ORDER BY seq LIMIT 1",
                (after,),
            ).fetchone()
        except sqlite3.Error:
            if step == 1:
                result.unreadable[kind] += 1
            after += step
            step *= 2
            if step > STEP_MAX:
                return
            continue
        if row is None:
            return
        after, step = row[0], 1
        if _sound(kind, row):
            yield row
        else:
            result.unreadable[kind] += 1


def _sound(kind: Kind, row: tuple[Any, ...]) -> bool:
    whole = all(isinstance(value, int) for value in row[:5]) and isinstance(row[5], bytes)
    if not whole or row[1] < 1 or row[0] < 1:
        return False
    return kind not in SEALED or zlib.crc32(memoryview(row[5])[4:]) == int.from_bytes(
        row[5][:4], "little"
    )
