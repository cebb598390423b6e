"""The composition root: the only module that knows every layer."""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

import structlog

from gateway.alarms.engine import Engine
from gateway.config import Config
from gateway.config_watch import ConfigWatch
from gateway.core.alarm import Condition, Priority
from gateway.core.channel import Channel, WhenFull
from gateway.core.clock import Clock, SystemClock, sleep_until
from gateway.core.meter import LinkState
from gateway.core.texts import Phrase
from gateway.desk import Desk
from gateway.egress import Outlet
from gateway.flow.annunciator import Annunciator
from gateway.flow.flow import Flow
from gateway.health import HEALTH_SOCKET, answer_health
from gateway.learning.learning import Learning
from gateway.links import Links
from gateway.notices import Notices
from gateway.parts import Parts
from gateway.pipeline.fleet import Post, assignments, muster
from gateway.store.clock_watch import watch_clock
from gateway.store.log import Log
from gateway.store.trends import Trends
from gateway.store.vitals import log_vitals
from gateway.view.plant import View
from models.runtime.fallback import open_lasting

if TYPE_CHECKING:
    from gateway.store.influx import InfluxWriter

CHANNEL_SAMPLES_MAX = 1_000_000
TICK_NS = 200_000_000
STOP_S_MAX = 3.0
"""How long the log may take at the end; together with the rest this keeps a stop under 5 s."""

_events = structlog.get_logger()


