"""The gateway's counters in Prometheus text, made when asked for."""

import math
from collections.abc import Iterable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector, CollectorRegistry
from typing_extensions import override

from gateway.console.live import Hub
from gateway.console.plant import Plant
from gateway.core.alarm import Priority
from gateway.core.meter import LinkState

COUNTERS = (
    ("connects", "Links established"),
    ("link_errors", "Links lost or not established"),
    ("requests", "Requests sent"),
    ("samples", "Samples received"),
    ("samples_bad", "Samples of bad quality"),
    ("samples_history", "Samples fetched from the past"),
    ("samples_lost", "Samples lost on the way"),
    ("gaps_unfilled", "Gaps of signals that nobody can fill"),
    ("gaps_unfilled_s", "Seconds of outages with such gaps"),
)


class _Gateway(Collector):
    def __init__(self, plant: Plant, hub: Hub) -> None:
        self._plant = plant
        self._hub = hub

    @override
    def collect(self) -> Iterable[Metric]:
        yield from self._sources()
        yield from self._assets()
        health = self._plant.health()
        yield GaugeMetricFamily("forewarn_ready", "1 when ready", int(health.ready))
        yield GaugeMetricFamily("forewarn_start_time_seconds", "UTC", health.started_ns / 1e9)
        yield GaugeMetricFamily("forewarn_log_bytes", "Log on disk", health.log_bytes)
        yield CounterMetricFamily("forewarn_samples", "Samples taken", health.samples)
        unused = CounterMetricFamily("forewarn_unused", "Came and was not used", labels=["what"])
        for what, n in health.unused.items():
            unused.add_metric([what], n)
        yield unused
        lag = GaugeMetricFamily("forewarn_reader_lag", "Records not yet taken", labels=["reader"])
        for reader in health.readers:
            lag.add_metric([reader.name], reader.lag)
        yield lag
        alarms = GaugeMetricFamily("forewarn_alarms", "Alarms now", labels=["state", "priority"])
        counts: dict[tuple[str, str], int] = {}
        for view in self._plant.alarms():
            key = (view.state, Priority(view.priority).name.lower())
            counts[key] = counts.get(key, 0) + 1
        for key, n in counts.items():
            alarms.add_metric(key, n)
        yield alarms
        yield GaugeMetricFamily("forewarn_browsers", "Live pages open", self._hub.browsers)
        yield CounterMetricFamily(
            "forewarn_browsers_dropped", "Browsers too slow", self._hub.browsers_dropped
        )

    def _sources(self) -> Iterator[Metric]:
        meters = self._plant.sources()
        for name, text in COUNTERS:
            family = CounterMetricFamily(f"forewarn_source_{name}", text, labels=["source"])
            for meter in meters:
                family.add_metric([meter.source], getattr(meter, name))
            yield family
        up = GaugeMetricFamily("forewarn_source_up", "1 when the link is up", labels=["source"])
        latency = GaugeMetricFamily(
            "forewarn_source_latency_seconds", "Smoothed answer time", labels=["source"]
        )
        errors = CounterMetricFamily(
            "forewarn_source_errors", "Errors by kind", labels=["source", "kind"]
        )
        last = GaugeMetricFamily(
            "forewarn_source_last_sample_time_seconds",
            "UTC at the gateway when a sample came last",
            labels=["source"],
        )
        refused = GaugeMetricFamily(
            "forewarn_source_signals_quarantined", "Signals not read at present", labels=["source"]
        )
        for meter in meters:
            up.add_metric([meter.source], meter.state is LinkState.UP)
            refused.add_metric([meter.source], len(meter.quarantined))
            for kind, n in sorted(meter.errors.items()):
                errors.add_metric([meter.source, kind], n)
            if meter.last_sample_ns:
                last.add_metric([meter.source], meter.last_sample_ns / 1e9)
            if not math.isnan(meter.latency_s):
                latency.add_metric([meter.source], meter.latency_s)
        yield from (up, latency, errors, last, refused)

    def _assets(self) -> Iterator[Metric]:
        family = GaugeMetricFamily(
            "forewarn_asset_severity", "Score over limit of the last verdict", labels=["asset"]
        )
        unseen = GaugeMetricFamily(
            "forewarn_asset_signals_unseen", "Signals without which it is judged", labels=["asset"]
        )
        for view in self._plant.assets():
            if not math.isnan(view.severity):
                family.add_metric([view.id], view.severity)
            unseen.add_metric([view.id], len(view.unseen))
        yield from (family, unseen)
        stage = GaugeMetricFamily(
            "forewarn_learning_stage", "1 for the stage that it is in", labels=["asset", "stage"]
        )
        share = GaugeMetricFamily(
            "forewarn_learning_share", "Of the baseline gathered", labels=["asset"]
        )
        trainings = CounterMetricFamily("forewarn_trainings", "Models made", labels=["asset"])
        for lesson in self._plant.learning():
            stage.add_metric([lesson.asset, lesson.stage], 1)
            share.add_metric([lesson.asset], lesson.share)
            trainings.add_metric([lesson.asset], lesson.trainings)
        yield from (stage, share, trainings)


def exposition(plant: Plant, hub: Hub) -> bytes:
    """All of it, as text."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Gateway(plant, hub))
    for collector in plant.collectors():
        registry.register(collector)
    return generate_latest(registry)
