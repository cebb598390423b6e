"""What becomes of everything that comes out of the channel: logged, windowed, judged, alarmed."""

import asyncio
import json
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor

import structlog

from gateway.core.alarm import Condition
from gateway.core.batch import Batch, Waveform
from gateway.core.channel import Channel
from gateway.core.clock import Clock
from gateway.core.event import Event
from gateway.flow.annunciator import Annunciator
from gateway.flow.memory import Memory
from gateway.flow.missing import Missing
from gateway.flow.no_values import NoValues
from gateway.flow.warm_up import abreast, needed_from
from gateway.latest import Latest
from gateway.pipeline.assess import Judged
from gateway.pipeline.device_faults import DeviceFaults
from gateway.pipeline.fleet import Post
from gateway.pipeline.windows import WindowBuilder, WindowCounters, Windows
from gateway.stages import Stages
from gateway.store.log import Log
from models.errors import DeviceError

KEEP_NS = 60 * 1_000_000_000
"""How often it is kept what judges came to know; a crash forgets no more."""

_events = structlog.get_logger()


class Flow:
    """The one consumer of the channel. Its state belongs to one task.

    Attributes:
        latest: What was seen last.
        samples: Samples taken from the channel since the start.
        assessed: Assessments made since the start, one per asset and window.
        builder: Cuts the windows.
        posts: The judges at their watches.
        stages: What a sample passes first.
    """

    def __init__(
        self,
        *,
        clock: Clock,
        log: Log,
        annunciator: Annunciator,
        stages: Stages,
        posts: Sequence[Post],
        executor: Executor,
    ) -> None:
        self.latest = Latest()
        self.stages = stages
        self.samples = 0
        self.assessed = 0
        self.on_judged: Callable[[Post, Judged], None] = lambda _post, _judged: None
        self.posts: tuple[Post, ...] = ()
        self._clock = clock
        self._log = log
        self._annunciator = annunciator
        self._executor = executor
        self._device_faults = DeviceFaults()
        self._memory = Memory(log)
        self._busy = asyncio.Lock()
        self._keep_ns = 0
        self._counters = WindowCounters()
        self._no_values = NoValues()
        self._missing = Missing(annunciator.engine, clock)
        annunciator.listeners.append(self._memory.heard)
        self._recall_events()
        self.station(posts)

    def station(self, posts: Sequence[Post], stages: Stages | None = None) -> None:
        """Take up judges and watches, and other stages where they are given; windows are empty."""
        if stages is not None:
            self._go_over(stages)
        self._memory.hand_over(self.posts, posts)
        self.posts = tuple(posts)
        for post in posts:
            post.findings.fixed.seen = self.latest.of
        self._no_values.learn(posts)
        self._memory.no_values(posts)
        self.latest.forget(posts)
        bundles = {post.judge.bundle.id for post in posts}
        over = self._device_faults.forget(bundles, self._clock.wall_ns())
        over += self._missing.station(posts, self.stages, self._log.signals)
        for condition in over:
            self._annunciator.report(condition)
        watches = [post.watch for post in posts]
        self.builder = WindowBuilder(watches, len(self._log.signals), self._counters)

    async def restation(self, posts: Sequence[Post], stages: Stages | None = None) -> None:
        """Go over to other judges while data flow; the windows are filled from the log.

        Without other stages they stay as they are. What arrives meanwhile waits in the channel, so
        that no window is missed.
        """
        async with self._busy:
            await self._log.flush()
            self.station(posts, stages)
            await self._fill()

    def judged(self) -> set[str]:
        """The assets that any model judges."""
        return {asset for post in self.posts for asset in post.judge.assets}

    async def run(self, channel: Channel) -> None:
        """Take all that comes, until cancelled; then what is left in the channel is taken too."""
        while True:
            await self.take(await channel.receive())

    async def take(self, items: Iterable[Batch | Waveform]) -> None:
        """Log the items, cut the windows that they close, judge them, and tell the alarms."""
        async with self._busy:
            await self._take(items)

    async def _take(self, items: Iterable[Batch | Waveform]) -> None:
        mono_ns = self._clock.mono_ns()
        cut: list[tuple[int, Windows]] = []
        conditions: list[Condition] = []
        for item in items:
            if isinstance(item, Batch):
                item = self._no_values.taken_out(item)  # noqa: PLW2901 - as it is from here on
                self._hear(item)
            self._log.append(item)
            self.samples += len(item)
            if isinstance(item, Waveform):
                for part in self.stages.waves.describe(item, mono_ns):
                    self._log.append(part)
                    self._pass(part, mono_ns, cut, conditions)
            else:
                self._pass(item, mono_ns, cut, conditions)
        cut += self.builder.close(mono_ns)
        await self._judge(cut, conditions)

    def _pass(
        self,
        batch: Batch,
        mono_ns: int,
        cut: list[tuple[int, Windows]],
        conditions: list[Condition],
    ) -> None:
        """Let all stages see a batch that is logged, and what is made of it."""
        derived = self.stages.derive.derive(batch)
        if derived is not None:
            self._hear(derived)
            self._log.append(derived)
        for each in (derived, batch) if derived is not None else (batch,):
            # A speed completes bursts from before it, and may close the windows that they are for.
            for part in self.stages.waves.hear(each, mono_ns):
                self._log.append(part)
                self._pass(part, mono_ns, cut, conditions)
            self.latest.take(each, len(self._log.signals))
            self._started_or_stopped(each, mono_ns)
            conditions += self.stages.limits.update(each)
            cut += self.builder.add(each, mono_ns)

    async def tick(self) -> None:
        """Let time pass where nothing arrives: late windows, delays of alarms, reports."""
        async with self._busy:
            conditions = self._annunciator.reported()
            mono_ns, cut = self._clock.mono_ns(), list[tuple[int, Windows]]()
            for part in self.stages.waves.due(mono_ns):
                self._log.append(part)
                self._pass(part, mono_ns, cut, conditions)
            cut += self.builder.close(mono_ns)
            await self._judge(cut, conditions)
        self._annunciator.tick()
        mono_ns = self._clock.mono_ns()
        for asset in self.stages.running.started(mono_ns):
            self._annunciator.silence(asset, holds=False)
        if mono_ns >= self._keep_ns:
            self.keep()

    def keep(self) -> None:
        """Keep what judges came to know, for those after a restart."""
        self._keep_ns = self._clock.mono_ns() + KEEP_NS
        self._memory.keep(self.posts)

    def unused(self) -> dict[str, int]:
        """What came and was not used, since the start, by what became of it."""
        return {
            "sample_no_value": self._no_values.seen,
            "sample_too_late": self._counters.samples_late,
            "window_skipped": self._counters.windows_skipped,
            "clock_set_back": self._counters.clock_steps,
            "waveform_too_short": self.stages.waves.too_short,
            "waveform_without_orders": self.stages.waves.without_orders,
            "alarm_over_alarms_max": self._annunciator.engine.alarms_dropped,
        }

    async def warm_up(self) -> int:
        """Fill the windows from the log, as after a restart; give the number of samples read.

        Windows that were judged before are not judged again; those that were not, are.
        """
        async with self._busy:
            return await self._fill()

    async def _fill(self) -> int:
        standing = self._annunciator.standing()
        for post in self.posts if standing else ():
            post.findings.recall(standing)
        self._missing.recall(standing)
        state = self._log.state_get("pipeline", "ends")
        if state is None or not self.posts:
            return 0
        ends_ns: dict[str, int] = json.loads(state)
        self.builder.resume(ends_ns)
        now_ns = self._clock.wall_ns()
        start_ns = needed_from(self.posts, ends_ns, now_ns)
        columns = await asyncio.to_thread(self._log.samples, start_ns, 1 << 62)
        source_of = [self.stages.source_of.get(i, "") for i in range(len(self._log.signals))]
        slice_ns = max(1, self.builder.span_ns // 2)
        cut: list[tuple[int, Windows]] = []
        for batches in abreast(columns, source_of, slice_ns, now_ns):
            mono_ns = self._clock.mono_ns()
            for batch in map(self._no_values.taken_out, batches):
                self.latest.take(batch, len(self._log.signals))
                self._started_or_stopped(batch, mono_ns)
                cut += self.builder.add(batch, mono_ns)
            cut += self.builder.close(mono_ns)
        await self._judge(cut, [])
        return len(columns[0])

    async def _judge(self, cut: Sequence[tuple[int, Windows]], conditions: list[Condition]) -> None:
        loop = asyncio.get_running_loop()
        for number, windows in cut:
            post = self.posts[number]
            self._lay(post, windows)
            try:
                judged = await loop.run_in_executor(
                    self._executor, post.judge.judge, windows, post.coverage_min
                )
            except DeviceError as error:
                bundle, t_ns = post.judge.bundle.id, self._clock.wall_ns()
                conditions += self._device_faults.nowhere(bundle, str(error), t_ns)
                continue
            judges = (each.judge for each in self.posts)
            conditions += self._device_faults.look(post.judge, judges, self._clock.wall_ns())
            conditions += self._assessed(post, windows, judged)
        closed = {self.posts[n].judge.assets[row] for n, w in cut for row in w.rows.tolist()}
        conditions += self._missing.conditions(closed, self.latest.verdicts)
        if cut:
            self._log.state_put("pipeline", "ends", json.dumps(self.builder.ends_ns()).encode())
        self._annunciator.update(conditions)

    def _assessed(self, post: Post, windows: Windows, judged: Judged) -> list[Condition]:
        self._log.append(judged.assessments)
        self.latest.judge(post, judged)
        self._memory.saw(post, windows, judged, self._annunciator.engine.ails)
        self.on_judged(post, judged)
        self.assessed += len(judged.assessments)
        return post.findings.conditions(windows, judged)

    def tell(self, events: Sequence[Event], whole: Sequence[tuple[str, str]], who: str) -> int:
        """Take events that somebody knows of; how many were new. See `Events.tell`."""
        new, kept = self.stages.events.tell(events, whole, by=who, at_ns=self._clock.wall_ns())
        self._keep_events(kept)
        return new

    def take_back(self, events: Sequence[Event], who: str) -> None:
        """Take events back that did not happen. See `Events.take_back`."""
        at_ns = self._clock.wall_ns()
        self._keep_events(self.stages.events.take_back(events, by=who, at_ns=at_ns))

    def _hear(self, batch: Batch) -> None:
        """Keep the events that a batch tells, before it: a crash between must lose none."""
        self._keep_events(self.stages.events.take(batch))

    def _lay(self, post: Post, windows: Windows) -> None:
        """Fill in what happened, and log it as the signals that it makes."""
        if post.event_columns is None:
            return
        said, kept = post.event_columns.lay(post.watch, windows)
        self._keep_events(kept)
        self._log.append(said)
        self.latest.take(said, len(self._log.signals))

    def _keep_events(self, kept: Iterable[tuple[str, bytes]]) -> None:
        for key, state in kept:
            self._log.state_put("events", key, state)

    def _recall_events(self) -> None:
        for name, error in self.stages.events.restore(
            lambda key: self._log.state_get("events", key)
        ):
            _events.error("events.forgotten", log=name, error=error)

    def _started_or_stopped(self, batch: Batch, mono_ns: int) -> None:
        """Silence, by design, what means nothing while a machine stands, until it has started."""
        for asset, runs in self.stages.running.update(batch, mono_ns):
            if not runs:
                self._annunciator.silence(asset, holds=True)
            _events.info("asset.started" if runs else "asset.stopped", asset=asset)

    def _go_over(self, stages: Stages) -> None:
        """Take up other stages; a machine that has no rule any more counts as running."""
        for asset in self.stages.running.assets - stages.running.assets:
            self._annunciator.silence(asset, holds=False)
        stages.running.carry(self.stages.running)
        stages.waves.carry(self.stages.waves)
        self.stages = stages
        self._recall_events()
