"""The running gateway as the console and the live table see it."""

import asyncio
import contextlib
import math
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, Protocol

from gateway.alarms.engine import Engine
from gateway.alarms.groups import grouped
from gateway.alarms.metrics import kpis
from gateway.alarms.states import Life
from gateway.cloud.config import CloudConfig
from gateway.cloud.summary import encode
from gateway.config import Asset, Config
from gateway.console.plant import (
    Ask,
    AssetDetail,
    AssetState,
    AssetView,
    BundleView,
    EgressView,
    Health,
    LearningView,
    Payload,
    ReaderView,
    Series,
    SignalView,
)
from gateway.core.alarm import AlarmKpis, AlarmView, Command, Shown, Transition
from gateway.core.assessment import Abstained, Context, ModelKind
from gateway.core.clock import Clock
from gateway.core.errors import Refused
from gateway.core.meter import LinkState, SourceMeter
from gateway.core.signals import Signal
from gateway.core.tap import Tap
from gateway.curves import curves
from gateway.egress import NAME as EGRESS
from gateway.egress import Egress, LogHistory, current
from gateway.flow import Flow, Verdict
from gateway.learning import Learning
from gateway.lessons import EVENTS, lesson
from gateway.notices import Notices
from gateway.pipeline.learn import Event
from gateway.store.log import Log
from gateway.store.reader import LogReader
from gateway.store.record import Kind
from gateway.store.trends import Trends

if TYPE_CHECKING:
    from prometheus_client.registry import Collector

    from gateway.pipeline.fleet import Post
    from gateway.pipeline.learn import Progress
    from gateway.store.influx import InfluxWriter

SETTLE_S_MAX = 10.0
DAY_NS = 86_400 * 1_000_000_000
STALE_NS = 60 * 1_000_000_000
"""An asset whose newest sample is older than this is shown without data."""
_UNACKED = (Life.ACTIVE_UNACKED, Life.LATCHED_UNACKED, Life.LATCHED_ACKED)


class Running(Protocol):
    """The parts of a gateway that are shown."""

    clock: Clock
    config: Config
    log: Log
    trends: Trends
    engine: Engine
    flow: Flow
    learning: Learning
    notices: Notices
    egress: Egress | None
    influx: "InfluxWriter | None"
    meters: dict[str, SourceMeter]
    taps: dict[str, Tap]
    waiting: Sequence[str]

    def asset_ids(self) -> Sequence[str]: ...

    def asset_config(self, asset: str) -> Asset | None: ...

    def signals_of(self, asset: str) -> Sequence[tuple[int, Signal]]: ...

    def learning_of(self, asset: str) -> tuple[float, str]: ...

    def samples_lost(self) -> int: ...


