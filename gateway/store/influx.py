"""Brings the log into InfluxDB: live data first, the backlog beside it, each line exactly once.

"Exactly once" is two facts: a place in the log moves only past what the server has confirmed, and
a line that is sent again is the same line, which overwrites itself.
"""

import asyncio
import contextlib
from collections.abc import Callable
from random import Random
from typing import Never

import structlog

from gateway.core.alarm import Condition
from gateway.core.clock import Clock, sleep_until
from gateway.core.errors import StoreError
from gateway.store.config import InfluxConfig
from gateway.store.cursor import Cursor, Part
from gateway.store.daemon import in_daemon
from gateway.store.influx_delivery import Delivery
from gateway.store.influx_feed import Chunk, Feed
from gateway.store.line_protocol import Encoder
from gateway.store.log import Log, unheard
from gateway.store.record import Kind

CURSOR = "influx"
LIVE_S = 0.3
"""Between two requests of live data that do not fill one."""
LIVE_BEHIND_S = 2.0
"""Live data further behind than this becomes backlog, and newer data go first."""
YIELD_S = 1.0
"""How long one backlog request stands aside, at most, while live data is not through."""
READ_RETRY_S = 2.0

_events = structlog.get_logger()


class InfluxWriter:
    """One writer of one log to one server."""

    def __init__(
        self,
        log: Log,
        config: InfluxConfig,
        gateway: str,
        clock: Clock,
        random: Random,
        report: Callable[[Condition], None] = unheard,
    ) -> None:
        """Raises ConfigError where a secret cannot be read, StoreError where the disk is full."""
        self._config = config
        self._clock = clock
        self._log = log
        self._kinds = [Kind.TRANSITION, Kind.ASSESSMENT, Kind.SAMPLES, Kind.HEALTH]
        if config.waveforms:
            self._kinds.append(Kind.WAVEFORM)
        self._cursor: Cursor = log.cursor(CURSOR, self._kinds)
        encoder = Encoder(log.signals, gateway)
        self._live = {k: Feed(self._cursor, encoder, k, Part.LIVE) for k in self._kinds}
        self._backlog = {k: Feed(self._cursor, encoder, k, Part.BACKLOG) for k in self._kinds}
        self._delivery = Delivery(
            self._cursor, log.directory, config, gateway, clock, random, report
        )
        self._paced_until_ns = 0
        self._live_through = asyncio.Event()
        self._live_through.set()
        self._heads: dict[Kind, tuple[int, int]] = {}
        self._rate: dict[Kind, float] = dict.fromkeys(self._kinds, 0.0)
        self.meter = self._delivery.meter

    @property
    def cursor(self) -> Cursor:
        """Its place in the log; its lag is what the server does not have yet."""
        return self._cursor

    def damaged(self) -> int:
        """Samples and records passed over because the disk has altered them."""
        return sum(feed.damaged for feed in (*self._live.values(), *self._backlog.values()))

    async def run(self) -> Never:
        """Write until cancelled."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._run_live(), name="influx:live")
                for i in range(max(1, self._config.in_flight_max - 1)):
                    tasks.create_task(self._run_backlog(i), name=f"influx:backlog-{i}")
        finally:
            self._delivery.close()
        raise AssertionError("the lanes never end by themselves")

    async def _run_live(self) -> Never:
        while True:
            seen = self._log.committed.rings
            full = False
            for kind in self._kinds:
                self._let_go_of_the_past(kind)
                chunk = await self._next(self._live[kind])
                if chunk is not None:
                    self._live_through.clear()
                    await self._delivery.deliver(chunk)
                    full = full or len(chunk.lines) >= self._delivery.lines
            if not full:
                self._live_through.set()
                await asyncio.sleep(LIVE_S)
                await self._log.committed.wait(seen)

    async def _run_backlog(self, lane: int) -> Never:
        while True:
            seen = self._log.committed.rings
            sent = False
            for kind in self._kinds:
                while lane < self._delivery.lanes and self._cursor.ranges(kind) > 1:
                    chunk = await self._next(self._backlog[kind])
                    if chunk is None:
                        break
                    await self._pace(len(chunk.lines))
                    await self._delivery.deliver(chunk)
                    sent = True
            if not sent:
                await asyncio.sleep(LIVE_S)
                await self._log.committed.wait(seen)

    def _let_go_of_the_past(self, kind: Kind) -> None:
        """Where live data is too far behind, begin at the head; the rest becomes backlog."""
        head, now_ns = self._log.heads()[kind], self._clock.mono_ns()
        last_head, last_ns = self._heads.get(kind, (head, now_ns))
        self._heads[kind] = (head, now_ns)
        if now_ns > last_ns:
            rate = (head - last_head) * 1e9 / (now_ns - last_ns)
            self._rate[kind] += (rate - self._rate[kind]) / 4
        behind = head - self._cursor.live_position(kind)
        if behind > max(self._config.lines_max, LIVE_BEHIND_S * self._rate[kind]):
            self._live[kind].reset()
            self._cursor.skip_to_live(kind)

    async def _next(self, feed: Feed) -> Chunk | None:
        while True:
            try:
                return await in_daemon(lambda: feed.next(self._delivery.lines), "influx:read")
            except StoreError as error:
                _events.warning("influx.log_unreadable", error=str(error))
                await asyncio.sleep(READ_RETRY_S)

    async def _pace(self, lines: int) -> None:
        """Spend the backlog's share of the server's time, and no more."""
        now_ns = self._clock.mono_ns()
        at_ns = max(now_ns, self._paced_until_ns)
        self._paced_until_ns = at_ns + round(lines / self._config.backlog_samples_per_s_max * 1e9)
        await sleep_until(self._clock, at_ns)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(YIELD_S):
                await self._live_through.wait()
