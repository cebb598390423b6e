"""What every source counts, under the same names, whatever it speaks."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum


class LinkState(StrEnum):
    """Where a source's link stands."""

    CONNECTING = "connecting"
    UP = "up"
    DOWN = "down"
    REFUSED = "refused"


@dataclass(slots=True)
class SourceMeter:
    """Counters of one source since the process started. Only ever added to, by one task.

    The supervisor counts `connects`, `link_errors`, `samples`, `samples_bad`, `last_sample_ns` and
    `state`; the adapter counts the rest.
    """

    source: str
    protocol: str
    state: LinkState = LinkState.CONNECTING
    state_text: str = ""
    connects: int = 0
    link_errors: int = 0
    requests: int = 0
    samples: int = 0
    samples_bad: int = 0
    samples_history: int = 0
    samples_lost: int = 0
    """Samples that the peer or a queue between us says were dropped (overflow bits, gaps)."""
    gaps_unfilled: int = 0
    """Gaps that an outage left in a signal and that nobody can fill, one for each signal."""
    gaps_unfilled_s: float = 0.0
    """How long these outages were together, s; however many signals one of them hit."""
    gap_text: str = ""
    """The last of them in words, with its reason; "" where there was none."""
    errors: Counter[str] = field(default_factory=Counter)
    """Errors by kind: `timeout`, `exception_2`, `checksum`, `clock`, `BadNodeIdUnknown`…"""
    quarantined: dict[str, str] = field(default_factory=dict)
    """`asset/signal` -> why it is not being read at present."""
    latency_s: float = float("nan")
    """Smoothed time from request to answer (1/8 weight); NaN for sources that are not asked."""
    latency_s_max: float = float("nan")
    last_sample_ns: int = 0
    """UTC ns at the gateway when the last sample arrived; 0 before the first."""

    def miss(self, signals: Sequence[str], away_s: float, reason: str) -> str:
        """Take in that an outage of `away_s` left a gap in these signals; give it in words.

        An outage that is told in parts is given its length once, and 0 after.
        """
        self.gaps_unfilled += len(signals)
        self.gaps_unfilled_s += away_s
        which = signals[0] if len(signals) == 1 else f"{len(signals)} signals"
        length = f" of {_span_text(away_s)}" if away_s else ""
        self.gap_text = f"gap{length} in {which} not filled: {reason}"
        return self.gap_text

    def observe_latency(self, seconds: float) -> None:
        """Take one request's time into the smoothed and the greatest latency."""
        if self.latency_s != self.latency_s:  # NaN: the first one.
            self.latency_s = self.latency_s_max = seconds
            return
        self.latency_s += (seconds - self.latency_s) / 8
        self.latency_s_max = max(self.latency_s_max, seconds)


def _span_text(seconds: float) -> str:
    """A length of time as a person says it."""
    for unit_s, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * unit_s:
            return f"{seconds / unit_s:.0f} {unit}"
    return f"{seconds:.3g} s"
