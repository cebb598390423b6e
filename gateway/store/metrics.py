"""The counters of the log, its readers and the InfluxDB writer, as Prometheus metrics."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from typing_extensions import override

from gateway.store.log import Log
from gateway.store.record import Kind

if TYPE_CHECKING:
    from gateway.store.influx import InfluxWriter


class StoreCollector(Collector):
    """Reads the counters when it is asked; keeps nothing."""

    def __init__(self, log: Log, influx: "InfluxWriter | None" = None) -> None:
        self._log = log
        self._influx = influx

    @override
    def collect(self) -> Iterator[Metric]:
        state, counters = self._log.state, self._log.counters()
        for name, text, field in (
            ("appended", "Samples or records appended", "appended"),
            ("dropped", "Dropped by a bound before every reader had them", "dropped"),
        ):
            family = CounterMetricFamily(f"forewarn_log_{name}", text, labels=["kind"])
            for kind in Kind:
                family.add_metric([kind.value], counters[f"{kind.value}_{field}"])
            yield family
        kept = GaugeMetricFamily("forewarn_log_kept_bytes", "Payload kept", labels=["kind"])
        for kind in Kind:
            kept.add_metric([kind.value], state.kept.get(kind, 0))
        yield kept
        yield CounterMetricFamily("forewarn_log_commits", "Transactions", state.commits)
        yield CounterMetricFamily("forewarn_log_damaged", "Unreadable", counters["damaged"])
        yield GaugeMetricFamily("forewarn_log_held", "1 while the disk fails", bool(state.held))
        yield GaugeMetricFamily(
            "forewarn_log_memory_bytes", "Waiting for the disk", counters["memory_bytes"]
        )
        missed = CounterMetricFamily(
            "forewarn_reader_missed", "Dropped before the reader had them", labels=["reader"]
        )
        for name, cursor in self._log.cursors().items():
            missed.add_metric([name], sum(cursor.missed.values()))
        yield missed
        if self._influx is not None:
            yield from self._of_influx(self._influx)

    def _of_influx(self, influx: "InfluxWriter") -> Iterator[Metric]:
        meter = influx.meter
        yield CounterMetricFamily("forewarn_influx_lines", "Lines confirmed", meter.lines)
        yield CounterMetricFamily("forewarn_influx_refused", "Lines in quarantine", meter.refused)
        yield CounterMetricFamily(
            "forewarn_influx_beyond_retention", "Lines too old for it", meter.beyond_retention
        )
        yield GaugeMetricFamily(
            "forewarn_influx_open", "1 while it takes data", meter.state == "open"
        )
        answers = CounterMetricFamily("forewarn_influx_answers", "Answers", labels=["verdict"])
        for verdict, n in meter.verdicts.items():
            answers.add_metric([verdict], n)
        yield answers
