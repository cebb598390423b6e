"""The durable log: what happened is appended once, and each reader keeps a place of its own.

`append` never waits for the disk. A thread commits what has gathered, as one transaction, within
`commit_s`. While the disk takes nothing, records gather in memory up to a bound, then the oldest
raw ones go, counted; assessment and alarms go on, and a condition tells.
"""

import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import structlog

from gateway.core.alarm import Cause, Condition, Priority, Transition
from gateway.core.clock import Clock
from gateway.core.errors import StoreError
from gateway.store.bell import Bell
from gateway.store.blocks import Columns
from gateway.store.config import StoreConfig
from gateway.store.cursor import Cursor
from gateway.store.journal import Journal
from gateway.store.owner import Owner
from gateway.store.pending import Group, Pending
from gateway.store.reader import LogReader
from gateway.store.record import Item, Kind
from gateway.store.schema import FILE_NAME, is_corrupt

RETRY_S_MIN = 0.5
RETRY_S_MAX = 5.0
CLOSE_S_MAX = 4.0

_events = structlog.get_logger()


def unheard(_: Condition) -> None:
    """Report to nobody: for tools and tests that run no alarm engine."""


class Log:
    """The log of one gateway. Made by `Log.open`.

    Attributes:
        directory: The data directory.
        signals: The gateway's signal table; new signals are kept with the first commit after.
        held: Why the disk takes nothing at present; "" while it does.
        commits: Transactions since the start.
        committed: Rung after every commit and change of state.
    """

    def __init__(
        self, directory: Path, config: StoreConfig, clock: Clock, owner: Owner, journal: Journal
    ) -> None:
        self.directory = directory
        self.path = journal.path
        self.signals = journal.signals
        self.held = ""
        self.commits = 0
        self.committed = Bell()
        self._config = config
        self._clock = clock
        self._owner = owner
        self._journal: Journal | None = journal
        self._pending = Pending(round(config.memory_mb_max * 1e6))
        self._heads = dict(journal.head)
        self._durable = 0
        self._state: dict[tuple[str, str], bytes | None] = {}
        self._work = threading.Condition()
        self._hurry = False
        self._closing = False
        self._bug: BaseException | None = None
        self._reader = LogReader(self.path)
        self._cursors: dict[str, Cursor] = {}
        self._thread = threading.Thread(target=self._main, name="log", daemon=True)
        self._thread.start()

    @classmethod
    def open(cls, directory: Path, config: StoreConfig, clock: Clock) -> "Log":
        """Own the data directory and open its log, making both where they are missing.

        Raises:
            StoreError: Another process owns the directory, the disk takes nothing, or the file is
                a newer program's.
        """
        owner = Owner(directory)
        path = directory / FILE_NAME
        try:
            journal = Journal(path, single=config.values == "float32")
        except sqlite3.Error as error:
            owner.release()
            raise StoreError(
                f"{path}: the log cannot be opened ({error}); free or repair the disk"
            ) from error
        except BaseException:
            owner.release()
            raise
        return cls(directory, config, clock, owner, journal)

    def append(self, item: Item) -> None:
        """Take one record, to be durable within `commit_s`. Never blocks on the disk."""
        self._pending.append(item)
        self._wake()

    def state_get(self, namespace: str, key: str) -> bytes | None:
        """A small value that was put, whether or not it is committed yet."""
        if (namespace, key) in self._state:
            return self._state[namespace, key]
        return self._reader.state(namespace).get(key)

    def state_put(self, namespace: str, key: str, value: bytes | None) -> None:
        """Put a small value, committed with the next group; None deletes it."""
        self._state[namespace, key] = value
        self._pending.put_state(namespace, key, value)
        self._wake()

    async def flush(self) -> None:
        """Wait until everything appended so far is durable, or dropped by policy and counted.

        Waits for as long as the disk takes nothing: bound it where that matters.
        """
        wanted = self._pending.generation
        self._hurry = True
        self._wake()
        seen = self.committed.rings
        while self._durable < wanted:
            self._raise_bug()
            seen = await self.committed.wait(seen)

    async def run(self, report: Callable[[Condition], None] = unheard) -> None:
        """Report conditions until cancelled; raise what broke the writer thread."""
        seen, told = -1, ""
        while True:
            seen = await self.committed.wait(seen)
            self._raise_bug()
            if self.held != told:
                told = self.held
                report(self._held_condition(told))

    async def wait_for(self, kind: Kind, seq: int) -> None:
        """Return as soon as the record with number `seq` of this kind is committed."""
        seen = self.committed.rings
        while self._heads[kind] <= seq:
            self._raise_bug()
            seen = await self.committed.wait(seen)

    def close(self) -> None:
        """Commit what is left, end the thread, let go of the directory."""
        with self._work:
            self._closing = True
            self._work.notify_all()
        self._thread.join(CLOSE_S_MAX)
        for cursor in self._cursors.values():
            cursor.close()
        self._reader.close()
        self._owner.release()
        lost = self._pending.waiting()
        if lost:
            _events.error("log.closed", lost=dict(lost), held=self.held)

    def cursor(self, name: str) -> Cursor:
        """The reader's place of that name, made at the start of the log where it is new."""
        if name not in self._cursors:
            reader = LogReader(self.path)
            self._cursors[name] = Cursor(name, reader, self.heads, self._put_cursor)
        return self._cursors[name]

    def cursors(self) -> dict[str, Cursor]:
        """Every cursor in use, for showing how far each is behind."""
        return dict(self._cursors)

    def heads(self) -> dict[Kind, int]:
        """The next sequence number of each kind, as committed."""
        return self._heads

    def epoch(self) -> str:
        """Changes when the log was started anew, so that places in it mean nothing any more."""
        return self._reader.epoch()

    def samples(self, start_ns: int, end_ns: int, signals: Sequence[int] | None = None) -> Columns:
        """All committed samples of [start_ns, end_ns), oldest first. See `LogReader.samples`."""
        return self._reader.samples(start_ns, end_ns, signals)

    def transitions(
        self, start_ns: int = -(1 << 62), end_ns: int = 1 << 62
    ) -> Iterator[Transition]:
        """Alarm transitions in the order in which they were logged."""
        return self._reader.transitions(start_ns, end_ns)

    def counters(self) -> dict[str, int]:
        """What the log counts: appended, dropped and kept of each kind, and memory in use."""
        counts = {"pending_bytes": self._pending.bytes, "commits": self.commits}
        for kind in Kind:
            counts[f"{kind.value}_appended"] = self._pending.appended[kind]
            counts[f"{kind.value}_dropped"] = self._pending.dropped[kind]
        return counts

    def _put_cursor(self, name: str, kind: Kind, spans: str, missed: int) -> None:
        self._pending.put_cursor(name, kind, spans, missed)
        self._wake()

    def _wake(self) -> None:
        with self._work:
            self._work.notify_all()

    def _raise_bug(self) -> None:
        if self._bug is not None:
            raise RuntimeError("the log's writer thread ended") from self._bug

    def _held_condition(self, why: str) -> Condition:
        return Condition(
            asset="",
            alarm="log.held",
            cause=Cause.SYSTEM,
            active=bool(why),
            t_ns=self._clock.wall_ns(),
            priority=Priority.HIGH,
            text=f"The log cannot be written ({why}); data is held in memory. Free or repair the "
            f"disk of {self.directory}."
            if why
            else "The log is written again.",
            on_delay_s=0,
            off_delay_s=0,
        )

    # What follows runs in the writer thread.

    def _main(self) -> None:
        try:
            retry_s = RETRY_S_MIN
            while True:
                with self._work:
                    self._work.wait_for(lambda: self._closing or bool(self._pending))
                    self._work.wait_for(lambda: self._closing or self._hurry, self._config.commit_s)
                    closing = self._closing
                    self._hurry = False
                if self._commit():
                    retry_s = RETRY_S_MIN
                elif not closing:
                    with self._work:
                        self._work.wait_for(lambda: self._closing, retry_s)
                    retry_s = min(2 * retry_s, RETRY_S_MAX)
                if closing and (self.held or not self._pending):
                    return
        except BaseException as error:  # noqa: BLE001  # Carried to `run`, which raises it.
            self._bug = error
        finally:
            if self._journal is not None:
                self._journal.close()
            self.committed.ring()

    def _commit(self) -> bool:
        group = self._pending.take()
        try:
            journal = self._open_journal()
            if group:
                journal.commit(group)
        except sqlite3.Error as error:
            self._pending.put_back(group)
            self._hold(error)
            return False
        self._pending.settle(group)
        self._settle(journal, group)
        return True

    def _settle(self, journal: Journal, group: Group) -> None:
        self._heads = dict(journal.head)
        self._durable = max(self._durable, group.generation)
        self.commits += 1
        if self.held:
            _events.info("log.resumed", path=str(self.path))
            self.held = ""
        self.committed.ring()

    def _hold(self, error: sqlite3.Error) -> None:
        """Go on in memory; the file is opened anew at each attempt, whatever became of the disk."""
        if self._journal is not None:
            self._journal.close()
            self._journal = None
        if not self.held:
            _events.error("log.held", path=str(self.path), error=str(error))
        self.held = f"{'damaged: ' if is_corrupt(error) else ''}{error}"
        self.committed.ring()

    def _open_journal(self) -> Journal:
        if self._journal is None:
            self._journal = Journal(
                self.path, self.signals, single=self._config.values == "float32"
            )
        return self._journal
