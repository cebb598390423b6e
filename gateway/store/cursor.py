"""One reader's durable place in the log: what it has had, what it missed, how far it is behind."""

import threading
from collections.abc import Callable, Sequence
from enum import StrEnum

from gateway.store.reader import BLOCKS_MAX, LogReader
from gateway.store.record import Kind, Record
from gateway.store.spans import OPEN_END, Spans


class Part(StrEnum):
    """Which of the undone ranges to read."""

    ALL = "all"
    LIVE = "live"
    BACKLOG = "backlog"


class Cursor:
    """A place for each kind. Reading moves nothing; `advance` does, durably with the next commit.

    A record that was read and not advanced past is given again after a crash: a reader must stand
    that, by writing what overwrites itself, or by keeping its place beside its own data.

    Attributes:
        missed: Samples or records of each kind that were dropped before this cursor had them.
    """

    def __init__(
        self,
        name: str,
        reader: LogReader,
        heads: Callable[[], dict[Kind, int]],
        put: Callable[[str, Kind, str, int], None],
        kinds: frozenset[Kind] = frozenset(Kind),
    ) -> None:
        self.name = name
        self.kinds = kinds
        self._reader = reader
        self._heads = heads
        self._put = put
        self._lock = threading.Lock()
        self._spans = {kind: Spans() for kind in Kind}
        self.missed = dict.fromkeys(Kind, 0)
        for owner, kind, spans, missed in reader.cursors():
            if owner == name:
                self._spans[kind] = Spans.from_json(spans)
                self.missed[kind] = missed

    def read(
        self,
        kind: Kind,
        *,
        records_max: int = BLOCKS_MAX,
        after: int = 0,
        part: Part = Part.ALL,
    ) -> Sequence[Record]:
        """The next records of a kind, oldest first; with `part`, of the newest range or all others.

        Only what is committed is given. With `after` (the `end` of the last record that was read),
        a reader may run ahead of what it has advanced past. A range that was dropped is counted in
        `missed` and passed over.

        Raises:
            StoreError: The file cannot be read at present.
        """
        head = self._heads()[kind]
        while True:
            with self._lock:
                spans = self._spans[kind]
                found = _next(spans, after, part)
                if found is None:
                    return ()
                start, end = max(found[0], after), found[1]
            end = min(end, head)
            if start >= end:
                return ()
            records = self._reader.read(kind, start, end, records_max=records_max)
            first = records[0].seq if records else end
            if first > start:
                self._miss(kind, start, min(first, end))
            if records or end == head:
                return _until(records, end)

    def advance(self, record: Record) -> None:
        """This record is dealt with."""
        self.done(record.kind, record.seq, record.end)

    def done(self, kind: Kind, start: int, end: int) -> None:
        """Everything of [start, end) is dealt with."""
        with self._lock:
            self._spans[kind].done(start, end)
            self._store(kind)

    def skip_to_live(self, kind: Kind) -> bool:
        """Let reads of `Part.LIVE` begin at the present head; what lies before stays to be read."""
        with self._lock:
            moved = self._spans[kind].skip_to(self._heads()[kind])
            if moved:
                self._store(kind)
            return moved

    def restart(self, kind: Kind, at: int) -> None:
        """Begin again at `at`: for a reader that keeps its place beside its own data."""
        with self._lock:
            self._spans[kind] = Spans(((at, OPEN_END),))
            self._store(kind)

    def position(self, kind: Kind) -> int:
        """The oldest sequence number that is not dealt with."""
        with self._lock:
            return self._spans[kind].first

    def live_position(self, kind: Kind) -> int:
        """Where the newest range begins."""
        with self._lock:
            return self._spans[kind].live

    def ranges(self, kind: Kind) -> int:
        """How many separate ranges are undone; 1 when it reads in order."""
        with self._lock:
            return len(self._spans[kind])

    def lag(self, kind: Kind = Kind.SAMPLES) -> int:
        """How many committed samples (or records) it still has to deal with."""
        head = self._heads()[kind]
        with self._lock:
            return self._spans[kind].undone(head)

    def unread(self, kind: Kind, start: int, end: int) -> int:
        """How many of [start, end) it still has to deal with."""
        if kind not in self.kinds:
            return 0
        with self._lock:
            return self._spans[kind].within(start, end)

    def close(self) -> None:
        """Let go of the file."""
        self._reader.close()

    def _miss(self, kind: Kind, start: int, end: int) -> None:
        with self._lock:
            self.missed[kind] += end - start
            self._spans[kind].done(start, end)
            self._store(kind)

    def _store(self, kind: Kind) -> None:
        self._put(self.name, kind, self._spans[kind].to_json(), self.missed[kind])


def _next(spans: Spans, after: int, part: Part) -> tuple[int, int] | None:
    """The oldest undone range of the part that reaches past `after`."""
    live = (spans.live, OPEN_END)
    if part is Part.LIVE:
        return live
    ranges = (r for r in spans if r[1] > after and (part is Part.ALL or r != live))
    return next(ranges, None)


def _until(records: list[Record], end: int) -> list[Record]:
    """Cut the last record where it reaches past the end of the range."""
    if records and records[-1].end > end:
        last = records[-1]
        records[-1] = Record(
            last.kind,
            last.seq,
            end - last.seq,
            last.t_min_ns,
            last.t_max_ns,
            last.payload,
            last.skip,
        )
    return records
