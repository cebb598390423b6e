"""The running gateway as the console and the live table see it."""

import asyncio
import math
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

import numpy as np

from gateway.alarms.metrics import kpis
from gateway.alarms.states import Life
from gateway.console.plant import (
    AssetDetail,
    AssetState,
    AssetView,
    BundleView,
    Health,
    Payload,
    ReaderView,
    Series,
    SignalView,
)
from gateway.core.alarm import AlarmKpis, AlarmView, Command, Transition
from gateway.core.assessment import Abstained, ModelKind
from gateway.core.errors import Refused
from gateway.core.meter import LinkState, SourceMeter
from gateway.flow import Verdict

if TYPE_CHECKING:
    from prometheus_client.registry import Collector

    from gateway.app import Gateway
    from gateway.config import Asset
    from gateway.pipeline.fleet import Post

DAY_NS = 86_400 * 1_000_000_000
STALE_NS = 60 * 1_000_000_000
"""An asset whose newest sample is older than this is shown without data."""
_UNACKED = (Life.ACTIVE_UNACKED, Life.LATCHED_UNACKED, Life.LATCHED_ACKED)


class View:
    """What may be known of a gateway, and what may be asked of it. See `console.plant.Plant`."""

    def __init__(self, gateway: "Gateway") -> None:
        self._gateway = gateway
        self._started_ns = gateway.clock.wall_ns()

    def assets(self) -> Sequence[AssetView]:
        alarms: dict[str, list[AlarmView]] = {}
        for alarm in self.alarms():
            alarms.setdefault(alarm.asset, []).append(alarm)
        return [self._asset(a, alarms.get(a, [])) for a in self._gateway.asset_ids()]

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
        return AssetDetail(self._asset(asset, alarms), self._signals(asset), failures, rul)

    def alarms(self) -> Sequence[AlarmView]:
        return self._gateway.engine.active(self._gateway.clock.mono_ns())

    async def history(
        self, *, start_ns: int, end_ns: int, asset: str, limit: int, before: int
    ) -> Sequence[tuple[int, Transition]]:
        # Pages are told apart by the time of the oldest transition on the page before.
        end_ns = min(end_ns, before) if before else end_ns
        rows = await asyncio.to_thread(
            self._gateway.trends.transitions, start_ns, end_ns, asset or None, limit
        )
        return [(row.t_ns, row) for row in rows]

    async def kpis(self) -> AlarmKpis:
        end_ns = self._gateway.clock.wall_ns()
        start_ns = end_ns - DAY_NS
        rows = await asyncio.to_thread(
            self._gateway.trends.transitions, start_ns, end_ns, None, 100_000
        )
        return kpis(rows, self.alarms(), start_ns=start_ns, end_ns=end_ns)

    async def command(self, command: Command) -> None:
        self._gateway.flow.command(command)
        await self._gateway.log.flush()

    async def series(
        self, asset: str, signals: Sequence[str], *, start_ns: int, end_ns: int, points_max: int
    ) -> Sequence[Series]:
        return await asyncio.to_thread(self._series, asset, signals, start_ns, end_ns, points_max)

    def sources(self) -> Sequence[SourceMeter]:
        return list(self._gateway.meters.values())

    async def last_bytes(self, source: str) -> bytes | None:  # noqa: ARG002
        return None

    def bundles(self) -> Sequence[BundleView]:
        return [_bundle(post) for post in self._gateway.flow.posts]

    async def promote(self, bundle: str, who: str) -> None:  # noqa: ARG002
        raise Refused(f"{bundle}: there is no candidate to promote")

    async def roll_back(self, bundle: str, who: str) -> None:  # noqa: ARG002
        raise Refused(f"{bundle}: there is no earlier model to go back to")

    async def outgoing(self, limit: int) -> Sequence[Payload]:  # noqa: ARG002
        return []

    def collectors(self) -> "Sequence[Collector]":
        # Only whoever asks for /metrics pays for the library.
        from gateway.store.metrics import StoreCollector  # noqa: PLC0415

        return [StoreCollector(self._gateway.log, self._gateway.influx)]

    def settings(self) -> Mapping[str, Any]:
        return self._gateway.config.as_table()

    def channels(self) -> Sequence[str]:
        return list(self._gateway.channels)

    async def test_channel(self, channel: str, who: str) -> None:
        if channel not in self._gateway.channels:
            raise Refused(f"{channel}: there is no such channel")
        await self._gateway.channels[channel].test(who)

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
        )

    def _asset(self, asset: str, alarms: Sequence[AlarmView]) -> AssetView:
        gateway = self._gateway
        config = gateway.asset_config(asset)
        verdicts = gateway.flow.latest.verdicts.get(asset, {})
        # The one that may alarm goes before the one that only watches in shadow.
        verdict = next(
            (
                v
                for v in sorted(verdicts.values(), key=lambda v: v.shadow)
                if v.kind is ModelKind.ANOMALY
            ),
            None,
        )
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
            area=(config.line or config.site) if config else "",
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

    def _state(
        self,
        config: "Asset | None",
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

    def _series(
        self, asset: str, signals: Sequence[str], start_ns: int, end_ns: int, points_max: int
    ) -> list[Series]:
        trends = self._gateway.trends
        numbers = {s.name: (number, s.unit) for number, s in self._gateway.signals_of(asset)}
        out = []
        verdicts = None
        for name in signals:
            if name in ("@score", "@limit"):
                if verdicts is None:
                    verdicts = trends.assessments(asset, start_ns, end_ns)
                every = max(1, -(-len(verdicts.t_ns) // points_max))
                value = verdicts.score if name == "@score" else verdicts.limit
                out.append(Series(name, "", verdicts.t_ns[::every], value[::every]))
            elif name in numbers:
                number, unit = numbers[name]
                s = trends.series(number, start_ns, end_ns, points_max)
                out.append(Series(name, unit, s.t_ns, s.mean, s.least, s.greatest))
        return out


def program_version() -> str:
    """Of the installed distribution; "0" where it runs from a bare tree."""
    try:
        return version("forewarn")
    except PackageNotFoundError:
        return "0"


def _bundle(post: "Post") -> BundleView:
    manifest = post.judge.bundle.manifest
    limit = manifest.limit
    promise = ""
    if limit is not None:
        kept = "supported by its record" if limit.supported else "not supported by its record"
        promise = f"{limit.false_alarms} per asset, {kept}" if limit.false_alarms else kept
    parity = manifest.parity.get("score_relative", np.nan)
    return BundleView(
        id=manifest.id,
        kind=manifest.kind,
        asset_class=manifest.asset_class,
        state=manifest.state,
        state_text=limit.reason if limit is not None else "",
        assets=post.judge.assets,
        trained_ns=round(manifest.created.timestamp() * 1e9),
        parity=float(parity) if isinstance(parity, int | float) else math.nan,
        false_alarms=promise,
        signed=post.judge.bundle.signer is not None,
    )
