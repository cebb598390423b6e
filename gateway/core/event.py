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
