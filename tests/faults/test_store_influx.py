"""Whatever happens to InfluxDB: by number, nothing is missing, nothing twice, nothing invented."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import pytest

from gateway.core.alarm import Condition
from gateway.core.clock import SystemClock
from gateway.core.errors import ConfigError
from gateway.store.config import InfluxConfig
from gateway.store.influx import InfluxWriter
from gateway.store.influx_setup import check, setup
from gateway.store.log import Log
from gateway.store.quarantine import read_quarantine
from gateway.store.record import Kind

from ..eventually import eventually
from ..gateway.storing import SECOND_NS, T0_NS, assessments, numbered, opened, transition
from ..influx_stub import Stub, influx_stub
from ..servers import Influxd, influxd, proxy, victoria


class Writing:
    """A writer at work, and what it reports."""

    def __init__(self, log: Log, writer: InfluxWriter, told: list[Condition]) -> None:
        self.log = log
        self.writer = writer
        self.told = told

    def lag(self) -> int:
        return sum(self.writer.cursor.lag(kind) for kind in Kind if kind is not Kind.SUMMARY)

    def active(self) -> set[str]:
        """Alarms that are active by the reports so far."""
        state = {condition.alarm: condition.active for condition in self.told}
        return {alarm for alarm, active in state.items() if active}


@asynccontextmanager
async def writing(log: Log, url: str, **settings: Any) -> AsyncIterator[Writing]:
    """Run a writer from `log` to the server at `url`."""
    told: list[Condition] = []
    config = InfluxConfig(url=url, **{"api": "v1", "timeout_s": 2, **settings})
    writer = InfluxWriter(log, config, "gw", SystemClock(), Random(1), told.append)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(writer.run(), name="influx")
        yield Writing(log, writer, told)
        running.cancel()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Influxd]:
    with influxd(tmp_path / "influxd") as running:
        yield running


def v2(token: str) -> dict[str, Any]:
    return {"api": "v2", "org": "plant", "token": f"env:{token}"}


async def delivered(at: Writing, *, timeout_s: float = 20) -> None:
    """Return when everything appended so far is on the server or in quarantine."""
    await at.log.flush()
    await eventually(lambda: at.lag() == 0, timeout_s=timeout_s)


async def test_everything_arrives_as_the_schema_says(tmp_path: Path, server: Influxd) -> None:
    server.query("CREATE DATABASE forewarn")
    async with opened(tmp_path) as log, writing(log, server.url) as at:
        log.append(numbered(0, 30_000))
        log.append(assessments(T0_NS, 0.5))
        log.append(transition(T0_NS))
        log.append(transition(T0_NS, occurrence=2))  # At the same nanosecond, and kept.
        await delivered(at)
    assert server.values() == list(range(30_000))
    (series,) = server.query('SELECT * FROM "signal" LIMIT 1')
    assert series["columns"] == ["time", "asset", "quality", "signal", "unit", "value"]
    assert series["values"] == [[T0_NS, "pump", 0, "vibration", "mm/s", 0]]
    (series,) = server.query('SELECT * FROM "assessment"')
    assert series["values"][0][1:] == [False, "pump", "pump-1", 1, 1, 0.5, 0.5]
    assert sorted(server.values("contribution", "share")) == [0.25, 0.75]
    assert server.count("state", "alarm") == 2


async def test_a_server_that_stops_and_comes_back_misses_nothing(
    tmp_path: Path, server: Influxd
) -> None:
    server.query("CREATE DATABASE forewarn")
    async with opened(tmp_path) as log, writing(log, server.url) as at:
        for start in range(0, 50_000, 1000):
            log.append(numbered(start, 1000))
            if start == 10_000:
                await eventually(lambda: at.writer.meter.lines > 0)
                server.stop()
            if start == 30_000:
                await log.flush()
                await eventually(lambda: at.writer.meter.state == "retry")
                server.start()
            await asyncio.sleep(0)
        await delivered(at)
        assert at.active() == set()
    assert server.values() == list(range(50_000))


async def test_a_server_that_hangs_is_let_go_of_and_taken_up_again(
    tmp_path: Path, server: Influxd
) -> None:
    server.query("CREATE DATABASE forewarn")
    async with opened(tmp_path) as log, writing(log, server.url, timeout_s=0.5) as at:
        log.append(numbered(0, 5000))
        await delivered(at)
        server.freeze()
        log.append(numbered(5000, 20_000))
        await eventually(lambda: at.writer.meter.verdicts["retry"] >= 2)
        server.thaw()
        await delivered(at)
    assert server.values() == list(range(25_000))


async def test_an_answer_that_is_lost_makes_no_point_twice(tmp_path: Path, server: Influxd) -> None:
    server.query("CREATE DATABASE forewarn")
    async with (
        proxy(server.url) as between,
        opened(tmp_path) as log,
        writing(log, between.url) as at,
    ):
        between.drop_answers = True
        log.append(numbered(0, 20_000))
        await eventually(lambda: between.cut >= 2)
        between.drop_answers = False
        await delivered(at)
        assert at.writer.meter.verdicts["retry"] >= 2
    assert server.count() == 20_000
    assert server.values() == list(range(20_000))


async def test_a_missing_database_is_waited_for_and_told(tmp_path: Path, server: Influxd) -> None:
    async with opened(tmp_path) as log, writing(log, server.url) as at:
        log.append(numbered(0, 2000))
        await eventually(lambda: at.active() == {"influx.held"})
        assert "database not found" in str(at.told[0].text)
        server.query("CREATE DATABASE forewarn")
        await delivered(at)
        assert at.active() == set()
    assert server.values() == list(range(2000))
    assert list(read_quarantine(tmp_path)) == []


async def test_a_type_conflict_on_the_real_server_takes_only_its_own_points(
    tmp_path: Path, server: Influxd
) -> None:
    server.query("CREATE DATABASE forewarn")
    week_ns = 7 * 86_400 * SECOND_NS
    server.write(f'signal,asset=x value="text" {T0_NS + 2 * week_ns}')
    async with opened(tmp_path) as log, writing(log, server.url) as at:
        log.append(numbered(0, 500))
        log.append(numbered(500, 3, t0_ns=T0_NS + 2 * week_ns))
        log.append(numbered(503, 500))
        await delivered(at)
        assert at.active() == {"influx.refused"}
    refused = list(read_quarantine(tmp_path))
    assert len(refused) == 3
    assert all("field type conflict" in one.reason for one in refused)
    assert [float(one.line.split("value=")[1].split(",")[0]) for one in refused] == [500, 501, 502]
    query = (
        f'SELECT count("quality") FROM "signal" WHERE asset = \'pump\' AND time < {T0_NS + week_ns}'
    )
    assert server.query(query)[0]["values"][0][1] == 1000


@pytest.mark.parametrize("api", [2, 3])
async def test_poison_is_found_and_set_aside(
    tmp_path: Path, api: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOKEN", "secret")
    async with influx_stub(api) as stub, opened(tmp_path) as log:
        stub.poison = "value=777"  # Poisons 777 and 7770 to 7779.
        log.append(numbered(0, 10_000))
        settings = {**v2("TOKEN"), "api": f"v{api}"}
        async with writing(log, stub.url, **settings) as at:
            await delivered(at)
        bad = {777.0, *(float(n) for n in range(7770, 7780))}
        assert stub.values() == [n for n in range(10_000) if n not in bad]
        refused = list(read_quarantine(tmp_path))
        assert {float(one.line.split("value=")[1].split(",")[0]) for one in refused} == bad
        assert len(refused) == len(bad)
        assert at.writer.meter.refused == len(bad)


async def test_a_server_that_refuses_everything_poisons_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOKEN", "secret")
    async with influx_stub() as stub, opened(tmp_path) as log:
        stub.poison = " "
        log.append(numbered(0, 100))
        async with writing(log, stub.url, **v2("TOKEN")) as at:
            await eventually(lambda: at.active() == {"influx.held"})
            stub.poison = "\0"
            await delivered(at)
        assert stub.values() == list(range(100))
        assert list(read_quarantine(tmp_path)) == []


async def test_a_wrong_token_is_held_until_it_is_right(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOKEN", "wrong")
    async with influx_stub() as stub, opened(tmp_path) as log:
        log.append(numbered(0, 100))
        async with writing(log, stub.url, **v2("TOKEN")) as at:
            await eventually(lambda: at.active() == {"influx.held"})
            assert stub.values() == []
            monkeypatch.setenv("TOKEN", "secret")
            await delivered(at)
        assert stub.values() == list(range(100))


@pytest.mark.parametrize("status", [429, 503])
async def test_retry_after_is_honoured(
    tmp_path: Path, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOKEN", "secret")
    async with influx_stub() as stub, opened(tmp_path) as log:
        stub.next_answers.append((status, {"Retry-After": "2"}, "later"))
        log.append(numbered(0, 100))
        async with writing(log, stub.url, **v2("TOKEN")) as at:
            await delivered(at)
        assert stub.requests[:2] == [status, 204]
        assert stub.arrived_s[1] - stub.arrived_s[0] >= 2
        assert stub.values() == list(range(100))


async def test_too_large_requests_get_smaller(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOKEN", "secret")
    async with influx_stub() as stub, opened(tmp_path) as log:
        stub.lines_max = 700
        log.append(numbered(0, 8000))
        async with writing(log, stub.url, **v2("TOKEN")) as at:
            await delivered(at)
        assert stub.values() == list(range(8000))
        assert stub.requests.count(413) < 40


async def test_live_data_does_not_wait_for_the_backlog(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOKEN", "secret")
    async with influx_stub() as stub, opened(tmp_path) as log:
        log.append(numbered(0, 60_000))
        await log.flush()
        settings = {**v2("TOKEN"), "backlog_samples_per_s_max": 20_000, "lines_max": 2000}
        async with writing(log, stub.url, **settings) as at:
            log.append(numbered(60_000, 10))
            await eventually(lambda: 60_009.0 in set(stub.values()[-1:]))
            assert at.lag() > 0  # The backlog is still on its way.
            await delivered(at)
        assert stub.values() == list(range(60_010))


async def test_a_restart_goes_on_where_the_server_confirmed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOKEN", "secret")
    async with influx_stub() as stub:
        for start in range(0, 3000, 1000):
            async with opened(tmp_path) as log, writing(log, stub.url, **v2("TOKEN")) as at:
                log.append(numbered(start, 1000))
                await delivered(at)
        assert stub.values() == list(range(3000))
        assert stub.writes == 3000


async def test_victoria_metrics_takes_the_lines_of_the_client_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOKEN", "secret")
    now_ns = SystemClock().wall_ns() // SECOND_NS * SECOND_NS - 3600 * SECOND_NS
    with victoria(tmp_path / "victoria") as server:
        async with opened(tmp_path) as log, writing(log, server.url, **v2("TOKEN")) as at:
            log.append(numbered(0, 2000, t0_ns=now_ns, step_ns=SECOND_NS // 10))
            await delivered(at)

        await eventually(lambda: len(server.values("signal_value")) == 2000)
        assert server.values("signal_value") == list(range(2000))


@pytest.mark.parametrize(
    ("api", "made"), [("v2", ["forewarn", "forewarn/autogen"]), ("v3", ["forewarn"])]
)
async def test_setup_makes_bucket_and_mapping_once(
    api: str, made: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOKEN", "secret")
    async with influx_stub(int(api[1])) as stub:
        config = InfluxConfig(url=stub.url, **{**v2("TOKEN"), "api": api})
        for _ in range(2):
            said = await asyncio.to_thread(lambda: list(setup(config, days=30)))
        assert stub.made == made
        assert all("is there, left as it is" in line for line in said)
        if api == "v2":
            assert stub.rules == [{"type": "expire", "everySeconds": 30 * 86_400}]
        await asyncio.to_thread(check, config, "gw", T0_NS)
        monkeypatch.setenv("TOKEN", "wrong")
        with pytest.raises(ConfigError, match="401"):
            await asyncio.to_thread(lambda: list(setup(config, days=30)))
        with pytest.raises(ConfigError, match=r"correct influx\.token"):
            await asyncio.to_thread(check, config, "gw", T0_NS)


def test_the_stub_keeps_the_grammar() -> None:
    stub = Stub()
    good = "signal,asset=a\\ b,signal=x\\,y value=1.5e-05,quality=0i 12"
    bad = ("signal,asset= value=1 12", "signal value= 12", "signal,a=b value=1", "s a=1 b=2 3")
    assert stub._take([good])[0] == 204
    assert all(stub._take([line])[0] == 400 for line in bad)
