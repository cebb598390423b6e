"""Hands summaries out in order, at least once, paced; keeps them where they cannot be."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Protocol

import structlog

from gateway.cloud.config import CloudConfig
from gateway.cloud.summary import Summary, encode
from gateway.cloud.target import Busy, Delivery, Target
from gateway.core.alarm import Condition, Priority
from gateway.core.clock import Clock, sleep_until
from gateway.core.errors import LinkError, LinkRefused, PeerError
from gateway.core.texts import Phrase

BATCH_MAX = 100
BACKOFF_S_MIN = 5.0
BACKOFF_S_MAX = 900.0
LATE_INTERVALS = 2
"""A summary that is late by more than so many intervals is history to the receiver."""
DOWN_S_MAX = 3600.0
"""The operator is told when nothing could leave for so long."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """One summary that has not left, and its place."""

    place: int
    summary: Summary


class Outbox(Protocol):
    """Where summaries wait, durably and in order."""

    async def wait(self) -> None:
        """Return when there may be something to read."""
        ...

    def read(self, summaries_max: int) -> Sequence[Waiting]:
        """The oldest that have not left."""
        ...

    def done(self, waiting: Waiting) -> None:
        """This one has left, or never will."""
        ...

    def lag(self) -> int:
        """How many wait."""
        ...


@dataclass(slots=True)
class EgressMeter:
    """What left, and what stayed. Counted since the process started.

    Attributes:
        payload_bytes: Of payload that left.
        stayed_bytes: Of raw samples that those summaries stand for.
    """

    summaries: int = 0
    payload_bytes: int = 0
    stayed_bytes: int = 0
    refused: int = 0
    errors: int = 0
    state_text: str = ""

    @property
    def stayed_per_byte(self) -> float | None:
        """Bytes that stayed home for each that left; None before the first has left."""
        if not self.payload_bytes:
            return None
        return round(self.stayed_bytes / self.payload_bytes, 1)


class Sync:
    """The one task through which anything leaves.

    Attributes:
        meter: What left and what stayed.
        backoff_s_min: First pause after a failure; doubled up to `BACKOFF_S_MAX`.
    """

    def __init__(
        self,
        target: Target,
        outbox: Outbox,
        cloud: CloudConfig,
        clock: Clock,
        random: Random,
        report: Callable[[Condition], None],
        meter: EgressMeter | None = None,
    ) -> None:
        self.meter = meter or EgressMeter()
        self.backoff_s_min = BACKOFF_S_MIN
        self._target, self._outbox = target, outbox
        self._clock, self._random, self._report = clock, random, report
        self._interval_s, self._deliver_s = cloud.interval_s, cloud.deliver_s
        # In no hour may more leave than was allowed: what is saved up, the most that one delivery
        # may overdraw, and what an hour earns, are that together.
        self._burst = cloud.bytes_per_hour_max / 12
        self._rate = 10 * self._burst / 3600e9
        self._budget_bytes = self._burst
        self._paid_ns: int | None = None
        self._log = structlog.get_logger().bind(target=target.kind)

    async def run(self) -> None:
        """Deliver until cancelled."""
        backoff_s = self.backoff_s_min
        while True:
            while not self._due():
                await self._outbox.wait()
            try:
                async with self._target.open() as delivery:
                    # A connection that lasts is kept while there is nothing to say.
                    while True:
                        while self._due():
                            waiting = self._fitting(self._outbox.read(BATCH_MAX))
                            await self._pace()
                            await self._hand_over(delivery, waiting)
                            backoff_s = self.backoff_s_min
                            self._say("")
                        await self._outbox.wait()
            except LinkError as error:
                self.meter.errors += 1
                self._say(str(error), refused=isinstance(error, LinkRefused))
                after_s = error.after_s if isinstance(error, Busy) else 0.0
                pause_s = max(after_s, backoff_s * self._random.uniform(0.5, 1.0))
                backoff_s = min(2 * backoff_s, BACKOFF_S_MAX)
                await sleep_until(self._clock, self._clock.mono_ns() + round(pause_s * 1e9))

    def _due(self) -> bool:
        """Whether the oldest summary has waited for company for long enough."""
        oldest = self._outbox.read(1)
        if not oldest:
            return False
        begun_s = oldest[0].summary.start_s
        return self._clock.wall_ns() / 1e9 - begun_s >= max(self._interval_s, self._deliver_s)

    def _fitting(self, waiting: Sequence[Waiting]) -> Sequence[Waiting]:
        """As many as one delivery may hold; one at least. Packed they are smaller."""
        room = self._burst
        for n, item in enumerate(waiting):
            room -= len(encode(item.summary))
            if room < 0:
                return waiting[: max(1, n)]
        return waiting

    async def _hand_over(self, delivery: Delivery, waiting: Sequence[Waiting]) -> None:
        """One delivery; what is refused for what it is, is found by halving and left out."""
        newest_s = waiting[-1].summary.start_s + waiting[-1].summary.width_s
        age_s = self._clock.wall_ns() / 1e9 - newest_s
        try:
            sent = await delivery.deliver(
                [item.summary for item in waiting],
                late=age_s > self._deliver_s + LATE_INTERVALS * self._interval_s,
            )
        except PeerError as error:
            if len(waiting) == 1:
                self.meter.refused += 1
                self._log.error("cloud.refused", asset=waiting[0].summary.asset, error=str(error))
                self._outbox.done(waiting[0])
                return
            half = len(waiting) // 2
            await self._hand_over(delivery, waiting[:half])
            await self._hand_over(delivery, waiting[half:])
            return
        self._budget_bytes -= sent
        meter = self.meter
        meter.payload_bytes += sent
        meter.summaries += len(waiting)
        meter.stayed_bytes += sum(item.summary.stayed_bytes for item in waiting)
        for item in waiting:
            self._outbox.done(item)

    async def _pace(self) -> None:
        """Wait until the bytes that left are within the hourly bound (a token bucket)."""
        while True:
            now_ns = self._clock.mono_ns()
            if self._paid_ns is not None:
                earned = (now_ns - self._paid_ns) * self._rate
                self._budget_bytes = min(self._burst, self._budget_bytes + earned)
            self._paid_ns = now_ns
            if self._budget_bytes > 0:
                return
            await sleep_until(self._clock, now_ns + round((1 - self._budget_bytes) / self._rate))

    def _say(self, error: str, *, refused: bool = False) -> None:
        """One log line and one report for each change, none for each attempt."""
        if bool(error) == bool(self.meter.state_text):
            self.meter.state_text = error
            return
        self.meter.state_text = error
        if error:
            self._log.warning(
                "cloud.down", error=error, refused=refused, waiting=self._outbox.lag()
            )
        else:
            self._log.info("cloud.up")
        self._report(
            Condition.of_gateway(
                "cloud.down",
                Phrase("system.cloud_down", fault=error),
                active=bool(error),
                t_ns=self._clock.wall_ns(),
                priority=Priority.LOW,
                on_delay_s=DOWN_S_MAX,
                off_delay_s=0,
            )
        )


async def every_interval(
    clock: Clock, interval_s: int, grace_s: float, first_s: int, make: Callable[[int], None]
) -> None:
    """Call `make(start_s)` in a thread for each interval that is over, in order, from `first_s`."""
    start_s = first_s - first_s % interval_s
    while True:
        over_ns = round((start_s + interval_s + grace_s) * 1e9)
        wait_ns = over_ns - clock.wall_ns()
        if wait_ns > 0:
            # In short steps: the wall clock may be set while we wait.
            await sleep_until(clock, clock.mono_ns() + min(wait_ns, 10_000_000_000))
            continue
        making = asyncio.create_task(asyncio.to_thread(make, start_s), name="cloud:making")
        try:
            await asyncio.shield(making)
        except asyncio.CancelledError:
            # A thread cannot be cancelled, and the log that it reads is closed after us.
            await asyncio.wait([making])
            raise
        start_s += interval_s
