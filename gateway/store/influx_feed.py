"""Cuts what a cursor gives into requests of at most so many lines. Synchronous; bounded memory."""

import threading
from dataclasses import dataclass

from gateway.core.errors import DataError
from gateway.store.blocks import Columns, cut, joined
from gateway.store.cursor import Cursor, Part
from gateway.store.line_protocol import Encoder
from gateway.store.record import Kind, Record

READ_RECORDS = 16


@dataclass(frozen=True, slots=True)
class Chunk:
    """The lines of the records [start, end) of a kind."""

    kind: Kind
    start: int
    end: int
    lines: list[str]


class Feed:
    """Runs ahead of its cursor, so that several requests can be under way. Any thread may use it.

    Attributes:
        damaged: Samples or records passed over because the disk has altered them.
    """

    def __init__(self, cursor: Cursor, encoder: Encoder, kind: Kind, part: Part) -> None:
        self._cursor = cursor
        self._encoder = encoder
        self._kind = kind
        self._part = part
        self._lock = threading.Lock()
        self._records: list[Record] = []
        self._after = 0
        self._rest: tuple[int, Columns] | None = None
        self.damaged = 0

    def reset(self) -> None:
        """Forget what was read ahead: the cursor was moved."""
        with self._lock:
            self._records, self._rest, self._after = [], None, 0

    def next(self, lines_max: int) -> Chunk | None:
        """The next chunk, or None where nothing is committed that was not given yet.

        Raises:
            StoreError: The log cannot be read at present.
        """
        with self._lock:
            if self._kind is Kind.SAMPLES:
                return self._samples(lines_max)
            return self._others(lines_max)

    def _next_record(self) -> Record | None:
        if not self._records:
            self._records = list(
                self._cursor.read(
                    self._kind, after=self._after, part=self._part, records_max=READ_RECORDS
                )
            )
            if not self._records:
                return None
        record = self._records.pop(0)
        self._after = record.end
        return record

    def _samples(self, lines_max: int) -> Chunk | None:
        start = end = -1
        parts: list[Columns] = []
        wanted = lines_max
        while wanted > 0:
            if self._rest is None:
                record = self._next_record()
                if record is None:
                    break
                try:
                    self._rest = (record.seq, record.columns())
                except DataError:
                    self.damaged += record.n
                    if not parts:  # An empty chunk carries the cursor past it.
                        return Chunk(self._kind, record.seq, record.end, [])
                    self._records.insert(0, record)
                    self.damaged -= record.n
                    break
            seq, columns = self._rest
            if parts and seq != end:
                break
            n = min(wanted, len(columns[0]))
            parts.append(cut(columns, 0, n))
            start, end = (seq if start < 0 else start), seq + n
            wanted -= n
            left = cut(columns, n, len(columns[0]))
            self._rest = (end, left) if len(left[0]) else None
        if not parts:
            return None
        lines = self._encoder.samples(joined(parts))
        return Chunk(self._kind, start, end, lines)

    def _others(self, lines_max: int) -> Chunk | None:
        start = end = -1
        lines: list[str] = []
        while len(lines) < lines_max:
            record = self._next_record()
            if record is None:
                break
            if start >= 0 and record.seq != end:
                self._records.insert(0, record)
                break
            try:
                lines += self._encoder.record(record)
            except DataError:
                self.damaged += record.n
            start, end = (record.seq if start < 0 else start), record.end
        return Chunk(self._kind, start, end, lines) if start >= 0 else None