class View:
    """What may be known of a gateway, and what may be asked of it. See `console.plant.Plant`."""

    def __init__(self, gateway: Running) -> None:
        self._gateway = gateway
        self._started_ns = gateway.clock.wall_ns()

    def assets(self) -> Sequence[AssetView]:
        alarms: dict[str, list[AlarmView]] = {}
        for alarm in self.alarms():
            alarms.setdefault(alarm.asset, []).append(alarm)
        areas = self._gateway.config.settings.areas()
        names = self._gateway.asset_ids()
        return [self._asset(a, alarms.get(a, []), areas.get(a, "")) for a in names]

    def asset(self, asset: str) -> AssetDetail | None:
        if asset not in self._gateway.asset_ids():
            return None
        alarms = [alarm for alarm in self.alarms() if alarm.asset == asset]
        failures: dict[str, float] = {}
        rul = None
        for verdict in self._gateway.flow.latest.verdicts.get(asset, {}).values():
            if verdict.kind is ModelKind.FAILURE:
                failures |= verdict.output
            elif verdict.kind is ModelKind.RUL and verdict.output:
                hours = verdict.output
                rul = (hours["hours"], hours.get("low", math.nan), hours.get("high", math.nan))
        area = self._gateway.config.settings.areas().get(asset, "")
        view = self._asset(asset, alarms, area)
        progress = self._gateway.learning.progress(asset)
        taught = None if progress is None else lesson(asset, progress)
        judged = self._verdict(asset)
        context = Context() if judged is None else judged.context()
        return AssetDetail(view, self._signals(asset), failures, rul, taught, context)

    def alarms(self) -> Sequence[AlarmView]:
        return self._gateway.engine.active(self._gateway.clock.mono_ns())

    def shown(self) -> Sequence[Shown]:
        settings = self._gateway.config.settings
        alarms, areas = settings.alarms, settings.areas()
        return grouped(
            self.alarms(),
            lambda asset: areas.get(asset, ""),
            flood_count=alarms.flood_count,
            flood_s=alarms.flood_s,
        )

    async def history(
        self, *, start_ns: int, end_ns: int, asset: str, limit: int, before: int
    ) -> Sequence[tuple[int, Transition]]:
        return await asyncio.to_thread(
            self._gateway.trends.transitions,
            start_ns,
            end_ns,
            asset or None,
            limit,
            before,
        )

    async def history_json(
        self, *, start_ns: int, end_ns: int, asset: str, limit: int, before: int
    ) -> bytes:
        return await asyncio.to_thread(
            self._gateway.trends.transitions_json, start_ns, end_ns, asset or None, limit, before
        )

    async def kpis(self) -> AlarmKpis:
        end_ns = self._gateway.clock.wall_ns()
        start_ns = end_ns - DAY_NS
        rows = await asyncio.to_thread(
            self._gateway.trends.transitions, start_ns, end_ns, None, 100_000
        )
        config = self._gateway.config.settings.alarms
        return kpis(
            [t for _, t in rows],
            self.alarms(),
            start_ns=start_ns,
            end_ns=end_ns,
            chattering_count=config.chattering_count,
            chattering_s=config.chattering_s,
        )

    async def command(self, command: Command) -> None:
        self._gateway.flow.command(command)
        await self._gateway.log.flush()

    async def series(
        self, asset: str, signals: Sequence[str], *, start_ns: int, end_ns: int, points_max: int
    ) -> Sequence[Series]:
        gateway = self._gateway
        return await asyncio.to_thread(
            curves,
            gateway.trends,
            asset,
            signals,
            {s.name: (number, s.unit) for number, s in gateway.signals_of(asset)},
            dict(gateway.flow.latest.verdicts.get(asset, {})),
            start_ns=start_ns,
            end_ns=end_ns,
            points_max=points_max,
        )

    def sources(self) -> Sequence[SourceMeter]:
        return list(self._gateway.meters.values())

    def tap(self, source: str) -> Tap | None:
        return self._gateway.taps.get(source)

    def open_tap(self, source: str, for_s: float) -> None:
        self._gateway.taps[source].start(self._gateway.clock, for_s)

    def bundles(self) -> Sequence[BundleView]:
        learning = self._gateway.learning
        return [
            _bundle(post, [p for a in post.judge.assets if (p := learning.progress(a)) is not None])
            for post in self._gateway.flow.posts
        ]

    def learning(self) -> Sequence[LearningView]:
        return [lesson(a, p) for a, p in self._gateway.learning.all().items()]

    async def teach(self, asset: str, ask: Ask, who: str) -> None:
        self._gateway.learning.command(asset, EVENTS[ask], who)
        await self._gateway.log.flush()

    async def promote(self, bundle: str, who: str) -> None:
        asset = self._learned(bundle, candidate=True)
        if asset is None:
            raise Refused(f"{bundle}: is not a candidate that this box learned")
        await self._learn(asset, Event.PROMOTE, who)

    async def roll_back(self, bundle: str, who: str) -> None:
        asset = self._learned(bundle, candidate=False)
        if asset is None:
            raise Refused(f"{bundle}: was not learned on this box; replace its file instead")
        await self._learn(asset, Event.ROLL_BACK, who)

    async def outgoing(self, limit: int) -> Sequence[Payload]:
        return await asyncio.to_thread(self._outgoing, limit)

    def egress(self) -> EgressView | None:
        egress = self._gateway.egress
        if egress is None:
            return None
        meter = egress.sync.meter
        return EgressView(
            to=_target(self._gateway.config.settings.cloud),
            summaries=meter.summaries,
            left_bytes=meter.payload_bytes,
            stayed_bytes=meter.stayed_bytes,
            stayed_per_byte=meter.stayed_per_byte,
            waiting=egress.outbox.lag(),
            fault=meter.state_text,
        )

    def collectors(self) -> "Sequence[Collector]":
        # Only whoever asks for /metrics pays for the library.
        from gateway.store.metrics import StoreCollector  # noqa: PLC0415

        return [StoreCollector(self._gateway.log, self._gateway.influx)]

    def settings(self) -> Mapping[str, Any]:
        return self._gateway.config.as_table()

    def channels(self) -> Sequence[str]:
        return list(self._gateway.notices.channels)

    async def test_channel(self, channel: str, who: str) -> None:
        if channel not in self._gateway.notices.channels:
            raise Refused(f"{channel}: there is no such channel")
        await self._gateway.notices.channels[channel].test(who)

    def health(self) -> Health:
        gateway = self._gateway
        reasons = []
        if gateway.log.held:
            reasons.append(f"the log cannot be written: {gateway.log.held}")
        untried = [m.source for m in self.sources() if m.state is LinkState.CONNECTING]
        if untried:
            reasons.append(f"not yet connected: {', '.join(untried)}")
        return Health(
            ready=not reasons,
            reasons=tuple(reasons),
            started_ns=self._started_ns,
            gateway=gateway.config.settings.gateway.id,
            version=program_version(),
            samples=gateway.flow.samples,
            samples_lost=gateway.samples_lost(),
            log_bytes=gateway.log.path.stat().st_size if gateway.log.path.exists() else 0,
            readers=tuple(
                ReaderView(name, cursor.lag(), math.nan)
                for name, cursor in gateway.log.cursors().items()
            ),
            waiting=tuple(gateway.waiting),
        )

    async def _learn(self, asset: str, event: Event, who: str) -> None:
        """Returns when it is on disk and the other model judges (or soon will)."""
        self._gateway.learning.command(asset, event, who)
        await self._gateway.log.flush()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SETTLE_S_MAX):
                await self._gateway.learning.settled.wait()

    def _learned(self, bundle: str, *, candidate: bool) -> str | None:
        """The asset that this bundle was learned for, if it has that place there."""
        for post in self._gateway.flow.posts:
            if post.judge.bundle.manifest.id != bundle or post.judge.bundle.path is None:
                continue
            for asset in post.judge.assets:
                progress = self._gateway.learning.progress(asset)
                if progress is not None:
                    name = progress.candidate if candidate else progress.bundle
                    if name == post.judge.bundle.path.name:
                        return asset
        return None

    def _outgoing(self, limit: int) -> list[Payload]:
        """What would leave next, then what has left; the log is read, so beside the loop."""
        gateway = self._gateway
        cloud = gateway.config.settings.cloud
        reader = LogReader(gateway.log.path)
        try:
            if gateway.egress is not None:
                preview, note = gateway.egress.preview(), "next"
            else:
                preview = current(
                    LogHistory(reader),
                    cloud,
                    gateway.config.settings.gateway.id,
                    gateway.asset_ids(),
                    gateway.clock,
                )
                note = "would"
            now_ns = gateway.clock.wall_ns()
            out = [
                Payload(
                    now_ns,
                    "",
                    sent=False,
                    body=b"[" + b",".join(map(encode, preview)) + b"]",
                    note=note,
                )
            ]
            if not preview:
                out.clear()
            if gateway.egress is not None:
                to = _target(cloud)
                done = gateway.log.cursor(EGRESS).position(Kind.SUMMARY)
                for record in reversed(reader.read(Kind.SUMMARY, max(0, done - limit), done)):
                    body = b"[" + record.payload + b"]"
                    out.append(Payload(record.t_max_ns, to, sent=True, body=body, note="was"))
            return out[:limit]
        finally:
            reader.close()

    def _asset(self, asset: str, alarms: Sequence[AlarmView], area: str) -> AssetView:
        gateway = self._gateway
        config = gateway.asset_config(asset)
        verdict = self._verdict(asset)
        last_ns = max(
            (gateway.flow.latest.t_of(number) for number, _ in gateway.signals_of(asset)), default=0
        )
        state = self._state(config, verdict, alarms, last_ns)
        cause = alarms[0].text if alarms else ""
        if not cause and verdict is not None and verdict.abstained != Abstained.NO:
            cause = str(verdict.abstained)
        learning, learning_text = gateway.learning_of(asset)
        return AssetView(
            id=asset,
            asset_class=config.asset_class if config else "",
            state=state,
            severity=verdict.severity if verdict is not None else math.nan,
            priority=alarms[0].priority if alarms else None,
            area=area,
            cause=cause,
            drivers=verdict.drivers if verdict is not None else (),
            since_ns=max((a.active_since_ns for a in alarms), default=0),
            last_sample_ns=last_ns,
            coverage=verdict.coverage if verdict is not None else math.nan,
            learning=learning,
            learning_text=learning_text,
            bundle=verdict.bundle if verdict is not None else "",
            shadow=verdict.shadow if verdict is not None else False,
            alarms=len(alarms),
            trend=tuple(verdict.trend) if verdict is not None else (),
        )

    def _verdict(self, asset: str) -> Verdict | None:
        """What the asset is judged by: the bundle that may alarm before one that only watches."""
        verdicts = self._gateway.flow.latest.verdicts.get(asset, {}).values()
        anomalies = (v for v in verdicts if v.kind is ModelKind.ANOMALY)
        return min(anomalies, key=lambda v: v.shadow, default=None)

    def _state(
        self,
        config: Asset | None,
        verdict: Verdict | None,
        alarms: Sequence[AlarmView],
        last_ns: int,
    ) -> AssetState:
        if any(alarm.life in _UNACKED and alarm.state == alarm.life for alarm in alarms):
            return AssetState.ALARM
        if any(alarm.life == Life.ACTIVE_ACKED for alarm in alarms):
            return AssetState.ACKED
        if self._gateway.clock.wall_ns() - last_ns > STALE_NS:
            return AssetState.NO_DATA
        if config is not None and self._gateway.flow.running.stands(config.id):
            return AssetState.STOPPED
        if verdict is not None and verdict.abstained == Abstained.COVERAGE:
            return AssetState.NO_DATA
        judged = config is not None and (config.bundle is not None or config.learn is not None)
        if judged and (verdict is None or verdict.shadow or verdict.abstained != Abstained.NO):
            return AssetState.LEARNING
        return AssetState.OK

    def _signals(self, asset: str) -> tuple[SignalView, ...]:
        latest = self._gateway.flow.latest
        return tuple(
            SignalView(signal.name, signal.unit, *latest.of(number))
            for number, signal in self._gateway.signals_of(asset)
        )


