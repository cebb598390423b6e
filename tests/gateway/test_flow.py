"""The flow over a real log and a shipped bundle: no window is missed, whatever changes places."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple, replace
from pathlib import Path

import numpy as np

from gateway.alarms.config import AlarmsConfig
from gateway.alarms.engine import Engine
from gateway.alarms.limits import Limits
from gateway.core.assessment import Abstained
from gateway.core.batch import Batch, Quality
from gateway.core.clock import Clock, SystemClock
from gateway.core.signals import Signal, SignalTable
from gateway.demo.configuration import shipped_bundles
from gateway.demo.record import healthy
from gateway.flow.annunciator import Annunciator
from gateway.flow.flow import Flow
from gateway.flow.memory import NO_VALUE
from gateway.pipeline.config import AssetConfig
from gateway.pipeline.derive import Derive
from gateway.pipeline.events import Events
from gateway.pipeline.fleet import Assignment, Post, muster
from gateway.pipeline.running import Running
from gateway.pipeline.waves import Waves
from gateway.stages import Stages
from gateway.store.config import StoreConfig
from gateway.store.log import Log
from gateway.store.reader import LogReader
from models.bundle import read, write

START_NS = 1_800_000_000 * 10**9
STEP_NS = 250_000_000


def stages(table: SignalTable, sources: Mapping[Signal, str]) -> Stages:
    """Of a configuration that makes nothing of its signals, and limits none."""
    return Stages(
        source_of={table.intern(signal): source for signal, source in sources.items()},
        derive=Derive([], sources, table),
        waves=Waves([], table, lambda _a, _n: None),
        events=Events((), (), {}, table),
        running=Running({}),
        limits=Limits([], table),
    )


class Bench:
    """A lathe's healthy record, poured into a flow by hand."""

    def __init__(self, folder: Path, clock: Clock | None = None) -> None:
        self.clock = clock or SystemClock()
        self.log = Log.open(folder, StoreConfig(), self.clock)
        path = shipped_bundles()["lathe"][0]
        self.manifest = read(path).manifest
        keys = [Signal("lathe-1", s.name, s.unit) for s in self.manifest.signals]
        self.sources = dict.fromkeys(keys, "line")
        self.numbers = np.array([self.log.signals.intern(key) for key in keys], dtype=np.int32)
        columns = healthy("lathe", hours=0.1, seed=11)
        self.rows = np.stack([columns[s.name] for s in self.manifest.signals], axis=1)
        self.wanted = [Assignment(AssetConfig(id="lathe-1"), path, "asset[0].bundle")]
        self.flow = self._flow(self.posts())

    def posts(self) -> list[Post]:
        return muster(self.wanted, self.sources, self.log.signals)

    def _flow(self, posts: Sequence[Post]) -> Flow:
        self.annunciator = Annunciator(Engine(AlarmsConfig()), self.log, self.clock)
        return Flow(
            clock=self.clock,
            log=self.log,
            annunciator=self.annunciator,
            stages=stages(self.log.signals, self.sources),
            posts=posts,
            executor=ThreadPoolExecutor(1),
        )

    async def pour(self, start: int, end: int) -> None:
        """Rows [start, end), in batches of eight rows."""
        k = len(self.numbers)
        for at in range(start, end, 8):
            rows = self.rows[at : min(at + 8, end)]
            t_ns = START_NS + np.arange(at, at + len(rows), dtype=np.int64) * STEP_NS
            batch = Batch(
                "line",
                np.tile(self.numbers, len(rows)),
                np.repeat(t_ns, k),
                rows.ravel().astype(np.float64),
                np.where(np.isnan(rows.ravel()), Quality.BAD, Quality.GOOD).astype(np.uint8),
                int(t_ns[-1]),
            )
            await self.flow.take([batch])

    async def ends(self) -> tuple[list[int], list[Abstained]]:
        """Window ends and abstentions, in the order of the log."""
        await self.log.flush()
        reader = LogReader(self.log.path)
        rows = list(reader.assessments(0, 1 << 62))
        reader.close()
        return [int(a.t_ns[0]) for a in rows], [a.abstained[0] for a in rows]


def hops(ends: Sequence[int]) -> set[int]:
    return set(np.diff(ends).tolist())


