"""People and tokens, in one SQLite file of the data directory, with their sessions and trail."""

import secrets
import sqlite3
import threading
import time
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Literal

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from gateway.console import sessions, trail
from gateway.console.sessions import Session, Sessions, digest
from gateway.console.trail import Trail
from gateway.core.errors import StoreError
from gateway.core.refusal import Refused
from gateway.core.texts import Phrase

FILE = "console.db"
USERS_MAX = 1_000
TOKENS_MAX = 1_000
NAME_MAX = 60
PASSWORD_MIN = 10
PASSWORD_MAX = 200

# OWASP's second choice for argon2id: 19 MiB, two passes, one lane. The default of the library (64
# MiB) is more than the console's whole budget of memory.
_HASHER = PasswordHasher(time_cost=2, memory_cost=19_456, parallelism=1)

_SCHEMA = """
CREATE TABLE IF NOT EXISTS user (
    name TEXT PRIMARY KEY COLLATE NOCASE, role INTEGER NOT NULL, password TEXT NOT NULL,
    created_ns INTEGER NOT NULL, created_by TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS token (
    name TEXT PRIMARY KEY COLLATE NOCASE, digest BLOB NOT NULL UNIQUE, role INTEGER NOT NULL,
    created_ns INTEGER NOT NULL, created_by TEXT NOT NULL, expires_ns INTEGER NOT NULL)
    WITHOUT ROWID;
"""


class Role(IntEnum):
    """What a person or token may do; each includes the ones before."""

    VIEWER = 1
    OPERATOR = 2
    ENGINEER = 3

    @property
    def word(self) -> Literal["viewer", "operator", "engineer"]:
        words: tuple[Literal["viewer", "operator", "engineer"], ...]
        words = ("viewer", "operator", "engineer")
        return words[self - 1]


@dataclass(frozen=True, slots=True)
class User:
    """A person. The password's hash stays in the vault."""

    name: str
    role: Role
    created_ns: int
    created_by: str


@dataclass(frozen=True, slots=True)
class Token:
    """A key for a program. Only its digest is kept; it is shown once, when it is made."""

    name: str
    role: Role
    created_ns: int
    created_by: str
    expires_ns: int
    """UTC ns; 0 for never."""


