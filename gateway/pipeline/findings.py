"""What a judge's verdicts mean to an operator: the conditions for the alarms, and why."""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from gateway.core.alarm import Cause, Condition, Contribution, Priority
from gateway.core.assessment import Abstained, Context, ModelKind
from gateway.core.texts import Phrase
from gateway.pipeline import forecast, wording
from gateway.pipeline.assess import Judge, Judged
from gateway.pipeline.doubts import Doubts
from gateway.pipeline.fixed import Fixed
from gateway.pipeline.past import Past, signature
from gateway.pipeline.windows import Windows
from models.explain import healthy_of
from models.operating import Operating

SEVERITY_HIGH = 3.0
"""An anomaly so far past its limit calls for action now."""
SEVERITY_TOLD = 0.5
"""Below this an anomaly is over for good, and silence about the asset means that it is well."""
RETOLD_FACTOR = 1.1
"""An anomaly is put into words anew when its severity moved so far, or another signal leads."""


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


class Findings:
    """What was last told of each asset that one judge judges.

    Attributes:
        past: What earlier alarms looked like; the flow gives all findings the same.
        fixed: What never changed while the model learned; the flow says what is seen of it.
    """

    def __init__(self, judge: Judge, fixed: Fixed | None = None) -> None:
        manifest = judge.bundle.manifest
        self.past = Past()
        self.fixed = fixed or Fixed()
        self._alarms_at = judge.alarms_at
        self._following = judge.following
        self._healthy = healthy_of(manifest.detail)
        self._operating = Operating.of(manifest)
        self._horizon_s = dict(manifest.detail.get("horizon_s") or {})
        columns = len(manifest.labels) if manifest.kind == "failure" else 1
        self._told = np.full((len(judge.assets), columns), np.inf)
        self._worded: dict[int, _Worded] = {}
        self._doubts = Doubts(judge)

    def recall(self, standing: Collection[tuple[str, str]]) -> None:
        """Know what earlier judges told; see `Doubts.recall`."""
        self._doubts.recall(standing)

    def conditions(self, windows: Windows, judged: Judged) -> list[Condition]:
        """What the alarms must know of these assessments.

        A bundle in shadow alarms nobody. An abstention is neither alarm nor all-clear.
        """
        a = judged.assessments
        doubts = self._doubts.conditions(windows, judged)
        if a.shadow:
            return doubts
        level = (
            a.severity[:, None].astype(np.float64)
            if a.kind is ModelKind.ANOMALY
            else self._alarms_at.levels(a, windows.rows)
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

    def _condition(
        self, judged: Judged, row: int, column: int, number: int, severity: float
    ) -> Condition:
        a = judged.assessments
        if a.kind is not ModelKind.ANOMALY:
            life_h = float(self._alarms_at.life_h[number])
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
        text = wording.anomaly(a.assets[row], where, why, similar, self.fixed.told(a.assets[row]))
        self._worded[number] = _Worded(lead, severity, text, why)
        return text, why

    def context(self, judged: Judged, row: int) -> Context:
        """What surrounds the verdict on one window, in words."""
        asset = judged.assessments.assets[row]
        where = self._operating.words(judged.features[row])
        rarity = self._operating.rarity(judged.features[row])
        followed: tuple[Phrase, ...] = ()
        held = None
        if self._following is not None:
            followed, why_not = self._following.followed(asset), self._following.held(asset)
            held = Phrase(f"held.{why_not.name.lower()}") if why_not else None
        strange = float(judged.assessments.severity[row]) > SEVERITY_TOLD
        similar = self._similar(judged, row) if strange else None
        told = tuple(self.fixed.told(asset))
        return Context(wording.condition(where, rarity), similar, followed, held, told)

    def _similar(self, judged: Judged, row: int) -> Phrase | None:
        a = judged.assessments
        look = signature(a.signals, a.contribution[row], a.direction[row])
        return self.past.like(a.assets[row], look)

    def drivers(self, judged: Judged, row: int) -> tuple[Contribution, ...]:
        """What drives the score of one window, strongest first."""
        a = judged.assessments
        return wording.drivers(
            a.contribution[row], a.direction[row], a.signals, judged.features[row], self._healthy
        )
