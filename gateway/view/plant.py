"""The running gateway as the console and the live table see it."""

import asyncio
import contextlib
import math
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from gateway.alarms.groups import grouped
from gateway.alarms.metrics import kpis
from gateway.console.views import (
    Ask,
    AssetDetail,
    AssetView,
    BundleView,
    EgressView,
    Health,
    LearningView,
    Payload,
    ReaderView,
    Series,
)
from gateway.core.alarm import AlarmKpis, AlarmView, Command, Shown, Transition
from gateway.core.event import Entry, Event, EventLog
from gateway.core.meter import LinkState, SourceMeter
from gateway.core.refusal import Refused
from gateway.core.tap import Tap
from gateway.core.texts import Phrase
from gateway.view.curves import curves
from gateway.view.leaving import balance, outgoing
from gateway.view.lessons import EVENTS, lesson
from gateway.view.running import Running
from gateway.view.standing import detail, model, tile

if TYPE_CHECKING:
    from prometheus_client.registry import Collector


SETTLE_S_MAX = 10.0
DAY_NS = 86_400 * 1_000_000_000


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
        return [
            tile(self._gateway, asset, alarms.get(asset, []), areas.get(asset, ""))
            for asset in self._gateway.parts.signals
        ]

    def asset(self, asset: str) -> AssetDetail | None:
        if asset not in self._gateway.parts.signals:
            return None
        alarms = [alarm for alarm in self.alarms() if alarm.asset == asset]
        area = self._gateway.config.settings.areas().get(asset, "")
        return detail(self._gateway, asset, tile(self._gateway, asset, alarms, area))

    def alarms(self) -> Sequence[AlarmView]:
        return self._gateway.annunciator.engine.active(self._gateway.clock.mono_ns())

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
        self._gateway.annunciator.command(command)
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
            {s.name: (number, s.unit) for number, s in gateway.parts.signals_of(asset)},
            dict(gateway.flow.latest.verdicts.get(asset, {})),
            start_ns=start_ns,
            end_ns=end_ns,
            points_max=points_max,
        )

    def sources(self) -> Sequence[SourceMeter]:
        return list(self._gateway.links.meters.values())

    def tap(self, source: str) -> Tap | None:
        return self._gateway.links.taps.get(source)

    def open_tap(self, source: str, for_s: float) -> None:
        self._gateway.links.taps[source].start(self._gateway.clock, for_s)

    def bundles(self) -> Sequence[BundleView]:
        learning, texts = self._gateway.learning, self._gateway.config.settings.console.texts
        return [
            model(
                post,
                [p for a in post.judge.assets if (p := learning.progress(a)) is not None],
                texts,
            )
            for post in self._gateway.flow.posts
        ]

    def learning(self) -> Sequence[LearningView]:
        texts = self._gateway.config.settings.console.texts
        return [lesson(a, p, texts) for a, p in self._gateway.learning.all().items()]

    async def teach(self, asset: str, ask: Ask, who: str) -> None:
        """Returns when it is on disk and the other model judges (or soon will)."""
        self._gateway.learning.command(asset, EVENTS[ask], who)
        await self._gateway.log.flush()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SETTLE_S_MAX):
                await self._gateway.learning.settled.wait()

    def event_logs(self) -> Sequence[EventLog]:
        return self._gateway.flow.stages.events.logs()

    def events(self, asset: str, limit: int, *, taken_back: bool = False) -> Sequence[Entry]:
        return self._gateway.flow.stages.events.newest(asset, limit, taken_back=taken_back)

    async def tell(
        self, events: Sequence[Event], whole: Sequence[tuple[str, str]], who: str
    ) -> int:
        new = self._gateway.flow.tell(events, whole, who)
        await self._gateway.log.flush()
        return new

    async def take_back(self, events: Sequence[Event], who: str) -> None:
        self._gateway.flow.take_back(events, who)
        await self._gateway.log.flush()

    async def outgoing(self, limit: int) -> Sequence[Payload]:
        return await asyncio.to_thread(outgoing, self._gateway, limit)

    def egress(self) -> EgressView | None:
        return balance(self._gateway)

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
            raise Refused(Phrase("refused.no_channel", channel=channel))
        await self._gateway.notices.channels[channel].test(who)

    def health(self) -> Health:
        gateway = self._gateway
        texts = gateway.config.settings.console.texts
        reasons = []
        if gateway.log.held:
            reasons.append(Phrase("health.log", fault=str(gateway.log.held)))
        untried = [m.source for m in self.sources() if m.state is LinkState.CONNECTING]
        if untried:
            reasons.append(Phrase("health.connecting", sources=", ".join(untried)))
        return Health(
            ready=not reasons,
            reasons=tuple(map(texts.say, reasons)),
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
            waiting=tuple(map(texts.say, gateway.config_watch.waiting)),
            unused=gateway.flow.unused(),
        )


def program_version() -> str:
    """Of the installed distribution; "0" where it runs from a bare tree."""
    try:
        return version("forewarn")
    except PackageNotFoundError:
        return "0"
