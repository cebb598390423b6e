"""The gateway's own health, as records that go the way of all data."""

import json
import math
import resource
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Never

from gateway.core.clock import Clock, sleep_until
from gateway.core.meter import LinkState, SourceMeter
from gateway.store.log import Log
from gateway.store.record import Kind, Packed

if TYPE_CHECKING:
    from gateway.store.influx import InfluxWriter

COUNTED = (
    "connects",
    "link_errors",
    "requests",
    "samples",
    "samples_bad",
    "samples_history",
    "samples_lost",
    "gaps_unfilled",
)
"""Counters of a source that become integer fields; their type never changes."""


def vitals(
    log: Log, meters: Iterable[SourceMeter], influx: "InfluxWriter | None" = None
) -> dict[str, dict[str, int | float | bool]]:
    """Fields by source; "" is the gateway itself. Names and types are `influx.md`'s."""
    own: dict[str, int | float | bool] = {
        f"log_{name}": count for name, count in log.counters().items()
    }
    own |= {f"lag_{name}": cursor.lag() for name, cursor in log.cursors().items()}
    own["rss_peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    own["cpu_s"] = sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
    own["log_held"] = bool(log.held)
    if influx is not None:
        meter = influx.meter
        own |= {
            "influx_lines": meter.lines,
            "influx_requests": meter.requests,
            "influx_refused": meter.refused,
            "influx_beyond_retention": meter.beyond_retention,
            "influx_open": meter.state == "open",
            "influx_latency_s": float(meter.latency_s),
        }
    found: dict[str, dict[str, int | float | bool]] = {"": own}
    for meter_ in meters:
        fields: dict[str, int | float | bool] = {
            name: int(getattr(meter_, name)) for name in COUNTED
        }
        fields["errors"] = meter_.errors.total()
        fields["up"] = meter_.state is LinkState.UP
        fields["quarantined"] = len(meter_.quarantined)
        if meter_.last_sample_ns:
            fields["last_sample_s"] = meter_.last_sample_ns / 1e9
        fields["gaps_unfilled_s"] = float(meter_.gaps_unfilled_s)
        fields["latency_s"] = float(meter_.latency_s)
        fields["latency_s_max"] = float(meter_.latency_s_max)
        found[meter_.source] = fields
    return found


def health_record(t_ns: int, found: dict[str, dict[str, int | float | bool]]) -> Packed:
    """The vitals as a record of the log; what is no number is left out."""
    finite = {
        source: {
            name: value
            for name, value in fields.items()
            if not isinstance(value, float) or math.isfinite(value)
        }
        for source, fields in found.items()
    }
    return Packed(Kind.HEALTH, t_ns, json.dumps(finite, separators=(",", ":")).encode())


async def log_vitals(
    log: Log,
    meters: Callable[[], Iterable[SourceMeter]],
    clock: Clock,
    every_s: float,
    influx: "InfluxWriter | None" = None,
) -> Never:
    """Append the vitals at even intervals until cancelled."""
    due_ns = clock.mono_ns()
    while True:
        due_ns = max(due_ns + round(every_s * 1e9), clock.mono_ns())
        await sleep_until(clock, due_ns)
        log.append(health_record(clock.wall_ns(), vitals(log, meters(), influx)))
