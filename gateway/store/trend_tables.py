"""The tables of trends.

The newest buckets are rows, because they still change; they lie by time, so that a write of all
signals touches few pages of the disk. Behind them, 360 buckets of a signal are one page, packed as
samples are: a bucket takes some 7 bytes there instead of 45. Assessments go the same way: the
`recent` ones lie by time, and settle by asset. See decision 076.
"""

import sqlite3
from pathlib import Path

from gateway.store.journal import Transaction
from gateway.store.trend_rows import WIDTHS_S

FILE_NAME = "trends.db"
APPLICATION_ID = 0x46575452
"""`FWTR`."""
VERSION = 3
UNSORTED = 2
"""The version whose rows lay by signal."""
FAR_S = 1 << 40

_TABLES = (
    *(
        f"""CREATE TABLE trend_{width} (
            signal INTEGER NOT NULL, t INTEGER NOT NULL, n INTEGER NOT NULL, total REAL NOT NULL,
            least REAL NOT NULL, greatest REAL NOT NULL, PRIMARY KEY (t, signal)) WITHOUT ROWID"""
        for width in WIDTHS_S
    ),
    *(
        f"""CREATE TABLE page_{width} (
            signal INTEGER NOT NULL, page INTEGER NOT NULL, body BLOB NOT NULL,
            PRIMARY KEY (signal, page)) WITHOUT ROWID"""
        for width in WIDTHS_S
    ),
    *(f"CREATE INDEX page_{width}_page ON page_{width} (page)" for width in WIDTHS_S),
    *(
        f"""CREATE TABLE {table} (
        asset TEXT NOT NULL, t INTEGER NOT NULL, bundle TEXT NOT NULL, score REAL, max_score REAL,
        coverage REAL, abstained TEXT NOT NULL, shape INTEGER NOT NULL, contribution BLOB NOT NULL,
        direction BLOB NOT NULL, output BLOB NOT NULL,
        PRIMARY KEY ({key}, bundle)) WITHOUT ROWID"""
        for table, key in (("assessment", "asset, t"), ("recent", "t, asset"))
    ),
    "CREATE INDEX assessment_t ON assessment (t)",
    "CREATE TABLE shape (id INTEGER PRIMARY KEY, head TEXT NOT NULL UNIQUE)",
    """CREATE TABLE transition (
        seq INTEGER PRIMARY KEY, t INTEGER NOT NULL, asset TEXT NOT NULL, body TEXT NOT NULL)""",
    "CREATE INDEX transition_t ON transition (t)",
    "CREATE TABLE position (kind TEXT PRIMARY KEY, seq INTEGER NOT NULL) WITHOUT ROWID",
    "CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
)


def by_time(table: str, where: str) -> str:
    """A query for some rows of a table that lies by time: :start <= t < :end and `where`.

    It goes from one time to the next and asks at each; a scan would read all the others' rows.
    """
    return f"""WITH RECURSIVE step(at) AS (
        SELECT min(t) FROM {table} WHERE t >= :start AND t < :end UNION ALL
        SELECT (SELECT min(t) FROM {table} WHERE t > at AND t < :end) FROM step WHERE at IS NOT NULL
    ) SELECT {table}.* FROM step JOIN {table} ON t = at WHERE {where}"""  # noqa: S608


def open_tables(path: Path, epoch: str) -> sqlite3.Connection:
    """The file of a log of this epoch; one of another log or version is put aside first."""
    db = _connect(path)
    (version,) = db.execute("PRAGMA user_version").fetchone()
    (tables,) = db.execute("SELECT count(*) FROM sqlite_master").fetchone()
    rows = db.execute("SELECT value FROM meta WHERE key = 'epoch'").fetchall() if version else []
    if version == UNSORTED and rows == [(epoch,)]:
        _sort(db)
    elif tables and (version != VERSION or rows != [(epoch,)]):
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


def _sort(db: sqlite3.Connection) -> None:
    """Lay the rows of a file of the version before by time."""
    with Transaction(db):
        for width in WIDTHS_S:
            db.execute(f"ALTER TABLE trend_{width} RENAME TO unsorted")
            db.execute(_TABLES[WIDTHS_S.index(width)])
            db.execute(f"INSERT INTO trend_{width} SELECT * FROM unsorted ORDER BY t, signal")  # noqa: S608
            db.execute("DROP TABLE unsorted")
        db.execute(next(statement for statement in _TABLES if "TABLE recent" in statement))
        db.execute(f"PRAGMA user_version = {VERSION}")


def _connect(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=2)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = NORMAL")
    db.execute("PRAGMA cache_size = -4096")
    db.execute("PRAGMA journal_size_limit = 16777216")
    return db
