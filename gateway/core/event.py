"""What happens to a machine, by a code of one of its event logs: an error, a repair."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Event:
    """One event.

    Attributes:
        asset: Whose.
        log: Of which log, by its id.
        code: What happened.
        t_ns: UTC ns, when.
    """

    asset: str
    log: str
    code: str
    t_ns: int


@dataclass(frozen=True, slots=True)
class Entry:
    """One event, who said that it happened, and who took that back.

    Attributes:
        asset, log, code, t_ns: The event.
        told_by, told_ns: Who said so and UTC ns, when; "" and 0 where a signal did.
        taken_back_by, taken_back_ns: Likewise, that it did not happen; "" and 0 while it counts.
    """

    asset: str
    log: str
    code: str
    t_ns: int
    told_by: str = ""
    told_ns: int = 0
    taken_back_by: str = ""
    taken_back_ns: int = 0

    @property
    def event(self) -> Event:
        """What happened, whoever says so."""
        return Event(self.asset, self.log, self.code, self.t_ns)


@dataclass(frozen=True, slots=True)
class EventLog:
    """One event log of one machine.

    Attributes:
        asset, log: Which.
        codes: What may happen.
        since_ns: UTC ns from which on nothing is missing; None while nobody has watched yet.
        whole: All that ever happened was told.
    """

    asset: str
    log: str
    codes: tuple[str, ...]
    since_ns: int | None
    whole: bool