class Vault:
    """Opens the file, keeps what every request needs in memory, writes through.

    Thread-safe: the console calls what writes or hashes from a worker thread. Another process
    (`forewarn user`) may change the file at any time; its changes are seen at the next question.

    Attributes:
        trail: Who did what, in the same file.
        sessions: Of those who have signed in, likewise.
    """

    def __init__(self, data_dir: Path) -> None:
        self.path = data_dir / FILE
        self._lock = threading.RLock()
        try:
            data_dir.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(
                self.path, isolation_level=None, check_same_thread=False, timeout=5
            )
            self.path.chmod(0o600)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            self._db.executescript(_SCHEMA + sessions.SCHEMA + trail.SCHEMA)
        except (OSError, sqlite3.Error) as error:
            raise StoreError(
                f"{self.path}: cannot be opened ({error}); check the data directory"
            ) from error
        self.trail = Trail(self._db, self._lock)
        self.sessions = Sessions(self._db, self._lock)
        self._version = -1
        self._users: dict[str, tuple[User, str]] = {}
        self._tokens: dict[bytes, Token] = {}
        # A stranger must not learn from the time it takes whether a name exists.
        self._decoy = _HASHER.hash(secrets.token_hex(16))
        self._refresh()

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()

    # People

    def users(self) -> list[User]:
        """Everybody, by name."""
        with self._lock:
            self._refresh()
            return sorted((u for u, _ in self._users.values()), key=lambda u: u.name.casefold())

    def add_user(self, name: str, password: str, role: Role, by: str) -> User:
        """Add a person. Raises `Refused` where name or password will not do."""
        name = _fit_name(name)
        check_password(password, name)
        hashed = _HASHER.hash(password)
        with self._lock:
            self._refresh()
            if name.casefold() in self._users:
                raise Refused(Phrase("refused.name_taken", name=name))
            if len(self._users) >= USERS_MAX:
                raise Refused(Phrase("refused.users", most=USERS_MAX))
            self._db.execute(
                "INSERT INTO user VALUES (?, ?, ?, ?, ?)",
                (name, int(role), hashed, time.time_ns(), by),
            )
            self._reload()
            return self._users[name.casefold()][0]

    def add_first_user(self, name: str, password: str) -> User:
        """Add the engineer who sets the console up. Raises `Refused` when there is anyone."""
        with self._lock:
            if self.users():
                raise Refused(Phrase("refused.set_up"))
            return self.add_user(name, password, Role.ENGINEER, "set-up")

    def set_password(self, name: str, password: str) -> None:
        """Change a password and end that person's sessions."""
        check_password(password, name)
        hashed = _HASHER.hash(password)
        with self._lock:
            if not self._db.execute(
                "UPDATE user SET password = ? WHERE name = ?", (hashed, name)
            ).rowcount:
                raise Refused(Phrase("refused.no_name", name=name))
            self.sessions.end_all_of(name)
            self._reload()

    def set_role(self, name: str, role: Role) -> None:
        """Change what a person may do. The last engineer stays one."""
        with self._lock:
            self._keep_an_engineer(name, role)
            if not self._db.execute(
                "UPDATE user SET role = ? WHERE name = ?", (int(role), name)
            ).rowcount:
                raise Refused(Phrase("refused.no_name", name=name))
            self._reload()

    def remove_user(self, name: str) -> None:
        """Remove a person and end their sessions. The last engineer stays."""
        with self._lock:
            self._keep_an_engineer(name, None)
            if not self._db.execute("DELETE FROM user WHERE name = ?", (name,)).rowcount:
                raise Refused(Phrase("refused.no_name", name=name))
            self.sessions.end_all_of(name)
            self._reload()

    def verify(self, name: str, password: str) -> User | None:
        """The person, if the password is right. Takes as long for a name that does not exist."""
        with self._lock:
            self._refresh()
            user, hashed = self._users.get(name.strip().casefold(), (None, self._decoy))
        try:
            _HASHER.verify(hashed, password[:PASSWORD_MAX])
        except (VerificationError, InvalidHashError):
            return None
        return user

    def _keep_an_engineer(self, name: str, role: Role | None) -> None:
        others = [
            u
            for u in self.users()
            if u.role is Role.ENGINEER and u.name.casefold() != name.casefold()
        ]
        if not others and role is not Role.ENGINEER and name.casefold() in self._users:
            raise Refused(Phrase("refused.last_engineer", name=name))

    # Tokens

    def tokens(self) -> list[Token]:
        """Every token, by name; never its secret."""
        with self._lock:
            self._refresh()
            return sorted(self._tokens.values(), key=lambda t: t.name.casefold())

    def add_token(self, name: str, role: Role, by: str, days: int = 0) -> str:
        """Make a token and return its secret, which is not kept. `days` 0: never expires."""
        name = _fit_name(name)
        secret = "fw_" + secrets.token_urlsafe(32)
        now_ns = time.time_ns()
        expires_ns = now_ns + days * 86_400 * 10**9 if days > 0 else 0
        with self._lock:
            self._refresh()
            if any(t.name.casefold() == name.casefold() for t in self._tokens.values()):
                raise Refused(Phrase("refused.token_taken", name=name))
            if len(self._tokens) >= TOKENS_MAX:
                raise Refused(Phrase("refused.tokens", most=TOKENS_MAX))
            self._db.execute(
                "INSERT INTO token VALUES (?, ?, ?, ?, ?, ?)",
                (name, digest(secret), int(role), now_ns, by, expires_ns),
            )
            self._reload()
        return secret

    def revoke_token(self, name: str) -> None:
        """Make a token worthless."""
        with self._lock:
            if not self._db.execute("DELETE FROM token WHERE name = ?", (name,)).rowcount:
                raise Refused(Phrase("refused.no_token", name=name))
            self._reload()

    def find_token(self, secret: str) -> Token | None:
        """The token behind a secret, unless it has expired."""
        with self._lock:
            self._refresh()
            token = self._tokens.get(digest(secret))
        if token is None or (token.expires_ns and token.expires_ns <= time.time_ns()):
            return None
        return token

    # Sessions

    def find_session(
        self, secret: str, *, idle_s: float, max_s: float, touch: bool
    ) -> tuple[Session, User] | None:
        """The session behind a cookie and its person, unless it is over. Writes nothing."""
        with self._lock:
            self._refresh()
            session = self.sessions.find(secret, idle_s=idle_s, max_s=max_s, touch=touch)
            user = self._users.get(session.user.casefold()) if session else None
        return (session, user[0]) if session and user else None

    # Memory

    def _refresh(self) -> None:
        """Read again what another process changed; SQLite tells by a number."""
        (version,) = self._db.execute("PRAGMA data_version").fetchone()
        if version != self._version:
            self._version = version
            self._reload()

    def _reload(self) -> None:
        self._users = {
            str(name).casefold(): (User(str(name), Role(role), int(at), str(by)), str(hashed))
            for name, role, hashed, at, by in self._db.execute("SELECT * FROM user")
        }
        self._tokens = {
            bytes(digest): Token(str(name), Role(role), int(at), str(by), int(expires))
            for name, digest, role, at, by, expires in self._db.execute("SELECT * FROM token")
        }
        self.sessions.reload()


def _fit_name(name: str) -> str:
    name = name.strip()
    if not 1 <= len(name) <= NAME_MAX or not name.isprintable():
        raise Refused(Phrase("refused.name", most=NAME_MAX))
    return name


def check_password(password: str, name: str) -> None:
    """Raises `Refused` for a password that will not do."""
    if not PASSWORD_MIN <= len(password) <= PASSWORD_MAX:
        raise Refused(Phrase("refused.password_length", least=PASSWORD_MIN, most=PASSWORD_MAX))
    if password.casefold() == name.casefold() or len(set(password)) < 4:
        raise Refused(Phrase("refused.password_easy"))
