"""The gateway's own health, in the log and for Prometheus; and a clock that is set."""

import asyncio
from pathlib import Path

import pytest
from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import CollectorRegistry

from gateway.core.alarm import Condition
from gateway.core.clock import SystemClock
from gateway.core.meter import LinkState, SourceMeter
from gateway.store.clock_watch import watch_clock
from gateway.store.line_protocol import Encoder
from gateway.store.metrics import StoreCollector
from gateway.store.record import Kind
from gateway.store.vitals import health_record, vitals

from ..sim.loop import simulate
from .storing import T0_NS, numbered, opened


async def test_vitals_become_lines_of_the_gateway_measurement(tmp_path: Path) -> None:
    meter = SourceMeter("press-1", "modbus", state=LinkState.UP, samples=7, gaps_unfilled=2)
    meter.last_sample_ns = T0_NS
    meter.quarantined["press-1/speed"] = "exception 2"
    async with opened(tmp_path) as log:
        log.append(health_record(T0_NS, vitals(log, [meter])))
        await log.flush()
        (record,) = log.cursor("x").read(Kind.HEALTH)
        own, source = Encoder(log.signals, "hall 3").record(record)
    assert own.startswith("gateway,gateway=hall\\ 3 ")
    assert "log_samples_dropped=0i" in own
    assert source.startswith("gateway,gateway=hall\\ 3,source=press-1 connects=0i,")
    assert ",samples=7i," in source
    assert "up=true" in source
    assert ",gaps_unfilled=2i," in source
    assert ",quarantined=1i," in source
    assert f",last_sample_s={T0_NS / 1e9}" in source
    assert "latency_s" not in source  # It is no number yet.
    assert source.endswith(f" {T0_NS}")


async def test_metrics_are_what_prometheus_reads(tmp_path: Path) -> None:
    async with opened(tmp_path) as log:
        log.cursor("influx")
        log.append(numbered(0, 50))
        await log.flush()
        registry = CollectorRegistry(auto_describe=False)
        registry.register(StoreCollector(log))
        families = list(text_string_to_metric_families(generate_latest(registry).decode()))
    found = {
        (sample.name, *sample.labels.values()): sample.value
        for family in families
        for sample in family.samples
    }
    assert found["forewarn_log_appended_total", "samples"] == 50
    assert found["forewarn_log_held",] == 0
    assert found["forewarn_reader_missed_total", "influx"] == 0


class Steered(SystemClock):
    """A clock whose wall half the test sets."""

    def __init__(self, wall_ns: int) -> None:
        self.offset_ns = wall_ns

    def wall_ns(self) -> int:
        return self.offset_ns + self.mono_ns()


def test_a_clock_that_is_set_is_told_and_settles() -> None:
    told: list[Condition] = []

    async def main() -> None:
        clock = Steered(T0_NS)
        async with asyncio.TaskGroup() as tasks:
            watching = tasks.create_task(watch_clock(clock, told.append))
            await asyncio.sleep(60)
            assert told == []
            clock.offset_ns += 3600 * 10**9
            await asyncio.sleep(60)
            clock.offset_ns += 10**8  # A tenth of a second is steering.
            await asyncio.sleep(3600)
            watching.cancel()

    simulate(main)
    assert [(c.alarm, c.active) for c in told] == [
        ("clock.stepped", True),
        ("clock.stepped", False),
    ]
    assert "+3600 s" in str(told[0].text)


@pytest.mark.parametrize("start_s", [0, 1_000_000_000])
def test_a_clock_that_was_never_set_is_told_until_it_is(start_s: int) -> None:
    told: list[Condition] = []

    async def main() -> None:
        clock = Steered(start_s * 10**9)
        async with asyncio.TaskGroup() as tasks:
            watching = tasks.create_task(watch_clock(clock, told.append))
            await asyncio.sleep(60)
            clock.offset_ns = T0_NS
            await asyncio.sleep(60)
            watching.cancel()

    simulate(main)
    unset = [c.active for c in told if c.alarm == "clock.unset"]
    assert unset == [True, False]
