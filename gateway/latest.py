"""The last values and verdicts of a gateway, for whoever shows them."""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from gateway.core.alarm import Contribution
from gateway.core.assessment import Abstained, Context, ModelKind
from gateway.core.batch import Batch, Quality
from gateway.pipeline.assess import Judged
from gateway.pipeline.findings import SEVERITY_TOLD
from gateway.pipeline.fleet import Post
from gateway.pipeline.unseen import Gone

TREND_LENGTH = 60
"""Severities remembered of each asset, for a spark line."""


@dataclass(slots=True)
class Verdict:
    """The last that one bundle said of one asset.

    Attributes:
        kind, bundle, shadow: Who said it.
        severity: score / limit; NaN where abstained, or for kinds without a score.
        coverage: Share of usable samples, 0 to 1.
        abstained: Why there is no verdict.
        unseen: Signals that it has not seen for long.
        why: Finds what drives it; called when somebody asks.
        context: Finds what surrounds it, likewise.
        output: Failure mode -> probability, or hours, low and high.
        trend: The last severities, oldest first.
    """

    kind: ModelKind
    bundle: str
    shadow: bool
    severity: float = float("nan")
    coverage: float = float("nan")
    abstained: Abstained = Abstained.NO
    unseen: tuple[Gone, ...] = ()
    why: Callable[[], tuple[Contribution, ...]] = tuple
    context: Callable[[], Context] = Context
    output: dict[str, float] = field(default_factory=dict)
    trend: deque[float] = field(default_factory=lambda: deque(maxlen=TREND_LENGTH))

    @property
    def drivers(self) -> tuple[Contribution, ...]:
        """What drives it, where it is worth a word."""
        return self.why() if self.severity > SEVERITY_TOLD else ()


class Latest:
    """The last values and verdicts, for whoever shows them.

    Attributes:
        verdicts: Asset -> bundle -> verdict.
    """

    def __init__(self) -> None:
        self.verdicts: dict[str, dict[str, Verdict]] = {}
        self._value = np.empty(0)
        self._t_ns = np.empty(0, np.int64)
        self._quality = np.empty(0, np.uint8)

    def take(self, batch: Batch, signals: int) -> None:
        """Remember the newest sample of each signal, of a table of `signals`."""
        if len(self._value) < signals:
            more = signals - len(self._value)
            self._value = np.append(self._value, np.full(more, np.nan))
            self._t_ns = np.append(self._t_ns, np.zeros(more, np.int64))
            self._quality = np.append(self._quality, np.full(more, Quality.BAD, np.uint8))
        if not batch.history:
            self._value[batch.signal] = batch.value
            self._t_ns[batch.signal] = batch.t_ns
            self._quality[batch.signal] = batch.quality

    def of(self, signal: int) -> tuple[float, int, int]:
        """Value, UTC ns and quality; NaN, 0 and BAD before the first sample."""
        if signal >= len(self._value):
            return (float("nan"), 0, int(Quality.BAD))
        return (float(self._value[signal]), self.t_of(signal), int(self._quality[signal]))

    def t_of(self, signal: int) -> int:
        """UTC ns of the newest sample; 0 before the first."""
        return int(self._t_ns[signal]) if signal < len(self._t_ns) else 0

    def judge(self, post: Post, judged: Judged) -> None:
        """Remember what a bundle said."""
        a = judged.assessments
        severity = a.severity.tolist()
        for row, asset in enumerate(a.assets):
            verdicts = self.verdicts.setdefault(asset, {})
            verdict = verdicts.get(a.bundle)
            if verdict is None:
                verdict = verdicts[a.bundle] = Verdict(a.kind, a.bundle, a.shadow)
            verdict.severity = severity[row]
            verdict.coverage = float(a.coverage[row])
            verdict.abstained = a.abstained[row]
            verdict.unseen = judged.unseen[row] if judged.unseen else ()
            verdict.trend.append(severity[row])
            verdict.why = partial(post.findings.drivers, judged, row)
            verdict.context = partial(post.findings.context, judged, row)
            if a.output is not None:
                verdict.output = dict(zip(a.outputs, a.output[row].tolist(), strict=True))

    def forget(self, posts: Sequence[Post]) -> None:
        """Drop the verdicts of bundles that judge no more."""
        judging = {(asset, p.judge.bundle.id) for p in posts for asset in p.judge.assets}
        for asset, verdicts in self.verdicts.items():
            for bundle in [b for b in verdicts if (asset, b) not in judging]:
                del verdicts[bundle]
