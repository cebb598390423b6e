"""Waits for a condition instead of for a time."""

import asyncio
import time
from collections.abc import Callable


async def eventually(condition: Callable[[], bool], *, timeout_s: float = 30.0) -> None:
    """Return as soon as `condition()` is true; fail the test when it never is."""
    loop = asyncio.get_running_loop()
    deadline_s = loop.time() + timeout_s
    while not condition():
        assert loop.time() < deadline_s, f"not within {timeout_s} s: {condition}"
        await asyncio.sleep(0.01)


def eventually_blocking(condition: Callable[[], bool], *, timeout_s: float = 30.0) -> None:
    """The same for tests that watch a process and run no event loop."""
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline_s, f"not within {timeout_s} s: {condition}"
        time.sleep(0.01)
