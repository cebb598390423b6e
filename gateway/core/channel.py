"""Bounded hand-over between two tasks. The bound is in samples, because samples are memory."""

import asyncio
from collections import deque
from enum import StrEnum

from gateway.core.batch import Batch, Waveform


class WhenFull(StrEnum):
    """What a sender does when the channel is full."""

    BLOCK = "block"
    DROP_OLDEST = "drop_oldest"


class Channel:
    """A bounded queue of batches and waveforms with one receiver.

    `BLOCK` passes pressure back to the source, which slows its polling. `DROP_OLDEST` is for
    sources that cannot be slowed (a sensor that pushes); every sample lost is counted.
    """

    def __init__(self, *, samples_max: int, when_full: WhenFull) -> None:
        assert samples_max > 0
        self._samples_max = samples_max
        self._when_full = when_full
        self._queue: deque[Batch | Waveform] = deque()
        self._filled = asyncio.Event()
        self._space: deque[asyncio.Future[None]] = deque()
        self._sent = self._received = self._worked_off = 0
        self._back = asyncio.Event()
        self.samples = 0
        self.samples_peak = 0
        self.samples_dropped = 0

    async def send(self, item: Batch | Waveform) -> None:
        """Hand over one item. One larger than the whole channel passes when it is empty."""
        n = len(item)
        if self._when_full is WhenFull.DROP_OLDEST:
            while self._queue and not self._fits(n):
                self.samples_dropped += self._pop_oldest()
        while not self._fits(n):
            waiter = asyncio.get_running_loop().create_future()
            self._space.append(waiter)
            try:
                await waiter
            finally:
                if waiter in self._space:
                    self._space.remove(waiter)
        self._queue.append(item)
        self._sent += 1
        self.samples += n
        self.samples_peak = max(self.samples_peak, self.samples)
        self._filled.set()

    async def receive(self) -> list[Batch | Waveform]:
        """Take everything there is, oldest first, waiting for something if there is nothing.

        All of it at once, so that what follows pays its overhead per drain and not per batch.
        """
        self._worked_off = self._received
        self._back.set()
        while not self._queue:
            self._filled.clear()
            await self._filled.wait()
        items = list(self._queue)
        self._received = self._sent
        self._queue.clear()
        self.samples = 0
        while self._space:
            waiter = self._space.popleft()
            if not waiter.done():
                waiter.set_result(None)
        return items

    async def worked_off(self) -> None:
        """Return once all that was sent so far was received, and the receiver came for more."""
        wanted = self._sent
        while self._worked_off < wanted:
            self._back.clear()
            await self._back.wait()

    def _fits(self, n: int) -> bool:
        return not self._queue or self.samples + n <= self._samples_max

    def _pop_oldest(self) -> int:
        n = len(self._queue.popleft())
        self.samples -= n
        return n
