"""Opens and shuts the way to one server: backoff, Retry-After, and one probe at a time."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from random import Random

from gateway.core.clock import Clock, sleep_until

BACKOFF_NS_MIN = 500_000_000
BACKOFF_NS_MAX = 30_000_000_000
HOLD_NS_MIN = 2_000_000_000
HOLD_NS_MAX = 60_000_000_000


class Gate:
    """While it is shut, whoever wants through waits; then one goes ahead, and all follow a success.

    Every interval is monotonic: a wall clock that is set opens nothing early and holds nothing up.

    Attributes:
        why: What shut it; "" while it is open.
        held: A person must act before it can open.
    """

    def __init__(self, clock: Clock, random: Random) -> None:
        self._clock = clock
        self._random = random
        self._probe = asyncio.Lock()
        self._until_ns = 0
        self._backoff_ns = BACKOFF_NS_MIN
        self.why = ""
        self.held = False

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for one's turn. Open: at once. Shut: alone, after the time is up."""
        async with AsyncExitStack() as stack:
            if self.why:
                await stack.enter_async_context(self._probe)
                while self.why and self._clock.mono_ns() < self._until_ns:
                    await sleep_until(self._clock, self._until_ns)
                if not self.why:
                    await stack.aclose()  # Whoever went before got through: all may go.
            yield

    def open(self) -> bool:
        """The server took something. Returns whether it was shut."""
        was_shut = bool(self.why)
        self.why, self.held = "", False
        self._backoff_ns = BACKOFF_NS_MIN
        return was_shut

    def shut(self, why: str, *, held: bool = False, wait_s: float = 0.0) -> bool:
        """The server took nothing. Returns whether that is news."""
        now_ns = self._clock.mono_ns()
        news = not self.why or held != self.held
        self.why, self.held = why, held
        low, high = (HOLD_NS_MIN, HOLD_NS_MAX) if held else (BACKOFF_NS_MIN, BACKOFF_NS_MAX)
        backoff_ns = min(max(self._backoff_ns, low), high)
        jitter_ns = self._random.randrange(backoff_ns // 2, backoff_ns)
        self._until_ns = now_ns + max(jitter_ns, round(wait_s * 1e9))
        if news or self._probe.locked():  # Requests that fail together are one failure.
            self._backoff_ns = 2 * backoff_ns
        return news
