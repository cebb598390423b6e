"""What an operator must know of the log, as conditions. Pure."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from gateway.core.alarm import Condition, Priority
from gateway.core.texts import Phrase
from gateway.store.pending import Pending
from gateway.store.writer import State


def conditions(state: State, pending: Pending, directory: Path, t_ns: int) -> Iterator[Condition]:
    """Every condition of the log, active or not."""

    system = partial(Condition.of_gateway, t_ns=t_ns, on_delay_s=0, off_delay_s=0)
    yield system(
        "log.held",
        Phrase("system.log_held", fault=str(state.held), folder=str(directory)),
        active=bool(state.held),
        priority=Priority.HIGH,
    )
    yield system(
        "log.dropping",
        Phrase("system.log_dropping"),
        active=bool(state.held) and pending.overflowing,
        priority=Priority.HIGH,
    )
    yield system(
        "log.near_full",
        Phrase("system.log_near_full"),
        active=state.room.near_full,
        priority=Priority.MEDIUM,
    )
    yield system(
        "log.full",
        Phrase("system.log_full"),
        active=state.room.only_precious,
        priority=Priority.HIGH,
    )
    yield system(
        "log.damaged",
        Phrase("system.log_damaged", file=str(state.damaged)),
        active=bool(state.damaged),
        priority=Priority.HIGH,
        latched=True,
    )
