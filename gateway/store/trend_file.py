"""Writes trends, and keeps them small: packs, thins and drops what has grown old."""

import json
import sqlite3
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import numpy as np

from gateway.core.alarm import Transition
from gateway.core.assessment import Assessments
from gateway.core.errors import DataError, StoreError
from gateway.store.journal import Transaction
from gateway.store.trend_rows import (
    PAGE_BUCKETS,
    WIDTHS_S,
    Rows,
    join,
    pack_page,
    part_of,
    rows_of,
    unpack_page,
    widen,
)
from gateway.store.trend_tables import FAR_S, by_time, open_tables

THIN_NS = 600 * 1_000_000_000
DAY_NS = 86_400 * 1_000_000_000
SIGNALS_PER_STEP = 64
"""Signals packed in one transaction: some 23,000 rows."""

_UPSERT = {
    width: f"""INSERT INTO trend_{width} VALUES (?, ?, ?, ?, ?, ?)
        ON CONFLICT DO UPDATE SET n = n + excluded.n, total = total + excluded.total,
        least = min(least, excluded.least), greatest = max(greatest, excluded.greatest)"""  # noqa: S608
    for width in WIDTHS_S
}


def transition_body(transition: Transition) -> str:
    """A transition as JSON, as REST answers with it: without blanks and escapes, half as long."""
    return json.dumps(asdict(transition), separators=(",", ":"), ensure_ascii=False)


