"""Offers a new baseline where a machine is healthy and runs otherwise than it was learned."""

from collections.abc import Callable

from gateway.core.alarm import Cause, Condition, Priority
from gateway.core.clock import Clock
from gateway.core.texts import Phrase


class Offers:
    """The offers that stand, as conditions for the alarms."""

    def __init__(self, report: Callable[[Condition], None], clock: Clock) -> None:
        self._report = report
        self._clock = clock
        self._untaught: set[str] = set()

    def learned(self, asset: str, why: Phrase | None, *, stands: bool) -> None:
        """Offer it for a bundle that was learned here, or take that back."""
        self._report(
            Condition(
                asset=asset,
                alarm="model.drift",
                cause=Cause.DATA_QUALITY,
                active=stands,
                t_ns=self._clock.wall_ns(),
                priority=Priority.LOW,
                text=Phrase("drift.offer", asset=asset, why=why) if why else None,
            )
        )

    def untaught(self, asset: str, *, stands: bool) -> None:
        """The same where the bundle was not learned here: it has to be trained anew."""
        if stands != (asset in self._untaught):
            (self._untaught.add if stands else self._untaught.discard)(asset)
            self.learned(asset, Phrase("drift.full"), stands=stands)
