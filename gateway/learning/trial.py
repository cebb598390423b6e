"""What the verdicts of a learned bundle say of the bundle itself: promote it, or take it back.

Pure: counts go in, an event of the learning table with its reason comes out.
"""

from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from gateway.core.assessment import Abstained
from gateway.core.texts import Phrase, as_said, english
from gateway.learning.progress import Event, Progress, Stage
from gateway.pipeline.config import LearnConfig
from models.follow import Held
from models.manifest import Manifest

COVERED = 0.95
NOT_FINITE_MAX = 10
"""Windows in a row without a number before a new bundle is taken back."""
FLAGGED_SHARE_MAX = 0.01
CHECKED_MIN = 20
PROBATION_WINDOWS = 500
PROBATION_SHARE_MAX = 0.2
DRIFT_WINDOWS = 2000
DRIFT_AT, DRIFT_OVER = 0.75, 0.6
"""Severity around which a healthy machine's score may settle before a new baseline is offered."""
CHANGED_WINDOWS = 500
"""So long above the limit, at an even height, and a machine was changed rather than is failing."""
EVEN = 0.25
"""Largest change of the mean severity from that time's first half to its second, as a share."""

Said = tuple[Event, Phrase | None]


@dataclass(slots=True)
class Seen:
    """What the windows of one asset's bundle said.

    Attributes:
        windows, flagged: Judged, and of these above the limit.
        not_finite: In a row, without a number though nothing was missing.
        level, levels: Running mean of the severities below the limit, and of how many.
        held: Why the slow change of the machine is not followed at present.
        above, above_early, above_late: Windows above the limit since it was last calm, and their
            mean severity in the first half of `CHANGED_WINDOWS` and since.
        above_ns: UTC ns of the first of them.
    """

    windows: int = 0
    flagged: int = 0
    not_finite: int = 0
    level: float = 0.0
    levels: int = 0
    held: Held = Held.NO
    above: int = 0
    above_early: float = 0.0
    above_late: float = 0.0
    above_ns: int = 0

    def take(self, severity: float, abstained: Abstained, coverage: float, t_ns: int) -> None:
        """Count one window."""
        if abstained is Abstained.NOT_FINITE:
            # Half-empty windows after an outage may have no score; no fault of the bundle.
            self.not_finite += coverage > COVERED
        if abstained is not Abstained.NO:
            return
        self.windows += 1
        self.not_finite = 0
        if severity > 1:
            self.flagged += 1
            self._take_above(severity, t_ns)
            return
        if severity < DRIFT_AT:
            self.above = 0
        self.levels += 1
        self.level += (severity - self.level) / min(self.levels, DRIFT_WINDOWS)

    def _take_above(self, severity: float, t_ns: int) -> None:
        self.above += 1
        if self.above == 1:
            self.above_ns, self.above_early, self.above_late = t_ns, 0.0, 0.0
        half = CHANGED_WINDOWS // 2
        if self.above <= half:
            self.above_early += (severity - self.above_early) / self.above
        else:
            after = min(self.above - half, half)
            self.above_late += (severity - self.above_late) / after

    @property
    def changed(self) -> bool:
        """It went above the limit at once and has run evenly there since."""
        return (
            self.above >= CHANGED_WINDOWS
            and abs(self.above_late - self.above_early) <= EVEN * self.above_early
        )

    @property
    def drifts(self) -> Phrase | None:
        """Why a new baseline is worth offering; None where it is not."""
        if self.changed:
            at = datetime.fromtimestamp(self.above_ns / 1e9, UTC)
            return Phrase("drift.changed", at=f"{at:%Y-%m-%d %H:%M}")
        if self.held is Held.FULL:
            return Phrase("drift.full")
        if self.levels >= DRIFT_WINDOWS // 4 and self.level > DRIFT_AT:
            return Phrase("drift.unlike")
        return None


def needed(learn: LearnConfig, manifest: Manifest) -> float:
    """Windows that a candidate must judge before it is believed."""
    return max(float(CHECKED_MIN), learn.shadow_s / hop_s(manifest))


def hop_s(manifest: Manifest) -> float:
    """Seconds from one window to the next."""
    return (manifest.window.period_s or 1.0) * manifest.window.hop_cells


def candidate(
    seen: Seen, manifest: Manifest, learn: LearnConfig, progress: Progress
) -> Said | tuple[None, Phrase]:
    """What becomes of a bundle in shadow; an event, or None and what it waits for."""
    if seen.not_finite >= NOT_FINITE_MAX:
        return Event.BROKEN, Phrase("trial.not_finite")
    least = needed(learn, manifest)
    if seen.windows < least:
        return None, Phrase("trial.checking", windows=seen.windows, needed=f"{least:.0f}")
    if seen.flagged > FLAGGED_SHARE_MAX * seen.windows:
        return Event.BROKEN, Phrase("trial.flags", windows=seen.windows, flagged=seen.flagged)
    limit = manifest.limit
    if limit is None or not limit.supported:
        why = unsupported(manifest)
        # More is recorded all the while; train again when there is half as much again.
        if seen.windows * hop_s(manifest) > 0.5 * learn.collect_s * progress.needed_factor:
            return Event.BROKEN, why
        return None, Phrase("trial.short", why=why)
    if not learn.promote:
        return None, Phrase("trial.waits")
    return Event.CHECKED, Phrase("trial.checked", windows=seen.windows, flagged=seen.flagged)


def unsupported(manifest: Manifest) -> Phrase:
    """Why the record behind a bundle does not support its false-alarm promise."""
    if manifest.limit is None:
        return Phrase("trial.no_limit")
    match manifest.detail.get("doubt"):
        case {"what": str(what), "values": dict(values)} if english().has(f"promise.{what}"):
            return Phrase(f"promise.{what}", **{str(k): str(v) for k, v in values.items()})
    # Of another version, which said it in its own words.
    return as_said(manifest.limit.reason)


def failing(seen: Seen, progress: Progress) -> Phrase | None:
    """Why a bundle that has taken over must be taken back; None where it need not.

    Files are numbered, so one that judges again after a roll-back is older than its predecessor: it
    is not new, and is not taken back in its turn.
    """
    if progress.bundle <= progress.previous or not progress.previous:
        return None
    if seen.not_finite >= NOT_FINITE_MAX:
        return Phrase("trial.not_finite")
    fresh = CHECKED_MIN <= seen.windows <= PROBATION_WINDOWS
    if fresh and seen.flagged > PROBATION_SHARE_MAX * seen.windows:
        return Phrase("trial.jumped")
    return None


def judging(seen: Seen, progress: Progress) -> Said | None:
    """What becomes of the bundle that judges: taken back, drifting, settled, or nothing."""
    wrong = failing(seen, progress)
    if wrong is not None:
        return Event.ROLL_BACK, wrong
    why = seen.drifts
    if progress.stage is Stage.ACTIVE and why:
        return Event.DRIFTED, why
    if progress.stage is Stage.DRIFTING and not why and settled(seen):
        return Event.SETTLED, None
    return None


def settled(seen: Seen) -> bool:
    """Whether a machine that had drifted runs as its baseline again."""
    return bool(
        seen.levels and seen.level < DRIFT_OVER and not seen.above and np.isfinite(seen.level)
    )
