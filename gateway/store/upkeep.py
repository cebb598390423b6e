"""Keeps the log within its bounds and its blocks large, in small steps in the writer's thread.

Small blocks (a slow gateway commits a few samples at a time) are merged, because a sample in a
large block takes a third of the bytes. Order and numbers stay as they were.
"""

from collections.abc import Callable
from dataclasses import dataclass

import structlog

from gateway.core.errors import DataError
from gateway.store.blocks import Columns, decode, joined
from gateway.store.clock_watch import NEVER_SET_NS
from gateway.store.config import Bound, StoreConfig
from gateway.store.journal import INSERT, Journal, Transaction
from gateway.store.record import DROP_ORDER, Kind

ROWS_PER_PASS_MAX = 512
MERGE_SAMPLES = 16_384
MERGE_ROWS = 256
MERGE_BYTES_MAX = 8_000_000
LARGE_SAMPLES = 4_096
"""A block of so many is large enough as it is."""
AGE_NS_PER_PASS_MAX = 600 * 1_000_000_000
"""Data that goes by age in one pass: a clock that is years off does not empty the log at once."""
NEAR_FULL = 0.9
PRECIOUS = (Kind.SUMMARY, Kind.TRANSITION)
"""Dropped for room only after an alarm has said so, and some time to act on it."""
PASSES_BEFORE_PRECIOUS = 60

Unread = Callable[[Kind, int, int], int]
"""How many numbers of [start, end) of a kind some reader still needs."""

_events = structlog.get_logger()
_DAY_NS = 86_400 * 1_000_000_000


@dataclass(slots=True)
class Room:
    """What the last pass found.

    Attributes:
        near_full: Data that a reader still needs will soon be dropped.
        only_precious: Nothing but alarms and summaries is left to drop.
        lost: Samples and records dropped that some reader still needed, since the start.
    """

    near_full: bool = False
    only_precious: bool = False
    lost: int = 0


