"""How each machine and each model stands now: in one word, with its reasons."""

import math
from collections.abc import Sequence

from gateway.alarms.config import LimitConfig
from gateway.alarms.limits import LEVELS
from gateway.alarms.states import Life
from gateway.console.views import (
    AssetDetail,
    AssetState,
    AssetView,
    BundleView,
    ContextView,
    SignalView,
    UnseenView,
)
from gateway.core.alarm import AlarmView, Driver
from gateway.core.assessment import Abstained, Context, ModelKind
from gateway.core.texts import Phrase, Texts
from gateway.latest import Verdict
from gateway.learning.progress import Progress
from gateway.learning.trial import unsupported
from gateway.pipeline.fleet import Post
from gateway.pipeline.unseen import Gone
from gateway.settings import Asset
from gateway.view.lessons import lesson
from gateway.view.running import Running

STALE_NS = 60 * 1_000_000_000
"""An asset whose newest sample is older than this is shown without data."""
_UNACKED = (Life.ACTIVE_UNACKED, Life.LATCHED_UNACKED, Life.LATCHED_ACKED)


def tile(gateway: Running, asset: str, alarms: Sequence[AlarmView], area: str) -> AssetView:
    """One machine in a few words; `alarms` are its own, most urgent first."""
    config = gateway.parts.assets.get(asset)
    verdict = _judged_by(gateway, asset)
    events = gateway.flow.stages.events
    # What is made of events goes on while a machine is silent.
    own = (n for n, s in gateway.parts.signals_of(asset) if not events.makes(asset, s.name))
    last_ns = max((gateway.flow.latest.t_of(number) for number in own), default=0)
    # What people or the design put aside is counted, and calls nobody here either.
    calling = [alarm for alarm in alarms if alarm.state == alarm.life]
    learning, learning_text = _learning(gateway, asset)
    abstained = verdict.abstained if verdict is not None else Abstained.NO
    texts = gateway.config.settings.console.texts
    why = verdict.drivers if verdict is not None else ()
    drivers = tuple(Driver(c.signal, c.share, texts.say(c.text)) for c in why)
    # What is made of events is told when something happens, and not missing until then.
    gone = () if verdict is None else verdict.unseen
    unseen = _unseen([g for g in gone if not events.makes(asset, g.signal)], texts)
    state = _state(gateway, config, verdict, calling, last_ns, partial=bool(unseen))
    return AssetView(
        id=asset,
        asset_class=config.asset_class if config else "",
        state=state,
        severity=verdict.severity if verdict is not None else math.nan,
        priority=calling[0].priority if calling else None,
        area=area,
        cause=calling[0].text if calling else "",
        abstained="" if abstained == Abstained.NO else abstained.name.lower(),
        drivers=drivers,
        since_ns=_since_ns(state, calling, unseen),
        last_sample_ns=last_ns,
        coverage=verdict.coverage if verdict is not None else math.nan,
        unseen=unseen,
        learning=learning,
        learning_text=texts.say(learning_text) if learning_text is not None else "",
        bundle=verdict.bundle if verdict is not None else "",
        shadow=verdict.shadow if verdict is not None else False,
        alarms=len(calling),
        put_aside=len(alarms) - len(calling),
        trend=tuple(verdict.trend) if verdict is not None else (),
    )


def detail(gateway: Running, asset: str, view: AssetView) -> AssetDetail:
    """One machine as its own page shows it."""
    failures: dict[str, float] = {}
    rul = None
    for verdict in gateway.flow.latest.verdicts.get(asset, {}).values():
        if verdict.kind is ModelKind.FAILURE:
            failures |= verdict.output
        elif verdict.kind is ModelKind.RUL and verdict.output:
            hours = verdict.output
            rul = (hours["hours"], hours.get("low", math.nan), hours.get("high", math.nan))
    latest = gateway.flow.latest
    config = gateway.parts.assets.get(asset)
    limits = {each.signal: _levels(each) for each in config.limits} if config else {}
    signals = tuple(
        SignalView(signal.name, signal.unit, *latest.of(number), limits.get(signal.name, ()))
        for number, signal in gateway.parts.signals_of(asset)
    )
    progress = gateway.learning.progress(asset)
    texts = gateway.config.settings.console.texts
    taught = None if progress is None else lesson(asset, progress, texts)
    judged = _judged_by(gateway, asset)
    context = None if judged is None else _worded(judged.context(), texts)
    return AssetDetail(view, signals, failures, rul, taught, context)


