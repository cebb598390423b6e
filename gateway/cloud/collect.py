"""Makes summaries out of what an interval held. Pure but for the reading that it is handed."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from gateway.cloud.config import CloudAsset, CloudConfig
from gateway.cloud.summary import SignalSummary, Spread, Summary
from gateway.core.alarm import Transition
from gateway.core.assessment import Abstained, Assessments, ModelKind
from gateway.core.batch import BAD
from gateway.core.signals import SignalTable

Columns = tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.float64], NDArray[np.uint8]]
"""signal, t_ns, value, quality of `n` samples."""

NS = 1_000_000_000
SAMPLE_BYTES = 17
"""Of one sample as columns: time, value, quality."""
GAP_S_MAX = 60.0
"""A machine that sent nothing for longer than this is not counted as running meanwhile."""
STANDING_S_MAX = 30 * 86_400
"""An alarm that has not changed for longer than this is no longer counted as standing."""
VALUES_MAX = 2_000_000
"""Of one signal in one interval; beyond, every other value is left out of its quantiles."""


@dataclass(frozen=True, slots=True)
class Scope:
    """What may be told, under whose name, and of which assets."""

    cloud: CloudConfig
    gateway: str
    assets: frozenset[str]


class History(Protocol):
    """What is read: the log, as far as summaries need it."""

    def signals(self) -> SignalTable: ...

    def sample_blocks(self, start_ns: int, end_ns: int) -> Iterator[Columns]:
        """The samples of [start, end), block by block in the order of arrival."""
        ...

    def assessments(self, start_ns: int, end_ns: int) -> Iterator[Assessments]: ...

    def transitions(self, start_ns: int, end_ns: int) -> Iterator[Transition]: ...


@dataclass(slots=True)
class _Gathered:
    """What one asset's interval held so far."""

    samples: int = 0
    bad: int = 0
    values: dict[str, list[NDArray[np.float64]]] = field(default_factory=dict)
    times: dict[str, list[NDArray[np.int64]]] = field(default_factory=dict)
    bad_of: dict[str, int] = field(default_factory=dict)


def summarise(history: History, scope: Scope, start_s: int) -> list[Summary]:
    """The summaries of one interval, for each asset of which anything was recorded in it."""
    width_s = scope.cloud.interval_s
    start_ns, end_ns = start_s * NS, (start_s + width_s) * NS
    wanted = {asset: CloudAsset(id=asset) for asset in sorted(scope.assets)}
    wanted |= {asset.id: asset for asset in scope.cloud.asset if asset.id in wanted}
    gathered = _gather(history, wanted, start_ns, end_ns)
    verdicts = _verdicts(history, wanted, start_ns, end_ns)
    alarms = _alarms(history, start_ns, end_ns)
    return [
        _summary(scope.gateway, asset, start_s, width_s, gathered, verdicts, alarms)
        for asset in wanted.values()
        if gathered[asset.id].samples or asset.id in verdicts
    ]


def _gather(
    history: History, wanted: Mapping[str, CloudAsset], start_ns: int, end_ns: int
) -> dict[str, _Gathered]:
    table = history.signals().signals()
    out = {asset: _Gathered() for asset in wanted}
    needed = {
        i: signal
        for i, signal in enumerate(table)
        if signal.asset in wanted
        and signal.name
        in {*wanted[signal.asset].export, wanted[signal.asset].energy, wanted[signal.asset].run}
    }
    counts = np.zeros(len(table), np.int64)
    bad = np.zeros(len(table), np.int64)
    for index, t_ns, value, quality in history.sample_blocks(start_ns, end_ns):
        counts += np.bincount(index, minlength=len(table))[: len(table)]
        bad += np.bincount(index[quality == BAD], minlength=len(table))[: len(table)]
        for i, signal in needed.items():
            mine = (index == i) & (quality != BAD)
            if mine.any():
                gathered = out[signal.asset]
                gathered.values.setdefault(signal.name, []).append(value[mine])
                gathered.times.setdefault(signal.name, []).append(t_ns[mine])
    for i, signal in enumerate(table):
        if signal.asset in out:
            out[signal.asset].samples += int(counts[i])
            out[signal.asset].bad += int(bad[i])
            out[signal.asset].bad_of[signal.name] = int(bad[i])
    return out


@dataclass(slots=True)
class _Verdicts:
    bundle: str = ""
    abstained: int = 0
    score: list[float] = field(default_factory=list)
    severity: list[float] = field(default_factory=list)
    coverage: list[float] = field(default_factory=list)


