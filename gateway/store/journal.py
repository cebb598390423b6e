"""Writes groups into the log file, one transaction each. Synchronous; owned by one thread."""

import sqlite3
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from gateway.core.batch import Batch
from gateway.core.signals import Signal, SignalTable
from gateway.store.blocks import SAMPLES_MAX, Columns, FormMemory, cut, encode, joined
from gateway.store.pending import Group
from gateway.store.record import DROP_ORDER, Kind, encode_item
from gateway.store.schema import connect_writer

INSERT = {
    kind: f"INSERT INTO {kind.value} (seq, n, t_min, t_max, t_log, payload) "  # noqa: S608
    "VALUES (?, ?, ?, ?, ?, ?)"
    for kind in Kind
}


class Journal:
    """The one connection that writes.

    Attributes:
        head: The next sequence number of each kind, as committed.
        bytes: Bytes of payload kept of each kind.
        dropped: Samples or records dropped of each kind, ever, by policy.
    """

    def __init__(self, path: Path, signals: SignalTable | None = None, *, single: bool) -> None:
        """Open the file; `signals` is the gateway's table where it runs already.

        Raises:
            StoreError: It is no log of ours, or a newer one.
            sqlite3.Error: The disk or the file fails.
        """
        self.path = path
        self._single = single
        self._forms = FormMemory()
        self.db = connect_writer(path)
        self.head: dict[Kind, int] = {}
        self.bytes: Counter[Kind] = Counter()
        self.dropped: Counter[Kind] = Counter()
        try:
            known = dict.fromkeys(Kind)
            for kind, head, size, dropped in self.db.execute("SELECT * FROM kind"):
                if kind in known:
                    self.head[Kind(kind)] = head
                    self.bytes[Kind(kind)] = size
                    self.dropped[Kind(kind)] = dropped
            kept = self.db.execute("SELECT asset, name, unit FROM signal ORDER BY id").fetchall()
            self._signals_kept = len(kept)
            self.signals = signals or SignalTable(Signal(*row) for row in kept)
        except BaseException:
            self.db.close()
            raise

    def close(self) -> None:
        self.db.close()

    def file_bytes(self) -> int:
        """Bytes in use in the file, free pages not counted."""
        (pages,) = self.db.execute("PRAGMA page_count").fetchone()
        (free,) = self.db.execute("PRAGMA freelist_count").fetchone()
        (size,) = self.db.execute("PRAGMA page_size").fetchone()
        return int((pages - free) * size)

    def commit(self, group: Group, now_ns: int) -> None:
        """Write the group: all of it, durably, or nothing. `now_ns` is UTC, for age bounds.

        Raises:
            sqlite3.Error: Nothing was written.
        """
        rows, head, size = self._rows(group, now_ns)
        dropped = self.dropped + group.dropped
        signals = self.signals.signals()
        with Transaction(self.db):
            if len(signals) > self._signals_kept:
                self.db.executemany(
                    "INSERT INTO signal VALUES (?, ?, ?, ?)",
                    (
                        (i, s.asset, s.name, s.unit)
                        for i, s in enumerate(signals)
                        if i >= self._signals_kept
                    ),
                )
            for kind, kind_rows in rows.items():
                self.db.executemany(INSERT[kind], kind_rows)
            for (namespace, key), value in group.state.items():
                if value is None:
                    self.db.execute(
                        "DELETE FROM state WHERE namespace = ? AND key = ?", (namespace, key)
                    )
                else:
                    self.db.execute(
                        "INSERT OR REPLACE INTO state VALUES (?, ?, ?)", (namespace, key, value)
                    )
            for (name, kind), (spans, missed) in group.cursors.items():
                self.db.execute(
                    "INSERT OR REPLACE INTO cursor VALUES (?, ?, ?, ?)",
                    (name, kind.value, spans, missed),
                )
            self.put_kinds({*rows, *group.dropped}, head, size, dropped)
        self.head, self.bytes, self.dropped = head, size, dropped
        self._signals_kept = len(signals)

    def put_kinds(
        self,
        kinds: Iterable[Kind],
        head: dict[Kind, int],
        size: Counter[Kind],
        dropped: Counter[Kind],
    ) -> None:
        """Write the tally of the kinds, within a transaction."""
        self.db.executemany(
            "INSERT OR REPLACE INTO kind VALUES (?, ?, ?, ?)",
            ((kind.value, head[kind], size[kind], dropped[kind]) for kind in kinds),
        )

    def pack(self, columns: Columns) -> bytes:
        """Encode samples as the owner chose: exact, or values rounded to float32."""
        if self._single:
            signal, t_ns, value, quality = columns
            with np.errstate(over="ignore"):
                rounded = value.astype(np.float32).astype(np.float64)
            # A value that float32 cannot hold stays as it is, rather than becoming infinite.
            columns = (signal, t_ns, np.where(np.isinf(rounded), value, rounded), quality)
        return encode(columns, self._forms)

    def _rows(
        self, group: Group, now_ns: int
    ) -> tuple[dict[Kind, list[tuple[Any, ...]]], dict[Kind, int], Counter[Kind]]:
        head, size = dict(self.head), Counter(self.bytes)
        rows: dict[Kind, list[tuple[Any, ...]]] = {}
        for kind in DROP_ORDER:
            made = rows.setdefault(kind, [])
            if kind is Kind.SAMPLES:
                batches = [b for b in group.items.get(kind, ()) if isinstance(b, Batch) and len(b)]
                for columns in _pieces(batches):
                    t_ns = columns[1]
                    payload = self.pack(columns)
                    n = len(t_ns)
                    made.append((head[kind], n, int(t_ns.min()), int(t_ns.max()), now_ns, payload))
                    head[kind] += n
                    size[kind] += len(payload)
            else:
                for item in group.items.get(kind, ()):
                    assert not isinstance(item, Batch)
                    t_min, t_max, payload = encode_item(item)
                    made.append((head[kind], 1, t_min, t_max, now_ns, payload))
                    head[kind] += 1
                    size[kind] += len(payload)
        return {kind: made for kind, made in rows.items() if made}, head, size


def _pieces(batches: list[Batch]) -> Iterable[Columns]:
    """All batches as one block; several where one would be larger than a block may be."""
    if not batches:
        return
    columns = joined([(b.signal, b.t_ns, b.value, b.quality) for b in batches])
    for start in range(0, len(columns[0]), SAMPLES_MAX):
        yield cut(columns, start, start + SAMPLES_MAX)


class Transaction:
    """`BEGIN IMMEDIATE` to `COMMIT`, rolled back on any error."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def __enter__(self) -> None:
        self._db.execute("BEGIN IMMEDIATE")

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        if kind is None:
            try:
                self._db.execute("COMMIT")
            except BaseException:
                self._roll_back()
                raise
        else:
            self._roll_back()

    def _roll_back(self) -> None:
        if self._db.in_transaction:
            try:
                self._db.execute("ROLLBACK")
            except sqlite3.Error:
                # The error that led here is the one to tell; SQLite has rolled back by itself.
                return
