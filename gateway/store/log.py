"""The durable log: what happened is appended once, and each reader keeps a place of its own.

`append` never waits for the disk. A thread commits what has gathered, as one transaction, within
`commit_s`. While the disk takes nothing, records gather in memory up to a bound, then the oldest
raw ones go, counted; assessment and alarms go on, and a condition tells.
"""

import sqlite3
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Never

import structlog

from gateway.core.alarm import Condition, Transition
from gateway.core.clock import Clock
from gateway.core.errors import StoreError
from gateway.core.signals import SignalTable
from gateway.store.bell import Bell
from gateway.store.blocks import Columns
from gateway.store.config import StoreConfig
from gateway.store.cursor import Cursor
from gateway.store.log_conditions import conditions
from gateway.store.owner import Owner
from gateway.store.pending import Pending
from gateway.store.reader import LogReader
from gateway.store.record import Item, Kind, Record
from gateway.store.schema import FILE_NAME
from gateway.store.writer import State, Writer

_events = structlog.get_logger()


def unheard(_: Condition) -> None:
    """Report to nobody: for tools and tests that run no alarm engine."""


class Log:
    """The log of one gateway. Made by `Log.open`.

    Attributes:
        directory: The data directory.
        signals: The gateway's signal table; new signals are kept with the first commit after.
        committed: Rung after every commit and change of state.
    """

    def __init__(self, directory: Path, config: StoreConfig, clock: Clock, owner: Owner) -> None:
        """Use `Log.open`."""
        self.directory = directory
        self.path = directory / FILE_NAME
        self._clock = clock
        self._owner = owner
        self._pending = Pending(round(config.memory_mb_max * 1e6))
        self._cursors: dict[str, Cursor] = {}
        self._readers: list[LogReader] = []
        self._values: dict[tuple[str, str], bytes | None] = {}
        self._writer = Writer(
            self.path, config, clock, self._pending, self._unread, self._reopen_readers
        )
        self._reader = self._new_reader()
        self.signals: SignalTable = self._writer.signals
        self.committed: Bell = self._writer.rung

    @classmethod
    def open(cls, directory: Path, config: StoreConfig, clock: Clock) -> "Log":
        """Own the data directory and open its log, making both where they are missing.

        A damaged log is set aside and salvaged; `state.damaged` and a condition tell.

        Raises:
            StoreError: Another process owns the directory, the disk takes nothing, or the file is
                a newer program's.
        """
        owner = Owner(directory)
        try:
            return cls(directory, config, clock, owner)
        except sqlite3.Error as error:
            owner.release()
            raise StoreError(
                f"{directory / FILE_NAME}: the log cannot be opened ({error}); free or repair the "
                "disk"
            ) from error
        except BaseException:
            owner.release()
            raise

    def append(self, item: Item) -> None:
        """Take one record, to be durable within `commit_s`. Never blocks on the disk."""
        self._pending.append(item)
        self._writer.wake()

    def state_get(self, namespace: str, key: str) -> bytes | None:
        """A small value that was put, whether or not it is committed yet."""
        if (namespace, key) in self._values:
            return self._values[namespace, key]
        return self._reader.state(namespace).get(key)

    def state_put(self, namespace: str, key: str, value: bytes | None) -> None:
        """Put a small value, committed with the next group; None deletes it."""
        self._values[namespace, key] = value
        self._pending.put_state(namespace, key, value)
        self._writer.wake()

    async def flush(self, *, even_held: bool = True) -> None:
        """Wait until everything appended so far is durable, or dropped by policy and counted.

        Waits for as long as the disk takes nothing, unless told otherwise: bound it where that
        matters.
        """
        wanted = self._pending.generation
        seen = self.committed.rings
        self._writer.wake(hurry=True)
        while self.state.durable < wanted and (even_held or not self.held):
            self._raise_bug()
            seen = await self.committed.wait(seen)

    async def wait_for(self, kind: Kind, seq: int) -> None:
        """Return as soon as the record with number `seq` of this kind is committed."""
        seen = self.committed.rings
        while self.state.heads[kind] <= seq:
            self._raise_bug()
            seen = await self.committed.wait(seen)

    async def run(self, report: Callable[[Condition], None] = unheard) -> Never:
        """Report conditions until cancelled; raise what broke the writer thread."""
        seen = -1
        told: dict[str, bool | None] = {}
        while True:
            seen = await self.committed.wait(seen)
            self._raise_bug()
            for condition in conditions(
                self.state, self._pending, self.directory, self._clock.wall_ns()
            ):
                if condition.active != told.get(condition.alarm, False):
                    told[condition.alarm] = condition.active
                    report(condition)

    def close(self) -> None:
        """Commit what is left, end the thread, let go of the directory."""
        # Readers first: the last connection to close, the writer's, then empties the WAL file.
        for reader in self._readers:
            reader.close()
        self._writer.close()
        self._owner.release()
        lost = self._pending.waiting()
        if lost:
            counts = {kind.value: n for kind, n in lost.items()}
            _events.error("log.closed", lost=counts, held=self.state.held)

    @property
    def state(self) -> State:
        """What the writer says of itself."""
        return self._writer.state

    @property
    def held(self) -> str:
        """Why the disk takes nothing at present; "" while it does."""
        return self.state.held

    def cursor(self, name: str, kinds: Collection[Kind] = tuple(Kind)) -> Cursor:
        """The reader's place of that name, made at the start of the log where it is new.

        Records of other kinds than `kinds` do not wait for it when room must be made.
        """
        if name not in self._cursors:
            reader = self._new_reader()
            put = self._put_cursor
            self._cursors[name] = Cursor(name, reader, self.heads, put, frozenset(kinds))
        return self._cursors[name]

    def release(self, name: str) -> None:
        """Nobody reads on from that place any more, so nothing is kept for it."""
        self._cursors.pop(name, None)

    def cursors(self) -> dict[str, Cursor]:
        """Every cursor in use, for showing how far each is behind."""
        return dict(self._cursors)

    def heads(self) -> dict[Kind, int]:
        """The next sequence number of each kind, as committed."""
        return self.state.heads

    def epoch(self) -> str:
        """Changes when the log was started anew, so that places in it mean nothing any more."""
        return self._reader.epoch()

    def samples(self, start_ns: int, end_ns: int, signals: Sequence[int] | None = None) -> Columns:
        """All committed samples of [start_ns, end_ns), oldest first. See `LogReader.samples`."""
        return self._reader.samples(start_ns, end_ns, signals)

    def backwards(self, kind: Kind, before: int) -> Iterator[tuple[int, Record]]:
        """Committed records below a number, newest first. See `LogReader.backwards`."""
        return self._reader.backwards(kind, before)

    def transitions(
        self, start_ns: int = -(1 << 62), end_ns: int = 1 << 62
    ) -> Iterator[Transition]:
        """Alarm transitions in the order in which they were logged."""
        return self._reader.transitions(start_ns, end_ns)

    def counters(self) -> dict[str, int]:
        """What the log counts; see `store.md` for the words."""
        state = self.state
        counts = {
            "commits": state.commits,
            "file_bytes": state.file_bytes,
            "memory_bytes": self._pending.bytes,
            "damaged": sum(reader.damaged for reader in self._readers),
        }
        for kind in Kind:
            counts[f"{kind.value}_appended"] = self._pending.appended[kind]
            counts[f"{kind.value}_kept_bytes"] = state.kept.get(kind, 0)
            dropped = state.dropped.get(kind, 0) + self._pending.uncounted(kind)
            counts[f"{kind.value}_dropped"] = dropped
        return counts

    def _new_reader(self) -> LogReader:
        reader = LogReader(self.path, on_damage=self._writer.suspect)
        self._readers.append(reader)
        return reader

    def _reopen_readers(self) -> None:
        for reader in self._readers:
            reader.reopen()

    def _unread(self, kind: Kind, start: int, end: int) -> int:
        """How many of [start, end) the reader that is furthest behind still needs."""
        return max((c.unread(kind, start, end) for c in list(self._cursors.values())), default=0)

    def _put_cursor(self, name: str, kind: Kind, spans: str, missed: int) -> None:
        self._pending.put_cursor(name, kind, spans, missed)
        self._writer.wake()

    def _raise_bug(self) -> None:
        if self._writer.bug is not None:
            raise RuntimeError("the log's writer thread ended") from self._writer.bug
