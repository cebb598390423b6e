"""Reads the log file: by sequence, and by time. Never blocks the writer."""

import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gateway.core.alarm import Transition
from gateway.core.assessment import Assessments
from gateway.core.errors import DataError, StoreError
from gateway.core.signals import Signal, SignalTable
from gateway.store.blocks import Columns, joined
from gateway.store.record import Kind, Record
from gateway.store.schema import connect_reader, is_corrupt

BLOCKS_MAX = 64
"""Rows fetched at one time while scanning, so that memory stays flat."""

_BY_SEQ = {
    kind: "SELECT seq, n, t_min, t_max, payload FROM "  # noqa: S608
    f"{kind.value} WHERE seq >= coalesce((SELECT max(seq) FROM {kind.value} WHERE seq <= ?), 0) "
    "AND seq < ? ORDER BY seq LIMIT ?"
    for kind in Kind
}
_BY_TIME = {
    kind: f"SELECT seq, n, t_min, t_max, payload FROM {kind.value} "  # noqa: S608
    "WHERE seq > ? AND seq <= ? AND +t_max >= ? AND +t_min <= ? ORDER BY seq LIMIT ?"
    for kind in Kind
}
_BACKWARDS = {
    kind: "SELECT seq, n, t_min, t_max, payload, t_log FROM "  # noqa: S608
    f"{kind.value} WHERE seq < ? ORDER BY seq DESC LIMIT ?"
    for kind in Kind
}
_WITHIN = {
    kind: f"SELECT min(seq), max(seq) FROM {kind.value} WHERE t_max >= ? AND t_min <= ?"  # noqa: S608
    for kind in Kind
}
"""Answered from the index alone, so that a day of a large log does not cost reading all of it."""


