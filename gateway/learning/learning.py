"""Carries learning out: looks at what was recorded, trains beside the work, checks, promotes."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import structlog

from gateway.core.alarm import Cause, Condition, Transition, Verdict
from gateway.core.assessment import ModelKind
from gateway.core.clock import Clock
from gateway.core.errors import StoreError
from gateway.core.refusal import Refused
from gateway.core.signals import Signal
from gateway.core.texts import Phrase, as_said
from gateway.learning import baseline, trial
from gateway.learning.offers import Offers
from gateway.learning.progress import Event, Progress, Stage
from gateway.learning.pupil import Pupil
from gateway.learning.recorded import Recorded
from gateway.learning.shelf import Shelf
from gateway.pipeline.assess import Judged
from gateway.pipeline.config import AssetConfig
from gateway.pipeline.fleet import Assignment, Post
from gateway.store.log import Log
from gateway.store.trends import Trends
from models.bundle import read
from models.errors import ModelError
from models.follow import Held

PATIENCE = 3.0
"""After so many times the least time, what is there is learned, settled or not."""
LOOK_S_MIN, LOOK_S_MAX = 2.0, 600.0

_events = structlog.get_logger()

Restation = Callable[[], Awaitable[None]]


class Learning:
    """Every asset with a learning policy. One task; one training at a time.

    Attributes:
        settled: Set while the judges at work are those that this asks for.
    """

    def __init__(
        self,
        *,
        clock: Clock,
        log: Log,
        trends: Trends,
        report: Callable[[Condition], None],
        folder: Path,
        config_file: Path,
    ) -> None:
        self._shelf = Shelf(folder)
        self._config_file = config_file
        self._clock = clock
        self._log = log
        self._trends = trends
        self._offers = Offers(report, clock)
        self._recorded = Recorded(log.signals)
        self._pupils: dict[str, Pupil] = {}
        self._wake = asyncio.Event()
        self.settled = asyncio.Event()
        self.settled.set()

    def enroll(
        self,
        assets: Sequence[AssetConfig],
        signals: Mapping[str, Sequence[tuple[int, Signal]]],
    ) -> None:
        """Take up the assets that have a policy; go on where each stood."""
        pupils = {}
        for config in assets:
            if config.learn is None:
                continue
            pupil = self._pupils.get(config.id) or Pupil(config.id, self._log, self._clock)
            pupil.configure(config, config.learn, signals.get(config.id, ()))
            pupils[config.id] = pupil
        self._pupils = pupils

    def assignments(self) -> list[Assignment]:
        """The bundles that learned assets are judged by now: the active, and one in shadow."""
        out = []
        for pupil in self._pupils.values():
            self._take_back_damaged(pupil)
            place = self._shelf.folder_of(pupil.config.id)
            where = f"asset {pupil.config.id!r}"
            for name, shadow in ((pupil.progress.bundle, False), (pupil.progress.candidate, True)):
                if name:
                    out.append(Assignment(pupil.config, place / name, where, shadow))
        return out

    def _take_back_damaged(self, pupil: Pupil) -> None:
        """A disk forgets, too: the bundle before judges, or the machine is learned again."""
        for name in (pupil.progress.candidate, pupil.progress.bundle):
            asset, progress = pupil.config.id, pupil.progress
            fault = self._shelf.fault(asset, name) if name else None
            if not fault or name not in pupil.judged_by:
                continue
            if name == progress.candidate:
                event = pupil.sent_back
            elif progress.previous and not self._shelf.fault(asset, progress.previous):
                event = Event.ROLL_BACK
            else:
                event = Event.LOST
            pupil.progress = progress.step(event, self._clock.wall_ns(), fault)
            _events.error("learn.damaged", asset=asset, error=str(fault), then=event)
            pupil.keep()

    def progress(self, asset: str) -> Progress | None:
        """Where an asset stands; None where it is not learned."""
        pupil = self._pupils.get(asset)
        return pupil.progress if pupil else None

    def all(self) -> dict[str, Progress]:
        """Where every learned asset stands."""
        return {asset: pupil.progress for asset, pupil in self._pupils.items()}

    def command(self, asset: str, event: Event, who: str) -> None:
        """Do what an operator asks: promote, rebaseline, roll back.

        Raises:
            Refused: It makes no sense now.
        """
        pupil = self._pupils.get(asset)
        if pupil is None:
            raise Refused(Phrase("refused.not_learned", asset=asset))
        before = pupil.progress
        self._step(pupil, event, Phrase("learn.by", who=who))
        if pupil.progress is before:
            asked, stage = Phrase(f"learning.{event}"), Phrase(f"learning.{before.stage}")
            raise Refused(Phrase("refused.stage", asset=asset, asked=asked, stage=stage))

    def heard(self, transition: Transition) -> None:
        """Take what an engineer said of an alarm; a false one is learned from."""
        pupil = self._pupils.get(transition.asset)
        if (
            pupil is not None
            and transition.cause is Cause.ANOMALY
            and transition.event == f"feedback.{Verdict.FALSE}"
        ):
            self._step(pupil, Event.CORRECTED, Phrase("learn.corrected", who=transition.who))

    def saw(self, post: Post, judged: Judged) -> None:
        """Count what a bundle said; called for every judged set of windows."""
        a = judged.assessments
        if a.kind is not ModelKind.ANOMALY:
            return
        severity = a.severity.tolist()
        path, following = post.judge.bundle.path, post.judge.following
        for row, asset in enumerate(a.assets):
            held = following.held(asset) if following is not None else Held.NO
            pupil = self._pupils.get(asset)
            if pupil is None:
                self._offers.untaught(asset, stands=held is Held.FULL)
                continue
            if path is None:
                continue
            if path.name == pupil.progress.candidate:
                seen = pupil.candidate
            elif path.name == pupil.progress.bundle:
                seen = pupil.active
            else:
                continue
            seen.held = held
            seen.take(severity[row], a.abstained[row], float(a.coverage[row]), int(a.t_ns[row]))
            if seen is pupil.active and trial.failing(seen, pupil.progress):
                self._wake.set()

    async def run(self, restation: Restation) -> None:
        """Look at every asset from time to time, until cancelled; training goes on beside that."""
        training: asyncio.Task[None] | None = None
        async with asyncio.TaskGroup() as tasks:
            while True:
                self._wake.clear()
                for pupil in list(self._pupils.values()):
                    before = pupil.progress
                    if before.stage is not Stage.TRAINING:
                        await self._look(pupil)
                    elif training is None or training.done():
                        name = f"training:{pupil.config.id}"
                        training = tasks.create_task(self._train(pupil), name=name)
                    if pupil.progress != before:
                        pupil.keep()
                if not self.settled.is_set():
                    asked = self._asked()
                    await restation()
                    if self._asked() == asked:
                        self.settled.set()
                waits = [p.learn.collect_s / 50 for p in self._pupils.values()]
                wait_s = float(np.clip(min(waits, default=LOOK_S_MAX), LOOK_S_MIN, LOOK_S_MAX))
                with contextlib.suppress(TimeoutError):
                    # Neither a person nor a model that fails waits for the next look.
                    async with asyncio.timeout(wait_s):
                        await self._wake.wait()

    def _asked(self) -> list[tuple[str, str]]:
        """The bundles that are to judge and to watch, asset by asset."""
        return [pupil.judged_by for pupil in self._pupils.values()]

    async def _look(self, pupil: Pupil) -> None:
        match pupil.progress.stage:
            case Stage.COLLECTING:
                await self._collect(pupil)
            case Stage.TRAINING:
                await self._train(pupil)
            case Stage.SHADOW:
                self._check(pupil)
            case Stage.ACTIVE | Stage.DRIFTING:
                self._follow(pupil)

    async def _collect(self, pupil: Pupil) -> None:
        start_ns = pupil.progress.start_ns
        if not start_ns:
            start_ns = self._clock.wall_ns()
            pupil.progress = replace(pupil.progress, start_ns=start_ns, since_ns=start_ns)
        needed_s = pupil.learn.collect_s * pupil.progress.needed_factor
        end_ns = self._clock.wall_ns()
        try:
            seen, silent = await asyncio.to_thread(
                baseline.gathered,
                self._trends,
                self._recorded.of(pupil.config.id, pupil.signals),
                pupil.running,
                start_ns,
                end_ns,
                needed_s,
            )
        except StoreError as error:
            # The trends are not there yet, or their disk fails: nothing is known, so nothing moves.
            pupil.progress = replace(pupil.progress, missing=(as_said(error),))
            return
        # Signals that do not come are told, and not waited for: some come only when they change.
        missing = (*map(baseline.lacking, seen.missing), *silent)
        pupil.progress = replace(pupil.progress, share=round(seen.share, 3), missing=missing)
        if seen.ready:
            self._step(pupil, Event.ENOUGH)
        elif seen.covered_s > PATIENCE * needed_s:
            # Some machines never settle; training weighs what drifts, and says what it promises.
            self._step(pupil, Event.ENOUGH, Phrase("lesson.missing", missing=missing))

    async def _train(self, pupil: Pupil) -> None:
        asset, progress = pupil.config.id, pupil.progress
        generation = progress.generation + 1
        name = f"{generation:04d}.fwm"
        place = self._shelf.folder_of(asset)
        await asyncio.to_thread(place.mkdir, parents=True, exist_ok=True)
        _events.info("learn.training", asset=asset, generation=generation)
        error = await baseline.train(
            self._config_file, pupil.config, progress, place / name, pupil.learn.false_alarms
        )
        pupil.progress = replace(pupil.progress, generation=generation)
        if pupil.progress.stage is not Stage.TRAINING:
            return  # An operator decided otherwise meanwhile.
        if error:
            failed = Event.DISCARDED if progress.correcting else Event.FAILED
            self._step(pupil, failed, Phrase("learn.failed", fault=error))
        else:
            self._step(pupil, Event.TRAINED, candidate=name)
        self._wake.set()

    def _check(self, pupil: Pupil) -> None:
        """Promote a candidate that kept its promise, send one back that did not."""
        seen, progress = pupil.candidate, pupil.progress
        place = self._shelf.folder_of(pupil.config.id) / progress.candidate
        try:
            manifest = read(place).manifest
        except ModelError as error:
            self._step(pupil, pupil.sent_back, as_said(error))
            return
        pupil.progress = progress = replace(progress, windows=seen.windows, flagged=seen.flagged)
        event, why = trial.candidate(seen, manifest, pupil.learn, progress)
        if event is None:
            assert why is not None
            pupil.progress = replace(progress, missing=(why,))
            return
        self._step(pupil, pupil.sent_back if event is Event.BROKEN else event, why)

    def _follow(self, pupil: Pupil) -> None:
        """Watch an active model: take it back where it fails, offer a baseline where it drifts."""
        said = trial.judging(pupil.active, pupil.progress)
        if said is not None:
            self._step(pupil, *said)

    def _step(
        self, pupil: Pupil, event: Event, reason: Phrase | None = None, *, candidate: str = ""
    ) -> None:
        before, judged_by = pupil.progress, pupil.judged_by
        if not pupil.step(event, reason, candidate=candidate):
            return
        drifts = pupil.progress.stage is Stage.DRIFTING
        if drifts != (before.stage is Stage.DRIFTING):
            self._offers.learned(pupil.config.id, pupil.progress.reason, stands=drifts)
        if pupil.judged_by != judged_by:
            self.settled.clear()
            self._wake.set()
