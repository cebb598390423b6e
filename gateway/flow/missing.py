"""Tells which signals of judged machines do not come although their source is up."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime

from gateway.alarms.engine import Engine
from gateway.core.alarm import Cause, Condition, Priority
from gateway.core.assessment import Abstained
from gateway.core.clock import Clock
from gateway.core.signals import SignalTable
from gateway.core.texts import Phrase
from gateway.latest import Verdict
from gateway.pipeline.fleet import Post
from gateway.pipeline.unseen import MISSING, Gone
from gateway.stages import Stages
from models.features.burst import base_of

NOT_LOOKED = (Abstained.WARMING_UP, Abstained.STOPPED, Abstained.UNKNOWN)
"""What is not judged is not missed either."""
ENDS = ".missing"
"""How these alarms are called: `vibration.missing`, `source.hall.missing`."""


class Missing:
    """What was told of each machine.

    A source that is down has its own alarm, so what it brings is told only if it has been up for
    longer than a window; nothing of a machine from a source that is up is one alarm, not many.
    """

    def __init__(self, engine: Engine, clock: Clock) -> None:
        """Begin with nothing; the alarms of `engine` say which links are down."""
        self._engine = engine
        self._clock = clock
        self._began_ns: int | None = None
        self._told: dict[str, set[str]] = {}
        self._source_of: dict[tuple[str, str], str] = {}
        self._derived: set[tuple[str, str]] = set()
        self._configured: dict[tuple[str, str], set[str]] = {}
        self._brings: Counter[tuple[str, str]] = Counter()
        self._span_ns: dict[str, int] = {}
        self._down_ns: dict[str, int] = {}

    def station(self, posts: Sequence[Post], stages: Stages, table: SignalTable) -> list[Condition]:
        """Go by what these judges look at; ends what was told of machines that none judges."""
        self._derived = {(s.asset, s.name) for s in stages.derive.sources}
        self._source_of = {
            (table[number].asset, table[number].name): source
            for number, source in stages.source_of.items()
        }
        self._configured, self._span_ns = {}, {}
        for post in posts:
            span_ns = post.watch.period_ns * post.watch.cells
            for asset in post.judge.assets:
                self._span_ns[asset] = max(span_ns, self._span_ns.get(asset, 0))
                for name in post.judge.plan.signals:
                    self._watch(asset, name)
        watched = {(asset, name) for (asset, _), own in self._configured.items() for name in own}
        self._brings = Counter((key[0], self._source_of[key]) for key in watched - self._derived)
        return [
            self._condition(asset, alarm, None, active=False)
            for asset in self._told.keys() - self._span_ns.keys()
            for alarm in self._told.pop(asset)
        ]

    def _watch(self, asset: str, name: str) -> None:
        """A signal that a model sees is a source's own, or describes a waveform of one."""
        base = base_of(name)
        own, called = (name, (name, base)) if (asset, name) in self._source_of else (base, (base,))
        if (asset, own) in self._source_of:
            for each in called:
                self._configured.setdefault((asset, each), set()).add(own)

    def recall(self, standing: Collection[tuple[str, str]]) -> None:
        """Know what was told before a restart, so that it can end."""
        for asset, alarm in standing:
            if asset and alarm.endswith(ENDS):
                self._told.setdefault(asset, set()).add(alarm)

    def conditions(
        self, assets: Iterable[str], verdicts: Mapping[str, Mapping[str, Verdict]]
    ) -> list[Condition]:
        """What stands and what is over, by the last that all judges of these machines said."""
        out: list[Condition] = []
        if self._began_ns is None:
            # Before, sources had not connected yet.
            self._began_ns = self._clock.mono_ns()
        for asset in assets:
            own = verdicts.get(asset, {}).values()
            if asset not in self._told and not any(v.unseen for v in own):
                continue
            looked = [v for v in own if v.abstained not in NOT_LOOKED]
            if not looked:
                continue
            said = self._said(asset, [gone for verdict in looked for gone in verdict.unseen])
            told = self._told.pop(asset, set())
            for alarm in {*said, *told}:
                up = self._up_for_long(asset, self._source(asset, alarm))
                active = alarm in said if up else None
                if active or alarm in told:
                    out.append(self._condition(asset, alarm, said.get(alarm), active=active))
                    if active is not False:
                        self._told.setdefault(asset, set()).add(alarm)
        return out

    def _said(self, asset: str, gone: Iterable[Gone]) -> dict[str, Phrase]:
        """What of a machine is missing, by the alarm that says so."""
        since_ns: dict[str, int] = {}
        for each in gone:
            if each.why == MISSING:
                for name in self._configured.get((asset, each.signal), ()):
                    since_ns[name] = min(each.since_ns, since_ns.get(name, each.since_ns))
        direct = {name for name in since_ns if (asset, name) not in self._derived}
        said: dict[str, Phrase] = {}
        # What is derived is missing because its inputs are.
        by_source: dict[str, list[str]] = {}
        for name in sorted(direct or since_ns):
            by_source.setdefault(self._source_of[asset, name], []).append(name)
        for source, names in by_source.items():
            at = {
                name: f"{datetime.fromtimestamp(since_ns[name] / 1e9, UTC):%Y-%m-%d %H:%M}"
                for name in names
            }
            if 1 < len(names) == self._brings[asset, source]:
                said[f"source.{source}{ENDS}"] = Phrase(
                    "sensor.all_missing", asset=asset, source=source, at=max(at.values())
                )
                continue
            for name in names:
                said[f"{name}{ENDS}"] = Phrase(
                    "sensor.missing", signal=name, asset=asset, source=source, at=at[name]
                )
        return said

    def _source(self, asset: str, alarm: str) -> str:
        """The source that an alarm is about; "" for one that is configured no more."""
        name = alarm.removesuffix(ENDS)
        return self._source_of.get((asset, name), name.removeprefix("source."))

    def _up_for_long(self, asset: str, source: str) -> bool:
        """Whether a window of the machine has passed since its source was last seen down."""
        now_ns = self._clock.mono_ns()
        if self._engine.stands("", f"link.{source}"):
            self._down_ns[source] = now_ns
        down_ns = self._down_ns.get(source, self._began_ns or 0)
        return now_ns - down_ns > self._span_ns.get(asset, 0)

    def _condition(
        self, asset: str, alarm: str, text: Phrase | None, *, active: bool | None
    ) -> Condition:
        return Condition(
            asset,
            alarm,
            Cause.DATA_QUALITY,
            active,
            self._clock.wall_ns(),
            priority=Priority.LOW,
            text=text,
        )
