"""Turns windows into assessments, one inference call for all assets that share a bundle."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gateway.core.alarm import Cause, Condition, Contribution, Priority
from gateway.core.assessment import Abstained, Assessments, Context, ModelKind
from gateway.core.texts import Phrase
from gateway.pipeline import forecast, wording
from gateway.pipeline.following import Following
from gateway.pipeline.past import Past, signature
from gateway.pipeline.windows import Windows
from models.bundle import Bundle
from models.ewma import Ewma
from models.explain import drivers, healthy_of
from models.features.plan import FeaturePlan
from models.manifest import Manifest
from models.operating import Operating
from models.runtime import Session
from models.runtime.fallback import FallbackSession
from models.sensors import SensorFault, Sensors, lonely

SEVERITY_HIGH = 3.0
"""An anomaly so far past its limit calls for action now."""
SEVERITY_TOLD = 0.5
"""Below this an anomaly is over for good, and silence about the asset means that it is well."""
REASONS = tuple(Abstained)
SHARE_MIN = 0.1
DRIVERS_MAX = 3
DOUBTED = 255
"""An earlier judge doubted a sensor; why, only its alarm knows."""
RETOLD_FACTOR = 1.1
"""An anomaly is put into words anew when its severity moved so far, or another signal leads."""


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """What one bundle said of one set of windows.

    Attributes:
        assessments: As they are recorded.
        features: float32[n, d], as measured; texts are made of it.
        sensors: uint8[n, k], `SensorFault` of each signal; None where the bundle cannot tell.
        alone: float32[n], severity of each window by itself; None where nothing is remembered.
    """

    assessments: Assessments
    features: NDArray[np.float32]
    sensors: NDArray[np.uint8] | None = None
    alone: NDArray[np.float32] | None = None


@dataclass(frozen=True, slots=True)
class _Worded:
    """How an anomaly was last put into words, and what it was then.

    Attributes:
        lead: Number of the signal that contributed most, and its direction.
    """

    lead: tuple[int, int]
    severity: float
    text: Phrase
    drivers: tuple[Contribution, ...]


class Judge:
    """One loaded bundle, for the assets that share it.

    Attributes:
        following: The slow change of each asset; None for a bundle in shadow, or without bounds.
        past: What earlier alarms looked like; the flow gives all judges the same.
    """

    def __init__(
        self,
        bundle: Bundle,
        session: Session,
        assets: Sequence[str],
        *,
        shadow: bool | None = None,
        failure_at: Sequence[float] = (),
        life_h: Sequence[float | None] = (),
        follow: Sequence[bool] = (),
        hop_cells: int | None = None,
    ) -> None:
        """Judge `assets` by `bundle`.

        Args:
            bundle: What judges.
            session: Where it runs.
            assets: Who is judged.
            shadow: Overrules the bundle's own state.
            failure_at: For each asset, the probability at which a failure mode alarms.
            life_h: For each asset, the remaining hours at which it alarms; None for the default.
            follow: For each asset, whether its slow healthy change is followed; all by default.
            hop_cells: From one window to the next; the bundle's own by default.
        """
        manifest = bundle.manifest
        n = len(assets)
        self._at = np.array(failure_at or [forecast.FAILURE_AT] * n, dtype=np.float64)
        self._life_h = np.array([forecast.life_of(h, manifest) for h in life_h or [None] * n])
        self._horizon_s = dict(manifest.detail.get("horizon_s") or {})
        self.bundle = bundle
        self.shadow = manifest.state == "shadow" if shadow is None else shadow
        self.session = session
        self.assets = tuple(assets)
        self.plan = FeaturePlan.from_manifest(manifest)
        self._healthy = healthy_of(manifest.detail)
        self._operating = Operating.of(manifest)
        self.past = Past()
        self._owned = np.array(
            [[signal in owners for owners in self.plan.owners] for signal in self.plan.signals]
        )
        columns = len(manifest.labels) if manifest.kind == "failure" else 1
        self._told = np.full((n, columns), np.inf)
        self._worded: dict[int, _Worded] = {}
        held = manifest.detail.get("sensors")
        self._sensors = Sensors.unpack(held) if held else None
        self._units = tuple(signal.unit for signal in manifest.signals)
        self._explained = np.asarray(
            manifest.detail.get("explained") or [0.0] * len(self.plan.signals)
        )
        self._faulty = np.zeros((len(assets), len(self.plan.signals)), dtype=np.uint8)
        self._ewma = Ewma.of(manifest)
        self._level = self._ewma.begin(n) if self._ewma is not None else np.empty(0)
        self._hop_cells = hop_cells or self.plan.hop_cells
        self.following = None if self.shadow else Following.of(manifest, assets, follow)

    @property
    def kind(self) -> ModelKind:
        """What the model answers."""
        return ModelKind(self.bundle.manifest.kind)

    @property
    def device_fault(self) -> str:
        """Why its device is not used and the CPU goes on; "" where all is well."""
        return self.session.fault if isinstance(self.session, FallbackSession) else ""

    def memory(self) -> dict[str, float]:
        """How strange each machine has been; for the next judge by the same bundle."""
        return dict(zip(self.assets, self._level.tolist(), strict=False))

    def remember(self, memory: Mapping[str, float]) -> None:
        """Go on where the last judge left off: that a gateway reloads is no news of a machine."""
        for i in range(len(self._level)):
            self._level[i] = memory.get(self.assets[i], self._level[i])

    def recall(self, standing: Collection[tuple[str, str]]) -> None:
        """Know of sensors that an earlier judge doubted, so that their alarms can end.

        Args:
            standing: (asset, alarm) of the alarms that stand.
        """
        for i, asset in enumerate(self.assets):
            for k, signal in enumerate(self.plan.signals):
                if (asset, f"{signal}.sensor") in standing:
                    self._faulty[i, k] = DOUBTED

    def judge(self, windows: Windows, coverage_min: NDArray[np.float64]) -> Judged:
        """Assess windows.

        Args:
            windows: As the builder cut them; `rows` index this judge's assets.
            coverage_min: float64[a], below which an asset's window gets no verdict.

        Raises:
            DeviceError: The device failed, and the CPU behind it.
        """
        manifest = self.bundle.manifest
        value, faults = windows.value, None
        if self._sensors is not None:
            value, faults = self._sensors.masked(value)
        features = self.plan.compute(value, windows.fresh)
        followed = features
        if self.following is not None:
            followed = self.following.corrected(windows.rows, features)
        outputs = self.session.run(followed)
        n, k = len(windows.rows), len(self.plan.signals)
        coverage = windows.coverage.mean(axis=1).astype(np.float32)
        score = outputs["score"] if "score" in outputs else np.full(n, np.nan, np.float32)
        # Codes, not the words themselves: numpy would make plain strings of them.
        abstained = np.full(n, REASONS.index(Abstained.NO), dtype=np.int8)
        if "score" in outputs:
            abstained[~np.isfinite(score)] = REASONS.index(Abstained.NOT_FINITE)
        abstained[coverage < coverage_min[windows.rows]] = REASONS.index(Abstained.COVERAGE)
        abstained[~windows.full] = REASONS.index(Abstained.WARMING_UP)
        if windows.running is not None:
            abstained[windows.running < 0] = REASONS.index(Abstained.UNKNOWN)
            abstained[windows.running == 0] = REASONS.index(Abstained.STOPPED)
        silent = abstained != REASONS.index(Abstained.NO)
        score = np.where(silent, np.float32(np.nan), score).astype(np.float32)
        severity = None
        if self._ewma is not None:
            severity = score / np.float32(self._ewma.most)
            level = self._level[windows.rows]
            score = self._ewma.next(level, score, self._hop_cells)
            self._level[windows.rows] = level
        row_s = float(manifest.detail.get("row_s") or self.plan.period_s)
        names, output = _head(manifest, outputs, row_s)
        if output is not None and silent.any():
            output = np.where(silent[:, None], np.float32(np.nan), output)
        limit = manifest.limit.value if manifest.limit is not None else np.nan
        made = Assessments(
            kind=self.kind,
            bundle=self.bundle.id,
            shadow=self.shadow,
            assets=tuple(self.assets[row] for row in windows.rows.tolist()),
            t_ns=windows.end_ns,
            score=score,
            limit=np.full(n, limit, dtype=np.float32),
            coverage=coverage,
            abstained=tuple(REASONS[code] for code in abstained.tolist()),
            signals=self.plan.signals,
            contribution=_matrix(outputs, "contribution", (n, k)).astype(np.float32),
            # A model that fails may answer anything; what is not a number has no direction.
            direction=np.sign(np.nan_to_num(_matrix(outputs, "direction", (n, k)))).astype(np.int8),
            outputs=names,
            output=output,
        )
        if faults is not None:
            above = made.severity > 1
            alone = lonely(made.contribution, made.direction, self._explained, self._units)
            faults[alone & above[:, None] & (faults == SensorFault.NONE)] = SensorFault.LONELY
        if output is not None and not self.shadow:
            self._weigh_signals(made, windows.rows, features, row_s)
        return Judged(made, features, faults, severity)

    def _weigh_signals(
        self,
        a: Assessments,
        numbers: NDArray[np.int64],
        features: NDArray[np.float32],
        row_s: float,
    ) -> None:
        """Where a forecast alarms, ask what it would say without each signal: that gives shares."""
        level = forecast.levels(a, self._at[numbers], self._life_h[numbers])
        rows = np.flatnonzero(np.nan_to_num(level).max(axis=1) >= 1)
        if not len(rows):
            return
        k = len(self.plan.signals)
        x = np.repeat(features[rows], k, axis=0)
        # A feature that is missing counts as usual: the graph puts its centre there.
        x[np.tile(self._owned, (len(rows), 1))] = np.nan
        _, said = _head(self.bundle.manifest, self.session.run(x), row_s)
        assert said is not None
        a.contribution[rows] = forecast.shares(a, rows, level, said.reshape(len(rows), k, -1))

    def conditions(self, windows: Windows, judged: Judged) -> list[Condition]:
        """What the alarms must know of these assessments.

        A bundle in shadow alarms nobody. An abstention is neither alarm nor all-clear.
        """
        a = judged.assessments
        doubts = self._doubts(windows, judged)
        if a.shadow:
            return doubts
        level = (
            a.severity[:, None].astype(np.float64)
            if a.kind is ModelKind.ANOMALY
            else forecast.levels(a, self._at[windows.rows], self._life_h[windows.rows])
        )
        known = np.array([reason is Abstained.NO for reason in a.abstained], dtype=bool)
        level = np.where(known[:, None] & np.isfinite(level), level, -1.0)
        before = self._told[windows.rows]
        # Who never passed the limit is not mentioned below it; who did, until it is calm again.
        called = (level >= 1) | (before > SEVERITY_TOLD)
        worth = called | (np.sign(level) != np.sign(before))
        self._told[windows.rows] = np.where(called, level, np.minimum(level, SEVERITY_TOLD))
        return doubts + [
            self._condition(judged, row, column, int(windows.rows[row]), float(level[row, column]))
            for row, column in np.argwhere(worth).tolist()
        ]

    def _doubts(self, windows: Windows, judged: Judged) -> list[Condition]:
        """Sensors that cannot be believed, and those that can again; a shadow may say so too."""
        if judged.sensors is None:
            return []
        a = judged.assessments
        seen = judged.sensors * (windows.full & (a.coverage > 0))[:, None]
        before = self._faulty[windows.rows]
        if windows.running is not None:
            # What a machine's signals do while it stands says nothing of its sensors.
            seen = np.where(windows.running[:, None] == 1, seen, before).astype(np.uint8)
        self._faulty[windows.rows] = seen
        return [
            Condition(
                asset=a.assets[row],
                alarm=f"{a.signals[column]}.sensor",
                cause=Cause.DATA_QUALITY,
                active=bool(seen[row, column]),
                t_ns=int(a.t_ns[row]),
                priority=Priority.LOW,
                text=wording.sensor(a.assets[row], a.signals[column], SensorFault(fault))
                if (fault := int(seen[row, column] or before[row, column])) != DOUBTED
                else None,
            )
            for row, column in np.argwhere(((seen > 0) | (before > 0)) & (seen != DOUBTED)).tolist()
        ]

    def _condition(
        self, judged: Judged, row: int, column: int, number: int, severity: float
    ) -> Condition:
        a = judged.assessments
        if a.kind is not ModelKind.ANOMALY:
            life_h = float(self._life_h[number])
            level = severity if severity >= 0 else None
            why = self.drivers(judged, row) if severity >= 1 else ()
            return forecast.condition(a, row, column, level, life_h, self._horizon_s, why)
        asset, t_ns = a.assets[row], int(a.t_ns[row])
        if severity < 0:
            return Condition(asset, "anomaly", Cause.ANOMALY, None, t_ns, severity=0.0)
        text, why = self._words(judged, row, number, severity)
        return Condition(
            asset=asset,
            alarm="anomaly",
            cause=Cause.ANOMALY,
            active=severity > 1,
            t_ns=t_ns,
            severity=severity,
            priority=Priority.HIGH if severity >= SEVERITY_HIGH else Priority.MEDIUM,
            text=text,
            drivers=why,
        )

    def _words(
        self, judged: Judged, row: int, number: int, severity: float
    ) -> tuple[Phrase | None, tuple[Contribution, ...]]:
        """Text and drivers of an anomaly; the last ones again where little has changed."""
        a = judged.assessments
        leader = int(a.contribution[row].argmax())
        lead = (leader, int(a.direction[row, leader]))
        said = self._worded.get(number)
        if (
            said is not None
            and said.lead == lead
            and (said.severity > 1) == (severity > 1)
            and said.severity / RETOLD_FACTOR < severity < said.severity * RETOLD_FACTOR
        ):
            return said.text, said.drivers
        if severity <= 1:
            # Nobody is told of it yet; what was said of an alarm that ends stands until it is calm.
            if severity <= SEVERITY_TOLD:
                self._worded.pop(number, None)
            return (said.text, said.drivers) if said is not None else (None, ())
        why = self.drivers(judged, row)
        where = self._operating.words(judged.features[row])
        similar = self._similar(judged, row)
        text = wording.anomaly(a.assets[row], where, why, similar)
        self._worded[number] = _Worded(lead, severity, text, why)
        return text, why

    def context(self, judged: Judged, row: int) -> Context:
        """What surrounds the verdict on one window, in words."""
        asset = judged.assessments.assets[row]
        where = self._operating.words(judged.features[row])
        rarity = self._operating.rarity(judged.features[row])
        followed: tuple[Phrase, ...] = ()
        held = None
        if self.following is not None:
            followed, why_not = self.following.followed(asset), self.following.held(asset)
            held = Phrase(f"held.{why_not.name.lower()}") if why_not else None
        strange = float(judged.assessments.severity[row]) > SEVERITY_TOLD
        similar = self._similar(judged, row) if strange else None
        return Context(wording.condition(where, rarity), similar, followed, held)

    def _similar(self, judged: Judged, row: int) -> Phrase | None:
        a = judged.assessments
        look = signature(a.signals, a.contribution[row], a.direction[row])
        return self.past.like(a.assets[row], look)

    def drivers(self, judged: Judged, row: int) -> tuple[Contribution, ...]:
        """What drives the score of one window, strongest first."""
        a = judged.assessments
        share = a.contribution[row]
        order = [int(i) for i in np.argsort(-share, kind="stable")[:DRIVERS_MAX] if share[i] > 0]
        named = [i for i in order if share[i] >= SHARE_MIN] or order[:1]
        driven = drivers(
            share, a.direction[row], a.signals, judged.features[row], self._healthy, top=DRIVERS_MAX
        )
        return tuple(
            Contribution(a.signals[i], float(share[i]), wording.driver(each))
            for i, each in zip(named, driven, strict=False)
        )


def _head(
    manifest: Manifest, outputs: dict[str, NDArray[np.float32]], row_s: float
) -> tuple[tuple[str, ...], NDArray[np.float32] | None]:
    """The columns of a failure head, or of a remaining-life head in hours; none of an anomaly's."""
    if "probability" in outputs:
        value = outputs["probability"]
        return manifest.labels, value.reshape(len(value), -1)
    if "rul" in outputs:
        value = outputs["rul"]
        hours = value.reshape(len(value), -1) * np.float32(row_s / 3600)
        return ("hours", *manifest.labels[1:]), hours
    return (), None


def _matrix(
    outputs: dict[str, NDArray[np.float32]], name: str, shape: tuple[int, int]
) -> NDArray[np.float32]:
    return outputs[name] if name in outputs else np.zeros(shape, np.float32)
