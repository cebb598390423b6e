"""Turns windows into assessments, one inference call for all assets that share a bundle."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gateway.core.assessment import Abstained, Assessments, ModelKind
from gateway.pipeline.following import Following
from gateway.pipeline.forecast import FAILURE_AT, AlarmsAt, shares
from gateway.pipeline.starting import Starting
from gateway.pipeline.straying import Straying
from gateway.pipeline.unseen import Gone, Unseen
from gateway.pipeline.windows import Windows
from models.bundle import Bundle
from models.ewma import Ewma
from models.features.burst import base_of
from models.features.plan import FeaturePlan
from models.heads import open_ended
from models.majority import Majority
from models.manifest import Manifest
from models.pairs import Pair, apart
from models.runtime import Session
from models.runtime.fallback import FallbackSession
from models.sensors import SensorFault, Sensors, lonely

REASONS = tuple(Abstained)
_STANDS = [REASONS.index(Abstained.WARMING_UP), REASONS.index(Abstained.STOPPED)]
"""After these a machine starts."""


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """What one bundle said of one set of windows.

    Attributes:
        assessments: As they are recorded.
        features: float32[n, d], as measured; texts are made of it.
        sensors: uint8[n, k], `SensorFault` of each signal; None where the bundle cannot tell.
        alone: float32[n], severity of each window by itself, without what is remembered.
        unseen: For each window, the signals that were not seen in it, and not for long before.
    """

    assessments: Assessments
    features: NDArray[np.float32]
    sensors: NDArray[np.uint8] | None = None
    alone: NDArray[np.float32] | None = None
    unseen: tuple[tuple[Gone, ...], ...] = ()


class Judge:
    """One loaded bundle, for the assets that share it.

    Attributes:
        alarms_at: Where a forecast alarms.
        following: The slow change of each asset; None for a bundle in shadow, or without bounds.
        pairs: Two signals each that tell each other best; none for a bundle that knows of none.
        majority: Sensors of one quantity that outvote one that parts from them.
        unseen: What it has not seen for long.
        starting: Which of them have not settled since their start.
        straying: To which side their signals stray.
    """

    def __init__(
        self,
        bundle: Bundle,
        session: Session,
        assets: Sequence[str],
        *,
        shadow: bool | None = None,
        alarms_at: AlarmsAt | None = None,
        follow: Sequence[bool] = (),
        hop_cells: int | None = None,
    ) -> None:
        """Judge `assets` by `bundle`.

        Args:
            bundle: What judges.
            session: Where it runs.
            assets: Who is judged.
            shadow: Overrules the bundle's own state.
            alarms_at: Where a forecast alarms; where it does by default if None.
            follow: For each asset, whether its slow healthy change is followed; all by default.
            hop_cells: From one window to the next; the bundle's own by default.
        """
        manifest = bundle.manifest
        n = len(assets)
        self.alarms_at = alarms_at or AlarmsAt.of(manifest, [FAILURE_AT] * n, [None] * n)
        self.bundle = bundle
        self.shadow = manifest.state == "shadow" if shadow is None else shadow
        self.session = session
        self.assets = tuple(assets)
        self.plan = FeaturePlan.from_manifest(manifest)
        self._owned = np.array(
            [[signal in owners for owners in self.plan.owners] for signal in self.plan.signals]
        )
        held = manifest.detail.get("sensors")
        self._sensors = Sensors.unpack(held) if held else None
        # Parts of one waveform share its sensor, so they are no neighbours that tell on it.
        self._units = tuple("" if base_of(s.name) else s.unit for s in manifest.signals)
        self._explained = np.asarray(
            manifest.detail.get("explained") or [0.0] * len(self.plan.signals)
        )
        self.pairs = tuple(map(Pair.unpack, manifest.detail.get("pairs", ())))
        self.majority = Majority.unpack(manifest.detail.get("majority", ()))
        column = {name: i for i, name in enumerate(self.plan.names)}
        self._level_at = [column.get(f"{signal}:mean", -1) for signal in self.plan.signals]
        self.unseen = Unseen(self.plan, assets)
        self._ewma = Ewma.of(manifest)
        self._level = self._ewma.begin(n) if self._ewma is not None else np.empty(0)
        self._hop_cells = hop_cells or self.plan.hop_cells
        self.starting = Starting(manifest, assets, self._hop_cells)
        self.straying = Straying(manifest, assets, self._hop_cells)
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
        levels = (round(level, 4) for level in self._level.tolist())
        return dict(zip(self.assets, levels, strict=False))

    def remember(self, memory: Mapping[str, float]) -> None:
        """Go on where the last judge left off: that a gateway reloads is no news of a machine."""
        for i in range(len(self._level)):
            self._level[i] = memory.get(self.assets[i], self._level[i])

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
        abstained = _abstained(windows, coverage < coverage_min[windows.rows])
        if "score" in outputs:
            finite = np.isfinite(score) | (abstained != REASONS.index(Abstained.NO))
            abstained[~finite] = REASONS.index(Abstained.NOT_FINITE)
        silent = abstained != REASONS.index(Abstained.NO)
        score = np.where(silent, np.float32(np.nan), score).astype(np.float32)
        score = self.starting.weigh(windows.rows, score, np.isin(abstained, _STANDS))
        # A model that fails may answer anything; what is not a number has no direction.
        direction = np.sign(np.nan_to_num(_matrix(outputs, "direction", (n, k)))).astype(np.int8)
        contribution = _matrix(outputs, "contribution", (n, k)).astype(np.float32)
        alone = score
        if self._ewma is not None:
            level = self._level[windows.rows]
            score = self._ewma.next(level, score, self._hop_cells)
            self._level[windows.rows] = level
        score, contribution, direction = self.straying.weigh(
            windows.rows, outputs, alone, (score, contribution, direction)
        )
        row_s = float(manifest.detail.get("row_s") or self.plan.period_s)
        names, output = _head(manifest, outputs, row_s)
        if output is not None and silent.any():
            output = np.where(silent[:, None], np.float32(np.nan), output)
        limit = manifest.limit.value if manifest.limit is not None else np.nan
        severity = alone / np.float32(limit)
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
            contribution=contribution,
            direction=direction,
            outputs=names,
            output=output,
        )
        if faults is not None:
            above = made.severity > 1
            self._outvoted(made, followed, faults, above)
            single = lonely(made.contribution, made.direction, self._explained, self._units)
            faults[single & above[:, None] & (faults == SensorFault.NONE)] = SensorFault.LONELY
            parted = apart(made.contribution, made.direction, self.pairs)
            for pair in self.pairs:
                parted[:, pair.first] &= faults[:, pair.second] != SensorFault.OUTVOTED
            faults[parted & above[:, None] & (faults == SensorFault.NONE)] = SensorFault.APART
        if output is not None and not self.shadow:
            self._weigh_signals(made, windows.rows, features, row_s)
        return Judged(made, features, faults, severity, self.unseen.saw(windows, features, faults))

    def _outvoted(
        self,
        made: Assessments,
        features: NDArray[np.float32],
        faults: NDArray[np.uint8],
        above: NDArray[np.bool_],
    ) -> None:
        """Doubt a sensor that parts from others which go on agreeing."""
        rows = np.flatnonzero(above)
        if not len(rows) or not len(self.majority.at):
            return
        levels = features[rows][:, self._level_at].astype(np.float64)
        odd = self.majority.strays(made.contribution[rows], made.direction[rows], levels)
        faults[rows] = np.where(
            odd & (faults[rows] == SensorFault.NONE), SensorFault.OUTVOTED, faults[rows]
        )

    def _weigh_signals(
        self,
        a: Assessments,
        numbers: NDArray[np.int64],
        features: NDArray[np.float32],
        row_s: float,
    ) -> None:
        """Where a forecast alarms, ask what it would say without each signal: that gives shares."""
        level = self.alarms_at.levels(a, numbers)
        rows = np.flatnonzero(np.nan_to_num(level).max(axis=1) >= 1)
        if not len(rows):
            return
        k = len(self.plan.signals)
        x = np.repeat(features[rows], k, axis=0)
        # A feature that is missing counts as usual: the graph puts its centre there.
        x[np.tile(self._owned, (len(rows), 1))] = np.nan
        _, said = _head(self.bundle.manifest, self.session.run(x), row_s)
        assert said is not None
        a.contribution[rows] = shares(a, rows, level, said.reshape(len(rows), k, -1))


def _abstained(windows: Windows, sparse: NDArray[np.bool_]) -> NDArray[np.int8]:
    """int8[n], why the windows get no verdict whatever the model says, as places in `REASONS`.

    Codes, not the words themselves: numpy would make plain strings of them.
    """
    out = np.full(len(windows.rows), REASONS.index(Abstained.NO), dtype=np.int8)
    out[sparse] = REASONS.index(Abstained.COVERAGE)
    out[~windows.full] = REASONS.index(Abstained.WARMING_UP)
    if windows.running is not None:
        out[windows.running < 0] = REASONS.index(Abstained.UNKNOWN)
        out[windows.running == 0] = REASONS.index(Abstained.STOPPED)
    return out


def _head(
    manifest: Manifest, outputs: dict[str, NDArray[np.float32]], row_s: float
) -> tuple[tuple[str, ...], NDArray[np.float32] | None]:
    """The columns of a failure head, or of a remaining-life head in hours; none of an anomaly's."""
    if "probability" in outputs:
        value = outputs["probability"]
        return manifest.labels, value.reshape(len(value), -1)
    if "rul" in outputs:
        value = outputs["rul"]
        life = open_ended(manifest, value.reshape(len(value), -1))
        hours = life * np.float32(row_s / 3600)
        return ("hours", *manifest.labels[1:]), hours
    return (), None


def _matrix(
    outputs: dict[str, NDArray[np.float32]], name: str, shape: tuple[int, int]
) -> NDArray[np.float32]:
    return outputs[name] if name in outputs else np.zeros(shape, np.float32)
