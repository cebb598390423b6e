"""Summaries: what they hold, the one way to write them, and their way out to real receivers."""

import asyncio
import json
import math
import re
import tomllib
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from importlib.resources import files
from pathlib import Path
from random import Random
from typing import Any

import jsonschema
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.cloud.collect import Scope
from gateway.cloud.config import CloudAsset, CloudConfig, Https, RemoteInflux
from gateway.cloud.https import as_json, as_lines
from gateway.cloud.summary import SAMPLES_MIN, SignalSummary, Spread, Summary, decode, encode
from gateway.core.alarm import Cause, Condition, Priority, Transition
from gateway.core.assessment import Abstained, Assessments, ModelKind
from gateway.core.batch import Quality, make_batch
from gateway.core.clock import SystemClock
from gateway.core.signals import Signal
from gateway.egress import GRACE_S, Egress, current, waiting
from gateway.store.config import StoreConfig
from gateway.store.log import Log
from gateway.store.reader import LogReader
from tests.eventually import eventually
from tests.servers import influxd
from tests.sim.sink import Sink, https_sink

SCHEMA = json.loads(files("gateway.cloud").joinpath("schema.json").read_text(encoding="utf-8"))
NS = 1_000_000_000
HOUR_S = 1_767_225_600  # 2026-01-01T00:00:00Z

finite = st.floats(allow_nan=False, allow_infinity=False, width=32)
names = st.text(
    st.characters(codec="utf-8", exclude_categories=["C"], exclude_characters="/"),
    min_size=1,
    max_size=30,
)
counts = st.integers(0, 2**40)
spreads = st.none() | st.builds(Spread, st.integers(5, 10**9), *[finite] * 6)


@st.composite
def summaries(draw: st.DrawFn) -> Summary:
    """Any summary that may exist."""
    width_s = draw(st.sampled_from([60, 900, 3600]))
    fields: dict[str, Any] = {
        "gateway": draw(names),
        "asset": draw(names),
        "start_s": draw(st.integers(0, 10**6)) * width_s,
        "width_s": width_s,
        "bundle": draw(st.just("") | names),
        "coverage": draw(st.none() | st.floats(0, 1)),
        "score": draw(spreads),
        "severity": draw(spreads),
        "signals": tuple(
            draw(st.lists(st.builds(SignalSummary, names, counts, spreads), max_size=4))
        ),
    }
    for name in ("run_s", "energy_kwh"):
        fields[name] = draw(st.none() | st.floats(0, 1e9))
    for name in ("samples", "bad", "stayed_bytes", "assessments", "abstained", "raised"):
        fields[name] = draw(counts)
    return Summary(**fields, active=draw(counts), unacknowledged=draw(counts))


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(summaries())
def test_what_is_encoded_fits_the_schema_and_comes_back(summary: Summary) -> None:
    text = encode(summary)
    jsonschema.validate(json.loads(text), SCHEMA)
    again = decode(text)
    assert encode(again) == text
    assert again.id == summary.id
    assert as_json([summary, summary]) == b"[" + text + b"," + text + b"]"


def plain(**changes: Any) -> Summary:
    """A small summary."""
    fields: dict[str, Any] = {
        "gateway": "g",
        "asset": "a",
        "start_s": HOUR_S,
        "width_s": 60,
        "bundle": "",
        "samples": 9,
        "bad": 0,
        "stayed_bytes": 153,
        "coverage": None,
        "run_s": None,
        "energy_kwh": None,
        "assessments": 0,
        "abstained": 0,
        "score": None,
        "severity": None,
        "raised": 0,
        "active": 0,
        "unacknowledged": 0,
    }
    return Summary(**fields | changes)


def test_nothing_but_a_summary_is_encoded() -> None:
    class More(Summary):
        """A summary with something hidden in it."""

    full = {name: getattr(plain(), name) for name in Summary.__dataclass_fields__}
    for wrong in ({"raw": [1.0]}, b"raw", "raw", [plain()], More(**full), None):
        with pytest.raises(TypeError, match="only a Summary may be encoded"):
            encode(wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "changes",
    [
        {"asset": "a/b"},
        {"asset": "x" * 101},
        {"asset": "two\nlines"},
        {"gateway": b"bytes"},
        {"samples": 1.5},
        {"samples": -1},
        {"coverage": math.nan},
        {"run_s": "12"},
        {"width_s": 59},
        {"width_s": 61},
        {"signals": tuple(SignalSummary(str(i), 0, None) for i in range(65))},
        {"raised": True},
    ],
)
def test_a_summary_refuses_what_may_not_leave(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="summary"):
        plain(**changes)


