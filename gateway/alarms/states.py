"""The life of an alarm as three tables that can be checked against the standards line by line.

`LIFE` is the state model of ISA-18.2, states A to F, which are the combinations of OPC UA Part 9's
Active, Acked and Latched substates. `SHELF` is Part 9's ShelvedStateMachineType. `DELAY` turns a
raw condition into "active" and "gone" by Part 9's OnDelay and OffDelay. Shelved (G), suppressed by
design (H) and out of service (I) lie over the life as a cover, as in Part 9: below it the life
goes on, but nobody is called. No clock, no I/O: functions of their arguments.
"""

from enum import Flag, StrEnum, auto
from typing import NamedTuple


class Life(StrEnum):
    """Where one alarm stands; the letter is ISA-18.2's."""

    NORMAL = "normal"  # A
    ACTIVE_UNACKED = "active_unacked"  # B
    ACTIVE_ACKED = "active_acked"  # C
    RETURNED_UNACKED = "returned_unacked"  # D
    LATCHED_UNACKED = "latched_unacked"  # E
    LATCHED_ACKED = "latched_acked"  # F


class Event(StrEnum):
    """What can happen to it. Conditions and timers first, then what people do."""

    ACTIVE = "active"
    """The condition holds, its on-delay over."""
    GONE = "gone"
    """The condition is gone, its off-delay over."""
    GONE_QUIET = "gone_quiet"
    """The same where nobody was called (covered) or no acknowledgement is asked for."""
    GONE_LATCHED = "gone_latched"
    """The same where the alarm is to stay until a person resets it."""
    WORSE = "worse"
    """Still active, and clearly worse than when it was last announced."""
    REALARM = "realarm"
    """Active and acknowledged for so long that people are called again (Part 9 ReAlarmTime)."""
    ACK = "ack"
    CONFIRM = "confirm"
    RESET = "reset"


COMMANDS = frozenset({Event.ACK, Event.CONFIRM, Event.RESET})
"""Events that a person causes; where they make no sense they are refused, not ignored."""


class Output(Flag):
    """What a step asks of the engine."""

    NONE = 0
    BEGIN = auto()
    """A new episode: count it."""
    ANNOUNCE = auto()
    """Call people."""
    RECORD = auto()
    """Write a transition to the log."""
    END = auto()
    """The episode is over."""
    REFUSE = auto()
    """A person asked for what makes no sense here."""


class Step(NamedTuple):
    """One cell of the table."""

    state: Life
    output: Output


_OUTPUT = {
    "": Output.NONE,
    "note": Output.RECORD,
    "over": Output.RECORD | Output.END,
    "call": Output.RECORD | Output.ANNOUNCE,
    "new": Output.RECORD | Output.ANNOUNCE | Output.BEGIN,
    "again": Output.RECORD | Output.ANNOUNCE | Output.BEGIN | Output.END,
    "NO": Output.REFUSE,
}

_GRID = """
      active   gone    gone_quiet  gone_latched  worse   realarm  ack     confirm  reset
A     B:new    A:      A:          A:            A:      A:       A:NO    A:NO     A:NO
B     B:       D:note  A:over      E:note        B:call  B:       C:note  B:NO     B:NO
C     C:       A:over  A:over      F:note        B:call  B:call   C:NO    C:note   C:NO
D     B:again  D:      D:          D:            D:      D:       A:over  D:NO     D:NO
E     B:again  E:      E:          E:            E:      E:       F:note  E:NO     E:NO
F     B:again  F:      F:          F:            F:      F:       F:NO    F:note   A:over
"""
"""A cell is the next state and, after the colon, what it asks of the engine (`_OUTPUT`)."""


def _read(grid: str) -> dict[tuple[Life, Event], Step]:
    head, *rows = (line.split() for line in grid.strip().splitlines())
    state = dict(zip("ABCDEF", Life, strict=True))
    table = {}
    for letter, *cells in rows:
        for event, cell in zip(head, cells, strict=True):
            after, _, output = cell.partition(":")
            table[state[letter], Event(event)] = Step(state[after], _OUTPUT[output])
    return table


LIFE = _read(_GRID)
"""(state, event) -> next state and outputs; every pair has its cell."""


class Delay(StrEnum):
    """Between the raw condition and the alarm."""

    OFF = "off"
    RISING = "rising"
    ON = "on"
    FALLING = "falling"


