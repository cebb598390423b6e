"""What an operator must know of the log, as conditions. Pure."""

from collections.abc import Iterator
from pathlib import Path

from gateway.core.alarm import Cause, Condition, Priority
from gateway.store.pending import Pending
from gateway.store.writer import State


def conditions(state: State, pending: Pending, directory: Path, t_ns: int) -> Iterator[Condition]:
    """Every condition of the log, active or not."""

    def system(
        alarm: str, text: str, *, active: bool, priority: Priority, latched: bool = False
    ) -> Condition:
        return Condition(
            asset="",
            alarm=alarm,
            cause=Cause.SYSTEM,
            active=active,
            t_ns=t_ns,
            priority=priority,
            text=text,
            on_delay_s=0,
            off_delay_s=0,
            latched=latched,
        )

    yield system(
        "log.held",
        f"The log cannot be written ({state.held}); data is held in memory. Free or repair the "
        f"disk of {directory}."
        if state.held
        else "The log is written again.",
        active=bool(state.held),
        priority=Priority.HIGH,
    )
    yield system(
        "log.dropping",
        "Memory is full while the log cannot be written: the oldest raw samples are being dropped.",
        active=bool(state.held) and pending.overflowing,
        priority=Priority.HIGH,
    )
    yield system(
        "log.near_full",
        "The log is nearly full of data that a reader (InfluxDB, cloud) has not had; its oldest "
        "will be dropped. Bring the reader back, or raise the bounds in [store].",
        active=state.room.near_full,
        priority=Priority.MEDIUM,
    )
    yield system(
        "log.full",
        "The log holds nothing but alarms and summaries and is full: the oldest of them will be "
        "dropped. Raise store.gb_max, or free the disk.",
        active=state.room.only_precious,
        priority=Priority.HIGH,
    )
    yield system(
        "log.damaged",
        f"The log was damaged and set aside ({state.damaged}). The disk may be failing: check it.",
        active=bool(state.damaged),
        priority=Priority.HIGH,
        latched=True,
    )
