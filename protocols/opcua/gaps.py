"""Knows the gaps that an outage left, and has them filled from history, each sample once."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from gateway.core.errors import PeerError, StoreError
from gateway.core.source import SourceContext
from protocols.opcua.history import NO_HISTORY, NODES_MAX, STAMP_NS, Gap, History
from protocols.opcua.intake import Intake
from protocols.opcua.items import Item, in_chunks
from protocols.opcua.link import Link
from protocols.opcua.losses import NONE_KEPT, Losses, no_use
from protocols.opcua.outbox import Outbox
from protocols.opcua.resume import Resume, Span
from protocols.opcua.settings import Settings

ASKED_MAX = 2
"""Times that a history is asked which knows nothing of a gap, not even its end: it may lag."""


class GapFiller:
    """Knows per signal where the last session ended, and asks for what came after.

    What cannot be had is counted and told: a loss that nobody sees is the worst kind.
    """

    def __init__(
        self,
        config: Settings,
        context: SourceContext,
        link: Link,
        outbox: Outbox,
        intake: Intake,
        resume: Resume,
    ) -> None:
        self._config = config
        self._context = context
        self._history = History(config.id, context, link, outbox, intake)
        self._outbox = outbox
        self._intake = intake
        self._resume = resume
        self._away_since_ns = resume.heard_ns
        self._losses = Losses(context, intake, away_since_ns=resume.heard_ns)
        self._cut: set[str] = set()
        self._open: list[Gap] = []

    def resumed(self, name: str) -> tuple[int, float]:
        """UTC ns and value of the last sample of the session before; 0 and NaN for none."""
        mark = self._resume.marks.get(name)
        return (mark.t_ns, mark.value) if mark else (0, float("nan"))

    def remember(self, items: Iterable[Item], left: Sequence[tuple[int, int]]) -> None:
        """Write where each signal stands, what is missing of it, what the server still holds."""
        resume, columns = self._resume, self._intake.columns
        self._open_gaps(items)
        for gap in self._open:
            rest = Span(gap.start_ns, gap.end_ns, gap.whole.doubtful)
            resume.add_gap(gap.item.name, rest)
            self._passed_on(gap)
        # What the reader never took is as good as never received.
        unread, unread_past = self._outbox.unread(history=False), self._outbox.unread(history=True)
        for item in items:
            number = int(columns.number[item.handle])
            if number in unread_past:
                first_ns, last_ns = unread_past[number]
                resume.add_gap(item.name, Span(first_ns - 1, last_ns + 1, doubtful=False))
            if number in unread:
                resume.marks[item.name] = resume.mark(unread[number][0] - 1)
            elif columns.newest_ns[item.handle]:
                resume.marks[item.name] = resume.mark(int(columns.newest_ns[item.handle]))
        resume.subscriptions, resume.handles = list(left), [""] * columns.n
        for item in items:
            resume.handles[item.handle] = item.name
        resume.heard_ns = self._intake.heard_ns or resume.heard_ns
        resume.keep()

    async def fill(
        self, items: Mapping[str, Item], per_call: int, harvested: asyncio.Event
    ) -> None:
        """Ask for each signal's gaps until none is open; the last ends at its first sample here.

        A signal that is silent at first, or refused, has its turn when it speaks.
        """
        resume = self._resume
        try:
            async with asyncio.timeout(self._config.timeout_s):
                await harvested.wait()
        except TimeoutError:
            pass  # What an old subscription still says is compared with what came.
        while resume.marks or resume.gaps or resume.passed:
            waiting = [item for name, item in items.items() if name in resume.marks and item.node]
            await self._intake.first_samples(waiting, timeout_s=self._config.timeout_s)
            self._open_gaps(items.values())
            await self._read_all(self._take_gaps(items), per_call)
            await self._settle()
            resume.keep()
            await asyncio.sleep(self._config.timeout_s)

    def _open_gaps(self, items: Iterable[Item]) -> None:
        """From each mark to the first sample that came after it."""
        oldest_ns = self._context.clock.wall_ns() - round(self._config.history_span_s_max * 1e9)
        first_ns = self._intake.columns.first_ns
        cut: list[tuple[Item, int]] = []
        for item in items:
            end_ns = int(first_ns[item.handle])
            mark = self._resume.marks.get(item.name)
            if mark is None or end_ns == 0:
                continue
            del self._resume.marks[item.name]
            start_ns = max(mark.from_ns, oldest_ns)
            # A value that has not changed since has no gap behind it.
            if end_ns == mark.t_ns:
                continue
            if end_ns > start_ns:
                self._resume.add_gap(item.name, Span(start_ns, end_ns, mark.doubtful))
            if 0 < self._away_since_ns < oldest_ns:
                cut.append((item, end_ns))
        if cut and not no_use(self._config):
            self._losses.count(cut, "it is longer than history_span_s_max")
            self._cut |= {item.name for item, _ in cut}

    def _take_gaps(self, items: Mapping[str, Item]) -> list[Gap]:
        """The gaps of those signals that can be asked for now."""
        ready = [item for name, item in items.items() if name in self._resume.gaps and item.node]
        return [
            Gap(
                item,
                self._context.signals.intern(item.signal.key()),
                span,
                span.start_ns,
                span.end_ns,
            )
            for item in ready
            for span in self._resume.take_gaps(item.name)
        ]

    async def _read_all(self, gaps: list[Gap], per_call: int) -> None:
        if not gaps:
            return
        self._open = gaps
        refused = no_use(self._config)
        filled = 0

        async def read(chunk: Sequence[Gap]) -> None:
            nonlocal filled
            await self._ask_log(chunk)
            filled += await self._history.read(chunk)
            for gap in chunk:
                self._passed_on(gap)
            done = set(chunk)
            self._open = [gap for gap in self._open if gap not in done]

        for _ in range(ASKED_MAX):
            if refused:
                break
            try:
                await in_chunks(self._open, min(per_call, NODES_MAX), read)
            except PeerError as error:
                refused = NONE_KEPT if error.code in NO_HISTORY else str(error)
            self._open = [gap for gap in gaps if not gap.known and not gap.reason]
            if not self._open:
                break
            await asyncio.sleep(self._config.timeout_s)
        self._open = []
        if filled:
            self._context.log.info("history.filled", samples=filled)
        for gap in gaps:
            if not gap.known:
                gap.reason = gap.reason or refused or NONE_KEPT
        lost = [gap for gap in gaps if gap.reason and gap.item.name not in self._cut]
        if lost:
            self._losses.count([(gap.item, gap.end_ns) for gap in lost], lost[0].reason)

    def _passed_on(self, gap: Gap) -> None:
        if gap.last_ns:
            self._resume.passed.append((gap.item.name, gap.whole, gap.last_ns))

    async def _settle(self) -> None:
        """Forget what was passed on and is in the log by now."""
        passed = self._resume.passed
        if not passed:
            return
        table, keys = self._context.signals, self._keys()
        numbers = {name: table.intern(keys[name]) for name, _, _ in passed if name in keys}
        times = [last_ns for _, _, last_ns in passed]
        try:
            held = await self._context.logged.samples(
                list(numbers.values()), min(times), max(times) + 1
            )
        except StoreError:
            return  # It cannot be read at present; asked again in a while.
        logged = set(zip(held[0].tolist(), held[1].tolist(), strict=True))
        self._resume.passed = [
            entry
            for entry in passed
            if entry[0] in numbers and (numbers[entry[0]], entry[2]) not in logged
        ]

    def _keys(self) -> dict[str, Any]:
        return {str(signal.key()): signal.key() for signal in self._config.signals}

    async def _ask_log(self, gaps: Sequence[Gap]) -> None:
        """What the log holds of the gaps that another process may have filled in part."""
        doubtful = [gap for gap in gaps if gap.whole.doubtful]
        if not doubtful:
            return
        numbers = [gap.number for gap in doubtful]
        start_ns = min(gap.start_ns for gap in doubtful) - STAMP_NS
        end_ns = max(gap.end_ns for gap in doubtful) + STAMP_NS
        while True:
            try:
                signal, t_ns, _ = await self._context.logged.samples(numbers, start_ns, end_ns)
            except StoreError:
                await asyncio.sleep(self._config.timeout_s)
                continue
            break
        for gap in doubtful:
            gap.held = np.sort(t_ns[signal == gap.number])
