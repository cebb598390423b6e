"""The audit trail: who did what, or was refused; bounded, in the console's file."""

import sqlite3
import threading
from dataclasses import dataclass

ENTRIES_MAX = 100_000
SCHEMA = """
CREATE TABLE IF NOT EXISTS audit (
    id INTEGER PRIMARY KEY, t_ns INTEGER NOT NULL, who TEXT NOT NULL, via TEXT NOT NULL,
    address TEXT NOT NULL, action TEXT NOT NULL, target TEXT NOT NULL, note TEXT NOT NULL,
    outcome TEXT NOT NULL);
"""


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One thing that somebody did, or was refused."""

    t_ns: int
    who: str
    via: str
    address: str
    action: str
    target: str
    note: str
    outcome: str


class Trail:
    """The trail in a file that `Vault` has opened. Thread-safe, by the vault's lock."""

    def __init__(self, db: sqlite3.Connection, lock: threading.RLock) -> None:
        self._db = db
        self._lock = lock

    def add(self, entry: AuditEntry) -> None:
        """Keep what somebody did; the oldest of more than `ENTRIES_MAX` go."""
        with self._lock:
            cursor = self._db.execute(
                "INSERT INTO audit (t_ns, who, via, address, action, target, note, outcome) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    entry.t_ns,
                    entry.who[:200],
                    entry.via,
                    entry.address[:200],
                    entry.action[:200],
                    entry.target[:1000],
                    entry.note[:2000],
                    entry.outcome[:1000],
                ),
            )
            oldest = (cursor.lastrowid or 0) - ENTRIES_MAX
            self._db.execute("DELETE FROM audit WHERE id <= ?", (oldest,))

    def newest(self, limit: int) -> list[AuditEntry]:
        """At most `limit` entries, newest first."""
        with self._lock:
            rows = self._db.execute(
                "SELECT t_ns, who, via, address, action, target, note, outcome FROM audit "
                "ORDER BY id DESC LIMIT ?",
                (limit,),
            ).fetchall()
        return [AuditEntry(*row) for row in rows]