def program_version() -> str:
    """Of the installed distribution; "0" where it runs from a bare tree."""
    try:
        return version("forewarn")
    except PackageNotFoundError:
        return "0"


def _target(cloud: CloudConfig) -> str:
    if cloud.mqtt is not None:
        return f"{cloud.mqtt.host}:{cloud.mqtt.port}"
    target = cloud.https or cloud.influx
    return target.url if target is not None else ""


def _bundle(post: "Post", progress: "Sequence[Progress]") -> BundleView:
    name = post.judge.bundle.path.name if post.judge.bundle.path is not None else ""
    candidate = any(name and p.candidate == name for p in progress)
    manifest = post.judge.bundle.manifest
    limit = manifest.limit
    parity = manifest.parity
    changed = parity.get("decisions_changed_worst", parity.get("decisions_changed"))
    return BundleView(
        id=manifest.id,
        kind=manifest.kind,
        asset_class=manifest.asset_class,
        state="candidate" if candidate else manifest.state,
        state_text=limit.reason if limit is not None else "",
        assets=post.judge.assets,
        trained_ns=round(manifest.created.timestamp() * 1e9),
        parity=float(changed) if isinstance(changed, int | float) else math.nan,
        promise=limit.false_alarms if limit is not None else "",
        promise_kept=limit is not None and limit.supported,
        signed=post.judge.bundle.signer is not None,
        may_promote=candidate,
        may_roll_back=any(name and p.bundle == name and p.previous for p in progress),
    )
