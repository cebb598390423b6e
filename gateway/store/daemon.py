"""Runs one blocking call in a thread that the end of the process need not wait for."""

import asyncio
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


async def in_daemon(call: Callable[[], T], name: str) -> T:
    """Await `call()`. Cancelling lets go of it: its result is dropped, its thread ends by itself.

    The pools of asyncio and of concurrent.futures are joined at exit, so a request that hangs in
    one of them holds up the end of the gateway for as long as its time-out.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: BaseException | None) -> None:
        if future.cancelled():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)  # type: ignore[arg-type]  # None only where T allows it.

    def main() -> None:
        result: T | None = None
        caught: BaseException | None = None
        try:
            result = call()
        except BaseException as error:  # noqa: BLE001  # Carried to whoever awaits.
            caught = error
        try:
            loop.call_soon_threadsafe(settle, result, caught)
        except RuntimeError:  # The loop has ended meanwhile; nobody waits.
            return

    threading.Thread(target=main, name=name, daemon=True).start()
    return await future
