"""A plant for the console's tests: seeded, with the real alarm engine behind it."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
from prometheus_client.registry import Collector

from gateway.alarms.config import AlarmsConfig
from gateway.alarms.engine import Engine
from gateway.alarms.groups import grouped
from gateway.alarms.metrics import kpis
from gateway.console.views import (
    Ask,
    AssetDetail,
    AssetState,
    AssetView,
    BundleView,
    ContextView,
    EgressView,
    Health,
    LearningView,
    Payload,
    ReaderView,
    Series,
    SignalView,
)
from gateway.core.alarm import (
    AlarmKpis,
    AlarmView,
    Cause,
    Command,
    Condition,
    Contribution,
    Priority,
    Shown,
    Transition,
    Verb,
)
from gateway.core.clock import SystemClock
from gateway.core.event import Entry, Event, EventLog
from gateway.core.meter import LinkState, SourceMeter
from gateway.core.refusal import Refused
from gateway.core.signals import SignalTable
from gateway.core.tap import Tap
from gateway.core.texts import Phrase, Texts, english
from gateway.learning.progress import Progress, Stage
from gateway.pipeline.config import AssetConfig, EventLogConfig
from gateway.pipeline.events import Events
from gateway.view.lessons import lesson

SECOND = 10**9
MACHINES = (
    ("pump-1", "centrifugal pump", "line 1"),
    ("compressor-1", "screw compressor", "line 1"),
    ("conveyor-1", "belt conveyor", "line 2"),
    ("lathe-1", "lathe", "line 2"),
)
SIGNALS = (
    ("vibration", "mm/s", 2.2),
    ("temperature", "°C", 61.0),
    ("power", "kW", 11.4),
    ("speed", "rpm", 1480.0),
)

LIMITS = {"temperature": (("high_high", 95.0), ("high", 80.0)), "speed": (("low", 1200.0),)}


class FakePlant:
    """Implements `Plant`. Tests reach in to make things happen."""

    def __init__(self, machines: Sequence[tuple[str, str, str]] = MACHINES, seed: int = 7) -> None:
        self.random = np.random.default_rng(seed)
        self.engine = Engine(AlarmsConfig())
        self.log: list[Transition] = []
        self.taps = {f"{name}-link": Tap() for name, _, _ in machines}
        self.tests: list[tuple[str, str]] = []
        repairs = EventLogConfig(id="repair", codes=("bearing", "belt"))
        machinery = [AssetConfig(id=name) for name, _, _ in machines]
        self.happened = Events([repairs], machinery, {}, SignalTable())
        self.life = (310.0, 190.0, 520.0)
        self.lessons: dict[str, LearningView] = {}
        self.context = ContextView()
        self.taught: list[tuple[str, Ask, str]] = []
        self.ready = True
        self.egress_view: EgressView | None = None
        now_ns = time.time_ns()
        self.started_ns = now_ns - 3 * 3600 * SECOND
        self.views: dict[str, AssetView] = {}
        for name, kind, area in machines:
            trend = tuple(
                float(v) for v in 0.35 + 0.1 * self.random.standard_normal(60).cumsum() / 8
            )
            self.views[name] = AssetView(
                id=name,
                asset_class=kind,
                area=area,
                state=AssetState.OK,
                severity=abs(trend[-1]),
                last_sample_ns=now_ns,
                coverage=0.998,
                bundle=f"{kind.split()[-1]}-2026-11",
                trend=tuple(map(abs, trend)),
            )
        self.meters = [
            SourceMeter(f"{name}-link", ("opcua", "modbus", "serial")[i % 3], LinkState.UP)
            for i, (name, _, _) in enumerate(machines[:8])
        ]
        for meter in self.meters:
            meter.samples = int(self.random.integers(100_000, 900_000))
            meter.connects = 1
            meter.last_sample_ns = now_ns
            meter.observe_latency(float(self.random.uniform(0.002, 0.02)))
        self.speak(english())
        self.bundle_views = [
            BundleView(
                "pump-2026-11",
                "anomaly",
                "centrifugal pump",
                "active",
                assets=("pump-1",),
                trained_ns=now_ns - 86_400 * SECOND,
                parity=0.0031,
                drift=0.2,
                promise="1/30d",
                promise_kept=True,
                signed=True,
            ),
            BundleView(
                "pump-2026-12",
                "anomaly",
                "centrifugal pump",
                "candidate",
                parity=0.0028,
                drift=0.1,
            ),
        ]

    # What tests do to it

    def report(self, *conditions: Condition) -> None:
        now_ns = time.time_ns()
        self.log += self.engine.update(conditions, mono_ns=time.monotonic_ns(), wall_ns=now_ns)
        self._paint()

    def fail(self, asset: str, severity: float = 3.4, priority: Priority = Priority.HIGH) -> None:
        """A bearing goes."""
        drivers = tuple(
            Contribution(
                name,
                share,
                Phrase("driver.high", subject=name, value=value, low=low, high=high),
            )
            for name, share, value, low, high in (
                ("vibration", 0.71, "7.9 mm/s", "1.8", "2.6"),
                ("temperature", 0.22, "78 °C", "55", "66"),
                ("power", 0.07, "12.9 kW", "10.8", "12.1"),
            )
        )
        view = self.views[asset]
        rising = np.linspace(0.4, severity, 20) + 0.05 * self.random.standard_normal(20)
        trend = (*view.trend[:40], *(float(v) for v in rising))
        self.views[asset] = replace(view, severity=severity, trend=trend)
        self.report(
            Condition(
                asset,
                "anomaly",
                Cause.ANOMALY,
                active=True,
                t_ns=time.time_ns(),
                severity=severity,
                priority=priority,
                text=Phrase(
                    "anomaly.text",
                    asset=asset,
                    at="",
                    why=Phrase("anomaly.why", drivers=tuple(each.text for each in drivers)),
                    similar="",
                ),
                drivers=drivers,
                on_delay_s=0.0,
            )
        )

    def _paint(self) -> None:
        by_asset: dict[str, list[AlarmView]] = {}
        for alarm in self.alarms():
            by_asset.setdefault(alarm.asset, []).append(alarm)
        for name, view in self.views.items():
            mine = [a for a in by_asset.get(name, []) if a.life.startswith(("active", "latched"))]
            shown = [a for a in mine if a.state in ("active_unacked", "active_acked")]
            if not shown:
                if view.state in (AssetState.ALARM, AssetState.ACKED):
                    self.views[name] = replace(
                        view, state=AssetState.OK, priority=None, cause="", alarms=0, drivers=()
                    )
                continue
            unacked = any(a.state == "active_unacked" for a in shown)
            self.views[name] = replace(
                view,
                state=AssetState.ALARM if unacked else AssetState.ACKED,
                priority=max(a.priority for a in shown),
                drivers=shown[0].drivers,
                cause=shown[0].text,
                since_ns=shown[0].active_since_ns,
                alarms=len(shown),
            )

    def speak(self, texts: Texts) -> None:
        """Say in this language what is said from now on."""
        self.engine.texts = texts
        drifting = Progress(
            Stage.DRIFTING,
            since_ns=time.time_ns() - 3600 * SECOND,
            reason=Phrase("drift.unlike"),
            bundle="0002.fwm",
            previous="0001.fwm",
            generation=2,
        )
        self.lessons["lathe-1"] = lesson("lathe-1", drifting, texts)

    # Plant

    def assets(self) -> Sequence[AssetView]:
        return list(self.views.values())

    def asset(self, asset: str) -> AssetDetail | None:
        view = self.views.get(asset)
        if view is None:
            return None
        now_ns = time.time_ns()
        values = tuple(
            SignalView(
                n,
                unit,
                base * (3.6 if n == "vibration" and view.alarms else 1),
                now_ns,
                0,
                LIMITS.get(n, ()),
            )
            for n, unit, base in SIGNALS
        )
        failures = {"bearing wear": 0.81, "imbalance": 0.12} if view.alarms else {}
        rul = self.life if view.alarms else None
        return AssetDetail(view, values, failures, rul, self.lessons.get(asset), self.context)

    def alarms(self) -> Sequence[AlarmView]:
        return self.engine.active(time.monotonic_ns())

    def shown(self) -> Sequence[Shown]:
        areas = {v.id: v.area for v in self.views.values()}
        return grouped(self.alarms(), lambda asset: areas.get(asset, ""))

    async def history(
        self, *, start_ns: int, end_ns: int, asset: str, limit: int, before: int
    ) -> Sequence[tuple[int, Transition]]:
        rows = [
            (n, t)
            for n, t in enumerate(self.log, 1)
            if start_ns <= t.t_ns < end_ns
            and (not asset or t.asset == asset)
            and (not before or n < before)
        ]
        return rows[::-1][:limit]

    async def history_json(
        self, *, start_ns: int, end_ns: int, asset: str, limit: int, before: int
    ) -> bytes:
        rows = await self.history(
            start_ns=start_ns, end_ns=end_ns, asset=asset, limit=limit, before=before
        )
        return json.dumps([{"number": n, "transition": asdict(t)} for n, t in rows]).encode()

    async def kpis(self) -> AlarmKpis:
        now_ns = time.time_ns()
        return kpis(self.log, self.alarms(), start_ns=now_ns - 86_400 * SECOND, end_ns=now_ns)

    async def command(self, command: Command) -> None:
        self.log += self.engine.command(
            command, mono_ns=time.monotonic_ns(), wall_ns=time.time_ns()
        )
        self._paint()

    async def series(
        self, asset: str, signals: Sequence[str], *, start_ns: int, end_ns: int, points_max: int
    ) -> Sequence[Series]:
        t_ns = np.linspace(start_ns, end_ns, points_max).astype(np.int64)
        phase = np.linspace(0, 1, points_max)
        ill = bool(self.views[asset].alarms)
        grow = np.clip((phase - 0.7) / 0.3, 0, 1) ** 2 if ill else np.zeros(points_max)
        random = np.random.default_rng(3)
        out = []
        for name in signals:
            if name == "@rul":
                hours = np.linspace(90.0, 62.0, points_max)
                out.append(Series(name, "h", t_ns, hours, 0.8 * hours, 1.15 * hours))
                continue
            if name.startswith("@failure:"):
                out.append(Series(name, "%", t_ns, 3 + 2 * np.sin(phase * 9)))
                continue
            if name == "@limit":
                out.append(Series(name, "", t_ns, np.full(points_max, 1.0)))
                continue
            known = {n: (u, b) for n, u, b in SIGNALS} | {
                "@score": ("", 0.4),
                "@severity": ("", 0.4),
            }
            if name not in known:
                continue
            unit, base = known[name]
            wave = 1 + 0.06 * np.sin(phase * 22) + 0.02 * random.standard_normal(points_max)
            gain = {"vibration": 2.6, "@score": 7.5, "@severity": 7.5, "temperature": 0.3}.get(
                name, 0.05
            )
            value = base * (wave + gain * grow)
            band = 0.04 * base * (1 + grow)
            extra = () if name.startswith("@") else (value - band, value + band)
            out.append(Series(name, unit, t_ns, value, *extra))
        return out

    def sources(self) -> Sequence[SourceMeter]:
        return self.meters

    def tap(self, source: str) -> Tap | None:
        return self.taps.get(source)

    def open_tap(self, source: str, for_s: float) -> None:
        self.taps[source].start(SystemClock(), for_s)
        self.taps[source].sent(b"?\r")
        self.taps[source].received(b"SPEED 1480 RPM\r\nTEMP 61.2\r\n")

    def bundles(self) -> Sequence[BundleView]:
        return self.bundle_views

    def learning(self) -> Sequence[LearningView]:
        return list(self.lessons.values())

    async def teach(self, asset: str, ask: Ask, who: str) -> None:
        learned = self.lessons.get(asset)
        if learned is None or ask not in learned.may:
            raise Refused(
                Phrase(
                    "refused.stage",
                    asset=asset,
                    asked=Phrase(f"learning.{ask}"),
                    stage=Phrase("learning.active"),
                )
            )
        self.taught.append((asset, ask, who))
        self.lessons[asset] = replace(learned, may=tuple(a for a in learned.may if a != ask))

    def event_logs(self) -> Sequence[EventLog]:
        return self.happened.logs()

    def events(self, asset: str, limit: int, *, taken_back: bool = False) -> Sequence[Entry]:
        return self.happened.newest(asset, limit, taken_back=taken_back)

    async def tell(
        self, events: Sequence[Event], whole: Sequence[tuple[str, str]], who: str
    ) -> int:
        return self.happened.tell(events, whole, by=who, at_ns=time.time_ns())[0]

    async def take_back(self, events: Sequence[Event], who: str) -> None:
        self.happened.take_back(events, by=who, at_ns=time.time_ns())

    async def outgoing(self, limit: int) -> Sequence[Payload]:
        body = b'{"asset":"pump-1","t":1700000000,"span_s":60,"severity_max":0.41,"alarms":0}'
        return [Payload(time.time_ns(), "", sent=False, body=body, note="would")]

    def egress(self) -> EgressView | None:
        return self.egress_view

    def collectors(self) -> Sequence[Collector]:
        return []

    def settings(self) -> Mapping[str, Any]:
        return {"gateway": {"id": "hall-3"}, "influx": {"token": "file:/run/secrets/influx"}}

    def channels(self) -> Sequence[str]:
        return ["shift-mail"]

    async def test_channel(self, channel: str, who: str) -> None:
        if channel != "shift-mail":
            raise Refused(Phrase("refused.no_channel", channel=channel))
        self.tests.append((channel, who))

    def health(self) -> Health:
        readers = (ReaderView("influx", 0, 0.0), ReaderView("trends", 12, 0.4))
        reasons = () if self.ready else ("the log does not take writes",)
        return Health(
            self.ready,
            reasons,
            self.started_ns,
            "hall-3",
            "0.1.0",
            4_210_332,
            0,
            58_000_000,
            readers,
            unused={"sample_too_late": 3},
        )


__all__ = ["FakePlant", "Verb"]