class TrendFile:
    """The one connection that writes trends. Synchronous; used by one thread at a time.

    Losing the last seconds of this file in a power cut is no loss, because the position in the log
    is kept in the same transaction: they are read from the log again.
    """

    def __init__(self, path: Path, epoch: str) -> None:
        """Open the file for a log of this epoch; one of another log or version is begun anew.

        Raises:
            StoreError: The disk takes nothing.
        """
        self.path = path
        # Cancelling a task leaves its thread at work: to close the connection under it is fatal.
        self._lock = threading.Lock()
        self._closed = False
        try:
            self._db = open_tables(path, epoch)
        except sqlite3.Error as error:
            raise StoreError(f"{path}: the trends cannot be opened ({error})") from error

    def close(self) -> None:
        with self._lock:
            self._closed = True
            self._db.close()

    def positions(self) -> dict[str, int]:
        """Kind of record -> the next sequence number to take in."""
        return dict(self._db.execute("SELECT kind, seq FROM position").fetchall())

    def write(
        self,
        rows: Rows | None,
        assessments: Iterable[Assessments],
        transitions: Iterable[tuple[int, Transition]],
        positions: dict[str, int],
    ) -> None:
        """Take everything in and move the positions, in one transaction.

        Raises:
            StoreError: Nothing was written.
        """
        with self._writing():
            if rows is not None:
                for width in WIDTHS_S:
                    rows = widen(rows, width)
                    self._db.executemany(
                        _UPSERT[width], zip(*(c.tolist() for c in rows), strict=True)
                    )
            for block in assessments:
                self._put_assessments(block)
            self._db.executemany(
                "INSERT OR REPLACE INTO transition VALUES (?, ?, ?, ?)",
                ((seq, item.t_ns, item.asset, transition_body(item)) for seq, item in transitions),
            )
            self._db.executemany("INSERT OR REPLACE INTO position VALUES (?, ?)", positions.items())

    def pack(self, width_s: int, before_s: int) -> int:
        """Pack the buckets of whole pages before `before_s`; returns how many buckets."""
        page_s = width_s * PAGE_BUCKETS
        before_s = before_s // page_s * page_s
        packed = 0
        with self._writing():
            (last,) = self._db.execute(
                f"SELECT max(signal) FROM trend_{width_s} WHERE t < ?",  # noqa: S608
                (before_s,),
            ).fetchone()
        for first in range(0, -1 if last is None else last + 1, SIGNALS_PER_STEP):
            with self._writing():
                packed += self._pack(width_s, page_s, before_s, first)
        return packed

    def _pack(self, width_s: int, page_s: int, before_s: int, first: int) -> int:
        bounds = {"from": first, "to": first + SIGNALS_PER_STEP, "start": -FAR_S, "end": before_s}
        walk = by_time(f"trend_{width_s}", "signal >= :from AND signal < :to")
        rows = rows_of(self._db.execute(f"{walk} ORDER BY signal, t", bounds))
        signal, page = rows[0], rows[1] // page_s
        if not len(signal):
            return 0
        new = (np.diff(signal, prepend=-1) != 0) | (np.diff(page, prepend=-1) != 0)
        starts = np.flatnonzero(new)
        for start, end in zip(starts, [*starts[1:], len(signal)], strict=True):
            key = (int(signal[start]), int(page[start]))
            part = part_of(rows, slice(int(start), int(end)))
            old = self._db.execute(
                f"SELECT body FROM page_{width_s} WHERE signal = ? AND page = ?",  # noqa: S608
                key,
            ).fetchone()
            if old is not None:
                part = join([_read_page(key[0], old[0]), part])
            self._db.execute(
                f"INSERT OR REPLACE INTO page_{width_s} VALUES (?, ?, ?)",  # noqa: S608
                (*key, pack_page(part)),
            )
        self._db.executemany(
            f"DELETE FROM trend_{width_s} WHERE t = ? AND signal >= ? AND signal < ?",  # noqa: S608
            [(t_s, bounds["from"], bounds["to"]) for t_s in np.unique(rows[1]).tolist()],
        )
        return len(signal)

    def settle(self) -> None:
        """Put the recent assessments to the others of their asset."""
        with self._writing():
            self._db.execute(
                "INSERT OR REPLACE INTO assessment SELECT * FROM recent ORDER BY asset, t"
            )
            self._db.execute("DELETE FROM recent")

    def drop_page(self, width_s: int, before_s: int) -> bool:
        """Delete the oldest page of this width if all of it is before `before_s`."""
        page_s = width_s * PAGE_BUCKETS
        with self._writing():
            (oldest,) = self._db.execute(f"SELECT min(page) FROM page_{width_s}").fetchone()  # noqa: S608
            if oldest is None or (oldest + 1) * page_s > before_s:
                return False
            self._db.execute(f"DELETE FROM page_{width_s} WHERE page = ?", (oldest,))  # noqa: S608
            return True

    def thin(self, before_ns: int) -> int:
        """Keep of old assessments the most severe of each ten minutes; returns how many went.

        One day's worth at most in a call; where it left off is kept in the file.
        """
        with self._writing():
            (oldest,) = self._db.execute("SELECT min(t) FROM assessment").fetchone()
            rows = self._db.execute("SELECT value FROM meta WHERE key = 'thinned'").fetchall()
            start_ns = max(int(rows[0][0]) if rows else 0, oldest or 0)
            start_ns = start_ns // THIN_NS * THIN_NS
            end_ns = min(before_ns // THIN_NS * THIN_NS, start_ns + DAY_NS)
            if oldest is None or end_ns <= start_ns:
                return 0
            done = self._db.execute(
                "DELETE FROM assessment WHERE (asset, t, bundle) IN ("
                "SELECT asset, t, bundle FROM (SELECT asset, t, bundle, row_number() OVER ("
                "PARTITION BY asset, bundle, t / ? ORDER BY score / max_score DESC, t) AS p "
                "FROM assessment WHERE t >= ? AND t < ?) WHERE p > 1)",
                (THIN_NS, start_ns, end_ns),
            )
            self._db.execute("INSERT OR REPLACE INTO meta VALUES ('thinned', ?)", (str(end_ns),))
            return done.rowcount

    def drop_oldest_assessments(self) -> bool:
        """Delete the oldest hour of assessments. Returns whether there was one."""
        with self._lock:
            (oldest,) = self._db.execute("SELECT min(t) FROM assessment").fetchone()
        if oldest is None:
            return False
        return self.drop_before("assessment", "t", oldest + 3600 * 1_000_000_000) > 0

    def file_bytes(self) -> int:
        """Bytes in use, free pages not counted."""
        with self._lock:
            pages, free, size = (
                int(self._db.execute(f"PRAGMA {name}").fetchone()[0])
                for name in ("page_count", "freelist_count", "page_size")
            )
        return (pages - free) * size

    def drop_before(self, table: str, column: str, t: int) -> int:
        """Delete rows older than `t`; returns how many."""
        with self._writing():
            done = self._db.execute(f"DELETE FROM {table} WHERE {column} < ?", (t,))  # noqa: S608
            return done.rowcount

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """One transaction, by one thread; raises `StoreError` where nothing of it was written."""
        with self._lock:
            if self._closed:
                raise StoreError(f"{self.path}: the trends are closed")
            try:
                with Transaction(self._db):
                    yield
            except sqlite3.Error as error:
                raise StoreError(f"{self.path}: the trends cannot be written ({error})") from error

    def _put_assessments(self, block: Assessments) -> None:
        head = json.dumps(
            {
                "kind": block.kind.value,
                "shadow": block.shadow,
                "signals": block.signals,
                "outputs": block.outputs,
            }
        )
        self._db.execute("INSERT OR IGNORE INTO shape (head) VALUES (?)", (head,))
        (shape,) = self._db.execute("SELECT id FROM shape WHERE head = ?", (head,)).fetchone()
        contribution = np.asarray(block.contribution, dtype="<f4")
        direction = np.asarray(block.direction, dtype="i1")
        output = (
            np.empty((len(block), 0), "<f4")
            if block.output is None
            else np.asarray(block.output, dtype="<f4")
        )
        self._db.executemany(
            "INSERT OR REPLACE INTO recent VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                (asset, t, block.bundle, score, limit, coverage, abstained.value, shape, *blobs)
                for asset, t, score, limit, coverage, abstained, *blobs in zip(
                    block.assets,
                    block.t_ns.tolist(),
                    block.score.tolist(),
                    block.limit.tolist(),
                    block.coverage.tolist(),
                    block.abstained,
                    (row.tobytes() for row in contribution),
                    (row.tobytes() for row in direction),
                    (row.tobytes() for row in output),
                    strict=True,
                )
            ),
        )


def _read_page(signal: int, body: bytes) -> Rows:
    """A page, or nothing where the disk has altered it: what comes after it is still kept."""
    try:
        return unpack_page(signal, body)
    except DataError:
        return rows_of(())
