"""Hands what the session's tasks gather to its one reader, in order, bounded in samples."""

import asyncio
from collections import deque

from gateway.core.batch import Batch, Waveform
from gateway.core.errors import LinkError

SAMPLES_MAX = 200_000
"""Above this a publisher waits before it asks for more; the server's own queue then holds on."""


class Outbox:
    """A queue whose end is an error: what was gathered before the link went is still read."""

    def __init__(self, samples_max: int = SAMPLES_MAX) -> None:
        self._samples_max = samples_max
        self._samples = 0
        self._items: deque[Batch | Waveform] = deque()
        self._failure: LinkError | None = None
        self._filled = asyncio.Event()
        self._space = asyncio.Event()
        self._space.set()

    def put(self, item: Batch | Waveform) -> None:
        """Add one item. Never waits: what has arrived is kept; `space` keeps more from arriving."""
        if len(item) == 0:
            return
        self._items.append(item)
        self._samples += len(item)
        self._filled.set()
        if self._samples >= self._samples_max:
            self._space.clear()

    def fail(self, error: LinkError) -> None:
        """End the queue; the first error is the one that counts."""
        if self._failure is None:
            self._failure = error
        self._filled.set()

    @property
    def full(self) -> bool:
        """Whether the reader is behind."""
        return not self._space.is_set()

    async def space(self) -> None:
        """Wait until the reader has caught up."""
        await self._space.wait()

    def unread(self, *, history: bool) -> dict[int, tuple[int, int]]:
        """First and last time of what was not taken, by signal, UTC ns."""
        spans: dict[int, tuple[int, int]] = {}
        for item in self._items:
            if isinstance(item, Batch) and item.history == history:
                for number, t_ns in zip(item.signal.tolist(), item.t_ns.tolist(), strict=True):
                    first, last = spans.get(number, (t_ns, t_ns))
                    spans[number] = min(first, t_ns), max(last, t_ns)
        return spans

    async def take(self) -> Batch | Waveform:
        """Wait for the next item; cancelling takes none.

        Raises:
            LinkError: The queue has ended, and everything in it was taken.
        """
        while not self._items:
            if self._failure is not None:
                raise self._failure
            self._filled.clear()
            await self._filled.wait()
        item = self._items.popleft()
        self._samples -= len(item)
        if self._samples < self._samples_max:
            self._space.set()
        return item