class Gateway:
    """One gateway: made of a configuration, run until told to stop.

    Attributes:
        config: What it runs by at present; a reload replaces it.
        parts: What that is made into, likewise.
        links: The sources.
        log: The durable log.
        trends: Its aggregates.
        annunciator: Every alarm.
        flow: What becomes of the samples.
        channel: Between the sources and the flow.
        notices: Who is told.
        outlet: Where summaries leave.
        desk: Where the console is served.
        config_watch: What it does not go by of its file.
    """

    def __init__(self, config: Config) -> None:
        """Open the log and load the models; reach out to nothing.

        Raises:
            ConfigError: A bundle does not fit its asset.
            StoreError: The data directory is in use, or cannot be written.
        """
        self.config = config
        self.clock: Clock = SystemClock()
        self.config_watch = ConfigWatch(config, self.clock, self._report)
        self._random = Random()
        self.channel = Channel(samples_max=CHANNEL_SAMPLES_MAX, when_full=WhenFull.BLOCK)
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="assess")
        settings = config.settings
        self.log = Log.open(config.data_dir, settings.store, self.clock)
        try:
            self.links = Links(self.channel, self.log, self.clock, self._random, self._report)
            self.parts = parts = Parts(config, self.log.signals)
            self.trends = Trends(self.log, settings.store.trends, self.clock)
            engine = Engine(parts.alarms, settings.console.texts)
            self.annunciator = Annunciator(engine, self.log, self.clock)
            self.learning = Learning(
                clock=self.clock,
                log=self.log,
                trends=self.trends,
                report=self._report,
                folder=config.data_dir / "models",
                config_file=config.path,
            )
            self.flow = Flow(
                clock=self.clock,
                log=self.log,
                annunciator=self.annunciator,
                stages=parts.stages,
                posts=self._posts(config, parts),
                executor=self._executor,
            )
            self.flow.on_judged = self.learning.saw
            self.annunciator.listeners.append(self.learning.heard)
            self.influx = self._influx(config)
            self.outlet = Outlet(self.log, self.clock, self._random, self._report)
            self.outlet.prepare(parts.scope)
        except BaseException:
            self.log.close()
            raise
        self.notices = Notices(self.log, self.clock, self._random, self._report)
        self.view = View(self)
        self.desk = Desk(
            self.view, config.data_dir, self.clock, self._report, lambda: self.flow.samples
        )

    def samples_lost(self) -> int:
        """Samples that did not reach the log: lost by a peer, dropped by a full queue or disk."""
        lost = sum(meter.samples_lost for meter in self.links.meters.values())
        dropped = self.log.counters()["samples_dropped"]
        return lost + self.channel.samples_dropped + dropped

    async def run(self, stop: asyncio.Event) -> None:
        """Read, judge and alarm until `stop` is set; then end everything in order.

        In order: the sources, then what is left in the channel, then the log, then its readers.
        """
        self.annunciator.restore()
        warmed = await self.flow.warm_up()
        self._tell_language()
        _events.info(
            "gateway.start",
            id=self.config.settings.gateway.id,
            sources=len(self.config.sources),
            signals=len(self.log.signals),
            samples_read_again=warmed,
        )
        try:
            async with asyncio.TaskGroup() as tasks:
                reload = partial(self.reload, tasks)
                readers = [
                    tasks.create_task(self.log.run(self._report), name="log"),
                    tasks.create_task(self.trends.run(), name="trends"),
                    tasks.create_task(self._tick(), name="tick"),
                    tasks.create_task(watch_clock(self.clock, self._report), name="clock"),
                    tasks.create_task(self._log_vitals(), name="vitals"),
                    tasks.create_task(self.config_watch.run(reload), name="config"),
                    tasks.create_task(self.learning.run(self._restation), name="learning"),
                    tasks.create_task(answer_health(self.health_path, self._health), name="health"),
                ]
                await self.desk.follow(tasks, self.config.settings.console)
                if self.influx is not None:
                    readers.append(tasks.create_task(self.influx.run(), name="influx"))
                await self.outlet.follow(tasks)
                self.notices.follow(tasks, self.config.settings)
                flow = tasks.create_task(self.flow.run(self.channel), name="flow")
                self.links.follow(tasks, self.config)
                await stop.wait()
                self.desk.cancel()
                await self.links.stop(STOP_S_MAX)
                flow.cancel()
                await asyncio.wait([flow])
                if self.channel.samples:
                    await self.flow.take(await self.channel.receive())
                self.flow.keep()
                try:
                    async with asyncio.timeout(STOP_S_MAX):
                        await self.log.flush()
                except TimeoutError:
                    _events.error("log.unflushed", held=self.log.held)
                for task in readers:
                    task.cancel()
                self.notices.cancel()
                self.outlet.cancel()
        finally:
            self._executor.shutdown()
            self.trends.close()
            self.log.close()
            _events.info("gateway.stop", samples=self.flow.samples)

    async def reload(self, tasks: asyncio.TaskGroup, config: Config) -> None:
        """Go over to another configuration; what did not change is not touched.

        Raises:
            ConfigError: It cannot run; nothing has changed.
        """
        old, new = self.parts, Parts(config, self.log.signals)
        # Beside the loop: a model server that does not answer takes its time.
        posts = await asyncio.to_thread(self._posts, config, new)
        self.outlet.prepare(new.scope)
        judged = self.flow.judged()
        self.links.follow(tasks, config)
        self.config, self.parts = config, new
        await self.flow.restation(posts, new.stages)
        self.annunciator.retire(
            old.signals.keys() - new.signals.keys(),
            judged - self.flow.judged(),
            old.stages.limits.alarms - new.stages.limits.alarms,
        )
        self.annunciator.reconfigure(new.alarms, config.settings.console.texts)
        self.notices.follow(tasks, config.settings)
        await self.outlet.follow(tasks)
        await self.desk.follow(tasks, config.settings.console)
        self._tell_language()

    async def _log_vitals(self) -> None:
        every_s = self.config.settings.store.vitals_s
        await log_vitals(self.log, self.links.meters.values, self.clock, every_s, self.influx)

    async def _tick(self) -> None:
        due_ns = self.clock.mono_ns()
        while True:
            due_ns = max(due_ns + TICK_NS, self.clock.mono_ns())
            await sleep_until(self.clock, due_ns)
            await self.flow.tick()

    def _tell_language(self) -> None:
        """A language that lacks texts is no reason not to run, and one to say so."""
        console = self.config.settings.console
        n = len(console.texts.lacks)
        gaps = Phrase("system.language", n=n, language=console.language)
        t_ns = self.clock.wall_ns()
        self._report(
            Condition.of_gateway(
                "language.incomplete", gaps, active=n > 0, t_ns=t_ns, priority=Priority.LOW
            )
        )

    def _influx(self, config: Config) -> "InfluxWriter | None":
        if config.settings.influx is None:
            return None
        # A gateway without an InfluxDB does not pay for an HTTP library.
        from gateway.store.influx import InfluxWriter  # noqa: PLC0415

        return InfluxWriter(
            self.log,
            config.settings.influx,
            config.settings.gateway.id,
            self.clock,
            self._random,
            self._report,
        )

    @property
    def health_path(self) -> Path:
        """Where `forewarn health` asks."""
        return self.config.data_dir / HEALTH_SOCKET

    def _health(self) -> dict[str, object]:
        links = [meter.state.value for meter in self.links.meters.values()]
        return {
            "ok": not self.log.held,
            "held": self.log.held,
            "sources": len(links),
            "sources_up": links.count("up"),
            "down": {
                source: meter.state_text or meter.state.value
                for source, meter in self.links.meters.items()
                if meter.state is not LinkState.UP
            },
            "samples": self.flow.samples,
            "cloud": None if self.outlet.egress is None else self.outlet.egress.state(),
            "waits_for_restart": list(map(str, self.config_watch.waiting)),
            "fixed": self.config_watch.fixed,
        }

    def _posts(self, config: Config, parts: Parts) -> Sequence[Post]:
        assets = config.settings.asset
        self.learning.enroll(assets, parts.signals)
        wanted = [*assignments(assets, config.resolve), *self.learning.assignments()]
        opener = partial(open_lasting, cache=config.data_dir / "engines")
        return muster(
            wanted, parts.sources_of, self.log.signals, opener=opener, events=parts.stages.events
        )

    async def _restation(self) -> None:
        """Let the judges that learning asks for take up their posts."""
        posts = await asyncio.to_thread(self._posts, self.config, self.parts)
        await self.flow.restation(posts)

    def _report(self, condition: Condition) -> None:
        self.annunciator.report(condition)
