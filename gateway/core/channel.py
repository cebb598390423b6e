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
        self.samples += n
        self.samples_peak = max(self.samples_peak, self.samples)
        self._filled.set()

    async def receive(self) -> list[Batch | Waveform]:
        """Take everything there is, oldest first, waiting for something if there is nothing.

        All of it at once, so that what follows pays its overhead per drain and not per batch.
        """
        while not self._queue:
            self._filled.clear()
            await self._filled.wait()
        items = list(self._queue)
        self._queue.clear()
        self.samples = 0
        while self._space:
            waiter = self._space.popleft()
            if not waiter.done():
                waiter.set_result(None)
        return items

    def _fits(self, n: int) -> bool:
        return not self._queue or self.samples + n <= self._samples_max

    def _pop_oldest(self) -> int:
        n = len(self._queue.popleft())
        self.samples -= n
        return n
