"""Signed-in browsers: kept in memory for every request, and in the console's file for a restart."""

import hashlib
import secrets
import sqlite3
import threading
import time
from dataclasses import dataclass

SESSIONS_MAX = 10_000
SCHEMA = """
CREATE TABLE IF NOT EXISTS session (
    digest BLOB PRIMARY KEY, user TEXT NOT NULL COLLATE NOCASE, csrf TEXT NOT NULL,
    created_ns INTEGER NOT NULL, seen_ns INTEGER NOT NULL) WITHOUT ROWID;
"""


@dataclass(slots=True)
class Session:
    """A signed-in browser."""

    digest: bytes
    user: str
    csrf: str
    created_ns: int
    seen_ns: int
    written_ns: int

    def over(self, now_ns: int, *, idle_s: float, max_s: float) -> bool:
        """Whether it was idle for too long, or has lasted for too long."""
        return now_ns - self.seen_ns > idle_s * 1e9 or now_ns - self.created_ns > max_s * 1e9


class Sessions:
    """The sessions in a file that `Vault` has opened. Thread-safe, by the vault's lock."""

    def __init__(self, db: sqlite3.Connection, lock: threading.RLock) -> None:
        self._db = db
        self._lock = lock
        self._sessions: dict[bytes, Session] = {}

    def begin(self, user: str) -> tuple[str, Session]:
        """Sign a browser in: (the secret for its cookie, the session)."""
        secret = secrets.token_urlsafe(32)
        now_ns = time.time_ns()
        session = Session(digest(secret), user, secrets.token_urlsafe(24), now_ns, now_ns, now_ns)
        with self._lock:
            while len(self._sessions) >= SESSIONS_MAX:
                self._drop(min(self._sessions.values(), key=lambda s: s.seen_ns).digest)
            self._db.execute(
                "INSERT INTO session VALUES (?, ?, ?, ?, ?)",
                (session.digest, session.user, session.csrf, now_ns, now_ns),
            )
            self._sessions[session.digest] = session
        return secret, session

    def find(self, secret: str, *, idle_s: float, max_s: float, touch: bool) -> Session | None:
        """The session behind a cookie, unless it is over. Writes nothing."""
        now_ns = time.time_ns()
        with self._lock:
            session = self._sessions.get(digest(secret))
            if session is None or session.over(now_ns, idle_s=idle_s, max_s=max_s):
                return None
            if touch:
                session.seen_ns = max(session.seen_ns, now_ns)
            return session

    def write_seen(self, *, idle_s: float, max_s: float) -> None:
        """Write when sessions were last used, and drop those that are over. Called now and then."""
        now_ns = time.time_ns()
        with self._lock:
            for session in list(self._sessions.values()):
                if session.over(now_ns, idle_s=idle_s, max_s=max_s):
                    self._drop(session.digest)
                elif session.seen_ns != session.written_ns:
                    session.written_ns = session.seen_ns
                    self._db.execute(
                        "UPDATE session SET seen_ns = ? WHERE digest = ?",
                        (session.seen_ns, session.digest),
                    )

    def end(self, secret: str) -> None:
        """Sign a browser out."""
        with self._lock:
            self._drop(digest(secret))

    def end_all_of(self, user: str) -> None:
        """Sign a person out everywhere."""
        with self._lock:
            self._db.execute("DELETE FROM session WHERE user = ?", (user,))
            self.reload()

    def reload(self) -> None:
        """Read again what another process may have changed."""
        seen = {d: s.seen_ns for d, s in self._sessions.items()}
        self._sessions = {
            bytes(d): Session(
                bytes(d), str(u), str(c), int(at), max(int(used), seen.get(d, 0)), used
            )
            for d, u, c, at, used in self._db.execute("SELECT * FROM session")
        }

    def _drop(self, key: bytes) -> None:
        self._sessions.pop(key, None)
        self._db.execute("DELETE FROM session WHERE digest = ?", (key,))


def digest(secret: str) -> bytes:
    """What is kept of a secret: it is random, 256 bits, so a plain digest is enough, and fast."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()