def test_judges_change_places_without_a_missed_or_a_double_window(tmp_path: Path) -> None:
    async def main() -> None:
        bench = Bench(tmp_path)
        await bench.pour(0, 400)
        await bench.flow.restation(bench.posts())
        await bench.pour(400, 800)
        ends, abstained = await bench.ends()
        assert hops(ends) == {bench.manifest.window.hop_cells * STEP_NS}
        assert len(ends) > 30
        # Only while the first window fills is there no verdict; none after the change.
        warm = next(i for i, reason in enumerate(abstained) if reason is Abstained.NO)
        assert set(abstained[:warm]) <= {Abstained.WARMING_UP, Abstained.COVERAGE}
        assert set(abstained[warm:]) == {Abstained.NO}
        verdict = next(iter(bench.flow.latest.verdicts["lathe-1"].values()))
        assert 0 < verdict.severity < 1
        assert verdict.abstained is Abstained.NO
        bench.log.close()

    asyncio.run(main())


def test_what_a_bundle_learned_to_be_no_value_is_bad_from_the_log_on(tmp_path: Path) -> None:
    async def main() -> None:
        bench = Bench(tmp_path)
        named = bench.manifest.signals[1].name
        shipped = read(bench.wanted[0].path)
        detail = shipped.manifest.detail | {"no_value": {named: [-9999.0, 1e31]}}
        knows = shipped.manifest.model_copy(update={"detail": detail})
        path = tmp_path / "knows.fwm"
        write(path, knows, shipped.int8, shipped.fp32, shipped.golden)
        bench.rows = bench.rows.copy()
        bench.rows[100:110, 1], bench.rows[110:115, 1] = -9999.0, 1e31
        bench.rows[115:120, 0] = -9999.0
        await bench.pour(0, 104)
        assert bench.flow.unused()["sample_no_value"] == 0, "an older bundle knows of none"
        bench.wanted = [replace(bench.wanted[0], path=path)]
        await bench.flow.restation(bench.posts())
        assert bench.flow.unused()["sample_no_value"] == 4, "those in the log, which windows need"
        await bench.pour(104, 200)
        assert bench.flow.unused()["sample_no_value"] == 15
        await bench.log.flush()
        signal, _, value, quality = bench.log.samples(0, 1 << 62)
        bad = quality == Quality.BAD
        assert signal[bad].tolist() == [bench.numbers[1]] * 11
        assert np.isnan(value[bad]).all()
        assert (value[signal == bench.numbers[0]] == -9999.0).sum() == 5, "of another signal"
        kept = bench.log.state_get(NO_VALUE, "lathe-1")
        assert kept is not None
        assert json.loads(kept) == {named: [-9999.0, 1e31]}, "for the next training from this log"
        bench.log.close()

    asyncio.run(main())


