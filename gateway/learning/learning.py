"""Carries learning out: looks at what was recorded, trains beside the work, checks, promotes."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import structlog

from gateway.core.alarm import Cause, Condition, Transition, Verdict
from gateway.core.assessment import ModelKind
from gateway.core.clock import Clock
from gateway.core.errors import DataError, StoreError
from gateway.core.refusal import Refused
from gateway.core.signals import Signal
from gateway.core.texts import Phrase, as_said
from gateway.learning import baseline, trial
from gateway.learning.offers import Offers
from gateway.learning.progress import Event, Progress, Stage
from gateway.learning.shelf import Shelf
from gateway.learning.trial import Seen
from gateway.pipeline.assess import Judged
from gateway.pipeline.config import AssetConfig, LearnConfig
from gateway.pipeline.fleet import Assignment, Post
from gateway.store.log import Log
from gateway.store.trends import Trends
from models.bundle import read
from models.errors import ModelError
from models.features.burst import base_of
from models.follow import Held
from models.record import RUNNING

PATIENCE = 3.0
"""After so many times the least time, what is there is learned, settled or not."""
LOOK_S_MIN, LOOK_S_MAX = 2.0, 600.0

_events = structlog.get_logger()

Restation = Callable[[], Awaitable[None]]


@dataclass(slots=True)
class _Pupil:
    """One asset that is being learned."""

    config: AssetConfig
    learn: LearnConfig
    progress: Progress
    signals: tuple[tuple[int, Signal], ...]
    running: int | None
    candidate: Seen = field(default_factory=Seen)
    active: Seen = field(default_factory=Seen)


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
        self._pupils: dict[str, _Pupil] = {}
        self._parts: dict[str, dict[str, tuple[int, Signal]]] = {}
        self._looked_at = 0
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
            known = self._pupils.get(config.id)
            progress = known.progress if known else self._restore(config.id)
            every = tuple(signals.get(config.id, ()))
            rule = next((n for n, s in every if config.running and s.name == RUNNING), None)
            own = tuple((number, s) for number, s in every if number != rule)
            # What its bundles have said is kept, whoever else changes places.
            pupil = known or _Pupil(config, config.learn, progress, own, rule)
            pupil.config, pupil.learn, pupil.signals, pupil.running = (
                config,
                config.learn,
                own,
                rule,
            )
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

    def _take_back_damaged(self, pupil: _Pupil) -> None:
        """A disk forgets, too: the bundle before judges, or the machine is learned again."""
        for name in (pupil.progress.candidate, pupil.progress.bundle):
            asset, progress = pupil.config.id, pupil.progress
            fault = self._shelf.fault(asset, name) if name else None
            if not fault or name not in _judged_by(progress):
                continue
            if name == progress.candidate:
                event = _broken(progress)
            elif progress.previous and not self._shelf.fault(asset, progress.previous):
                event = Event.ROLL_BACK
            else:
                event = Event.LOST
            pupil.progress = progress.step(event, self._clock.wall_ns(), fault)
            _events.error("learn.damaged", asset=asset, error=str(fault), then=event)
            self._keep(pupil)

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
                        self._keep(pupil)
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
        return [_judged_by(pupil.progress) for pupil in self._pupils.values()]

    async def _look(self, pupil: _Pupil) -> None:
        match pupil.progress.stage:
            case Stage.COLLECTING:
                await self._collect(pupil)
            case Stage.TRAINING:
                await self._train(pupil)
            case Stage.SHADOW:
                self._check(pupil)
            case Stage.ACTIVE | Stage.DRIFTING:
                self._follow(pupil)

    async def _collect(self, pupil: _Pupil) -> None:
        start_ns = pupil.progress.start_ns
        if not start_ns:
            start_ns = self._clock.wall_ns()
            pupil.progress = replace(pupil.progress, start_ns=start_ns, since_ns=start_ns)
        needed_s = pupil.learn.collect_s * pupil.progress.needed_factor
        end_ns = self._clock.wall_ns()
        try:
            seen = await asyncio.to_thread(
                baseline.gathered,
                self._trends,
                self._told_by(pupil),
                pupil.running,
                start_ns,
                end_ns,
                needed_s,
            )
        except StoreError as error:
            # The trends are not there yet, or their disk fails: nothing is known, so nothing moves.
            pupil.progress = replace(pupil.progress, missing=(as_said(error),))
            return
        missing = tuple(map(baseline.lacking, seen.missing))
        pupil.progress = replace(pupil.progress, share=round(seen.share, 3), missing=missing)
        if seen.ready:
            self._step(pupil, Event.ENOUGH)
        elif seen.covered_s > PATIENCE * needed_s:
            # Some machines never settle; training weighs what drifts, and says what it promises.
            self._step(pupil, Event.ENOUGH, Phrase("lesson.missing", missing=missing))

    def _told_by(self, pupil: _Pupil) -> list[tuple[int, Signal]]:
        """The signals that numbers are kept of: of a waveform its parts, known since its first."""
        table = self._log.signals
        for number in range(self._looked_at, len(table)):
            signal = table[number]
            if base_of(signal.name):
                self._parts.setdefault(signal.asset, {})[signal.name] = number, signal
        self._looked_at = len(table)
        own = {signal.name for _, signal in pupil.signals}
        every = self._parts.get(pupil.config.id, {})
        parts = {n: p for n, p in every.items() if n not in own and base_of(n) in own}
        waves = {base_of(name) for name in parts}
        plain = [each for each in pupil.signals if each[1].name not in waves]
        return [*plain, *parts.values()]

    async def _train(self, pupil: _Pupil) -> None:
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
            pupil.candidate = Seen()
            self._step(pupil, Event.TRAINED, candidate=name)
        self._wake.set()

    def _check(self, pupil: _Pupil) -> None:
        """Promote a candidate that kept its promise, send one back that did not."""
        seen, progress = pupil.candidate, pupil.progress
        place = self._shelf.folder_of(pupil.config.id) / progress.candidate
        try:
            manifest = read(place).manifest
        except ModelError as error:
            self._step(pupil, _broken(progress), as_said(error))
            return
        pupil.progress = progress = replace(progress, windows=seen.windows, flagged=seen.flagged)
        event, why = trial.candidate(seen, manifest, pupil.learn, progress)
        if event is None:
            assert why is not None
            pupil.progress = replace(progress, missing=(why,))
            return
        self._step(pupil, _broken(progress) if event is Event.BROKEN else event, why)

    def _follow(self, pupil: _Pupil) -> None:
        """Watch an active model: take it back where it fails, offer a baseline where it drifts."""
        said = trial.judging(pupil.active, pupil.progress)
        if said is not None:
            self._step(pupil, *said)

    def _step(
        self, pupil: _Pupil, event: Event, reason: Phrase | None = None, *, candidate: str = ""
    ) -> None:
        before = pupil.progress
        pupil.progress = before.step(event, self._clock.wall_ns(), reason)
        if pupil.progress is before:
            return
        if candidate:
            pupil.progress = replace(pupil.progress, candidate=candidate)
        _events.info(
            "learn.stage",
            asset=pupil.config.id,
            stage=pupil.progress.stage,
            why=str(reason or event),
        )
        self._keep(pupil)
        if pupil.progress.bundle != before.bundle:
            pupil.active = Seen()
        drifts = pupil.progress.stage is Stage.DRIFTING
        if drifts != (before.stage is Stage.DRIFTING):
            self._offers.learned(pupil.config.id, pupil.progress.reason, stands=drifts)
        if _judged_by(pupil.progress) != _judged_by(before):
            self.settled.clear()
            self._wake.set()

    def _keep(self, pupil: _Pupil) -> None:
        self._log.state_put("learn", pupil.config.id, pupil.progress.dump())

    def _restore(self, asset: str) -> Progress:
        data = self._log.state_get("learn", asset)
        if data is None:
            return Progress()
        try:
            progress = Progress.load(data)
        except DataError as error:
            _events.error("learn.forgotten", asset=asset, error=str(error))
            return Progress()
        # A training that the last process did not finish is begun again.
        return progress


def _broken(progress: Progress) -> Event:
    """What becomes of a candidate that is not good enough."""
    return Event.DISCARDED if progress.correcting else Event.BROKEN


def _judged_by(progress: Progress) -> tuple[str, str]:
    return progress.bundle, progress.candidate
