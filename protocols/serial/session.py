"""Keeps the time of one link: when to wait, when to ask, when to give up. Decodes nothing."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from gateway.core.batch import Batch, Waveform
from gateway.core.clock import sleep_until
from gateway.core.errors import LinkTimeout
from gateway.core.source import Session, Source, SourceContext
from protocols.serial.port import open_wire
from protocols.serial.records import Records
from protocols.serial.settings import Settings
from protocols.serial.wire import Wire

UNREADABLE_MIN = 20
"""So many unreadable records in a row are a state worth a log line; one is only noise."""
NO_RECORD = ("checksum", "length", "end", "escape", "overlong")
"""What is counted of each record that did not even become one."""
NOISE_BYTES = 64
"""So much noise is worth as much as one unreadable record."""
ENCODING_OF_BINARY = "latin-1"


@asynccontextmanager
async def open_session(config: Settings, context: SourceContext) -> AsyncIterator[Session]:
    """Open the port, and listen or ask."""
    wire = await open_wire(config, context.clock, context.tap)
    try:
        if config.read_request:
            yield AskingSession(config, context, wire)
        else:
            yield ListeningSession(config, context, wire)
    finally:
        await wire.close()


class _Session:
    """What listening and asking share: a port, its records, and going over to another reading."""

    def __init__(self, config: Settings, context: SourceContext, wire: Wire) -> None:
        self._config = config
        self._context = context
        self._wire = wire
        self._unreadable = 0
        self._dropped = self._count_dropped()
        self._records = self._understand(config)

    async def apply(self, source: Source) -> bool:
        """See `Session.apply`. Everything but the port's own settings can change in flight."""
        if not isinstance(source, Settings) or source.link() != self._config.link():
            return False
        self._config = source
        changed = self._understand(source)
        changed.take_over(self._records)
        self._records = changed
        return True

    def _understand(self, config: Settings) -> Records:
        context = self._context
        return Records(
            config,
            context.signals,
            context.meter.errors,
            self._watch,
            since_ns=context.clock.wall_ns(),
        )

    def _feed(self, data: bytes, received_ns: int, request: int = 0) -> int:
        """How many records these bytes complete."""
        understood = self._records.feed(data, received_ns, request)
        dropped = self._count_dropped()
        for _ in range(0 if understood else min(dropped - self._dropped, UNREADABLE_MIN)):
            self._watch(data, readable=False)
        self._dropped = dropped
        return understood

    def _count_dropped(self) -> int:
        errors = self._context.meter.errors
        return sum(errors[kind] for kind in NO_RECORD) + errors["noise_bytes"] // NOISE_BYTES

    def _watch(self, record: bytes, readable: bool) -> None:
        if readable:
            if self._unreadable >= UNREADABLE_MIN:
                self._context.log.info("serial.readable", after_records=self._unreadable)
            self._unreadable = 0
            return
        self._unreadable += 1
        if self._unreadable == UNREADABLE_MIN:
            self._context.log.warning("serial.unreadable", record=repr(record[:80]))


class ListeningSession(_Session):
    """A device that speaks by itself."""

    def __init__(self, config: Settings, context: SourceContext, wire: Wire) -> None:
        super().__init__(config, context, wire)
        self._heard_ns = context.clock.mono_ns()

    async def read(self) -> Batch | Waveform:
        """See `Session.read`."""
        clock = self._context.clock
        while True:
            item = self._records.pop()
            if item is not None:
                return item
            limit_s, pauses = self._limit_s()
            try:
                async with asyncio.timeout_at(limit_s):
                    data, received_ns = await self._wire.receive()
            except TimeoutError:
                if not pauses:
                    raise LinkTimeout(
                        f"port {self._config.port} was silent for "
                        f"{self._config.silence_timeout_s:g} s; "
                        "see that the device is on and its cable sits"
                    ) from None
                self._records.flush(clock.wall_ns())
                continue
            self._heard_ns = clock.mono_ns()
            self._feed(data, received_ns)

    def _limit_s(self) -> tuple[float | None, bool]:
        """When waiting ends, on the loop's clock, and whether that is only a frame's pause."""
        binary = self._config.binary
        if binary is not None and self._records.waits():
            return self._heard_ns / 1e9 + binary.gap_s, True
        silence_s = self._config.silence_timeout_s
        return (self._heard_ns / 1e9 + silence_s if silence_s else None), False


