"""Which sequence numbers a reader still has to read, when it may read the newest first. Pure."""

import json
from bisect import bisect_right
from collections.abc import Iterable, Iterator

from gateway.core.errors import DataError

SPANS_MAX = 256
OPEN_END = 1 << 62
"""Stands for "and everything that is still to come"."""


class Spans:
    """What is undone, as half-open ranges in order; the last one has no end.

    A reader in order has one range. One that takes live data first leaves ranges behind it.
    """

    def __init__(self, undone: Iterable[tuple[int, int]] = ((1, OPEN_END),)) -> None:
        self._undone = sorted(undone)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter(self._undone)

    def __len__(self) -> int:
        return len(self._undone)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Spans) and self._undone == other._undone

    def __hash__(self) -> int:
        return hash(tuple(self._undone))

    @property
    def first(self) -> int:
        """The oldest sequence number that is undone."""
        return self._undone[0][0]

    @property
    def oldest(self) -> tuple[int, int]:
        """The oldest undone range."""
        return self._undone[0]

    @property
    def live(self) -> int:
        """Where the newest range begins, the one that has no end."""
        return self._undone[-1][0]

    def undone(self, head: int) -> int:
        """How many numbers below `head` are undone."""
        return self.within(0, head)

    def within(self, start: int, end: int) -> int:
        """How many numbers of [start, end) are undone."""
        return sum(max(0, min(high, end) - max(low, start)) for low, high in self._undone)

    def done(self, start: int, end: int) -> None:
        """Mark [start, end) as read."""
        assert start <= end < OPEN_END
        at = max(0, bisect_right(self._undone, (start, 0)) - 1)
        kept = self._undone[:at]
        for low, high in self._undone[at:]:
            if low < min(high, start):
                kept.append((low, min(high, start)))
            if max(low, end) < high:
                kept.append((max(low, end), high))
        self._undone = kept

    def skip_to(self, head: int) -> bool:
        """Begin the live range at `head`, leaving what lies before it as a range of its own.

        Returns False, and changes nothing, where there are too many ranges already.
        """
        start, end = self._undone[-1]
        if head <= start or len(self._undone) >= SPANS_MAX:
            return False
        self._undone[-1:] = [(start, head), (head, end)]
        return True

    def to_json(self) -> str:
        return json.dumps(self._undone, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> "Spans":
        """Raises DataError."""
        try:
            undone = [(int(start), int(end)) for start, end in json.loads(text)]
        except (ValueError, TypeError) as error:
            raise DataError(f"cursor: its ranges cannot be read ({error})") from error
        if not undone or undone[-1][1] != OPEN_END:
            raise DataError("cursor: its last range must have no end")
        return cls(undone)