class LogReader:
    """One read connection and its lock; any thread may use it.

    Attributes:
        damaged: Samples and records that could not be decoded, since this reader was made.
    """

    def __init__(self, path: Path, on_damage: Callable[[], None] | None = None) -> None:
        """Open `path`, the log file itself. The file may be written by another process meanwhile.

        Raises:
            StoreError: There is no log there, or it cannot be read.
        """
        self.path = path
        self._on_damage = on_damage
        self._lock = threading.Lock()
        self._db: sqlite3.Connection | None = connect_reader(path)
        self.damaged = 0
        self._closed = False

    def reopen(self) -> None:
        """Open the file anew at the next query: another one lies at its path."""
        with self._lock:
            if self._db is not None:
                self._db.close()
                self._db = None

    def close(self) -> None:
        with self._lock:
            self._closed = True
            if self._db is not None:
                self._db.close()
                self._db = None

    def signals(self) -> SignalTable:
        """The signals as the file knows them."""
        rows = self.query("SELECT id, asset, name, unit FROM signal ORDER BY id")
        table = SignalTable(Signal(asset, name, unit) for _, asset, name, unit in rows)
        if len(table) != len(rows) or any(i != row[0] for i, row in enumerate(rows)):
            raise StoreError(f"{self.path}: its signal table has gaps; run forewarn doctor")
        return table

    def oldest_ns(self) -> int | None:
        """UTC ns of the oldest sample that is kept; None where there is none."""
        ((t_ns,),) = self.query("SELECT min(t_min) FROM samples")
        return None if t_ns is None else int(t_ns)

    def epoch(self) -> str:
        """Changes when the file was started anew, so that positions in it mean nothing any more."""
        rows = self.query("SELECT value FROM meta WHERE key = 'epoch'")
        return str(rows[0][0]) if rows else ""

    def heads(self) -> dict[Kind, int]:
        """The next sequence number of each kind."""
        return {Kind(k): head for k, head in self.query("SELECT kind, head FROM kind")}

    def read(
        self, kind: Kind, start: int, end: int, *, records_max: int = BLOCKS_MAX
    ) -> list[Record]:
        """Records whose sequence numbers lie in [start, end), in order, whole rows.

        The first is cut where it begins before `start`; none is cut at `end`.
        """
        rows = self.query(_BY_SEQ[kind], (start, end, records_max + 1))
        records = [
            Record(kind, seq, n, t0, t1, payload)
            for seq, n, t0, t1, payload in rows
            if seq + n > start
        ][:records_max]
        if records and records[0].seq < start:
            first = records[0]
            skip = start - first.seq
            records[0] = Record(
                kind,
                start,
                first.n - skip,
                first.t_min_ns,
                first.t_max_ns,
                first.payload,
                skip,
            )
        return records

    def scan(self, kind: Kind, start_ns: int, end_ns: int) -> Iterator[Record]:
        """Records that may hold content of [start_ns, end_ns), in the order of their arrival."""
        ((first, last),) = self.query(_WITHIN[kind], (start_ns, end_ns - 1))
        if first is None:
            return
        after = first - 1
        while True:
            rows = self.query(_BY_TIME[kind], (after, last, start_ns, end_ns - 1, BLOCKS_MAX))
            for seq, n, t0, t1, payload in rows:
                yield Record(kind, seq, n, t0, t1, payload)
            if len(rows) < BLOCKS_MAX:
                return
            after = rows[-1][0]

    def backwards(self, kind: Kind, before: int) -> Iterator[tuple[int, Record]]:
        """Records numbered below `before`, newest first, each with the time of its commit."""
        while rows := self.query(_BACKWARDS[kind], (before, BLOCKS_MAX)):
            for seq, n, t0, t1, payload, t_log in rows:
                yield t_log, Record(kind, seq, n, t0, t1, payload)
            before = rows[-1][0]

    def samples(self, start_ns: int, end_ns: int, signals: Sequence[int] | None = None) -> Columns:
        """All samples of [start_ns, end_ns), oldest first; of the given signals, or of all.

        Samples that the disk has damaged are left out and counted in `damaged`.
        """
        parts = list(self.sample_blocks(start_ns, end_ns, signals))
        signal, t_ns, value, quality = joined(parts)
        order = np.argsort(t_ns, kind="stable")
        return signal[order], t_ns[order], value[order], quality[order]

    def sample_blocks(
        self, start_ns: int, end_ns: int, signals: Sequence[int] | None = None
    ) -> Iterator[Columns]:
        """The same, block by block in the order of arrival: memory stays flat."""
        wanted: NDArray[np.bool_] | None = None
        if signals is not None:
            wanted = np.zeros(max(signals, default=-1) + 2, dtype=bool)
            wanted[list(signals)] = True
        for record in self.scan(Kind.SAMPLES, start_ns, end_ns):
            try:
                signal, t_ns, value, quality = record.columns()
            except DataError:
                self.damaged += record.n
                continue
            keep = (t_ns >= start_ns) & (t_ns < end_ns)
            if wanted is not None:
                keep &= wanted[np.minimum(signal, len(wanted) - 1)]
            if keep.all():
                yield signal, t_ns, value, quality
            elif keep.any():
                yield signal[keep], t_ns[keep], value[keep], quality[keep]

    def assessments(self, start_ns: int, end_ns: int) -> Iterator[Assessments]:
        """Assessments with a window end in [start_ns, end_ns), cycle by cycle."""
        for record in self.scan(Kind.ASSESSMENT, start_ns, end_ns):
            try:
                yield record.assessments()
            except DataError:
                self.damaged += 1

    def transitions(
        self, start_ns: int = -(1 << 62), end_ns: int = 1 << 62
    ) -> Iterator[Transition]:
        """Alarm transitions in the order in which they were logged."""
        for record in self.scan(Kind.TRANSITION, start_ns, end_ns):
            try:
                yield record.transition()
            except DataError:
                self.damaged += 1

    def state(self, namespace: str) -> dict[str, bytes]:
        """The small values of a namespace, as committed."""
        rows = self.query("SELECT key, value FROM state WHERE namespace = ?", (namespace,))
        return {str(key): bytes(value) for key, value in rows}

    def cursors(self) -> list[tuple[str, Kind, str, int]]:
        """(name, kind, undone ranges as JSON, missed) of every cursor, as committed."""
        rows = self.query("SELECT name, kind, spans, missed FROM cursor")
        return [(name, Kind(kind), spans, missed) for name, kind, spans, missed in rows]

    def query(self, sql: str, parameters: Sequence[object] = ()) -> list[Any]:
        """Rows of one statement.

        Raises:
            StoreError: The file cannot be read at present.
        """
        with self._lock:
            if self._closed:
                raise StoreError(f"{self.path}: the log is closed")
            try:
                if self._db is None:
                    self._db = connect_reader(self.path)
                return self._db.execute(sql, parameters).fetchall()
            except sqlite3.Error as error:
                if self._db is not None:
                    self._db.close()
                    self._db = None
                if self._on_damage is not None and is_corrupt(error):
                    self._on_damage()
                raise StoreError(f"{self.path}: the log cannot be read ({error})") from error