class AskingSession(_Session):
    """A device that speaks when asked: one request at a time, each given so long to answer.

    All its progress is in attributes, so a cancelled read goes on where it was.
    """

    def __init__(self, config: Settings, context: SourceContext, wire: Wire) -> None:
        super().__init__(config, context, wire)
        self._round_ns = context.clock.mono_ns()
        self._not_before_ns = self._round_ns
        self._next = 0
        self._asked_ns: int | None = None
        self._answers = 0
        self._rounds_unanswered = 0

    async def read(self) -> Batch | Waveform:
        """See `Session.read`."""
        while True:
            item = self._records.pop()
            if item is not None:
                return item
            if self._asked_ns is None:
                await self._ask()
            bad = await self._answer()
            if bad is not None:
                return bad

    async def apply(self, source: Source) -> bool:
        """See `Session.apply`. An answer that is under way is let go with its question."""
        asked = self._config.read_request
        if not await super().apply(source):
            return False
        if self._config.read_request != asked:
            self._next, self._asked_ns, self._answers = 0, None, 0
        return True

    async def _ask(self) -> None:
        clock = self._context.clock
        await sleep_until(clock, max(self._round_ns, self._not_before_ns))
        # Whatever came unasked is a late answer to an older question, or noise.
        if self._wire.discard():
            self._context.meter.errors["unasked"] += 1
        self._records.discard()
        text = self._config.text
        encoding = text.encoding if text is not None else ENCODING_OF_BINARY
        request = self._config.read_request[self._next]
        # No await between the two: a cancelled read must not ask the same thing twice.
        self._wire.ask(request.data(encoding))
        self._asked_ns = clock.mono_ns()
        self._context.meter.requests += 1

    async def _answer(self) -> Batch | None:
        """Wait for one readable record; BAD samples of what was asked for where none comes."""
        clock = self._context.clock
        assert self._asked_ns is not None
        deadline_ns = self._asked_ns + round(self._config.answer_timeout_s * 1e9)
        understood = 0
        while not understood:
            wait_s = (deadline_ns - clock.mono_ns()) / 1e9
            try:
                async with asyncio.timeout(max(0.0, wait_s)):
                    data, received_ns = await self._wire.receive()
            except TimeoutError:
                return self._give_up()
            understood = self._feed(data, received_ns, self._next)
        now_ns = clock.mono_ns()
        self._context.meter.observe_latency((now_ns - self._asked_ns) / 1e9)
        self._answers += 1
        self._go_on(now_ns + round(self._config.turnaround_s * 1e9))
        return None

    def _give_up(self) -> Batch | None:
        clock = self._context.clock
        self._context.meter.errors["timeout"] += 1
        bad = self._records.unanswered(self._next, clock.wall_ns())
        # As long again for an answer that is merely late: it must not meet the next question.
        self._go_on(clock.mono_ns() + round(self._config.answer_timeout_s * 1e9))
        return bad

    def _go_on(self, not_before_ns: int) -> None:
        """Turn to the next request or round, on a grid that neither drifts nor piles up."""
        self._asked_ns = None
        self._not_before_ns = not_before_ns
        self._next += 1
        if self._next < len(self._config.read_request):
            return
        self._next = 0
        self._rounds_unanswered = 0 if self._answers else self._rounds_unanswered + 1
        self._answers = 0
        if self._rounds_unanswered >= self._config.unanswered_rounds_max:
            raise LinkTimeout(
                f"port {self._config.port}: no answer in {self._rounds_unanswered} rounds of "
                f"requests; see that the device is on, its cable sits, and its baud rate is "
                f"{self._config.baud_rate}"
            )
        interval_ns = round(self._config.poll_interval_s * 1e9)
        self._round_ns += interval_ns
        late_ns = self._context.clock.mono_ns() - self._round_ns
        if late_ns > 0:
            self._round_ns += late_ns // interval_ns * interval_ns
