"""Who said what of the events of a machine, and who took it back; nothing is ever struck out."""

import json
from collections.abc import Sequence
from dataclasses import astuple, dataclass, field, replace

from gateway.core.event import Entry, Event

ENTRIES_MAX = 256
"""Kept of each log of a machine, those that were told last."""


@dataclass(slots=True, eq=False)
class Ledger:
    """The entries of one log of one machine, in the order in which they were made."""

    entries: list[Entry] = field(default_factory=list)

    def tell(self, events: Sequence[Event], by: str, at_ns: int) -> None:
        """Somebody says that these happened."""
        made = (Entry(e.asset, e.log, e.code, e.t_ns, by, at_ns) for e in events)
        self.entries = [*self.entries, *made][-ENTRIES_MAX:]

    def take_back(self, event: Event, by: str, at_ns: int) -> None:
        """Somebody says that it did not; what a signal had said is entered now."""
        entry = self.standing().get(event) or Entry(event.asset, event.log, event.code, event.t_ns)
        gone = replace(entry, taken_back_by=by, taken_back_ns=at_ns)
        rest = [each for each in self.entries if each.taken_back_ns or each.event != event]
        self.entries = [*rest, gone][-ENTRIES_MAX:]

    def standing(self) -> dict[Event, Entry]:
        """What somebody said and nobody took back; what a signal said is not in it."""
        return {each.event: each for each in self.entries if not each.taken_back_ns}

    def pack(self) -> bytes:
        return json.dumps([astuple(each) for each in self.entries], ensure_ascii=False).encode()

    def unpack(self, data: bytes) -> None:
        """Take up what `pack` gave.

        Raises:
            ValueError, TypeError: The bytes are not that.
        """
        self.entries = [Entry(*each) for each in json.loads(data)]
