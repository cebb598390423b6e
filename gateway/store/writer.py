"""The thread that commits what waits, keeps the file in shape, and outlives a disk that fails."""

import shutil
import sqlite3
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import structlog

from gateway.core.clock import Clock
from gateway.core.errors import StoreError
from gateway.core.signals import SignalTable
from gateway.store.bell import Bell
from gateway.store.config import StoreConfig
from gateway.store.journal import Journal
from gateway.store.pending import Group, Pending
from gateway.store.reader import LogReader
from gateway.store.record import Kind
from gateway.store.salvage import salvage, set_aside, unfinished
from gateway.store.schema import is_corrupt, is_disk
from gateway.store.upkeep import Room, Unread, Upkeep

RETRY_S_MIN = 0.5
RETRY_S_MAX = 5.0
CLOSE_S_MAX = 4.0
COMMITS_PER_UPKEEP = 64
IDLE_UPKEEP_S = 60.0
ROOM_SHARE_MAX = 0.05
"""Of the whole disk: more need not be free for the log to call itself well again."""

_events = structlog.get_logger()


@dataclass(slots=True)
class State:
    """What the writer says of itself; read by other threads, written by its own alone.

    Attributes:
        held: Why the disk takes nothing at present, or may soon take nothing again; "" otherwise.
        damaged: What became of a log that was damaged; "" if none was since the start.
        commits: Transactions since the start.
        durable: Everything appended up to this generation is on the disk or was dropped.
        heads: The next sequence number of each kind, as committed.
        kept: Bytes of payload kept of each kind.
        dropped: Samples and records dropped by policy, of each kind, ever.
        file_bytes: Bytes in use in the file.
        room: What the last pass of upkeep found.
    """

    heads: dict[Kind, int]
    kept: dict[Kind, int]
    dropped: dict[Kind, int]
    room: Room
    held: str = ""
    damaged: str = ""
    commits: int = 0
    durable: int = 0
    file_bytes: int = 0


def open_journal(
    path: Path, config: StoreConfig, signals: SignalTable | None = None
) -> tuple[Journal, str]:
    """Open the log; one that is damaged is set aside and salvaged first.

    Returns:
        The journal, and what became of a damaged one ("" where none was).

    Raises:
        StoreError: It is another program's file, or a newer one.
        sqlite3.Error: The disk takes nothing.
    """
    single = config.values == "float32"
    aside = unfinished(path)
    try:
        if aside is None:
            return Journal(path, signals, single=single), ""
    except sqlite3.Error as error:
        if not is_corrupt(error):
            raise
        aside = set_aside(path)
    found = salvage(path, aside)
    return Journal(path, signals, single=single), f"{found.aside.name}: {found}"


