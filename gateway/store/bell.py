"""Wakes tasks when a thread has done something. Nothing is carried; waiters look for themselves."""

import asyncio
import threading


class Bell:
    """Rung from any thread; heard by every task that waits, on whichever loop it runs."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: set[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] = set()
        self.rings = 0

    def ring(self) -> None:
        """Wake every waiter."""
        with self._lock:
            self.rings += 1
            waiting, self._waiting = self._waiting, set()
        for loop, future in waiting:
            try:
                loop.call_soon_threadsafe(_settle, future)
            except RuntimeError:  # That loop is closed: nobody waits there any more.
                continue

    async def wait(self, seen: int) -> int:
        """Return `rings` as soon as it differs from `seen`."""
        entry = (asyncio.get_running_loop(), asyncio.get_running_loop().create_future())
        with self._lock:
            if self.rings != seen:
                return self.rings
            self._waiting.add(entry)
        try:
            await entry[1]
        finally:
            with self._lock:
                self._waiting.discard(entry)
        return self.rings


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
