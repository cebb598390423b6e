"""Tells a source what the log already holds. See `core.source.Logged`."""

import asyncio
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from gateway.core.batch import BAD
from gateway.core.channel import Channel
from gateway.core.errors import DataError, StoreError
from gateway.store.log import Log
from gateway.store.record import Kind

LOOK_BACK_NS = 120_000_000_000
"""Of the end of what an earlier run logged. A source that lives says each of its values again
within seconds; what is older than this was not followed any more."""


class Past:
    """Made before anything is appended: what is there then, an earlier run has logged."""

    def __init__(self, log: Log, channel: Channel) -> None:
        self._log = log
        self._channel = channel
        self._head = log.heads()[Kind.SAMPLES]
        self._last: tuple[NDArray[np.int64], NDArray[np.float64]] | None = None
        self._looking = asyncio.Lock()

    async def last(self, signals: Sequence[int]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """See `Logged`. Read once for all sources; nothing where the log cannot be read."""
        async with self._looking:
            if self._last is None:
                self._last = await asyncio.to_thread(self._look)
        t_ns, value = self._last
        wanted = np.asarray(signals, dtype=np.intp)
        inside = wanted < len(t_ns)
        at = np.where(inside, wanted, 0)
        if not len(t_ns):
            return np.zeros(len(wanted), np.int64), np.full(len(wanted), np.nan)
        return np.where(inside, t_ns[at], 0), np.where(inside, value[at], np.nan)

    async def samples(
        self, signals: Sequence[int], start_ns: int, end_ns: int
    ) -> tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.float64]]:
        """See `Logged`. Raises StoreError where the log cannot be read at present."""
        columns = await asyncio.to_thread(self._log.samples, start_ns, end_ns, signals)
        return columns[:3]

    async def settled(self) -> None:
        """See `Logged`."""
        await self._channel.worked_off()
        await self._log.flush(even_held=False)

    def _look(self) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        n = len(self._log.signals)
        last_ns, last_value = np.zeros(n, np.int64), np.full(n, np.nan)
        newest_ns: int | None = None
        try:
            for logged_ns, record in self._log.backwards(Kind.SAMPLES, self._head):
                newest_ns = logged_ns if newest_ns is None else newest_ns
                if logged_ns < newest_ns - LOOK_BACK_NS:
                    break
                try:
                    signal, t_ns, value, quality = record.columns()
                except DataError:
                    continue  # Damaged; the store counts and salvages it.
                usable = (quality != BAD) & (signal < n)
                signal, t_ns, value = signal[usable], t_ns[usable], value[usable]
                np.maximum.at(last_ns, signal, t_ns)
                newest = t_ns == last_ns[signal]
                last_value[signal[newest]] = value[newest]
        except StoreError:
            return np.zeros(0, np.int64), np.zeros(0)
        return last_ns, last_value
