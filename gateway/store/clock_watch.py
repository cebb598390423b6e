"""Notices that the wall clock was set, or never was, and says so. Nothing waits for it."""

from collections.abc import Callable
from typing import Never

from gateway.core.alarm import Condition, Priority
from gateway.core.clock import Clock, sleep_until
from gateway.core.texts import Phrase

CHECK_NS = 2_000_000_000
STEP_NS_MIN = 1_000_000_000
"""A clock that is steered runs some ten parts in a million off; a step is more than that."""
SETTLED_NS = 900 * 1_000_000_000
"""Without another step for so long, the condition is over."""
NEVER_SET_NS = 1_735_689_600 * 1_000_000_000
"""2025-01-01: a clock before this program was written has not been set since the box started."""


async def watch_clock(clock: Clock, report: Callable[[Condition], None]) -> Never:
    """Compare the wall clock with the monotonic one until cancelled."""
    offset_ns = clock.wall_ns() - clock.mono_ns()
    stepped_at_ns: int | None = None
    unset = False
    while True:
        wall_ns, mono_ns = clock.wall_ns(), clock.mono_ns()
        step_ns = wall_ns - mono_ns - offset_ns
        offset_ns += step_ns
        if abs(step_ns) >= STEP_NS_MIN:
            stepped_at_ns = mono_ns
            report(_stepped(wall_ns, step_ns, active=True))
        elif stepped_at_ns is not None and mono_ns - stepped_at_ns >= SETTLED_NS:
            stepped_at_ns = None
            report(_stepped(wall_ns, 0, active=False))
        if (wall_ns < NEVER_SET_NS) != unset:
            unset = not unset
            report(_unset(wall_ns, active=unset))
        await sleep_until(clock, mono_ns + CHECK_NS)


def _stepped(t_ns: int, step_ns: int, *, active: bool) -> Condition:
    text = Phrase("system.clock_stepped", step_s=f"{step_ns / 1e9:+.0f}")
    return Condition.of_gateway("clock.stepped", text, active=active, t_ns=t_ns, on_delay_s=0)


def _unset(t_ns: int, *, active: bool) -> Condition:
    text = Phrase("system.clock_unset")
    priority = Priority.HIGH if active else Priority.MEDIUM
    return Condition.of_gateway(
        "clock.unset", text, active=active, t_ns=t_ns, priority=priority, on_delay_s=0
    )
