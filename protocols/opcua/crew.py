"""Runs the tasks of one session and ends them with it."""

import asyncio
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Self

from gateway.core.errors import LinkError


class Crew:
    """A task group whose tasks end when its block does.

    Unlike a bare TaskGroup it hands an error of the block on as it is: the reader of a session must
    see a LinkError, not a group that holds one. A task's own LinkError goes to `on_link_error`;
    anything else that a task raises is a bug, and comes out as the group's.
    """

    def __init__(self, on_link_error: Callable[[LinkError], None]) -> None:
        self._on_link_error = on_link_error
        self._group = asyncio.TaskGroup()
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        await self._group.__aenter__()
        return self

    def start(self, work: Coroutine[Any, Any, None], name: str) -> None:
        """Run `work` until it ends or the session does."""
        task = self._group.create_task(self._watched(work), name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        # Cancelled before its first step, a task never awaits its work; that is no mistake.
        task.add_done_callback(lambda _: work.close())

    async def _watched(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except LinkError as error:
            self._on_link_error(error)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for task in self._tasks:
            task.cancel()
        await self._group.__aexit__(None, None, None)