def _levels(limit: LimitConfig) -> tuple[tuple[str, float], ...]:
    return tuple((level, at) for level in LEVELS if (at := getattr(limit, level)) is not None)


def _worded(context: Context, texts: Texts) -> ContextView:
    return ContextView(
        condition=texts.say(context.condition) if context.condition else "",
        similar=texts.say(context.similar) if context.similar else "",
        followed=tuple(map(texts.say, context.followed)),
        held=texts.say(context.held) if context.held else "",
        fixed=tuple(map(texts.say, context.fixed)),
    )


def _judged_by(gateway: Running, asset: str) -> Verdict | None:
    """What the asset is judged by: the bundle that may alarm before one that only watches."""
    verdicts = gateway.flow.latest.verdicts.get(asset, {}).values()
    anomalies = (v for v in verdicts if v.kind is ModelKind.ANOMALY)
    return min(anomalies, key=lambda v: v.shadow, default=None)


def _state(
    gateway: Running,
    config: Asset | None,
    verdict: Verdict | None,
    calling: Sequence[AlarmView],
    last_ns: int,
    *,
    partial: bool,
) -> AssetState:
    if any(alarm.life in _UNACKED for alarm in calling):
        return AssetState.ALARM
    if any(alarm.life == Life.ACTIVE_ACKED for alarm in calling):
        return AssetState.ACKED
    if gateway.clock.wall_ns() - last_ns > STALE_NS:
        return AssetState.NO_DATA
    if config is not None and gateway.flow.stages.running.stands(config.id):
        return AssetState.STOPPED
    if verdict is not None and verdict.abstained == Abstained.COVERAGE:
        return AssetState.NO_DATA
    judged = config is not None and (config.bundle is not None or config.learn is not None)
    if judged and (verdict is None or verdict.shadow or verdict.abstained != Abstained.NO):
        return AssetState.LEARNING
    return AssetState.PARTIAL if partial else AssetState.OK


def _since_ns(state: AssetState, calling: Sequence[AlarmView], unseen: Sequence[UnseenView]) -> int:
    if state is AssetState.PARTIAL:
        return min(each.since_ns for each in unseen)
    return min((a.active_since_ns for a in calling if a.active_since_ns), default=0)


def _unseen(gone: Sequence[Gone], texts: Texts) -> tuple[UnseenView, ...]:
    return tuple(
        UnseenView(g.signal, g.since_ns, g.why, texts.say(Phrase(f"unseen.{g.why}"))) for g in gone
    )


def model(post: Post, progress: Sequence[Progress], texts: Texts) -> BundleView:
    """One bundle at its post; `progress` is of the assets that it judges and that learn here."""
    name = post.judge.bundle.path.name if post.judge.bundle.path is not None else ""
    candidate = any(name and p.candidate == name for p in progress)
    manifest = post.judge.bundle.manifest
    limit = manifest.limit
    parity = manifest.parity
    changed = parity.get("decisions_changed_worst", parity.get("decisions_changed"))
    return BundleView(
        id=manifest.id,
        kind=manifest.kind,
        asset_class=manifest.asset_class,
        state="candidate" if candidate else manifest.state,
        state_text="" if limit is None or limit.supported else texts.say(unsupported(manifest)),
        assets=post.judge.assets,
        trained_ns=round(manifest.created.timestamp() * 1e9),
        parity=float(changed) if isinstance(changed, int | float) else math.nan,
        promise=limit.false_alarms if limit is not None else "",
        promise_kept=limit is not None and limit.supported,
        signed=post.judge.bundle.signer is not None,
    )


def _learning(gateway: Running, asset: str) -> tuple[float, Phrase | None]:
    """How far the learning of a machine is, 0 to 1, and what is missing."""
    progress = gateway.learning.progress(asset)
    if progress is None:
        return 1.0, None
    return 1.0 if progress.bundle else progress.share, progress.said()
