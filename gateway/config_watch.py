"""Watches the configuration file: a valid change is taken, and what was not taken is told."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Never

import structlog

from gateway.changes import fixed, waiting
from gateway.config import Config, load
from gateway.core.alarm import Condition, Priority
from gateway.core.clock import Clock, sleep_until
from gateway.core.errors import ConfigError
from gateway.core.texts import Phrase

POLL_NS = 2_000_000_000

_events = structlog.get_logger()


class ConfigWatch:
    """What a running gateway does not go by of its file.

    Attributes:
        fixed: The settings that are read at the start alone, as they were then.
        waiting: Those that have changed since and wait for a restart, in words.
    """

    def __init__(self, config: Config, clock: Clock, report: Callable[[Condition], None]) -> None:
        self.fixed = fixed(config.as_table())
        self.waiting: Sequence[Phrase] = ()
        self._path = config.path
        self._clock = clock
        self._report = report
        # Taken now: a change while everything starts is a change, too.
        self._seen = _stamp(config.path)

    async def run(self, reload: Callable[[Config], Awaitable[None]]) -> Never:
        """Let `reload` take what is valid, until cancelled; the last good one stays otherwise."""
        while True:
            await sleep_until(self._clock, self._clock.mono_ns() + POLL_NS)
            now = await asyncio.to_thread(_stamp, self._path)
            if now == self._seen:
                continue
            self._seen = now
            error = ""
            try:
                config = await asyncio.to_thread(load, self._path)
                await reload(config)
                self._taken(config)
            except ConfigError as fault:
                error = str(fault)
                _events.error("config.refused", error=error)
            refused = Phrase("system.config_refused", fault=error)
            self._tell("config.refused", refused, active=bool(error))
            waits = Phrase("system.config_waiting", settings=tuple(self.waiting))
            self._tell("config.waiting", waits, active=bool(self.waiting))

    def _taken(self, config: Config) -> None:
        self.waiting = waiting(self.fixed, config.as_table())
        _events.info(
            "config.reloaded",
            sources=len(config.sources),
            waits_for_restart=list(map(str, self.waiting)),
        )

    def _tell(self, alarm: str, text: Phrase, *, active: bool) -> None:
        t_ns = self._clock.wall_ns()
        self._report(
            Condition.of_gateway(alarm, text, active=active, t_ns=t_ns, priority=Priority.LOW)
        )


def _stamp(path: Path) -> tuple[int, int]:
    """Changes whenever the file does."""
    try:
        stat = path.stat()
    except OSError:
        return (0, 0)
    return (stat.st_mtime_ns, stat.st_size)
