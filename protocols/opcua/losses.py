"""Counts and tells what an outage cost: a loss that nobody sees is the worst kind."""

from collections.abc import Sequence

from gateway.core.source import SourceContext
from protocols.opcua.intake import Intake
from protocols.opcua.items import Item
from protocols.opcua.settings import Settings

NONE_KEPT = "the server keeps no history"


def no_use(config: Settings) -> str:
    """Why the configuration itself does not let a gap be filled; "" where it does."""
    if not config.history:
        return "history = false"
    if config.timestamp == "gateway":
        return 'timestamp = "gateway", and the past has other clocks'
    return ""


class Losses:
    """Of one session: what was not filled of the outage before it."""

    def __init__(self, context: SourceContext, intake: Intake, *, away_since_ns: int) -> None:
        """`away_since_ns` is when the server was heard last, UTC ns at the gateway; 0 if never."""
        self._context = context
        self._intake = intake
        self._away_since_ns = away_since_ns
        self._counted = False

    def count(self, gaps: Sequence[tuple[Item, int]], reason: str) -> None:
        """Take in gaps that stay: each its signal, and where it ends. At rest nothing is lost."""
        resumed_ns = self._intake.columns.resumed_ns
        lost = [item for item, end_ns in gaps if end_ns > int(resumed_ns[item.handle])]
        if not lost:
            return
        began_ns, meter = self._intake.began_ns, self._context.meter
        away_s = max(0.0, (began_ns - (self._away_since_ns or began_ns)) / 1e9)
        meter.gaps_unfilled += len(lost)
        if not self._counted:
            self._counted = True
            meter.gaps_unfilled_s += away_s
        which = lost[0].name if len(lost) == 1 else f"{len(lost)} signals"
        meter.gap_text = f"gap of {_span_text(away_s)} in {which} not filled: {reason}"
        self._context.log.warning(
            "history.gap", gap_s=round(away_s, 3), signals=len(lost), text=meter.gap_text
        )


def _span_text(seconds: float) -> str:
    """A length of time as a person says it."""
    for unit_s, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * unit_s:
            return f"{seconds / unit_s:.0f} {unit}"
    return f"{seconds:.3g} s"
