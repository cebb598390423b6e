"""Keeps one supervised link a `[[source]]`, through changes of the file."""

import asyncio
from collections.abc import Callable
from random import Random

import structlog

import protocols
from gateway.config import Config
from gateway.core.alarm import Condition
from gateway.core.channel import Channel
from gateway.core.clock import Clock
from gateway.core.meter import SourceMeter
from gateway.core.source import SourceConfig, SourceContext
from gateway.core.tap import Tap
from gateway.pipeline.supervise import Supervisor, link_condition
from gateway.store.log import Log
from gateway.store.past import Past

_events = structlog.get_logger()


class Links:
    """The sources of one gateway, all read into one channel.

    Attributes:
        meters: Counters of each source, by its id.
        taps: What shows each source's wire, by its id.
    """

    def __init__(
        self,
        out: Channel,
        log: Log,
        clock: Clock,
        random: Random,
        report: Callable[[Condition], None],
    ) -> None:
        self.meters: dict[str, SourceMeter] = {}
        self.taps: dict[str, Tap] = {}
        self._out = out
        self._log = log
        self._past = Past(log, out)
        self._clock = clock
        self._random = random
        self._report = report
        self._sources: dict[str, SourceConfig] = {}
        self._running: dict[str, tuple[Supervisor, asyncio.Task[None]]] = {}

    def follow(self, tasks: asyncio.TaskGroup, config: Config) -> None:
        """Go over to these sources; one whose settings did not change is not touched."""
        wanted = {source.id: source for source in config.sources}
        for gone in self._sources.keys() - wanted.keys():
            self._end(gone)
        for source in config.sources:
            if source.id not in self._sources:
                self._begin(tasks, source, config)
            elif source != self._sources[source.id]:
                self._running[source.id][0].change(protocols.as_source(source))
        self._sources = wanted

    async def stop(self, wait_s: float) -> None:
        """End them all; waits so long for links that do not end at once."""
        running = [task for _, task in self._running.values()]
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running, timeout=wait_s)

    def _begin(self, tasks: asyncio.TaskGroup, source: SourceConfig, config: Config) -> None:
        meter = self.meters[source.id] = SourceMeter(source.id, source.kind)
        tap = self.taps[source.id] = Tap()
        folder = config.source_dir(source.id)
        folder.mkdir(parents=True, exist_ok=True)
        context = SourceContext(
            clock=self._clock,
            random=self._random,
            log=_events.bind(source=source.id),
            signals=self._log.signals,
            meter=meter,
            data_dir=folder,
            report=self._report,
            tap=tap,
            logged=self._past,
        )
        supervisor = Supervisor(protocols.as_source(source), context, self._out)
        task: asyncio.Task[None] = tasks.create_task(supervisor.run(), name=f"source:{source.id}")
        self._running[source.id] = (supervisor, task)

    def _end(self, name: str) -> None:
        _, task = self._running.pop(name)
        task.cancel()
        del self.meters[name], self.taps[name]
        # Nobody speaks of that link any more: what stood of it would stand for ever.
        self._report(link_condition(name, self._clock.wall_ns(), None))
