"""Keeps one source connected, and nothing else."""

import asyncio
from typing import Never

import numpy as np

from gateway.core.alarm import Condition
from gateway.core.batch import BAD, Batch, Waveform, bad_batch
from gateway.core.channel import Channel
from gateway.core.clock import sleep_until
from gateway.core.errors import ConfigError, LinkError, LinkRefused, LinkTimeout
from gateway.core.meter import LinkState
from gateway.core.source import Session, Source, SourceContext
from gateway.core.texts import Phrase

BACKOFF_NS_MIN = 500_000_000
BACKOFF_NS_MAX = 60_000_000_000
BACKOFF_REFUSED_NS_MIN = 30_000_000_000
"""A refused password, tried every second, locks the account that it belongs to."""


class Supervisor:
    """One source, read into `out` for ever, with jittered exponential backoff between links.

    Logs a link's two edges, never its retries, and reports the same edges as a system condition.
    While the link is down its signals are BAD: one BAD sample each at the edge.
    """

    def __init__(self, source: Source, context: SourceContext, out: Channel) -> None:
        self.source = source
        self._context = context
        self._out = out
        self._changed: Source | None = None
        self._interrupt: asyncio.Timeout | None = None
        self._down_since_ns: int | None = None
        self._backoff_ns = BACKOFF_NS_MIN
        self._pending: Batch | Waveform | None = None

    def change(self, source: Source) -> None:
        """Go over to a changed configuration of the same source, on the same link if it can."""
        self._changed = source
        if self._interrupt is not None and not self._interrupt.expired():
            self._interrupt.reschedule(0)

    async def run(self) -> Never:
        """Read for ever. Ends only by cancellation or by a bug."""
        clock = self._context.clock
        while True:
            self._take_change()
            try:
                async with self.source.open(self._context) as session:
                    self._context.meter.connects += 1
                    await self._read(session)
            except LinkError as error:
                await self._down(error)
            except ConfigError as error:
                # The peer says that this will never work: a person must act, the others go on.
                await self._down(LinkRefused(str(error)))
            else:
                continue  # The configuration asks for a new link; it gets one at once.
            wait_ns = self._context.random.randrange(self._backoff_ns // 2, self._backoff_ns)
            await self._wait(clock.mono_ns() + wait_ns)
            self._backoff_ns = min(2 * self._backoff_ns, BACKOFF_NS_MAX)

    async def _read(self, session: Session) -> None:
        """Read until the configuration wants another link."""
        while True:
            try:
                async with asyncio.timeout(None) as self._interrupt:
                    if self._pending is not None:
                        await self._send(self._pending)
                    while True:
                        self._pending = await session.read()
                        await self._send(self._pending)
            except TimeoutError:
                if self._changed is None:
                    raise
            finally:
                self._interrupt = None
            changed, self._changed = self._changed, None
            assert changed is not None
            applied = await session.apply(changed)
            self.source = changed
            if not applied:
                return

    async def _send(self, item: Batch | Waveform) -> None:
        await self._out.send(item)
        self._pending = None
        meter = self._context.meter
        meter.samples += len(item)
        meter.last_sample_ns = item.received_ns
        if isinstance(item, Batch):
            meter.samples_bad += int(np.count_nonzero(item.quality == BAD))
            if item.history:
                meter.samples_history += len(item)
        if meter.state is not LinkState.UP:
            self._up()

    def _up(self) -> None:
        meter = self._context.meter
        meter.state, meter.state_text = LinkState.UP, ""
        self._backoff_ns = BACKOFF_NS_MIN
        if self._down_since_ns is not None:
            down_ns = self._context.clock.mono_ns() - self._down_since_ns
            self._context.log.info("source.recovered", down_s=round(down_ns / 1e9, 3))
            self._report(None)
        else:
            self._context.log.info("source.up")
        self._down_since_ns = None

    async def _down(self, error: LinkError) -> None:
        meter = self._context.meter
        meter.link_errors += 1
        meter.errors[type(error).__name__] += 1
        refused = isinstance(error, LinkRefused)
        meter.state = LinkState.REFUSED if refused else LinkState.DOWN
        meter.state_text = str(error)
        if refused:
            self._backoff_ns = max(self._backoff_ns, BACKOFF_REFUSED_NS_MIN)
        if self._down_since_ns is not None:
            return
        clock = self._context.clock
        self._down_since_ns = clock.mono_ns()
        self._context.log.warning("source.down", error=str(error), kind=type(error).__name__)
        self._report(_said(self.source.id, error))
        table = self._context.signals
        numbers = np.array([table.intern(s.key()) for s in self.source.signals], dtype=np.int32)
        batch = bad_batch(self.source.id, numbers, clock.wall_ns())
        await self._out.send(batch)
        meter.samples += len(batch)
        meter.samples_bad += len(batch)

    async def _wait(self, deadline_ns: int) -> None:
        """Sleep, but not past a change of the configuration."""
        try:
            async with asyncio.timeout(None) as self._interrupt:
                await sleep_until(self._context.clock, deadline_ns)
        except TimeoutError:
            if self._changed is None:
                raise
        finally:
            self._interrupt = None

    def _take_change(self) -> None:
        if self._changed is not None:
            self.source, self._changed = self._changed, None

    def _report(self, text: Phrase | None) -> None:
        now_ns = self._context.clock.wall_ns()
        self._context.report(link_condition(self.source.id, now_ns, text))


def link_condition(source: str, t_ns: int, text: Phrase | None) -> Condition:
    """That the link of a source is down, and why; None for that it is not."""
    return Condition.of_gateway(f"link.{source}", text, active=text is not None, t_ns=t_ns)


def _said(source: str, error: LinkError) -> Phrase:
    """What it means for an operator, and what the adapter found, as it says it."""
    kind = "down"
    if isinstance(error, LinkRefused):
        kind = "refused"
    elif isinstance(error, LinkTimeout):
        kind = "silent"
    fault = str(error) or type(error).__name__
    return Phrase(f"system.link_{kind}", source=source, fault=fault)
