"""Joins the log to the cloud: its cursor is the outbox, its past is what is summed up.

One way out is at work, or none; it follows the configuration.
"""

import asyncio
from collections.abc import Callable, Sequence
from random import Random

import structlog

from gateway.cloud.collect import Scope, summarise
from gateway.cloud.config import CloudConfig
from gateway.cloud.summary import Summary, decode, encode
from gateway.cloud.sync import BATCH_MAX, EgressMeter, Sync, Waiting, every_interval
from gateway.cloud.target import Target
from gateway.core.alarm import Condition
from gateway.core.clock import Clock
from gateway.store.log import Log
from gateway.store.reader import LogReader
from gateway.store.record import Kind, Packed, Record
from gateway.store.spans import Spans

NAME = "cloud"
GRACE_S = 15.0
"""Samples that are later than this are in no summary."""
PAST_S_MAX = 7 * 86_400
NS = 1_000_000_000


class LogOutbox:
    """The log's summaries that have not left, as `gateway.cloud.sync.Outbox`."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._cursor = log.cursor(NAME)
        self._records: dict[int, Record] = {}
        self._seen = -1
        self._events = structlog.get_logger()

    async def wait(self) -> None:
        """Return at once the first time, then after each commit."""
        self._seen = await self._log.committed.wait(self._seen)

    def read(self, summaries_max: int) -> Sequence[Waiting]:
        """The oldest that wait; one that cannot be read back is passed over and told."""
        out = []
        self._records.clear()
        for record in self._cursor.read(Kind.SUMMARY, records_max=summaries_max):
            try:
                summary = decode(record.payload)
            except ValueError as error:
                self._events.error("cloud.unreadable", seq=record.seq, error=str(error))
                self._cursor.advance(record)
                continue
            self._records[record.seq] = record
            out.append(Waiting(record.seq, summary))
        return out

    def done(self, waiting: Waiting) -> None:
        """Move the cursor past it, durable with the next commit."""
        self._cursor.advance(self._records[waiting.place])

    def lag(self) -> int:
        """How many wait."""
        return self._cursor.lag(Kind.SUMMARY)


def make_target(cloud: CloudConfig, gateway: str) -> Target:
    """The one way out that is configured; its library is imported here.

    Raises:
        ConfigError: A certificate cannot be used.
    """
    if cloud.https is not None:
        from gateway.cloud.https import https_target  # noqa: PLC0415

        return https_target(cloud.https)
    if cloud.influx is not None:
        from gateway.cloud.https import influx_target  # noqa: PLC0415

        return influx_target(cloud.influx)
    assert cloud.mqtt is not None
    from gateway.cloud.mqtt import MqttTarget  # noqa: PLC0415

    return MqttTarget(cloud.mqtt, gateway)


class Egress:
    """Sums up and hands out, while the cloud is switched on. Made only then.

    Attributes:
        scope: What it lets out.
        sync: The task through which everything leaves; its meter is shown to the operator.
    """

    def __init__(
        self,
        scope: Scope,
        log: Log,
        clock: Clock,
        random: Random,
        report: Callable[[Condition], None],
        meter: EgressMeter | None = None,
    ) -> None:
        """Raises ConfigError where a certificate cannot be used. Counts go on in `meter`."""
        assert scope.cloud.enabled
        target = make_target(scope.cloud, scope.gateway)
        self.scope = scope
        self._log, self._clock = log, clock
        self._reader = LogReader(log.path)
        self.outbox = LogOutbox(log)
        self._target_kind = target.kind
        self.sync = Sync(target, self.outbox, scope.cloud, clock, random, report, meter)

    async def run(self) -> None:
        """Until cancelled."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(
                    every_interval(
                        self._clock,
                        self.scope.cloud.interval_s,
                        GRACE_S,
                        self._first_s(),
                        self._make,
                    ),
                    name="cloud:summaries",
                )
                tasks.create_task(self.sync.run(), name="cloud:sync")
        finally:
            self._reader.close()

    def state(self) -> dict[str, int | float | str | None]:
        """What left, what stayed home for each byte of it, and what waits."""
        meter = self.sync.meter
        return {
            "target": self._target_kind,
            "summaries": meter.summaries,
            "payload_bytes": meter.payload_bytes,
            "stayed_bytes": meter.stayed_bytes,
            "stayed_per_byte": meter.stayed_per_byte,
            "waiting": self.outbox.lag(),
            "refused": meter.refused,
            "why_not": meter.state_text,
        }

    def preview(self) -> list[Summary]:
        """What would leave next: what waits, or else the interval that is under way."""
        return waiting(self._reader) or current(self._reader, self.scope, self._clock)

    def _first_s(self) -> int:
        saved = self._log.state_get(NAME, "until_s")
        oldest_ns = self._reader.oldest_ns()
        now_s = self._clock.wall_ns() // NS
        if saved is not None:
            first_s = int(saved)
        elif oldest_ns is not None:
            first_s = oldest_ns // NS
        else:
            first_s = now_s
        # A clock that was wrong once must neither make a million intervals nor stop for years.
        return min(max(first_s, now_s - PAST_S_MAX), now_s)

    def _make(self, start_s: int) -> None:
        for summary in summarise(self._reader, self.scope, start_s):
            t_ns = (summary.start_s + summary.width_s) * NS
            self._log.append(Packed(Kind.SUMMARY, t_ns, encode(summary)))
        until_s = start_s + self.scope.cloud.interval_s
        self._log.state_put(NAME, "until_s", str(until_s).encode())