class Writer:
    """Owns the journal. Started by its maker, ended by `close`."""

    def __init__(
        self,
        path: Path,
        config: StoreConfig,
        clock: Clock,
        pending: Pending,
        unread: Unread,
        reopen_readers: Callable[[], None],
    ) -> None:
        """Open the log and start.

        Raises:
            StoreError: It is another program's file, or a newer one.
            sqlite3.Error: The disk takes nothing.
        """
        self._path = path
        self._config = config
        self._clock = clock
        self._pending = pending
        self._reopen_readers = reopen_readers
        self._upkeep = Upkeep(config, unread)
        self._work = threading.Condition()
        self._idle = self._hurry = self._closing = self._suspect = False
        self._journal: Journal | None = None
        self.rung = Bell()
        self.bug: BaseException | None = None
        self.state = State({}, {}, {}, self._upkeep.room)
        self.signals = self._first_open()
        self._thread = threading.Thread(target=self._main, name="log", daemon=True)
        self._thread.start()

    def _first_open(self) -> SignalTable:
        """Open the log; where the disk only gives and does not take, start with it held."""
        state = self.state
        try:
            journal, state.damaged = open_journal(self._path, self._config)
        except sqlite3.Error as error:
            if not is_disk(error):
                raise
            try:
                reader = LogReader(self._path)
                signals, state.heads = reader.signals(), reader.heads()
                reader.close()
            except StoreError:
                # Without the signal table numbers would be given twice: this must not start.
                raise error from None
            self._hold(error)
            return signals
        self._journal = journal
        state.heads, state.kept = dict(journal.head), dict(journal.bytes)
        state.dropped = dict(journal.dropped)
        return journal.signals

    def wake(self, *, hurry: bool = False) -> None:
        """Something waits; with `hurry`, commit it now."""
        with self._work:
            self._hurry = self._hurry or hurry
            if self._idle or hurry:  # What gathers for a commit is taken when its time has come.
                self._work.notify_all()

    def suspect(self) -> None:
        """A reader found the file damaged: set it aside and salvage it."""
        with self._work:
            self._suspect = True
            self._work.notify_all()

    def close(self) -> None:
        """Commit what is left, as far as the disk takes it, and end."""
        with self._work:
            self._closing = True
            self._work.notify_all()
        self._thread.join(CLOSE_S_MAX)

    def _main(self) -> None:
        try:
            self._run()
        except BaseException as error:  # noqa: BLE001  # Carried to `Log.run`, which raises it.
            self.bug = error
        finally:
            if self._journal is not None:
                self._journal.close()
            self.rung.ring()

    def _run(self) -> None:
        retry_s = RETRY_S_MIN
        since_upkeep = COMMITS_PER_UPKEEP  # The first pass comes with the first commit.
        while True:
            with self._work:
                self._idle = True
                idle = not self._work.wait_for(
                    lambda: self._closing or self._suspect or bool(self._pending), IDLE_UPKEEP_S
                )
                self._idle = False
                self._work.wait_for(lambda: self._closing or self._hurry, self._config.commit_s)
                closing, self._hurry = self._closing, False
            since_upkeep += 1
            upkeep = not closing and (idle or since_upkeep >= COMMITS_PER_UPKEEP)
            taken = self._step(upkeep=upkeep)
            if taken:
                retry_s = RETRY_S_MIN
                since_upkeep = 0 if upkeep else since_upkeep
            elif not closing:
                with self._work:
                    self._work.wait_for(lambda: self._closing, retry_s)
                retry_s = min(2 * retry_s, RETRY_S_MAX)
            if closing and not (taken and self._pending):
                return

    def _step(self, *, upkeep: bool) -> bool:
        """Commit what waits. Returns whether the disk took it."""
        group = self._pending.take()
        try:
            journal = self._open()
            if group:
                journal.commit(group, self._clock.wall_ns())
        except (sqlite3.Error, StoreError) as error:
            self._pending.put_back(group)
            self._hold(error)
            return False
        except BaseException:
            self._pending.put_back(group)
            raise
        self._pending.settle(group)
        self._settle(journal, group)
        if upkeep:
            try:
                self._upkeep.work(journal, self._clock.wall_ns())
                self.state.file_bytes = journal.file_bytes()
            except sqlite3.Error as error:
                self._hold(error)
                return False
            self.rung.ring()
        return True

    def _settle(self, journal: Journal, group: Group) -> None:
        state = self.state
        state.heads = dict(journal.head)
        state.kept = dict(journal.bytes)
        state.dropped = dict(journal.dropped)
        state.durable = max(state.durable, group.generation)
        state.commits += 1
        if state.held:
            state.held = self._too_little_room()
            if not state.held:
                _events.info("log.resumed", path=str(self._path))
            self._reopen_readers()
        self.rung.ring()

    def _too_little_room(self) -> str:
        """Why what the disk took may have been the last; "" where it has room to go on.

        A disk that is full to the brim takes a group whenever somebody frees a little. All it takes
        is kept, but it is well only once as much is free as the memory holds for it.
        """
        try:
            disk = shutil.disk_usage(self._path.parent)
        except OSError as error:
            return str(error)
        wanted = min(round(self._config.memory_mb_max * 1e6), int(disk.total * ROOM_SHARE_MAX))
        if disk.free >= wanted:
            return ""
        return f"{disk.free / 1e6:.1f} MB are free on the disk, {wanted / 1e6:.1f} MB are needed"

    def _hold(self, error: Exception) -> None:
        """Go on in memory; the file is opened anew at each attempt, whatever became of the disk."""
        self._let_go()
        if isinstance(error, sqlite3.Error) and is_corrupt(error):
            self._suspect = True
        if not self.state.held:
            _events.error("log.held", path=str(self._path), error=str(error))
        self.state.held = str(error)
        self.rung.ring()

    def _let_go(self) -> None:
        if self._journal is not None:
            self._journal.close()
            self._journal = None

    def _open(self) -> Journal:
        if self._suspect:
            self._let_go()
            if self._path.exists() and not _is_whole(self._path):
                set_aside(self._path)
            self._suspect = False
        if self._journal is None:
            self._journal, damaged = open_journal(self._path, self._config, self.signals)
            if damaged:
                self.state.damaged = damaged
                self._upkeep = Upkeep(self._config, self._upkeep.unread)
                self._reopen_readers()
        return self._journal


def _is_whole(path: Path) -> bool:
    """SQLite's own check: a reader's word is not enough to set a log aside.

    Raises:
        sqlite3.Error: The disk does not give the file at present.
    """
    db = sqlite3.connect(path, isolation_level=None)
    try:
        return bool(db.execute("PRAGMA quick_check(1)").fetchone() == ("ok",))
    except sqlite3.Error as error:
        if is_corrupt(error):
            return False
        raise
    finally:
        db.close()