class Upkeep:
    """Bounds and merging of one log."""

    def __init__(self, config: StoreConfig, unread: Unread) -> None:
        self._config = config
        self.unread = unread
        self._bounds: dict[Kind, Bound] = {
            Kind.SAMPLES: config.samples,
            Kind.WAVEFORM: config.waveforms,
            Kind.HEALTH: config.health,
            Kind.ASSESSMENT: config.assessments,
            Kind.SUMMARY: config.summaries,
            Kind.TRANSITION: config.alarms,
        }
        self._merge_from = -1
        self._passes_precious = 0
        self.room = Room()

    def work(self, journal: Journal, now_ns: int) -> None:
        """One pass: merge, then drop what is too old or too much.

        Raises:
            sqlite3.Error: The disk fails; the pass is undone as far as it was not committed.
        """
        while self._merge(journal):
            pass
        for kind in DROP_ORDER:
            self._drop_old(journal, kind, now_ns)
            excess = journal.bytes[kind] - round(self._bounds[kind].gb * 1e9)
            if excess > 0:
                self._drop(journal, kind, excess)
        self._make_room(journal)
        self.room.near_full = any(self._near_full(journal, kind) for kind in DROP_ORDER)

    def _drop_old(self, journal: Journal, kind: Kind, now_ns: int) -> None:
        """Drop what every reader has had and is too old by the clock at its commit.

        From the front of the log only, so that a stamp that is wrong takes nothing with it that
        is younger; what was committed before the clock was set (1970) waits for its neighbours.
        """
        rows = journal.db.execute(
            f"SELECT seq, n, length(payload), t_log FROM {kind.value} ORDER BY seq LIMIT ?",  # noqa: S608
            (ROWS_PER_PASS_MAX,),
        ).fetchall()
        stamps = [row[3] for row in rows if row[3] >= NEVER_SET_NS]
        if not stamps:
            return
        limit_ns = now_ns - round(self._bounds[kind].days * _DAY_NS)
        limit_ns = min(limit_ns, min(stamps) + AGE_NS_PER_PASS_MAX)
        old = [i for i, row in enumerate(rows) if NEVER_SET_NS <= row[3] < limit_ns]
        if not old:
            return
        gone = rows[: old[-1] + 1]
        if not self.unread(kind, gone[0][0], gone[-1][0] + gone[-1][1]):
            self._delete(journal, kind, [row[:3] for row in gone])

    def _drop(self, journal: Journal, kind: Kind, excess: int) -> int:
        """Drop the oldest until `excess` bytes are free; returns the bytes that are."""
        rows, freed = [], 0
        for row in journal.db.execute(
            f"SELECT seq, n, length(payload) FROM {kind.value} ORDER BY seq LIMIT ?",  # noqa: S608
            (ROWS_PER_PASS_MAX,),
        ):
            if freed >= excess:
                break
            rows.append(row)
            freed += row[2]
        self._delete(journal, kind, rows)
        return freed

    def _make_room(self, journal: Journal) -> None:
        excess = journal.file_bytes() - round(self._config.gb_max * 1e9)
        self.room.only_precious = False
        for kind in DROP_ORDER:
            if excess <= 0:
                break
            if kind in PRECIOUS and journal.bytes[kind]:
                self.room.only_precious = True
                self._passes_precious += 1
                if self._passes_precious <= PASSES_BEFORE_PRECIOUS:
                    break
            excess -= self._drop(journal, kind, excess)
            if journal.bytes[kind]:
                break  # The next pass drops more of it, before anything more precious.
        if not self.room.only_precious:
            self._passes_precious = 0

    def _delete(self, journal: Journal, kind: Kind, rows: list[tuple[int, int, int]]) -> None:
        if not rows:
            return
        lost = sum(self.unread(kind, seq, seq + n) for seq, n, _ in rows)
        size, dropped = journal.bytes.copy(), journal.dropped.copy()
        size[kind] -= sum(row[2] for row in rows)
        dropped[kind] += lost
        with Transaction(journal.db):
            journal.db.executemany(
                f"DELETE FROM {kind.value} WHERE seq = ?",  # noqa: S608
                ((seq,) for seq, _, _ in rows),
            )
            journal.put_kinds((kind,), journal.head, size, dropped)
        journal.bytes, journal.dropped = size, dropped
        if lost and not self.room.lost:
            _events.error("log.unread_dropped", kind=kind.value, n=lost)
        self.room.lost += lost

    def _near_full(self, journal: Journal, kind: Kind) -> bool:
        """Whether the oldest tenth will soon go although a reader has not had it."""
        full = journal.bytes[kind] >= NEAR_FULL * self._bounds[kind].gb * 1e9
        if not full and journal.file_bytes() < NEAR_FULL * self._config.gb_max * 1e9:
            return False
        (first,) = journal.db.execute(f"SELECT min(seq) FROM {kind.value}").fetchone()  # noqa: S608
        if first is None:
            return False
        return self.unread(kind, first, first + (journal.head[kind] - first) // 10 + 1) > 0

    def _merge(self, journal: Journal) -> bool:
        """Merge one run of small sample blocks. Returns whether there may be another."""
        if self._merge_from < 0:
            self._merge_from = _recent(journal)
        run: list[tuple[int, Columns, int, int]] = []
        end = samples = size = 0
        rows = journal.db.execute(
            "SELECT seq, n, t_min, t_max, t_log, payload FROM samples "
            "WHERE seq >= ? ORDER BY seq LIMIT ?",
            (self._merge_from, MERGE_ROWS),
        )
        t_min, t_max, t_log = 1 << 62, -(1 << 62), 0
        for seq, n, low, high, logged, payload in rows.fetchall():
            columns = _small(n, payload)
            if columns is None or (run and seq != end):
                if len(run) > 1:
                    break
                run, samples, size = [], 0, 0
                if columns is None:
                    self._merge_from = seq + n
                    continue
            if not run:
                t_min, t_max, t_log = low, high, logged
            run.append((seq, columns, n, len(payload)))
            end, samples, size = seq + n, samples + n, size + len(payload)
            t_min, t_max, t_log = min(t_min, low), max(t_max, high), max(t_log, logged)
            if samples >= MERGE_SAMPLES or size >= MERGE_BYTES_MAX:
                break
        else:
            if len(run) < MERGE_ROWS:
                return False  # The end of the log: more will come.
        if len(run) < 2:
            self._merge_from = end if run else self._merge_from
            return False
        merged = journal.pack(joined([columns for _, columns, _, _ in run]))
        total = journal.bytes.copy()
        total[Kind.SAMPLES] += len(merged) - size
        with Transaction(journal.db):
            journal.db.execute("DELETE FROM samples WHERE seq >= ? AND seq < ?", (run[0][0], end))
            journal.db.execute(
                INSERT[Kind.SAMPLES], (run[0][0], samples, t_min, t_max, t_log, merged)
            )
            journal.put_kinds((Kind.SAMPLES,), journal.head, total, journal.dropped)
        journal.bytes = total
        self._merge_from = end
        return True


def _small(n: int, payload: bytes) -> Columns | None:
    """The columns of a block that is worth merging; a damaged one is left as it is."""
    if n >= LARGE_SAMPLES:
        return None
    try:
        return decode(payload)
    except DataError:
        return None


def _recent(journal: Journal) -> int:
    """Where to look for small blocks after a start: what is older was merged before."""
    found = journal.db.execute(
        "SELECT seq FROM samples ORDER BY seq DESC LIMIT 1 OFFSET ?", (8 * MERGE_ROWS,)
    ).fetchone()
    return int(found[0]) if found else 0
