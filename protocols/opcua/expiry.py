"""Says in time that a certificate is about to end: 30, 7 and 1 days ahead."""

import asyncio
from collections.abc import Mapping
from datetime import datetime

from gateway.core.alarm import Condition, Priority
from gateway.core.source import SourceContext
from gateway.core.texts import Phrase
from protocols.opcua.certificates import utc

STEPS = ((1, Priority.HIGH), (7, Priority.MEDIUM), (30, Priority.LOW))
"""Days left, and how urgent that is; the nearest first."""
LOOK_EVERY_S = 3600.0


def expiry(source_id: str, whose: str, ends: datetime, t_ns: int) -> Condition:
    """The condition of one certificate at one time.

    Args:
        source_id: Identifier of the source.
        whose: `gateway` or `server`.
        ends: When it ends.
        t_ns: UTC ns now.
    """
    days = (ends - utc(t_ns)).total_seconds() / 86_400
    step = next(((limit, priority) for limit, priority in STEPS if days <= limit), None)
    name = f"certificate.{whose}.{source_id}"
    if step is None:
        return Condition.of_gateway(name, None, active=False, t_ns=t_ns)
    limit, priority = step
    ends_in = Phrase("system.certificate_soon")
    if days >= 2:
        ends_in = Phrase("system.certificate_days", days=f"{days:.0f}")
    elif days <= 0:
        ends_in = Phrase("system.certificate_ended")
    text = Phrase(
        f"system.certificate_{whose}", source=source_id, ends=ends_in, day=f"{ends:%Y-%m-%d}"
    )
    return Condition.of_gateway(
        name, text, active=True, t_ns=t_ns, severity=30 / limit, priority=priority
    )


async def watch_expiry(
    context: SourceContext, source_id: str, ends: Mapping[str, datetime]
) -> None:
    """Report each certificate (`gateway`, `server`) now and every hour."""
    while True:
        now_ns = context.clock.wall_ns()
        for whose, end in ends.items():
            context.report(expiry(source_id, whose, end, now_ns))
        await asyncio.sleep(LOOK_EVERY_S)