def test_too_few_samples_are_not_an_aggregate() -> None:
    assert Spread.of(np.arange(SAMPLES_MIN - 1.0)) is None
    assert Spread.of(np.array([1.0, np.nan, np.inf, 2.0, 3.0, 4.0])) is None
    spread = Spread.of(np.arange(101.0))
    assert spread == Spread(101, 0.0, 5.0, 50.0, 95.0, 100.0, 50.0)


def fill(log: Log, start_s: int, minutes: int) -> None:
    """Two assets at 2 Hz, one verdict a minute, one alarm in the second minute."""
    table = log.signals
    rows = [
        table.intern(Signal("press", "speed", "rpm")),
        table.intern(Signal("press", "energy", "kWh")),
        table.intern(Signal("press", "secret_recipe", "bar")),
        table.intern(Signal("saw", "speed", "rpm")),
    ]
    n = minutes * 120
    t_ns = start_s * NS + np.arange(n, dtype=np.int64) * (NS // 2)
    speed = np.where(np.arange(n) < n // 2, 1000.0, 0.0)
    for index, value in zip(rows, (speed, np.arange(n) / 100, np.full(n, 7.7), speed), strict=True):
        quality = np.zeros(n, np.uint8)
        quality[::60] = Quality.BAD
        signal = np.full(n, index, np.int32)
        log.append(make_batch("plc", signal, t_ns, value, quality, int(t_ns[-1])))
    for minute in range(minutes):
        log.append(
            Assessments(
                ModelKind.ANOMALY,
                "press-v3",
                False,
                ("press",),
                np.array([(start_s + 60 * minute + 30) * NS]),
                np.array([minute], np.float32),
                np.array([2.0], np.float32),
                np.array([0.9], np.float32),
                (Abstained.NO,),
                ("secret_recipe",),
                np.ones((1, 1), np.float32),
                np.ones((1, 1), np.int8),
            )
        )
    since = (start_s + 70) * NS
    log.append(
        Transition(
            "press",
            "anomaly",
            Cause.ANOMALY,
            "active_unacked",
            "active",
            1,
            since,
            since,
            2.5,
            Priority.HIGH,
            "the secret recipe is too hot",
        )
    )


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    opened = Log.open(tmp_path / "data", StoreConfig(), SystemClock())
    yield opened
    opened.close()


def cloud_config(sink_url: str, folder: Path, deliver_s: int = 0) -> CloudConfig:
    return CloudConfig(
        enabled=True,
        interval_s=300,
        deliver_s=deliver_s,
        bytes_per_hour_max=1_000_000,
        asset=(
            CloudAsset(id="press", export=("speed",), energy="energy", run="speed", run_above=10),
        ),
        https=Https(url=sink_url, ca=folder / "ca.pem"),
    )


def scope(cloud: CloudConfig) -> Scope:
    return Scope(cloud, "box", frozenset(("press", "saw")))


@asynccontextmanager
async def egress(
    log: Log, cloud: CloudConfig, reports: list[Condition] | None = None
) -> AsyncIterator[Egress]:
    """A running egress with the real clock; what it reports goes into `reports`."""
    told = reports if reports is not None else []
    out = Egress(scope(cloud), log, SystemClock(), Random(1), told.append)
    out.sync.backoff_s_min = 0.05
    task = asyncio.create_task(out.run(), name="egress")
    try:
        yield out
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def past(intervals: int, *, grace_s: float = GRACE_S) -> int:
    """Start of an interval of 300 s that so many others have followed; the last is due by now."""
    due_s = SystemClock().wall_ns() // NS - round(grace_s)
    return due_s - due_s % 300 - 300 * (intervals + 1)


async def test_an_interval_is_summed_up_from_what_the_log_holds(tmp_path: Path, log: Log) -> None:
    start_s = past(0, grace_s=0)  # What is shown as the current one waits for nothing.
    fill(log, start_s, 5)
    await log.flush()
    reader = LogReader(log.path)
    cloud = cloud_config("https://127.0.0.1:1/", tmp_path)
    made = {s.asset: s for s in current(reader, scope(cloud), SystemClock())}
    reader.close()
    press, saw = made["press"], made["saw"]
    assert (press.samples, press.bad, press.stayed_bytes) == (1800, 30, 1800 * 17)
    assert press.run_s == pytest.approx(150, abs=1)
    assert press.energy_kwh == pytest.approx(5.98, abs=0.02)
    assert (press.assessments, press.bundle) == (5, "press-v3")
    assert press.severity
    assert press.severity.high == 2.0
    assert (press.raised, press.active, press.unacknowledged) == (1, 1, 1)
    assert [s.signal for s in press.signals] == ["speed"]
    assert press.signals[0].spread
    assert press.signals[0].spread.high == 1000
    assert (saw.samples, saw.run_s, saw.energy_kwh, saw.signals) == (600, None, None, ())
    text = as_json([press, saw])
    assert b"secret" not in text
    assert b"hot" not in text


async def test_what_was_missed_is_delivered_in_order_once_the_receiver_is_back(
    tmp_path: Path, log: Log
) -> None:
    fill(log, past(6), 30)
    await log.flush()
    with https_sink(tmp_path) as sink:
        sink.answers = [503, 503]
        async with egress(log, cloud_config(sink.url, tmp_path)) as out:
            await eventually(lambda: len(sink.summaries()) >= 12 and out.outbox.lag() == 0)
            told = sink.summaries()
            assert [s["start_s"] for s in told] == sorted(s["start_s"] for s in told)
            assert len({s["id"] for s in told}) == len(told) == 12
            assert out.sync.meter.errors == 2
            state = out.state()
            assert state["stayed_bytes"] == sum(row["stayed_bytes"] for row in told)
            assert isinstance(state["stayed_per_byte"], float)
            assert state["stayed_per_byte"] > 5
            assert (state["waiting"], state["why_not"]) == (0, "")
        for row in told:
            jsonschema.validate(row, SCHEMA)
        await log.flush()
        # Started again, it sends nothing twice, and goes on with what is new.
        fill(log, past(0), 5)
        log.state_put("cloud", "until_s", str(past(0)).encode())
        await log.flush()
        async with egress(log, cloud_config(sink.url, tmp_path)):
            await eventually(lambda: len(sink.summaries()) == 14)
    assert len({row["id"] for row in sink.summaries()}) == 14


async def test_summaries_wait_for_company(tmp_path: Path, log: Log) -> None:
    fill(log, past(5), 30)
    await log.flush()
    with https_sink(tmp_path) as sink:
        async with egress(log, cloud_config(sink.url, tmp_path, deliver_s=86_400)) as out:
            await eventually(lambda: out.outbox.lag() == 12)
        assert sink.requests == []
        await log.flush()
        async with egress(log, cloud_config(sink.url, tmp_path, deliver_s=1500)):
            await eventually(lambda: len(sink.summaries()) == 12)
        assert len(sink.requests) == 1


async def test_one_summary_that_is_refused_does_not_hold_the_others(
    tmp_path: Path, log: Log
) -> None:
    fill(log, past(4), 20)
    await log.flush()
    with https_sink(tmp_path) as sink:
        sink.refuse = b'"asset":"saw"'
        async with egress(log, cloud_config(sink.url, tmp_path)) as out:
            await eventually(lambda: out.sync.meter.refused == 4 and out.outbox.lag() == 0)
        assert {row["asset"] for row in sink.summaries()} == {"press"}
        assert len(sink.summaries()) == 4


@pytest.mark.parametrize("status", [302, 401])
async def test_a_person_is_told_and_summaries_are_kept(
    tmp_path: Path, log: Log, status: int
) -> None:
    fill(log, past(1), 5)
    await log.flush()
    reports: list[Condition] = []
    with https_sink(tmp_path) as sink:
        sink.answers = [status] * 50
        async with egress(log, cloud_config(sink.url, tmp_path), reports) as out:
            await eventually(lambda: bool(reports))
            assert out.outbox.lag() == 2
        assert sink.requests == []
    assert reports[0].active
    assert str(status) in str(reports[0].text)
    reader = LogReader(log.path)
    assert {summary.asset for summary in waiting(reader)} == {"press", "saw"}
    reader.close()


async def test_a_receiver_with_a_strangers_certificate_gets_nothing(
    tmp_path: Path, log: Log
) -> None:
    fill(log, past(1), 5)
    await log.flush()
    (tmp_path / "own").mkdir()
    (tmp_path / "other").mkdir()
    with https_sink(tmp_path / "own"), https_sink(tmp_path / "other") as other:
        async with egress(log, cloud_config(other.url, tmp_path / "own")) as out:
            await eventually(lambda: out.sync.meter.errors > 0)
            assert "CERTIFICATE_VERIFY_FAILED" in out.sync.meter.state_text
        assert other.requests == []


def test_line_protocol_says_the_same_with_tags_escaped() -> None:
    summary = plain(asset="saw 1,left=a", signals=(SignalSummary("v", 1, None),), coverage=0.5)
    line = as_lines([summary]).decode()
    assert line.startswith("summary,gateway=g,asset=saw\\ 1\\,left\\=a ")
    assert line.endswith(f" {HOUR_S}")
    assert "samples=9i" in line
    assert "signal_v_bad=1i" in line
    assert "coverage=0.5" in line


def test_cloud_is_off_unless_it_is_switched_on_with_one_target() -> None:
    assert not CloudConfig().enabled
    with pytest.raises(ValueError, match="give one of"):
        CloudConfig(enabled=True)
    with pytest.raises(ValueError, match="must divide a day"):
        CloudConfig(interval_s=61)
    with pytest.raises(ValueError, match="must begin with https"):
        Https(url="http://plain.example/")
    with pytest.raises(ValueError, match="must hold no user or password"):
        Https(url="https://user:word@host.example/")


def test_the_page_says_what_is_true() -> None:
    page = (Path(__file__).resolve().parents[2] / "gateway/cloud/cloud.md").read_text()
    examples = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    configs = [CloudConfig.model_validate(tomllib.loads(text)["cloud"]) for text in examples]
    assert [bool(c.https) + 2 * bool(c.mqtt) + 4 * bool(c.influx) for c in configs] == [1, 2, 4]
    (example,) = re.findall(r"```json\n(.*?)\n```", page, re.DOTALL)
    jsonschema.validate(json.loads(example), SCHEMA)
    assert encode(decode(example.encode())).decode() == example
    rows = re.findall(
        r"^\| (`[^|]+`) \|", page.split("| field |")[1].split("\n\n")[0], re.MULTILINE
    )
    assert set(re.findall(r"`(\w+)`", " ".join(rows))) == set(SCHEMA["properties"])


async def test_another_influxdb_takes_what_is_written_for_it(tmp_path: Path, log: Log) -> None:
    fill(log, past(1), 5)
    await log.flush()
    with https_sink(tmp_path) as sink:
        cloud = CloudConfig(
            enabled=True,
            interval_s=300,
            deliver_s=0,
            influx=RemoteInflux(
                url=sink.url.removesuffix("/summaries"), org="group", ca=tmp_path / "ca.pem"
            ),
        )
        async with egress(log, cloud):
            await eventually(lambda: bool(sink.requests))
    (request,) = sink.requests
    assert request.path == "/api/v2/write?org=group&bucket=forewarn&precision=s"
    # The sink only records; whether an InfluxDB can read it, a real one says.
    await asyncio.to_thread(_read_by_a_real_one, request.body, tmp_path / "influx")


def _read_by_a_real_one(body: bytes, folder: Path) -> None:
    with influxd(folder) as server:
        server.query("CREATE DATABASE forewarn", "")
        url = f"{server.url}/write?db=forewarn&precision=s"
        urllib.request.urlopen(url, data=body).close()
        assert server.count("samples", "summary") == 2
        (series,) = server.query('SELECT "severity_high" FROM "summary" WHERE "asset" = \'press\'')
        assert series["values"][0][1] == 2.0


def test_the_sink_is_one_that_records(tmp_path: Path) -> None:
    with https_sink(tmp_path) as sink:
        assert isinstance(sink, Sink)
        assert sink.url.startswith("https://127.0.0.1:")
