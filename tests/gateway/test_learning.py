"""Learning carried out: a candidate alarms nobody until fresh data kept its promise."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from gateway.core.alarm import Cause, Condition, Priority, Transition
from gateway.core.assessment import Abstained, Assessments, ModelKind
from gateway.core.batch import Waveform
from gateway.core.clock import SystemClock
from gateway.core.refusal import Refused
from gateway.core.signals import Signal
from gateway.learning import baseline
from gateway.learning.learning import Learning
from gateway.learning.progress import Event, Progress, Stage
from gateway.pipeline.assess import Judged
from gateway.pipeline.config import AssetConfig, LearnConfig
from gateway.pipeline.fleet import Post
from gateway.pipeline.waves import Waves
from gateway.store.config import StoreConfig, TrendBounds
from gateway.store.log import Log
from gateway.store.trends import Trends
from models.follow import Held
from models.manifest import Limit
from tests.eventually import eventually
from tests.models import bundles

SHADOW_S = 60.0


@dataclass
class Desk:
    """One learned asset, with its log, and what was reported of it."""

    learning: Learning
    log: Log
    trends: Trends
    conditions: list[Condition]

    @property
    def progress(self) -> Progress:
        progress = self.learning.progress("press")
        assert progress is not None
        return progress

    def stage(self) -> Stage:
        return self.progress.stage

    def say(
        self,
        severity: float,
        *,
        windows: int,
        name: str,
        abstained: str = "",
        held: Held = Held.NO,
    ) -> None:
        """Let the bundle of that file judge so many windows alike."""
        reason = Abstained(abstained)
        assessments = Assessments(
            kind=ModelKind.ANOMALY,
            bundle="b",
            shadow=True,
            assets=("press",),
            t_ns=np.zeros(1, np.int64),
            score=np.array([severity], np.float32),
            limit=np.ones(1, np.float32),
            coverage=np.ones(1, np.float32),
            abstained=(reason,),
            signals=(),
            contribution=np.zeros((1, 0), np.float32),
            direction=np.zeros((1, 0), np.int8),
        )
        following = SimpleNamespace(held=lambda _asset: held)
        bundle = SimpleNamespace(path=Path(name))
        post = SimpleNamespace(judge=SimpleNamespace(bundle=bundle, following=following))
        judged = Judged(assessments, np.zeros((1, 0), np.float32))
        for _ in range(windows):
            self.learning.saw(cast("Post", post), judged)

    async def look(self) -> None:
        pupil = self.learning._pupils["press"]
        await self.learning._look(pupil)


@asynccontextmanager
async def desk(
    folder: Path, progress: Progress, *, supported: bool = True, promote: bool = True
) -> AsyncIterator[Desk]:
    log = Log.open(folder, StoreConfig(), SystemClock())
    conditions: list[Condition] = []
    trends = Trends(log, TrendBounds(), SystemClock())
    learning = Learning(
        clock=SystemClock(),
        log=log,
        trends=trends,
        report=conditions.append,
        folder=folder / "models",
        config_file=folder / "forewarn.toml",
    )
    place = folder / "models" / "press"
    place.mkdir(parents=True)
    limit = Limit(value=0.5, false_alarms="1/30d", supported=supported, reason="too short")
    for name in ("0001.fwm", "0002.fwm"):
        bundles.make(place / name, kind="anomaly", limit=limit)
    log.state_put("learn", "press", progress.dump())
    asset = AssetConfig(id="press", learn=LearnConfig(shadow_s=SHADOW_S, promote=promote))
    learning.enroll([asset], {"press": [(0, Signal("press", "speed", "rpm"))]})
    yield Desk(learning, log, trends, conditions)
    trends.close()
    log.close()


SHADOW = Progress(stage=Stage.SHADOW, candidate="0002.fwm", bundle="0001.fwm", generation=2)


def assigned(one: Desk) -> dict[str, bool | None]:
    return {a.path.name: a.shadow for a in one.learning.assignments()}


def test_a_calm_candidate_is_promoted_and_the_one_before_is_kept(tmp_path: Path) -> None:
    async def main() -> None:
        async with desk(tmp_path, SHADOW) as one:
            assert assigned(one) == {"0001.fwm": False, "0002.fwm": True}
            one.say(0.5, windows=30, name="0002.fwm")
            await one.look()
            assert one.stage() is Stage.SHADOW
            assert "30 of 60 windows checked" in str(one.progress.said())
            one.say(0.5, windows=30, name="0002.fwm")
            await one.look()
            assert one.stage() is Stage.ACTIVE
            assert (one.progress.bundle, one.progress.previous) == ("0002.fwm", "0001.fwm")
            assert assigned(one) == {"0002.fwm": False}
            one.learning.command("press", Event.ROLL_BACK, "ana")
            assert one.progress.bundle == "0001.fwm"
            assert "by ana" in str(one.progress.said())

    asyncio.run(main())


def test_a_candidate_that_cries_wolf_is_sent_back(tmp_path: Path) -> None:
    async def main() -> None:
        async with desk(tmp_path, SHADOW) as one:
            one.say(0.5, windows=58, name="0002.fwm")
            one.say(1.5, windows=2, name="0002.fwm")
            await one.look()
            assert one.stage() is Stage.COLLECTING
            assert one.progress.needed_factor == 1.5
            assert "2 of 60 fresh healthy windows were flagged" in str(one.progress.said())
            assert assigned(one) == {"0001.fwm": False}

    asyncio.run(main())


def test_a_promise_without_support_keeps_it_in_shadow_and_says_why(tmp_path: Path) -> None:
    async def main() -> None:
        async with desk(tmp_path, SHADOW, supported=False) as one:
            one.say(0.5, windows=70, name="0002.fwm")
            await one.look()
            assert one.stage() is Stage.SHADOW
            assert "too short" in str(one.progress.said())
            # An operator may overrule it.
            one.learning.command("press", Event.PROMOTE, "ana")
            assert one.stage() is Stage.ACTIVE

    asyncio.run(main())


def test_an_operator_may_be_waited_for(tmp_path: Path) -> None:
    async def main() -> None:
        async with desk(tmp_path, SHADOW, promote=False) as one:
            one.say(0.5, windows=70, name="0002.fwm")
            await one.look()
            assert one.stage() is Stage.SHADOW
            assert "waits for an operator" in str(one.progress.said())

    asyncio.run(main())


ACTIVE = Progress(stage=Stage.ACTIVE, bundle="0002.fwm", previous="0001.fwm", generation=2)


@pytest.mark.parametrize("how", ["not finite", "alarm rate"])
def test_a_new_bundle_that_fails_is_taken_back(tmp_path: Path, how: str) -> None:
    async def main() -> None:
        async with desk(tmp_path, ACTIVE) as one:
            if how == "not finite":
                reason = Abstained.NOT_FINITE.value
                one.say(np.nan, windows=10, name="0002.fwm", abstained=reason)
            else:
                one.say(0.5, windows=20, name="0002.fwm")
                one.say(2.0, windows=10, name="0002.fwm")
            await one.look()
            assert one.progress.bundle == "0001.fwm"

    asyncio.run(main())


def test_what_was_taken_back_is_not_let_in_again_by_a_fault_that_both_see(tmp_path: Path) -> None:
    async def main() -> None:
        async with desk(tmp_path, ACTIVE) as one:
            one.say(2.0, windows=30, name="0002.fwm")
            await one.look()
            assert one.progress.bundle == "0001.fwm"
            one.say(2.0, windows=30, name="0001.fwm")
            await one.look()
            assert (one.progress.bundle, one.progress.previous) == ("0001.fwm", "0002.fwm")

    asyncio.run(main())


def test_training_holds_up_nobody_and_a_failing_model_waits_for_no_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with desk(tmp_path, ACTIVE) as one:
            begun, let_go, restationed = asyncio.Event(), asyncio.Event(), asyncio.Event()

            async def train(
                _file: Path, _asset: object, _progress: object, out: Path, _: str
            ) -> str:
                begun.set()
                await let_go.wait()
                bundles.make(out, kind="anomaly", limit=Limit(value=0.5, supported=True))
                return ""

            async def restation() -> None:
                restationed.set()

            monkeypatch.setattr(baseline, "train", train)
            lathe = AssetConfig(id="lathe", learn=LearnConfig())
            one.log.state_put("learn", "lathe", Progress(stage=Stage.TRAINING).dump())
            press = one.learning._pupils["press"].config
            one.say(0.4, windows=10, name="0002.fwm")
            one.learning.enroll([press, lathe], {})
            assert one.learning._pupils["press"].active.windows == 10, "it goes on counting"
            running = asyncio.create_task(one.learning.run(restation))
            async with asyncio.timeout(30):
                await begun.wait()
            # The lathe is being trained; the press's new model fails, and is taken back at once.
            reason = Abstained.NOT_FINITE.value
            one.say(np.nan, windows=10, name="0002.fwm", abstained=reason)
            async with asyncio.timeout(30):
                await restationed.wait()
            assert one.progress.bundle == "0001.fwm"
            restationed.clear()
            let_go.set()
            async with asyncio.timeout(30):
                await restationed.wait()
            progress = one.learning.progress("lathe")
            assert progress is not None
            assert (progress.stage, progress.candidate) == (Stage.SHADOW, "0001.fwm")
            running.cancel()
            await asyncio.wait([running])

    asyncio.run(main())


async def test_a_machine_of_waveforms_is_learned_by_what_describes_them(tmp_path: Path) -> None:
    """Its own signal is bursts, of which no number is kept; their parts come with the first."""
    end_ns = time.time_ns()
    start_ns = end_ns - 3600 * 1_000_000_000
    collecting = Progress(stage=Stage.COLLECTING, start_ns=start_ns, since_ns=start_ns)
    async with desk(tmp_path, collecting) as one:
        press = AssetConfig(id="press", learn=LearnConfig(collect_s=1800.0))
        one.log.signals.intern(Signal("press", "speed", "rpm"))
        wave = one.log.signals.intern(Signal("press", "vibration", "g"))
        one.learning.enroll([press], {"press": [(wave, one.log.signals[wave])]})
        waves = Waves([press], one.log.signals, lambda _asset, _name: None)
        random = np.random.default_rng(1)
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(one.log.run()), tasks.create_task(one.trends.run())]
            await one.look()
            assert (one.stage(), one.progress.share) == (Stage.COLLECTING, 0.0)
            for t_ns in range(start_ns, end_ns, 10 * 1_000_000_000):
                noise = random.normal(size=256).astype(np.float32)
                burst = Waveform("s", wave, t_ns, 1000.0, noise, t_ns)
                for batch in waves.describe(burst, t_ns):
                    one.log.append(batch)
            await one.log.flush()
            await eventually(lambda: one.log.cursor("trends").lag() == 0, timeout_s=30)
            await one.look()
            assert one.progress.missing == ()
            assert one.stage() is Stage.TRAINING
            for task in running:
                task.cancel()


def test_slow_drift_is_offered_as_a_new_baseline_and_never_learned(tmp_path: Path) -> None:
    async def main() -> None:
        async with desk(tmp_path, ACTIVE) as one:
            one.say(0.9, windows=600, name="0002.fwm")
            await one.look()
            assert one.stage() is Stage.DRIFTING
            (offer,) = one.conditions
            assert (offer.asset, offer.alarm, offer.active) == ("press", "model.drift", True)
            assert str(offer.text).startswith(
                "press: it runs steadily unlike its baseline. If it was"
            )
            assert "new baseline" in str(offer.text)
            assert assigned(one) == {"0002.fwm": False}
            one.learning.command("press", Event.REBASELINE, "ana")
            assert one.stage() is Stage.COLLECTING
            assert one.progress.bundle == "0002.fwm"  # It judges on until there is a better one.
            assert one.conditions[-1].active is False  # The question has been answered.

    asyncio.run(main())


def test_a_change_that_was_followed_to_its_end_is_offered_as_a_new_baseline(tmp_path: Path) -> None:
    async def main() -> None:
        async with desk(tmp_path, ACTIVE) as one:
            one.say(0.5, windows=30, name="0002.fwm")
            await one.look()
            assert one.stage() is Stage.ACTIVE
            one.say(0.5, windows=1, name="0002.fwm", held=Held.FULL)
            await one.look()
            assert one.stage() is Stage.DRIFTING
            assert "moved slowly as far as may be followed" in str(one.conditions[0].text)
            one.say(0.5, windows=1, name="0002.fwm")
            await one.look()
            assert one.stage() is Stage.ACTIVE
            assert one.conditions[-1].active is False

    asyncio.run(main())


def test_a_sudden_change_that_stays_even_is_offered_and_a_growing_one_is_not(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        progress = replace(ACTIVE, previous="")
        async with desk(tmp_path / "even", progress) as one:
            one.say(0.4, windows=50, name="0002.fwm")
            one.say(2.0, windows=600, name="0002.fwm")
            await one.look()
            assert one.stage() is Stage.DRIFTING
            assert "changed on" in str(one.progress.said())
        async with desk(tmp_path / "growing", progress) as one:
            one.say(0.4, windows=50, name="0002.fwm")
            for step in range(600):
                one.say(1.1 + step / 300, windows=1, name="0002.fwm")
            await one.look()
            assert one.stage() is Stage.ACTIVE

    asyncio.run(main())


def said(verdict: str, *, who: str = "ana") -> Transition:
    return Transition(
        "press",
        "anomaly",
        Cause.ANOMALY,
        "normal",
        f"feedback.{verdict}",
        1,
        10**18,
        0,
        1.2,
        Priority.MEDIUM,
        "",
        who=who,
    )


def test_a_false_alarm_is_learned_from_with_the_same_record(tmp_path: Path) -> None:
    async def main() -> None:
        progress = replace(ACTIVE, start_ns=10**9, end_ns=5 * 10**9)
        async with desk(tmp_path, progress) as one:
            one.learning.heard(said("real"))
            assert one.stage() is Stage.ACTIVE
            one.learning.heard(said("false"))
            assert one.stage() is Stage.TRAINING
            assert "an alarm was called false by ana" in str(one.progress.said())
            assert (one.progress.start_ns, one.progress.end_ns) == (10**9, 5 * 10**9)
            assert assigned(one) == {"0002.fwm": False}, "it judges on meanwhile"
            # There is no log to train from here: nothing comes of it, and nothing is lost.
            await one.look()
            assert one.stage() is Stage.ACTIVE
            assert one.progress.bundle == "0002.fwm"
            assert "training" in str(one.progress.said())
            assert not one.progress.correcting

    asyncio.run(main())


def test_a_training_that_an_operator_overtook_comes_to_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with desk(tmp_path, Progress(stage=Stage.TRAINING, bundle="0001.fwm")) as one:

            async def train(*_: object) -> str:
                one.learning.command("press", Event.REBASELINE, "ana")
                return ""

            monkeypatch.setattr(baseline, "train", train)
            await one.look()
            assert one.stage() is Stage.COLLECTING
            assert one.progress.candidate == ""

    asyncio.run(main())


def test_what_makes_no_sense_is_refused(tmp_path: Path) -> None:
    async def main() -> None:
        async with desk(tmp_path, Progress()) as one:
            with pytest.raises(Refused, match="makes no sense"):
                one.learning.command("press", Event.PROMOTE, "ana")
            with pytest.raises(Refused, match="not learned on this box"):
                one.learning.command("lathe", Event.PROMOTE, "ana")

    asyncio.run(main())


def test_state_outlives_the_process(tmp_path: Path) -> None:
    async def main() -> Any:
        async with desk(tmp_path, SHADOW) as one:
            one.say(0.5, windows=60, name="0002.fwm")
            await one.look()
            await one.log.flush()
        log = Log.open(tmp_path, StoreConfig(), SystemClock())
        try:
            data = log.state_get("learn", "press")
            assert data is not None
            return Progress.load(data).stage
        finally:
            log.close()

    assert asyncio.run(main()) is Stage.ACTIVE
