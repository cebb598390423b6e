"""Keeps the console served: after the first sample, on a port that may be taken, as configured."""

import asyncio
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from gateway.console.config import ConsoleConfig
from gateway.core.alarm import Condition, Priority
from gateway.core.clock import Clock, sleep_until
from gateway.core.errors import ConfigError, StoreError
from gateway.core.texts import Phrase

if TYPE_CHECKING:
    from gateway.console.plant import Plant

FIRST_WAIT_NS = 3_000_000_000
"""The console waits this long for the first sample, which goes first."""
LOOK_NS = 200_000_000
RETRY_NS = 30_000_000_000

_events = structlog.get_logger()


class Desk:
    """The console's place in a gateway."""

    def __init__(
        self,
        plant: "Plant",
        data_dir: Path,
        clock: Clock,
        report: Callable[[Condition], None],
        samples: Callable[[], int],
    ) -> None:
        self._plant = plant
        self._data_dir = data_dir
        self._clock = clock
        self._report = report
        self._samples = samples
        self._config: ConsoleConfig | None = None
        self._task: asyncio.Task[None] | None = None

    async def follow(self, tasks: asyncio.TaskGroup, config: ConsoleConfig) -> None:
        """Serve as this says; people stay signed in, and their pages come back by themselves."""
        if config == self._config:
            return
        self._config = config
        await self.close()
        if config.enabled:
            self._task = tasks.create_task(self._serve(config), name="console")

    async def close(self) -> None:
        """Serve no more; returns when the port is free."""
        if self._task is not None:
            self.cancel()
            await asyncio.wait([self._task])
            self._task = None

    def cancel(self) -> None:
        """Begin to end it."""
        if self._task is not None:
            self._task.cancel()

    async def _serve(self, config: ConsoleConfig) -> None:
        """A port that is taken is an alarm, never an end."""
        clock = self._clock
        latest_ns = clock.mono_ns() + FIRST_WAIT_NS
        while not self._samples() and clock.mono_ns() < latest_ns:
            await sleep_until(clock, clock.mono_ns() + LOOK_NS)
        # FastAPI takes most of a second to import; beside the loop, for nobody waits for it.
        module = await asyncio.to_thread(import_module, "gateway.console.server")
        told = ""
        self._tell(told)
        while True:
            fault = ""
            try:
                # It opens its file and hashes, which takes half a second on a small box.
                console = await asyncio.to_thread(
                    module.Console, config, self._plant, self._data_dir
                )
                await console.serve()
            except (ConfigError, StoreError) as error:
                fault = str(error)
            if fault and fault != told:
                _events.error("console.refused", error=fault)
            told = fault
            self._tell(fault)
            await sleep_until(clock, clock.mono_ns() + RETRY_NS)

    def _tell(self, fault: str) -> None:
        self._report(
            Condition.of_gateway(
                "console.refused",
                Phrase("system.console", fault=fault),
                active=bool(fault),
                t_ns=self._clock.wall_ns(),
                priority=Priority.LOW,
            )
        )
