"""Joins the notification channels to the durable log."""

from collections.abc import Sequence

from gateway.core.alarm import Transition
from gateway.core.errors import DataError, StoreError
from gateway.store.log import Log
from gateway.store.record import Kind

NAMESPACE = "notify"
READ_MAX = 64


class LogLedger:
    """One channel's place in the log, and what it has told. See `alarms.notify.Ledger`."""

    def __init__(self, log: Log, channel: str) -> None:
        self._log = log
        self._channel = channel
        self._cursor = log.cursor(f"notify.{channel}")
        self._seen = log.committed.rings

    def load(self) -> bytes | None:
        return self._log.state_get(NAMESPACE, self._channel)

    def start(self) -> int:
        head = self._log.heads()[Kind.TRANSITION]
        self._cursor.restart(Kind.TRANSITION, head)
        return head - 1

    def read(self, after: int) -> Sequence[tuple[int, Transition]]:
        rows: list[tuple[int, Transition]] = []
        try:
            records = self._cursor.read(Kind.TRANSITION, after=after + 1, records_max=READ_MAX)
        except StoreError:
            return rows  # It cannot be read at present; asked again with the next look.
        for record in records:
            try:
                rows.append((record.seq, record.transition()))
            except DataError:
                self._cursor.advance(record)
        return rows

    async def save(self, state: bytes, taken: int) -> None:
        # Both go into the same commit, so that neither is ahead of the other after a crash.
        self._log.state_put(NAMESPACE, self._channel, state)
        self._cursor.done(Kind.TRANSITION, 0, taken + 1)
        await self._log.flush()

    async def wait(self) -> None:
        self._seen = await self._log.committed.wait(self._seen)
