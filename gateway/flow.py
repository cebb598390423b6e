"""What becomes of everything that comes out of the channel: logged, windowed, judged, alarmed."""

import asyncio
import json
from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import Executor

import numpy as np
import structlog

from gateway.alarms.config import AlarmsConfig
from gateway.alarms.engine import Engine
from gateway.core.alarm import Command, Condition, Priority, Transition
from gateway.core.assessment import ModelKind
from gateway.core.batch import Batch, Waveform
from gateway.core.channel import Channel
from gateway.core.clock import Clock
from gateway.core.event import Event
from gateway.core.texts import Phrase, Texts
from gateway.latest import Latest
from gateway.pipeline.assess import Judged
from gateway.pipeline.fleet import Post
from gateway.pipeline.past import Past
from gateway.pipeline.running import SILENT, START_NS
from gateway.pipeline.windows import WindowBuilder, WindowCounters, Windows
from gateway.stages import Stages
from gateway.store.log import Log
from models.errors import DeviceError

WARM_UP_NS_MAX = 6 * 3600 * 1_000_000_000
"""Longest stretch of the log that is read again at start to fill the windows."""

KEEP_NS = 60 * 1_000_000_000
"""How often it is kept how strange machines have been; a crash forgets no more."""

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
        engine: Engine,
        stages: Stages,
        latest: Latest,
        posts: Sequence[Post],
        executor: Executor,
    ) -> None:
        self.latest = latest
        self.stages = stages
        self.samples = 0
        self.assessed = 0
        self.on_transition: Callable[[Transition], None] = lambda _transition: None
        self._clock = clock
        self._log = log
        self._engine = engine
        self._executor = executor
        self._conditions: list[Condition] = []
        self._failed: dict[str, Phrase] = {}
        self._starting: dict[str, int] = {}
        self._past = _past(log)
        self._busy = asyncio.Lock()
        self._keep_ns = 0
        self._counters = WindowCounters()
        self.on_verdict: Callable[[Transition], None] = lambda _transition: None
        self.on_judged: Callable[[Post, Judged], None] = lambda _post, _judged: None
        self.posts: tuple[Post, ...] = ()
        self._recall_events()
        self.station(posts)

    def _recall_events(self) -> None:
        for name, error in self.stages.events.restore(
            lambda key: self._log.state_get("events", key)
        ):
            _events.error("events.forgotten", log=name, error=error)

    def station(self, posts: Sequence[Post], stages: Stages | None = None) -> None:
        """Take up judges and watches, and other stages where they are given; windows are empty."""
        if stages is not None:
            self._go_over(stages)
        memory = self._memory()
        for judge in (post.judge for post in posts):
            if judge.bundle.id not in memory:
                kept = self._log.state_get("strange", judge.bundle.id)
                memory[judge.bundle.id] = {} if kept is None else json.loads(kept)
            judge.remember(memory[judge.bundle.id])
        self.posts = tuple(posts)
        self.latest.forget(posts)
        for gone in self._failed.keys() - {post.judge.bundle.id for post in posts}:
            self._conditions += self._device_conditions(gone)
        for post in posts:
            post.findings.past, judge = self._past, post.judge
            for asset in judge.assets if judge.following is not None else ():
                state = self._log.state_get("follow", f"{judge.bundle.id}/{asset}")
                if state is not None and judge.following is not None:
                    judge.following.restore(asset, state)
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

    def reconfigure(self, alarms: AlarmsConfig, texts: Texts) -> None:
        """Let the alarms go by another configuration; each stands as it stood, and was worded."""
        self._engine.texts = texts
        mono_ns, wall_ns = self._clock.mono_ns(), self._clock.wall_ns()
        self._record(self._engine.reconfigure(alarms, mono_ns=mono_ns, wall_ns=wall_ns))

    def judged(self) -> set[str]:
        """The assets that any model judges."""
        return {asset for post in self.posts for asset in post.judge.assets}

    def retire(
        self,
        assets: Collection[str],
        unjudged: Collection[str],
        limits: Collection[tuple[str, str]],
    ) -> None:
        """End the alarms that nobody reports any more. See `Engine.retire`."""
        mono_ns, wall_ns = self._clock.mono_ns(), self._clock.wall_ns()
        self._record(
            self._engine.retire(assets, unjudged, limits, mono_ns=mono_ns, wall_ns=wall_ns)
        )

    def report(self, condition: Condition) -> None:
        """Take a condition that a source or the log reports; judged with the next tick."""
        self._conditions.append(condition)

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
            self._started_or_stopped(each)
            conditions += self.stages.limits.update(each)
            cut += self.builder.add(each, mono_ns)

    async def tick(self) -> None:
        """Let time pass where nothing arrives: late windows, delays of alarms, reports."""
        async with self._busy:
            conditions, self._conditions = self._conditions, []
            mono_ns, cut = self._clock.mono_ns(), list[tuple[int, Windows]]()
            for part in self.stages.waves.due(mono_ns):
                self._log.append(part)
                self._pass(part, mono_ns, cut, conditions)
            cut += self.builder.close(mono_ns)
            await self._judge(cut, conditions)
        mono_ns, wall_ns = self._clock.mono_ns(), self._clock.wall_ns()
        self._record(self._engine.tick(mono_ns=mono_ns, wall_ns=wall_ns))
        self._lift(mono_ns)
        if mono_ns >= self._keep_ns:
            self.keep()

    def keep(self) -> None:
        """Keep how strange each machine has been, for judges after a restart."""
        self._keep_ns = self._clock.mono_ns() + KEEP_NS
        for bundle, levels in self._memory().items():
            if levels:
                rounded = {asset: round(level, 4) for asset, level in levels.items()}
                self._log.state_put("strange", bundle, json.dumps(rounded).encode())

    def _memory(self) -> dict[str, dict[str, float]]:
        """How strange each machine has been, by bundle."""
        memory: dict[str, dict[str, float]] = {}
        for judge in (post.judge for post in self.posts):
            memory.setdefault(judge.bundle.id, {}).update(judge.memory())
        return memory

    def unused(self) -> dict[str, int]:
        """What came and was not used, since the start, by what became of it."""
        return {
            "sample_too_late": self._counters.samples_late,
            "window_skipped": self._counters.windows_skipped,
            "clock_set_back": self._counters.clock_steps,
            "waveform_too_short": self.stages.waves.too_short,
            "waveform_without_orders": self.stages.waves.without_orders,
            "alarm_over_alarms_max": self._engine.alarms_dropped,
        }

    def command(self, command: Command) -> list[Transition]:
        """Do what a person asks of an alarm. Raises Refused where it makes no sense."""
        mono_ns, wall_ns = self._clock.mono_ns(), self._clock.wall_ns()
        done = self._engine.command(command, mono_ns=mono_ns, wall_ns=wall_ns)
        self._record(done)
        return done

    async def warm_up(self) -> int:
        """Fill the windows from the log, as after a restart; give the number of samples read.

        Windows that were judged before are not judged again; those that were not, are.
        """
        async with self._busy:
            return await self._fill()

    async def _fill(self) -> int:
        active = self._engine.active(self._clock.mono_ns())
        standing = {(alarm.asset, alarm.alarm) for alarm in active}
        for post in self.posts if standing else ():
            post.findings.recall(standing)
        state = self._log.state_get("pipeline", "ends")
        if state is None or not self.posts:
            return 0
        ends: dict[str, int] = json.loads(state)
        self.builder.resume(ends)
        needed_ns = max(
            (p.watch.cells + p.watch.stale_cells + p.watch.hop_cells) * p.watch.period_ns
            for p in self.posts
        )
        now_ns = self._clock.wall_ns()
        # The devices' own time, as in the windows; after a boot the wall clock may know nothing.
        latest_ns = max(ends.values(), default=now_ns)
        start_ns = max(min(ends.values(), default=now_ns), latest_ns - WARM_UP_NS_MAX) - needed_ns
        signal, t_ns, value, quality = await asyncio.to_thread(self._log.samples, start_ns, 1 << 62)
        if not len(t_ns):
            return 0
        source = np.array([self.stages.source_of.get(i, "") for i in range(len(self._log.signals))])
        # In slices of time, all sources abreast, or the first would run away from the others.
        slice_ns = max(1, self.builder.span_ns // 2)
        edges = np.arange(int(t_ns[0]), int(t_ns[-1]), slice_ns)[1:]
        cut: list[tuple[int, Windows]] = []
        for part in np.split(np.arange(len(t_ns)), np.searchsorted(t_ns, edges)):
            for name in np.unique(source[signal[part]]):
                mine = part[source[signal[part]] == name]
                batch = Batch(
                    str(name), signal[mine], t_ns[mine], value[mine], quality[mine], now_ns
                )
                self.latest.take(batch, len(self._log.signals))
                self._started_or_stopped(batch)
                cut += self.builder.add(batch, self._clock.mono_ns())
            cut += self.builder.close(self._clock.mono_ns())
        await self._judge(cut, [])
        return len(t_ns)

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
                conditions += self._device_conditions(post.judge.bundle.id, str(error))
                continue
            if post.judge.device_fault or post.judge.bundle.id in self._failed:
                conditions += self._device_conditions(post.judge.bundle.id)
            conditions += self._assessed(post, windows, judged)
        if cut:
            self._log.state_put("pipeline", "ends", json.dumps(self.builder.ends_ns()).encode())
        if conditions:
            mono_ns, wall_ns = self._clock.mono_ns(), self._clock.wall_ns()
            self._record(self._engine.update(conditions, mono_ns=mono_ns, wall_ns=wall_ns))

    def _assessed(self, post: Post, windows: Windows, judged: Judged) -> list[Condition]:
        assessments = judged.assessments
        self._log.append(assessments)
        self.latest.judge(post, judged)
        if not assessments.shadow and assessments.kind is ModelKind.ANOMALY:
            self._past.saw(assessments)
        self._follow(post, windows, judged)
        self.on_judged(post, judged)
        self.assessed += len(assessments)
        return post.findings.conditions(windows, judged)

    def tell(self, events: Sequence[Event], whole: Sequence[tuple[str, str]], who: str) -> int:
        """Take events that somebody knows of; how many were new. See `Events.tell`."""
        new, kept = self.stages.events.tell(events, whole, by=who, at_ns=self._clock.wall_ns())
        for key, state in kept:
            self._log.state_put("events", key, state)
        return new

    def take_back(self, events: Sequence[Event], who: str) -> None:
        """Take events back that did not happen. See `Events.take_back`."""
        kept = self.stages.events.take_back(events, by=who, at_ns=self._clock.wall_ns())
        for key, state in kept:
            self._log.state_put("events", key, state)

    def _hear(self, batch: Batch) -> None:
        """Keep the events that a batch tells, before it: a crash between must lose none."""
        for key, state in self.stages.events.take(batch):
            self._log.state_put("events", key, state)

    def _lay(self, post: Post, windows: Windows) -> None:
        """Fill in what happened, and log it as the signals that it makes."""
        if post.event_columns is None:
            return
        said, kept = post.event_columns.lay(post.watch, windows)
        for key, state in kept:
            self._log.state_put("events", key, state)
        self._log.append(said)
        self.latest.take(said, len(self._log.signals))

    def _started_or_stopped(self, batch: Batch) -> None:
        """Silence, by design, what means nothing while a machine stands."""
        for asset, runs in self.stages.running.update(batch):
            if runs:
                self._starting[asset] = self._clock.mono_ns() + START_NS
            else:
                self._starting.pop(asset, None)
                self._silence(asset, holds=True)
            _events.info("asset.started" if runs else "asset.stopped", asset=asset)

    def _lift(self, mono_ns: int) -> None:
        """Let machines speak again that have run for long enough."""
        for asset in [a for a, due_ns in self._starting.items() if due_ns <= mono_ns]:
            del self._starting[asset]
            self._silence(asset, holds=False)

    def _silence(self, asset: str, *, holds: bool) -> None:
        mono_ns, wall_ns = self._clock.mono_ns(), self._clock.wall_ns()
        patterns = [f"{asset}/{alarm}" for alarm in SILENT]
        self._record(
            self._engine.suppress_while(
                f"{asset}/stopped", patterns, holds=holds, mono_ns=mono_ns, wall_ns=wall_ns
            )
        )

    def _go_over(self, stages: Stages) -> None:
        """Take up other stages; a machine that has no rule any more counts as running."""
        for asset in self.stages.running.assets - stages.running.assets:
            self._starting.pop(asset, None)
            self._silence(asset, holds=False)
        stages.running.carry(self.stages.running)
        stages.waves.carry(self.stages.waves)
        self.stages = stages
        self._recall_events()

    def _follow(self, post: Post, windows: Windows, judged: Judged) -> None:
        """Let slow healthy change be followed; what moved is logged, and kept for a restart."""
        following = post.judge.following
        if following is None:
            return
        ails = np.array([self._engine.ails(asset) for asset in judged.assessments.assets])
        for asset, state in following.saw(windows.rows, judged.assessments, ails, judged.alone):
            self._log.state_put("follow", f"{post.judge.bundle.id}/{asset}", state)

    def _device_conditions(self, bundle: str, error: str = "") -> list[Condition]:
        """What changed about where a bundle runs; `error` is that it runs nowhere."""
        judges = [post.judge for post in self.posts if post.judge.bundle.id == bundle]
        fault = next((judge.device_fault for judge in judges if judge.device_fault), "")
        text = None
        if error:
            text = Phrase("system.device_nowhere", bundle=bundle, fault=error)
        elif fault:
            text = Phrase("system.device_cpu", bundle=bundle, fault=fault)
        if text == self._failed.get(bundle):
            return []
        if text is not None:
            self._failed[bundle] = text
        else:
            del self._failed[bundle]
        return [
            Condition.of_gateway(
                f"device.{bundle}",
                text,
                active=text is not None,
                t_ns=self._clock.wall_ns(),
                priority=Priority.HIGH if error else Priority.MEDIUM,
            )
        ]

    def _record(self, transitions: Sequence[Transition]) -> None:
        if not transitions:
            return
        for transition in transitions:
            self._log.append(transition)
            self.on_transition(transition)
            for asset, memory in self._past.heard(transition):
                self._log.state_put("past", asset, memory)
            if transition.event.startswith("feedback."):
                self.on_verdict(transition)
            _events.info(
                "alarm",
                asset=transition.asset,
                alarm=transition.alarm,
                state=transition.state,
                event_=transition.event,
                severity=round(transition.severity, 3),
                text=transition.text,
            )
        self._log.state_put("alarms", "engine", self._engine.dump())


def _past(log: Log) -> Past:
    """What the log remembers of earlier anomalies; what cannot be read is forgotten, and told."""
    past = Past()
    for asset in {signal.asset for signal in log.signals.signals()}:
        memory = log.state_get("past", asset)
        try:
            if memory is not None:
                past.restore(asset, memory)
        except (ValueError, KeyError, TypeError) as error:
            _events.error("past.forgotten", asset=asset, error=str(error))
    return past