class Raw(StrEnum):
    """What the reporter says, and the delay's own timer."""

    HOLDS = "holds"
    GONE = "gone"
    UNKNOWN = "unknown"
    ELAPSED = "elapsed"


# A condition that cannot be known neither raises nor clears: a delay that runs is called off,
# because the condition was not seen to hold (or to be gone) all through it.
DELAY: dict[tuple[Delay, Raw], Delay] = {
    (Delay.OFF, Raw.HOLDS): Delay.RISING,
    (Delay.OFF, Raw.GONE): Delay.OFF,
    (Delay.OFF, Raw.UNKNOWN): Delay.OFF,
    (Delay.OFF, Raw.ELAPSED): Delay.OFF,
    (Delay.RISING, Raw.HOLDS): Delay.RISING,
    (Delay.RISING, Raw.GONE): Delay.OFF,
    (Delay.RISING, Raw.UNKNOWN): Delay.OFF,
    (Delay.RISING, Raw.ELAPSED): Delay.ON,
    (Delay.ON, Raw.HOLDS): Delay.ON,
    (Delay.ON, Raw.GONE): Delay.FALLING,
    (Delay.ON, Raw.UNKNOWN): Delay.ON,
    (Delay.ON, Raw.ELAPSED): Delay.ON,
    (Delay.FALLING, Raw.HOLDS): Delay.ON,
    (Delay.FALLING, Raw.GONE): Delay.FALLING,
    (Delay.FALLING, Raw.UNKNOWN): Delay.ON,
    (Delay.FALLING, Raw.ELAPSED): Delay.OFF,
}


class Shelf(StrEnum):
    """Put aside by a person: not at all, until a time, or until it has returned once."""

    UNSHELVED = "unshelved"
    TIMED = "timed"
    ONE_SHOT = "one_shot"


class ShelfEvent(StrEnum):
    """What can happen to a shelf."""

    SHELVE = "shelve"
    SHELVE_ONCE = "shelve_once"
    UNSHELVE = "unshelve"
    EXPIRED = "shelf_expired"
    RETURNED = "shelf_returned"
    """The condition below has returned to normal, which ends a one-shot shelf."""


SHELF: dict[tuple[Shelf, ShelfEvent], Shelf | None] = {
    (Shelf.UNSHELVED, ShelfEvent.SHELVE): Shelf.TIMED,
    (Shelf.UNSHELVED, ShelfEvent.SHELVE_ONCE): Shelf.ONE_SHOT,
    (Shelf.UNSHELVED, ShelfEvent.UNSHELVE): None,
    (Shelf.UNSHELVED, ShelfEvent.EXPIRED): Shelf.UNSHELVED,
    (Shelf.UNSHELVED, ShelfEvent.RETURNED): Shelf.UNSHELVED,
    (Shelf.TIMED, ShelfEvent.SHELVE): Shelf.TIMED,
    (Shelf.TIMED, ShelfEvent.SHELVE_ONCE): Shelf.ONE_SHOT,
    (Shelf.TIMED, ShelfEvent.UNSHELVE): Shelf.UNSHELVED,
    (Shelf.TIMED, ShelfEvent.EXPIRED): Shelf.UNSHELVED,
    (Shelf.TIMED, ShelfEvent.RETURNED): Shelf.TIMED,
    (Shelf.ONE_SHOT, ShelfEvent.SHELVE): Shelf.TIMED,
    (Shelf.ONE_SHOT, ShelfEvent.SHELVE_ONCE): Shelf.ONE_SHOT,
    (Shelf.ONE_SHOT, ShelfEvent.UNSHELVE): Shelf.UNSHELVED,
    (Shelf.ONE_SHOT, ShelfEvent.EXPIRED): Shelf.UNSHELVED,
    (Shelf.ONE_SHOT, ShelfEvent.RETURNED): Shelf.UNSHELVED,
}
"""(shelf, event) -> next shelf; None where a person asked for what makes no sense here.

A one-shot shelf expires too, at the longest time that the configuration allows (Part 9
MaxTimeShelved).
"""


def shown(life: Life, shelf: Shelf, *, suppressed: bool, out_of_service: bool) -> str:
    """The one word for all of it: the outermost cover, else the life."""
    if out_of_service:
        return "out_of_service"
    if suppressed:
        return "suppressed"
    return life if shelf is Shelf.UNSHELVED else "shelved"