def test_a_judge_keeps_its_model_without_the_files_it_was_read_from(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    (post,) = bench.posts()
    assert (post.judge.bundle.int8, post.judge.bundle.fp32) == (b"", b"")
    assert post.judge.bundle.path == bench.wanted[0].path
    bench.log.close()


def test_what_never_changed_while_a_model_learned_is_told_when_it_moves(tmp_path: Path) -> None:
    async def main() -> None:
        bench = Bench(tmp_path)
        shipped = read(bench.wanted[0].path)
        standby, absent = Signal("lathe-1", "standby", "rpm"), "no such signal"
        detail = shipped.manifest.detail | {"fixed": {standby.name: 0.0, absent: 3.0}}
        knows = shipped.manifest.model_copy(update={"detail": detail})
        path = tmp_path / "knows.fwm"
        write(path, knows, shipped.int8, shipped.fp32, shipped.golden)
        bench.wanted = [replace(bench.wanted[0], path=path)]
        bench.sources[standby] = "line"
        await bench.flow.restation(bench.posts())
        await bench.pour(0, 400)

        def told() -> list[str]:
            (verdict,) = bench.flow.latest.verdicts["lathe-1"].values()
            return [str(each) for each in verdict.context().fixed]

        number, at = bench.log.signals.intern(standby), START_NS + 400 * STEP_NS
        for value, quality, expected in (
            (np.nan, Quality.BAD, []),
            (0.0, Quality.GOOD, []),
            (1450.0, Quality.GOOD, ["standby 1450 rpm (always 0 rpm)"]),
            (np.nan, Quality.BAD, []),
            (0.0, Quality.UNCERTAIN, []),
        ):
            one = np.array([number], np.int32), np.array([at]), np.array([value])
            await bench.flow.take([Batch("line", *one, np.array([quality], np.uint8), at)])
            assert told() == expected
        bench.log.close()

    asyncio.run(main())


def test_what_comes_too_late_is_counted_and_stays_so_over_a_restation(tmp_path: Path) -> None:
    async def main() -> None:
        bench = Bench(tmp_path)
        await bench.pour(0, 400)
        assert set(bench.flow.unused().values()) == {0}
        newest_ns = START_NS + 399 * STEP_NS
        late_ns = np.array([newest_ns - bench.flow.builder.span_ns * 3 // 4])
        none, numbers = np.zeros(1, np.uint8), bench.numbers[:1]
        await bench.flow.take([Batch("line", numbers, late_ns, np.ones(1), none, newest_ns)])
        assert bench.flow.unused()["sample_too_late"] == 1
        await bench.flow.restation(bench.posts())
        assert bench.flow.unused()["sample_too_late"] >= 1
        bench.log.close()

    asyncio.run(main())


def test_a_restart_goes_on_without_a_gap(tmp_path: Path) -> None:
    async def main() -> None:
        first = Bench(tmp_path)
        await first.pour(0, 400)
        await first.log.flush()
        first.log.close()
        second = Bench(tmp_path)
        # Its time is not the wall clock's: only what the devices said counts.
        assert await second.flow.warm_up() > 0
        await second.pour(400, 800)
        ends, abstained = await second.ends()
        assert hops(ends) == {second.manifest.window.hop_cells * STEP_NS}
        later = [
            reason
            for end, reason in zip(ends, abstained, strict=True)
            if end > START_NS + 400 * STEP_NS
        ]
        assert set(later) == {Abstained.NO}
        second.log.close()

    asyncio.run(main())


def test_a_restart_within_the_first_window_changes_no_verdict(tmp_path: Path) -> None:
    async def main() -> None:
        whole, first = Bench(tmp_path / "whole"), Bench(tmp_path / "broken")
        cells = whole.manifest.window.cells
        await whole.pour(0, cells // 2)
        await whole.pour(cells // 2, 2 * cells)
        unbroken = await whole.ends()
        await first.pour(0, cells // 2)
        await first.log.flush()
        first.log.close()
        second = Bench(tmp_path / "broken")
        assert await second.flow.warm_up() > 0
        await second.pour(cells // 2, 2 * cells)
        assert await second.ends() == unbroken
        assert Abstained.WARMING_UP in unbroken[1]
        assert Abstained.NO in unbroken[1]
        whole.log.close()
        second.log.close()

    asyncio.run(main())


def test_a_restart_remembers_how_strange_a_machine_has_been_and_since_when_it_runs(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        first = Bench(tmp_path)
        first.rows[:, 4] += 3.0  # a little off, as what is usual is soon forgotten again
        await first.pour(0, 400)
        first.flow.posts[0].judge.starting.remember({"lathe-1": 12.0})
        first.flow.keep()
        await first.log.flush()
        before = first.flow.posts[0].judge.memory()
        unknown = first.posts()[0].judge.memory()
        assert abs(before["lathe-1"] - unknown["lathe-1"]) > 0.01
        first.log.close()
        second = Bench(tmp_path)
        after = second.flow.posts[0].judge.memory()
        assert abs(after["lathe-1"] - before["lathe-1"]) < 0.001
        assert second.flow.posts[0].judge.starting.memory() == {"lathe-1": 12.0}
        second.log.close()

    asyncio.run(main())


def test_a_restart_remembers_since_when_a_signal_is_not_seen(tmp_path: Path) -> None:
    async def main() -> None:
        first = Bench(tmp_path)
        first.rows[200:, 5] = np.nan
        await first.pour(0, 400)
        first.flow.keep()
        await first.log.flush()
        (told,) = first.flow.latest.verdicts["lathe-1"].values()
        ((name, since_ns, why),) = (astuple(gone) for gone in told.unseen)
        assert (name, why) == (first.manifest.signals[5].name, "missing")
        assert START_NS + 200 * STEP_NS < since_ns < START_NS + 400 * STEP_NS
        first.log.close()
        second = Bench(tmp_path)
        assert second.flow.posts[0].judge.unseen.memory() == {"lathe-1": {name: since_ns}}
        second.log.close()

    asyncio.run(main())
