"""Models change places on live data: a shadow alarms nobody, and a bad one is taken back."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import numpy as np
import pytest

from gateway.core.alarm import Condition
from gateway.core.assessment import Abstained
from gateway.core.clock import SystemClock
from gateway.core.errors import ConfigError
from gateway.core.signals import Signal, SignalTable
from gateway.core.texts import Phrase, as_said
from gateway.demo.configuration import shipped_bundles
from gateway.learning.background import run_low
from gateway.learning.learning import Learning
from gateway.learning.progress import Progress, Stage
from gateway.pipeline.config import AssetConfig, LearnConfig
from gateway.pipeline.fleet import Assignment, muster
from gateway.store.config import StoreConfig, TrendBounds
from gateway.store.log import Log
from gateway.store.reader import LogReader
from gateway.store.trends import Trends
from models import bundle
from models.graph import Graph
from models.quantise import run
from tests.gateway.test_flow import STEP_NS, Bench, hops

ACTIVE, CANDIDATE = "0001.fwm", "0002.fwm"


class Learned(Bench):
    """The lathe of `Bench`, judged by what is learned of it; `0001` judges, `0002` comes."""

    def __init__(self, folder: Path, make: Callable[[bundle.Bundle], bundle.Bundle | None]) -> None:
        super().__init__(folder)
        self.place = folder / "models" / "lathe-1"
        self.place.mkdir(parents=True)
        shipped = bundle.read(shipped_bundles()["lathe"][0])
        (self.place / ACTIVE).write_bytes(shipped_bundles()["lathe"][0].read_bytes())
        self.make, self.shipped = make, shipped
        self.trends = Trends(self.log, TrendBounds(), SystemClock())
        self.told: list[Condition] = []
        self.learning = Learning(
            clock=SystemClock(),
            log=self.log,
            trends=self.trends,
            report=self.told.append,
            folder=folder / "models",
            config_file=folder / "forewarn.toml",
        )
        self.config = AssetConfig(id="lathe-1", learn=LearnConfig(shadow_s=40.0))
        make(shipped)
        progress = Progress(stage=Stage.SHADOW, bundle=ACTIVE, candidate=CANDIDATE, generation=2)
        self.log.state_put("learn", "lathe-1", progress.dump())
        self.learning.enroll([self.config], {})
        self.flow = self._flow(self.posts())
        self.flow.on_judged = self.learning.saw

    def posts(self) -> list:  # type: ignore[type-arg]
        learning = getattr(self, "learning", None)
        wanted = self.wanted if learning is None else learning.assignments()
        return muster(wanted, self.sources, self.log.signals)

    @property
    def progress(self) -> Progress:
        progress = self.learning.progress("lathe-1")
        assert progress is not None
        return progress

    async def look(self) -> None:
        """What `Learning.run` does from time to time."""
        before = self.progress
        await self.learning._look(self.learning._pupils["lathe-1"])
        if (self.progress.bundle, self.progress.candidate) != (before.bundle, before.candidate):
            await self.flow.restation(self.posts())

    async def live(self, rows: int = 1400) -> list[Progress]:
        """Data flow, and learning looks at them, as in service."""
        seen = [self.progress]
        for at in range(0, rows, 40):
            await self.pour(at, at + 40)
            await self.look()
            if self.progress.bundle != seen[-1].bundle or self.progress.stage != seen[-1].stage:
                seen.append(self.progress)
        return seen

    async def verdicts(self) -> list[tuple[int, bool, Abstained, float]]:
        await self.log.flush()
        reader = LogReader(self.log.path)
        rows = [
            (int(a.t_ns[0]), a.shadow, a.abstained[0], float(a.severity[0]))
            for a in reader.assessments(0, 1 << 62)
        ]
        reader.close()
        return rows

    def close(self) -> None:
        self.trends.close()
        self.log.close()


def in_place(folder: Path) -> Path:
    return folder / "models" / "lathe-1" / CANDIDATE


def changed(folder: Path, factor: float) -> Callable[[bundle.Bundle], bundle.Bundle]:
    """The shipped model, its limit that many times as wide."""

    def make(held: bundle.Bundle) -> bundle.Bundle:
        limit = held.manifest.limit
        assert limit is not None
        narrow = limit.model_copy(update={"value": limit.value * factor})
        made = held.manifest.model_copy(update={"limit": narrow, "id": "second"})
        return bundle.write(in_place(folder), made, held.int8, held.fp32, held.golden)

    return make


def silent(folder: Path) -> Callable[[bundle.Bundle], bundle.Bundle]:
    """A model that answers its golden vectors, and gives no number for a machine that runs."""

    def make(held: bundle.Bundle) -> bundle.Bundle:
        d, k = len(held.manifest.features), len(held.manifest.signals)
        graph = Graph("silent", d)
        total = graph.node("MatMul", graph.x, graph.constant(np.ones((d, 1))))
        root = graph.node("Sqrt", graph.node("Sub", graph.constant(1.0), total))
        graph.output(graph.node("Squeeze", root, graph.constant([1], np.int64)), "score", ["n"])
        share = graph.node("MatMul", graph.x, graph.constant(np.zeros((d, k))))
        graph.output(share, "contribution", ["n", k])
        graph.output(share, "direction", ["n", k])
        plain = graph.model().SerializeToString()
        x = np.zeros((4, d), np.float32)
        golden = bundle.Golden(x, run(plain, x), run(plain, x))
        detail = {name: told for name, told in held.manifest.detail.items() if name != "strays"}
        told = {"id": "silent", "outputs": ("score", "contribution", "direction"), "detail": detail}
        made = held.manifest.model_copy(update=told)
        return bundle.write(in_place(folder), made, plain, plain, golden)

    return make


def on(bench: Learned, work: Callable[[], Awaitable[None]]) -> None:
    try:
        asyncio.run(work())  # type: ignore[arg-type]
    finally:
        bench.close()


def test_a_shadow_that_flags_everything_alarms_nobody_and_is_sent_back(tmp_path: Path) -> None:
    bench = Learned(tmp_path, changed(tmp_path, 0.01))

    async def main() -> None:
        stages = [p.stage for p in await bench.live()]
        assert stages == [Stage.SHADOW, Stage.COLLECTING]
        assert "fresh healthy windows were flagged" in str(bench.progress.said())
        rows = await bench.verdicts()
        assert sum(shadow and severity > 1 for _, shadow, _, severity in rows) > 10
        assert not any(severity > 1 for _, shadow, _, severity in rows if not shadow)
        reader = LogReader(bench.log.path)
        assert not [t for t in reader.transitions() if t.alarm == "anomaly"]
        reader.close()

    on(bench, main)


def test_the_same_verdicts_do_alarm_once_a_bundle_is_active(tmp_path: Path) -> None:
    bench = Learned(tmp_path, changed(tmp_path, 0.01))

    async def main() -> None:
        bench.learning._pupils["lathe-1"].progress = Progress(stage=Stage.ACTIVE, bundle=CANDIDATE)
        bench.flow.station(bench.posts())
        await bench.pour(0, 800)
        bench.annunciator.engine.tick(mono_ns=1 << 60, wall_ns=1 << 60)
        view = bench.annunciator.engine.find("lathe-1", "anomaly", 1 << 60)
        assert view is not None
        assert view.state == "active_unacked"

    on(bench, main)


def test_a_good_one_takes_over_without_a_missed_window(tmp_path: Path) -> None:
    bench = Learned(tmp_path, changed(tmp_path, 1.5))

    async def main() -> None:
        seen = await bench.live()
        assert [(p.stage, p.bundle) for p in seen] == [
            (Stage.SHADOW, ACTIVE),
            (Stage.ACTIVE, CANDIDATE),
        ]
        assert bench.progress.previous == ACTIVE
        rows = await bench.verdicts()
        judged = sorted({end for end, shadow, _, _ in rows if not shadow})
        assert hops(judged) == {bench.manifest.window.hop_cells * STEP_NS}
        assert len(judged) == sum(not shadow for _, shadow, _, _ in rows), "none twice"

    on(bench, main)


def test_one_whose_alarm_rate_jumps_is_taken_back(tmp_path: Path) -> None:
    bench = Learned(tmp_path, changed(tmp_path, 0.01))

    async def main() -> None:
        pupil = bench.learning._pupils["lathe-1"]
        pupil.progress = Progress(stage=Stage.ACTIVE, bundle=CANDIDATE, previous=ACTIVE)
        bench.flow.station(bench.posts())
        seen = await bench.live()
        assert seen[-1].bundle == ACTIVE
        assert "its alarm rate jumped" in str(bench.progress.said())
        rows = await bench.verdicts()
        assert hops(sorted({end for end, *_ in rows})) == {
            bench.manifest.window.hop_cells * STEP_NS
        }
        assert rows[-1][3] < 1, "the one before judges again"

    on(bench, main)


@pytest.mark.parametrize("stage", [Stage.SHADOW, Stage.ACTIVE])
def test_one_that_gives_no_numbers_is_taken_back_or_never_let_in(
    tmp_path: Path, stage: Stage
) -> None:
    bench = Learned(tmp_path, silent(tmp_path))

    async def main() -> None:
        if stage is Stage.ACTIVE:
            pupil = bench.learning._pupils["lathe-1"]
            pupil.progress = Progress(stage=stage, bundle=CANDIDATE, previous=ACTIVE)
            bench.flow.station(bench.posts())
        await bench.live()
        assert bench.progress.bundle == ACTIVE
        assert "not a number" in str(bench.progress.said())
        rows = await bench.verdicts()
        assert any(reason is Abstained.NOT_FINITE for _, _, reason, _ in rows)
        _, shadow, reason, severity = rows[-1]
        assert (shadow, reason) == (False, Abstained.NO)
        assert severity < 1

    on(bench, main)


@pytest.mark.parametrize("stage", list(Stage))
def test_learning_goes_on_where_it_stood_in_every_stage(tmp_path: Path, stage: Stage) -> None:
    bench = Learned(tmp_path, changed(tmp_path, 1.5))
    bundles = {
        Stage.COLLECTING: ("", ""),
        Stage.TRAINING: ("", ""),
        Stage.SHADOW: (ACTIVE, CANDIDATE),
        Stage.ACTIVE: (ACTIVE, ""),
        Stage.DRIFTING: (ACTIVE, ""),
    }[stage]
    progress = Progress(
        stage=stage,
        since_ns=5,
        start_ns=3,
        end_ns=4,
        share=0.4,
        missing=(Phrase("lack.drift", signal="heat"),),
        bundle=bundles[0],
        candidate=bundles[1],
        previous="0000.fwm",
        generation=2,
        needed_factor=1.5,
        reason=as_said("because"),
        correcting=stage is Stage.TRAINING,
    )
    bench.log.state_put("learn", "lathe-1", progress.dump())
    bench.close()
    log = Log.open(tmp_path, StoreConfig(), SystemClock())
    trends = Trends(log, TrendBounds(), SystemClock())
    again = Learning(
        clock=SystemClock(),
        log=log,
        trends=trends,
        report=lambda _: None,
        folder=tmp_path / "models",
        config_file=tmp_path / "forewarn.toml",
    )
    again.enroll([AssetConfig(id="lathe-1", learn=LearnConfig())], {})
    assert again.progress("lathe-1") == progress
    assigned = [(a.path.name, a.shadow) for a in again.assignments()]
    wanted = [(bundles[0], False), (bundles[1], True)]
    assert assigned == [pair for pair in wanted if pair[0]]
    trends.close()
    log.close()


def test_a_bundle_for_other_signals_or_units_is_refused_with_the_difference() -> None:
    path = shipped_bundles()["lathe"][0]
    signals = bundle.read(path).manifest.signals
    first, second, *rest = signals
    there = [Signal("lathe-1", s.name, s.unit) for s in rest]
    there.append(Signal("lathe-1", first.name, "furlong"))
    sources = dict.fromkeys(there, "line")
    wanted = [Assignment(AssetConfig(id="lathe-1"), path, "asset[0].bundle")]
    with pytest.raises(ConfigError) as caught:
        muster(wanted, sources, SignalTable(sources))
    text = str(caught.value)
    assert f"was trained on {first.name} in {first.unit!r}, lathe-1 has it in 'furlong'" in text
    assert f"was trained on signal {second.name!r}, which lathe-1 does not have" in text


def python(code: str, **bounds: float) -> str:
    return asyncio.run(run_low(["-c", code], **bounds))  # type: ignore[arg-type]


def test_training_beside_the_work_is_last_in_line_and_bounded() -> None:
    assert python("pass") == ""
    assert python("import os, sys; sys.exit(str(os.nice(0)))") == str(min(19, os.nice(0) + 15))
    assert python("import sys; sys.exit('no record')") == "no record"
    hog = python("x = bytearray(1 << 30)", memory_bytes=256 << 20)
    assert "MemoryError" in hog
    assert "took longer than 0.5 s" in python("while True: pass", time_s=0.5)
