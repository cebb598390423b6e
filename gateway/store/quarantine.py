"""Keeps what a server refused for good, with the reason, until the owner has looked at it."""

import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from gateway.core.errors import StoreError
from gateway.store.journal import Transaction
from gateway.store.schema import connect_reader

FILE_NAME = "quarantine.db"
LINES_MAX = 200_000
"""The oldest go when there are more; they are counted."""


@dataclass(frozen=True, slots=True)
class Refused:
    """One line that the server will never take.

    Attributes:
        t_ns: UTC ns when it was refused.
        kind: Kind of record that it was made of.
        seq: First sequence number of the request that held it.
        reason: The server's words.
        line: The line itself.
    """

    t_ns: int
    kind: str
    seq: int
    reason: str
    line: str


class Quarantine:
    """A small SQLite file; any thread may use it."""

    def __init__(self, directory: Path) -> None:
        """Opened when there is something to keep: a disk that is full does not stop the start."""
        self.path = directory / FILE_NAME
        self._lock = threading.Lock()
        self._db: sqlite3.Connection | None = None
        self.lines = 0
        self.dropped = 0

    def add(self, refused: Sequence[Refused]) -> None:
        """Keep these lines, durably. Raises StoreError."""
        try:
            with self._lock, Transaction(db := self._open()):
                db.executemany(
                    "INSERT INTO refused (t_ns, kind, seq, reason, line) VALUES (?, ?, ?, ?, ?)",
                    ((r.t_ns, r.kind, r.seq, r.reason, r.line) for r in refused),
                )
                excess = self.lines + len(refused) - LINES_MAX
                if excess > 0:
                    db.execute(
                        "DELETE FROM refused WHERE id IN "
                        "(SELECT id FROM refused ORDER BY id LIMIT ?)",
                        (excess,),
                    )
                    self.dropped += excess
                self.lines += len(refused) - max(0, excess)
        except sqlite3.Error as error:
            raise StoreError(f"{self.path}: cannot be written ({error})") from error

    def close(self) -> None:
        with self._lock:
            if self._db is not None:
                self._db.close()
                self._db = None

    def _open(self) -> sqlite3.Connection:
        if self._db is None:
            db = sqlite3.connect(
                self.path, isolation_level=None, check_same_thread=False, timeout=2
            )
            try:
                db.execute("PRAGMA journal_mode = WAL")
                db.execute("PRAGMA synchronous = FULL")
                db.execute(
                    "CREATE TABLE IF NOT EXISTS refused (id INTEGER PRIMARY KEY AUTOINCREMENT, "
                    "t_ns INTEGER NOT NULL, kind TEXT NOT NULL, seq INTEGER NOT NULL, "
                    "reason TEXT NOT NULL, line TEXT NOT NULL)"
                )
                (self.lines,) = db.execute("SELECT count(*) FROM refused").fetchone()
            except sqlite3.Error:
                db.close()
                raise
            self._db = db
        return self._db


def read_quarantine(directory: Path) -> Iterator[Refused]:
    """What is in quarantine, oldest first; the gateway may be running."""
    path = directory / FILE_NAME
    if not path.exists():
        return
    db = connect_reader(path)
    try:
        rows: Iterable[tuple[int, str, int, str, str]] = db.execute(
            "SELECT t_ns, kind, seq, reason, line FROM refused ORDER BY id"
        )
        for row in rows:
            yield Refused(*row)
    except sqlite3.Error as error:
        raise StoreError(f"{path}: cannot be read ({error})") from error
    finally:
        db.close()
