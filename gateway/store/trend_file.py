"""The tables of trends, and how columns of samples become rows of mean, least and greatest."""

import json
import sqlite3
import threading
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gateway.core.alarm import Transition
from gateway.core.assessment import Assessments
from gateway.core.batch import Quality
from gateway.core.errors import StoreError
from gateway.store.blocks import Columns
from gateway.store.journal import Transaction

FILE_NAME = "trends.db"
APPLICATION_ID = 0x46575452
"""`FWTR`."""
VERSION = 1
WIDTHS_S = (10, 60, 600, 3600)
"""Widths of trend, each a whole number of the one before."""

_TABLES = (
    *(
        f"""CREATE TABLE trend_{width} (
            signal INTEGER NOT NULL, t INTEGER NOT NULL, n INTEGER NOT NULL, total REAL NOT NULL,
            least REAL NOT NULL, greatest REAL NOT NULL, PRIMARY KEY (signal, t)) WITHOUT ROWID"""
        for width in WIDTHS_S
    ),
    """CREATE TABLE assessment (
        asset TEXT NOT NULL, t INTEGER NOT NULL, bundle TEXT NOT NULL, score REAL, max_score REAL,
        coverage REAL, abstained TEXT NOT NULL, shape INTEGER NOT NULL, contribution BLOB NOT NULL,
        direction BLOB NOT NULL, output BLOB NOT NULL,
        PRIMARY KEY (asset, t, bundle)) WITHOUT ROWID""",
    "CREATE INDEX assessment_t ON assessment (t)",
    "CREATE TABLE shape (id INTEGER PRIMARY KEY, head TEXT NOT NULL UNIQUE)",
    """CREATE TABLE transition (
        seq INTEGER PRIMARY KEY, t INTEGER NOT NULL, asset TEXT NOT NULL, body TEXT NOT NULL)""",
    "CREATE INDEX transition_t ON transition (t)",
    "CREATE TABLE position (kind TEXT PRIMARY KEY, seq INTEGER NOT NULL) WITHOUT ROWID",
    "CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
)

_UPSERT = {
    width: f"""INSERT INTO trend_{width} VALUES (?, ?, ?, ?, ?, ?)
        ON CONFLICT DO UPDATE SET n = n + excluded.n, total = total + excluded.total,
        least = min(least, excluded.least), greatest = max(greatest, excluded.greatest)"""  # noqa: S608
    for width in WIDTHS_S
}

Rows = tuple[
    NDArray[np.int64],
    NDArray[np.int64],
    NDArray[np.int64],
    NDArray[np.float64],
    NDArray[np.float64],
    NDArray[np.float64],
]
"""signal, start of the bucket in s, count, total, least, greatest."""


def bucket(columns: Columns) -> Rows:
    """Samples as rows of the narrowest width, by signal and time; BAD ones do not count."""
    signal, t_ns, value, quality = columns
    usable = quality != Quality.BAD
    signal, t_ns, value = signal[usable], t_ns[usable], value[usable]
    width = WIDTHS_S[0]
    start_s = t_ns // (width * 1_000_000_000) * width
    one = np.ones(len(value), dtype=np.int64)
    return _reduce((signal.astype(np.int64), start_s, one, value, value, value))


def widen(rows: Rows, width_s: int) -> Rows:
    """The same rows at a greater width."""
    signal, t_s, n, total, least, greatest = rows
    return _reduce((signal, t_s // width_s * width_s, n, total, least, greatest))


def join(parts: Iterable[Rows]) -> Rows:
    """Several lots of rows as one, equal buckets merged."""
    signal, t_s, n, total, least, greatest = (np.concatenate(c) for c in zip(*parts, strict=True))
    return _reduce((signal, t_s, n, total, least, greatest))


def _reduce(rows: Rows) -> Rows:
    signal, t_s, n, total, least, greatest = rows
    if not len(signal):
        return rows
    order = np.lexsort((t_s, signal))
    signal, t_s = signal[order], t_s[order]
    new = np.ones(len(signal), dtype=bool)
    new[1:] = (np.diff(signal) != 0) | (np.diff(t_s) != 0)
    at = np.flatnonzero(new)
    return (
        signal[at],
        t_s[at],
        np.add.reduceat(n[order], at),
        np.add.reduceat(total[order], at),
        np.minimum.reduceat(least[order], at),
        np.maximum.reduceat(greatest[order], at),
    )


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
            self._db = _open(path, epoch)
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
        try:
            with self._lock, self._transaction():
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
                    (
                        (seq, item.t_ns, item.asset, json.dumps(asdict(item)))
                        for seq, item in transitions
                    ),
                )
                self._db.executemany(
                    "INSERT OR REPLACE INTO position VALUES (?, ?)", positions.items()
                )
        except sqlite3.Error as error:
            raise StoreError(f"{self.path}: the trends cannot be written ({error})") from error

    def drop_before(self, table: str, column: str, t: int) -> int:
        """Delete rows older than `t`; returns how many."""
        try:
            with self._lock, self._transaction():
                done = self._db.execute(f"DELETE FROM {table} WHERE {column} < ?", (t,))  # noqa: S608
                return done.rowcount
        except sqlite3.Error as error:
            raise StoreError(f"{self.path}: the trends cannot be written ({error})") from error

    def _transaction(self) -> Transaction:
        if self._closed:
            raise StoreError(f"{self.path}: the trends are closed")
        return Transaction(self._db)

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
            "INSERT OR REPLACE INTO assessment VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
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


def _open(path: Path, epoch: str) -> sqlite3.Connection:
    db = _connect(path)
    (version,) = db.execute("PRAGMA user_version").fetchone()
    (tables,) = db.execute("SELECT count(*) FROM sqlite_master").fetchone()
    rows = db.execute("SELECT value FROM meta WHERE key = 'epoch'").fetchall() if version else []
    if tables and (version != VERSION or rows != [(epoch,)]):
        # Trends of another log cannot be continued. They are kept beside, for export.
        db.close()
        path.replace(path.with_suffix(".db.old"))
        for suffix in ("-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        db = _connect(path)
        tables = 0
    if not tables:
        with Transaction(db):
            for statement in _TABLES:
                db.execute(statement)
            db.execute("INSERT INTO meta VALUES ('epoch', ?)", (epoch,))
            db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            db.execute(f"PRAGMA user_version = {VERSION}")
    return db


def _connect(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=2)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = NORMAL")
    db.execute("PRAGMA cache_size = -4096")
    db.execute("PRAGMA journal_size_limit = 16777216")
    return db