class Outlet:
    """The way out of a gateway, through changes of the file.

    Attributes:
        egress: What lets summaries out; None while the cloud is switched off.
    """

    def __init__(
        self, log: Log, clock: Clock, random: Random, report: Callable[[Condition], None]
    ) -> None:
        self.egress: Egress | None = None
        self._log, self._clock, self._random, self._report = log, clock, random, report
        self._next: Egress | None = None
        self._task: asyncio.Task[None] | None = None

    def prepare(self, scope: Scope) -> None:
        """Make ready what a configuration asks for: the one that is at work, where it fits.

        Raises:
            ConfigError: A certificate cannot be used; nothing has changed.
        """
        old = self.egress
        if not scope.cloud.enabled:
            self._next = None
        elif old is not None and old.scope == scope:
            self._next = old
        else:
            meter = old.sync.meter if old else None
            self._next = Egress(scope, self._log, self._clock, self._random, self._report, meter)

    async def follow(self, tasks: asyncio.TaskGroup) -> None:
        """Let summaries leave by what was made ready, and by nothing else any more."""
        if self._next is self.egress:
            return
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        egress = self.egress = self._next
        self._task = tasks.create_task(egress.run(), name="cloud") if egress else None

    def cancel(self) -> None:
        """End it."""
        if self._task is not None:
            self._task.cancel()


def current(reader: LogReader, scope: Scope, clock: Clock) -> list[Summary]:
    """The newest interval, full or not, that holds anything."""
    now_s, width_s = clock.wall_ns() // NS, scope.cloud.interval_s
    start_s = now_s - now_s % width_s
    return summarise(reader, scope, start_s) or summarise(reader, scope, start_s - width_s)


def waiting(reader: LogReader) -> list[Summary]:
    """The summaries that have been made and have not left, at most one delivery of them."""
    done = next(
        (
            Spans.from_json(spans)
            for name, kind, spans, _ in reader.cursors()
            if name == NAME and kind is Kind.SUMMARY
        ),
        Spans(),
    )
    head = reader.heads().get(Kind.SUMMARY, 0)
    return [
        decode(record.payload)
        for record in reader.read(Kind.SUMMARY, done.first, head, records_max=BATCH_MAX)
    ]
