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
        began_ns = self._intake.began_ns
        away_s = max(0.0, (began_ns - (self._away_since_ns or began_ns)) / 1e9)
        text = self._context.meter.miss(
            [item.name for item in lost], 0.0 if self._counted else away_s, reason
        )
        self._counted = True
        self._context.log.warning(
            "history.gap", gap_s=round(away_s, 3), signals=len(lost), text=text
        )
