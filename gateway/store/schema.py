"""The tables of the log file, their version, and how a connection is opened."""

import sqlite3
from pathlib import Path
from uuid import uuid4

from gateway.core.errors import StoreError
from gateway.store.record import Kind

FILE_NAME = "log.db"
APPLICATION_ID = 0x46574C47
"""`FWLG`: so that no other SQLite file is taken for a log."""

_TABLES = "".join(
    f"""
    CREATE TABLE {kind.value} (
        seq INTEGER PRIMARY KEY, n INTEGER NOT NULL,
        t_min INTEGER NOT NULL, t_max INTEGER NOT NULL, t_log INTEGER NOT NULL,
        payload BLOB NOT NULL);
    CREATE INDEX {kind.value}_t ON {kind.value} (t_max, t_min);
    """
    for kind in Kind
)

MIGRATIONS = (
    _TABLES
    + """
    CREATE TABLE kind (
        kind TEXT PRIMARY KEY, head INTEGER NOT NULL, bytes INTEGER NOT NULL,
        dropped INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE signal (
        id INTEGER PRIMARY KEY, asset TEXT NOT NULL, name TEXT NOT NULL, unit TEXT NOT NULL);
    CREATE TABLE cursor (
        name TEXT NOT NULL, kind TEXT NOT NULL, spans TEXT NOT NULL, missed INTEGER NOT NULL,
        PRIMARY KEY (name, kind)) WITHOUT ROWID;
    CREATE TABLE state (
        namespace TEXT NOT NULL, key TEXT NOT NULL, value BLOB NOT NULL,
        PRIMARY KEY (namespace, key)) WITHOUT ROWID;
    CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
    """,
)
"""Script n takes a file from version n to n + 1. Append only: shipped files depend on them."""

VERSION = len(MIGRATIONS)

_CORRUPT = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_DISK = (
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_CANTOPEN,
)


def is_corrupt(error: sqlite3.Error) -> bool:
    """Whether the file is damaged, rather than the disk full, read-only or slow."""
    code = getattr(error, "sqlite_errorcode", None)
    return code is not None and (code & 0xFF) in _CORRUPT


def is_disk(error: sqlite3.Error) -> bool:
    """Whether the disk is full, read-only or failing: it may take data again later."""
    code = getattr(error, "sqlite_errorcode", None)
    return code is not None and (code & 0xFF) in _DISK


def connect_writer(path: Path) -> sqlite3.Connection:
    """Open the file for its one writer, making or migrating its tables.

    Raises:
        StoreError: A newer program made the file, or it is no log at all.
        sqlite3.Error: The disk or the file fails.
    """
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=2)
    try:
        db.execute("PRAGMA page_size = 4096")
        db.execute("PRAGMA journal_mode = WAL")
        # NORMAL loses committed data in a power cut; see decision 025.
        db.execute("PRAGMA synchronous = FULL")
        # Appends need little; a larger cache fills with the file for hours and gains nothing.
        db.execute("PRAGMA cache_size = -1024")
        db.execute("PRAGMA journal_size_limit = 16777216")
        db.execute("PRAGMA wal_autocheckpoint = 1000")
        _migrate(db, path)
    except BaseException:
        db.close()
        raise
    return db


def connect_reader(path: Path) -> sqlite3.Connection:
    """Open the file to read; never blocks the writer, and any thread may use it in turn.

    Raises:
        StoreError: There is no log there, or it cannot be read.
    """
    try:
        return _connect_reader(path, "mode=ro")
    except sqlite3.Error as error:
        wal = path.with_name(path.name + "-wal")
        if path.exists() and not (wal.exists() and wal.stat().st_size):
            # A disk that is full or read-only takes no shared-memory file; a log that was closed
            # in order can be read without.
            try:
                return _connect_reader(path, "immutable=1")
            except sqlite3.Error:
                pass
        raise StoreError(f"{path}: the log cannot be read ({error})") from error


def _connect_reader(path: Path, mode: str) -> sqlite3.Connection:
    db = sqlite3.connect(
        f"{path.resolve().as_uri()}?{mode}",
        uri=True,
        isolation_level=None,
        check_same_thread=False,
        timeout=2,
    )
    try:
        db.execute("PRAGMA cache_size = -1024")
        db.execute("SELECT 1 FROM sqlite_master").fetchone()
    except sqlite3.Error:
        db.close()
        raise
    return db


def _migrate(db: sqlite3.Connection, path: Path) -> None:
    (version,) = db.execute("PRAGMA user_version").fetchone()
    (application,) = db.execute("PRAGMA application_id").fetchone()
    (tables,) = db.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if application != APPLICATION_ID and tables:
        raise StoreError(f"{path}: must be a Forewarn log, was another SQLite file; move it away")
    if version > VERSION:
        raise StoreError(
            f"{path}: must be of version {VERSION} or older, was {version}; a newer Forewarn wrote "
            "it: install that one, or move the file away to start an empty log"
        )
    for n in range(version, VERSION):
        script = [part.strip() for part in MIGRATIONS[n].split(";") if part.strip()]
        db.execute("BEGIN IMMEDIATE")
        try:
            for statement in script:
                db.execute(statement)
            if n == 0:
                db.execute("INSERT INTO meta VALUES ('epoch', ?)", (uuid4().hex,))
                db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            db.execute(f"PRAGMA user_version = {n + 1}")
            db.execute("COMMIT")
        except BaseException:
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise
    for kind in Kind:
        db.execute("INSERT OR IGNORE INTO kind VALUES (?, 1, 0, 0)", (kind.value,))
