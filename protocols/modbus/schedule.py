"""When a polling group is due and how long a silent unit is left alone; time comes as arguments."""

from dataclasses import dataclass


@dataclass(slots=True)
class Slots:
    """A grid of times that neither drifts nor piles up.

    Attributes:
        period_ns: Distance of two slots.
        next_ns: The next slot (monotonic).
        missed: Slots that passed while the last one was still being read.
    """

    period_ns: int
    next_ns: int
    missed: int = 0

    def take(self, now_ns: int) -> int:
        """Take the slot that is due; those that have passed as well are counted and left out.

        Returns:
            The slot's own time.
        """
        assert now_ns >= self.next_ns
        passed = (now_ns - self.next_ns) // self.period_ns
        slot_ns = self.next_ns + passed * self.period_ns
        self.missed += passed
        self.next_ns = slot_ns + self.period_ns
        return slot_ns


@dataclass(slots=True)
class Patience:
    """A unit that does not answer is left out for a time that doubles with each failed probe."""

    first_ns: int
    max_ns: int
    failures: int = 0
    retry_ns: int = 0

    @property
    def silent(self) -> bool:
        return self.failures > 0

    def failed(self, now_ns: int) -> None:
        """It did not answer."""
        pause_ns = min(self.first_ns << min(self.failures, 40), self.max_ns)
        self.failures += 1
        self.retry_ns = now_ns + max(pause_ns, 1)

    def answered(self) -> None:
        """It answered, be it with an exception."""
        self.failures = 0
        self.retry_ns = 0

    def resting(self, now_ns: int) -> bool:
        """True while it should not be asked."""
        return self.failures > 0 and now_ns < self.retry_ns
