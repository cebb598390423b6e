"""Keeps one notification channel a `[[notify]]` table, each with its place in the durable log."""

import asyncio
from collections.abc import Callable, Sequence
from random import Random

from gateway.alarms.notify import Channel, Terms
from gateway.core.alarm import Condition, Transition
from gateway.core.clock import Clock
from gateway.core.errors import DataError, StoreError
from gateway.settings import Settings
from gateway.store.log import Log
from gateway.store.record import Kind

NAMESPACE = "notify"
READ_MAX = 64


class Notices:
    """The channels of one gateway.

    Attributes:
        channels: By the id of their tables, in the order of the file.
    """

    def __init__(
        self, log: Log, clock: Clock, random: Random, report: Callable[[Condition], None]
    ) -> None:
        self.channels: dict[str, Channel] = {}
        self._log = log
        self._clock = clock
        self._random = random
        self._report = report
        self._running: dict[str, asyncio.Task[None]] = {}

    def follow(self, tasks: asyncio.TaskGroup, settings: Settings) -> None:
        """Go over to these tables. One that changed ends what it delivers, then the new one begins.

        A channel that is taken out forgets what it told: put in again, it begins at the present.
        """
        wanted = {terms.config.id: terms for terms in _terms(settings)}
        for name in self.channels.keys() - wanted.keys():
            self._take_out(name)
        for name, terms in wanted.items():
            old = self.channels.get(name)
            if old is not None:
                if old.terms == terms:
                    continue
                old.stop()
            ledger, before = LogLedger(self._log, name), self._running.get(name)
            channel = Channel(terms, ledger, self._clock, self._random, self._report)
            self.channels[name] = channel
            self._running[name] = tasks.create_task(_after(before, channel), name=f"notify:{name}")
        self.channels = {name: self.channels[name] for name in wanted}

    def cancel(self) -> None:
        """End them all at once."""
        for task in self._running.values():
            task.cancel()

    def _take_out(self, name: str) -> None:
        channel = self.channels.pop(name)
        channel.stop()
        self._report(channel.condition(""))
        forget = LogLedger(self._log, name).forget
        self._running.pop(name).add_done_callback(lambda _: forget())


async def _after(before: asyncio.Task[None] | None, channel: Channel) -> None:
    if before is not None:
        await asyncio.wait([before])
    await channel.run()


def _terms(settings: Settings) -> Sequence[Terms]:
    console = settings.console
    scheme = "https" if console.tls_certificate else "http"
    link = f"{scheme}://{console.hosts[0]}/alarms" if console.hosts else ""
    return [
        Terms(table, settings.alarms, settings.gateway.id, link, console.texts, settings.areas())
        for table in settings.notify
    ]


class LogLedger:
    """One channel's place in the log, and what it has told. See `alarms.notify.Ledger`."""

    def __init__(self, log: Log, channel: str) -> None:
        self._log = log
        self._channel = channel
        self._cursor = log.cursor(f"notify.{channel}")
        self._seen = log.committed.rings

    def load(self) -> bytes | None:
        return self._log.state_get(NAMESPACE, self._channel)

    def forget(self) -> None:
        """As if there had never been such a channel."""
        self._log.state_put(NAMESPACE, self._channel, None)
        self._log.release(f"notify.{self._channel}")

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
