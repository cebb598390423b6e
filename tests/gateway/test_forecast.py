"""Failure and remaining-life models alarm: through a real flow, on a machine that wears."""

import asyncio
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gateway.alarms.config import AlarmsConfig, DelayConfig
from gateway.alarms.engine import Engine
from gateway.core.alarm import AlarmView, Cause, Priority
from gateway.core.assessment import Abstained, Assessments, ModelKind
from gateway.core.batch import Batch
from gateway.core.clock import SystemClock
from gateway.core.errors import ConfigError
from gateway.core.signals import Signal, SignalTable
from gateway.core.texts import Texts
from gateway.demo.configuration import ARTIFACTS
from gateway.demo.physics import Fault
from gateway.demo.record import RATE_HZ, failing, healthy
from gateway.flow.annunciator import Annunciator
from gateway.flow.flow import Flow
from gateway.pipeline import forecast
from gateway.pipeline.config import AssetConfig
from gateway.pipeline.fleet import Assignment, muster
from gateway.store.config import StoreConfig
from gateway.store.log import Log
from models.bundle import read
from tests.gateway.test_flow import stages

START_NS = 1_800_000_000 * 10**9
STEP_NS = round(1e9 / RATE_HZ)
LIFE = ARTIFACTS / "conveyor-life.fwm"


def worn() -> dict[str, np.ndarray]:
    """A conveyor whose bearing goes within two minutes, after half a minute."""
    return failing("conveyor", Fault("bearing_wear", 30.0, 90.0), hours=150 / 3600, seed=5)


def keys_of(path: Path, asset: str) -> list[Signal]:
    return [Signal(asset, s.name, s.unit) for s in read(path).manifest.signals]


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    made = Log.open(tmp_path, StoreConfig(), SystemClock())
    yield made
    made.close()


def alarms_of(
    log: Log,
    path: Path,
    columns: dict[str, np.ndarray],
    *,
    shadow: bool | None = None,
    texts: Texts | None = None,
) -> list[AlarmView]:
    """Pour a record into a gateway's flow; the alarms at its end."""
    keys = keys_of(path, "conveyor-1")
    sources = dict.fromkeys(keys, "line")
    numbers = np.array([log.signals.intern(key) for key in keys], dtype=np.int32)
    rows = np.stack([columns[key.name] for key in keys], axis=1)
    asset = AssetConfig(id="conveyor-1")
    # The record runs in no time at all, so that nothing may have to hold for seconds.
    at_once = DelayConfig(on_s=0, off_s=0)
    engine = Engine(AlarmsConfig(delays=dict.fromkeys(Cause, at_once)), texts)

    async def main() -> list[AlarmView]:
        clock = SystemClock()
        flow = Flow(
            clock=clock,
            log=log,
            annunciator=Annunciator(engine, log, clock),
            stages=stages(log.signals, sources),
            posts=muster(
                [Assignment(asset, path, "asset[0].bundle", shadow)], sources, log.signals
            ),
            executor=ThreadPoolExecutor(1),
        )
        for at in range(0, len(rows), 8):
            some = rows[at : at + 8]
            t_ns = START_NS + np.arange(at, at + len(some), dtype=np.int64) * STEP_NS
            quality = np.zeros(some.size, dtype=np.uint8)
            signal = np.tile(numbers, len(some))
            spread_ns = np.repeat(t_ns, len(numbers))
            await flow.take(
                [Batch("line", signal, spread_ns, some.ravel(), quality, int(t_ns[-1]))]
            )
        return list(engine.active(clock.mono_ns()))

    return asyncio.run(main())


def test_a_remaining_life_that_runs_out_is_an_alarm(log: Log) -> None:
    (alarm,) = alarms_of(log, LIFE, worn())
    assert alarm.alarm == "rul"
    assert alarm.cause is Cause.RUL
    assert alarm.priority is Priority.HIGH
    assert re.search(r"conveyor-1 has about [\d.]+ (s|min) left \(.* (to .*|or more)\)", alarm.text)
    assert alarm.severity > 1
    assert alarm.drivers[0].signal == "vibration"
    assert sum(driver.share for driver in alarm.drivers) == pytest.approx(1, abs=0.3)


def test_a_healthy_machine_has_life_enough(log: Log) -> None:
    """Without `life_h`, a model whose longest life is 0.37 h does not alarm below 24 h."""
    assert alarms_of(log, LIFE, healthy("conveyor", hours=0.05, seed=5)) == []


def test_a_forecast_in_shadow_alarms_nobody(log: Log) -> None:
    assert alarms_of(log, LIFE, worn(), shadow=True) == []


def test_a_life_that_would_always_alarm_is_refused() -> None:
    asset = AssetConfig(id="conveyor-1", life_h=24.0)
    sources = dict.fromkeys(keys_of(LIFE, "conveyor-1"), "line")
    with pytest.raises(ConfigError, match=r"tells lives apart up to 0\.367 h.* life_h of 24 h"):
        muster([Assignment(asset, LIFE, "asset[0].bundles")], sources, SignalTable())


def test_a_life_at_the_longest_told_has_no_upper_end() -> None:
    said = replace(
        failures(0.0, 0.0),
        kind=ModelKind.RUL,
        outputs=("hours", "low", "high"),
        output=np.array([[31, 22, 44], [31, 22, np.inf]], np.float32),
    )
    between, longer = (str(forecast.condition(said, i, 0, 1.1, 24.0, {}).text) for i in (0, 1))
    assert between == "press-0 has about 31 h left (22 h to 44 h)"
    assert longer == "press-1 has about 31 h left (22 h or more)"


def failures(*probability: float) -> Assessments:
    """A failure model's word on as many assets, of one mode."""
    n = len(probability)
    nan = np.full(n, np.nan, np.float32)
    return Assessments(
        kind=ModelKind.FAILURE,
        bundle="f",
        shadow=False,
        assets=tuple(f"press-{i}" for i in range(n)),
        t_ns=np.arange(n, dtype=np.int64),
        score=nan,
        limit=nan,
        coverage=np.ones(n, np.float32),
        abstained=(Abstained.NO,) * n,
        signals=(),
        contribution=np.zeros((n, 0), np.float32),
        direction=np.zeros((n, 0), np.int8),
        outputs=("bearing",),
        output=np.array(probability, np.float32)[:, None],
    )


def test_a_failure_alarms_at_its_probability_and_tells_the_horizon() -> None:
    said = failures(0.62, 0.2)
    at = forecast.AlarmsAt(probability=np.array([0.1, 0.5]), life_h=np.ones(2))
    level = at.levels(said, np.array([1, 0]))
    assert level[:, 0] == pytest.approx([1.24, 2.0])
    made = forecast.condition(said, 0, 0, float(level[0, 0]), 24.0, {"bearing": 86_400.0})
    assert made.active
    assert made.alarm == "failure.bearing"
    assert str(made.text) == "press-0 is heading for bearing within 24 h, probability 62%"
    calm = forecast.condition(said, 1, 0, 0.4, 24.0, {})
    assert calm.active is False
    assert forecast.condition(said, 1, 0, None, 24.0, {}).active is None


@pytest.mark.parametrize(
    ("seconds", "words"), [(90, "90 s"), (600, "10 min"), (86_400, "24 h"), (604_800, "7 d")]
)
def test_a_span_is_told_as_a_person_says_it(seconds: float, words: str) -> None:
    assert forecast.span(seconds) == words