def _verdicts(
    history: History, wanted: Mapping[str, CloudAsset], start_ns: int, end_ns: int
) -> dict[str, _Verdicts]:
    out: dict[str, _Verdicts] = {}
    for cycle in history.assessments(start_ns, end_ns):
        if cycle.kind is not ModelKind.ANOMALY:
            continue
        severity = cycle.severity
        for row, asset in enumerate(cycle.assets):
            if asset not in wanted or not start_ns <= int(cycle.t_ns[row]) < end_ns:
                continue
            verdicts = out.setdefault(asset, _Verdicts())
            verdicts.bundle = cycle.bundle
            if cycle.abstained[row] is Abstained.STOPPED:
                continue  # By design: neither a verdict nor one that is lacking.
            verdicts.coverage.append(float(cycle.coverage[row]))
            if cycle.abstained[row] is not Abstained.NO:
                verdicts.abstained += 1
                continue
            verdicts.score.append(float(cycle.score[row]))
            verdicts.severity.append(float(severity[row]))
    return out


@dataclass(slots=True)
class _Alarms:
    raised: int = 0
    last: dict[str, str] = field(default_factory=dict)


def _alarms(history: History, start_ns: int, end_ns: int) -> dict[str, _Alarms]:
    """Alarms by asset: what was raised in the interval, and the state of each at its end."""
    out: dict[str, _Alarms] = {}
    for transition in history.transitions(start_ns - STANDING_S_MAX * NS, end_ns):
        alarms = out.setdefault(transition.asset, _Alarms())
        before = alarms.last.get(transition.alarm, "")
        if transition.state.startswith("active") and not before.startswith("active"):
            alarms.raised += start_ns <= transition.active_since_ns
        alarms.last[transition.alarm] = transition.state
    return out


def _summary(
    gateway: str,
    asset: CloudAsset,
    start_s: int,
    width_s: int,
    all_gathered: Mapping[str, _Gathered],
    all_verdicts: Mapping[str, _Verdicts],
    all_alarms: Mapping[str, _Alarms],
) -> Summary:
    gathered = all_gathered[asset.id]
    verdicts = all_verdicts.get(asset.id, _Verdicts())
    alarms = all_alarms.get(asset.id, _Alarms())
    states = alarms.last.values()
    return Summary(
        gateway=gateway,
        asset=asset.id,
        start_s=start_s,
        width_s=width_s,
        bundle=verdicts.bundle[:100],
        samples=gathered.samples,
        bad=gathered.bad,
        stayed_bytes=gathered.samples * SAMPLE_BYTES,
        coverage=float(np.mean(verdicts.coverage)) if verdicts.coverage else None,
        run_s=_run_s(gathered, asset),
        energy_kwh=_energy_kwh(gathered, asset),
        assessments=len(verdicts.score) + verdicts.abstained,
        abstained=verdicts.abstained,
        score=Spread.of(np.array(verdicts.score)),
        severity=Spread.of(np.array(verdicts.severity)),
        raised=alarms.raised,
        active=sum(state.startswith("active") for state in states),
        unacknowledged=sum("unack" in state for state in states),
        signals=tuple(
            SignalSummary(
                name,
                gathered.bad_of.get(name, 0),
                Spread.of(_thinned(gathered.values.get(name, []))),
            )
            for name in asset.export
        ),
    )


def _thinned(parts: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    values = np.concatenate(parts) if parts else np.empty(0)
    return values[:: 1 + len(values) // VALUES_MAX]


def _ordered(
    gathered: _Gathered, name: str | None
) -> tuple[NDArray[np.int64], NDArray[np.float64]] | None:
    if name is None or name not in gathered.values:
        return None
    t_ns = np.concatenate(gathered.times[name])
    order = np.argsort(t_ns, kind="stable")
    return t_ns[order], np.concatenate(gathered.values[name])[order]


def _run_s(gathered: _Gathered, asset: CloudAsset) -> float | None:
    columns = _ordered(gathered, asset.run)
    if columns is None or len(columns[0]) < 2:
        return None
    t_ns, value = columns
    step_s = np.minimum(np.diff(t_ns) / NS, GAP_S_MAX)
    return float(step_s[value[:-1] > asset.run_above].sum())


def _energy_kwh(gathered: _Gathered, asset: CloudAsset) -> float | None:
    columns = _ordered(gathered, asset.energy)
    if columns is None or len(columns[0]) < 2:
        return None
    # A meter that starts again at 0 counts from there.
    steps = np.diff(columns[1])
    return float(steps[steps > 0].sum())
