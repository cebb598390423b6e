"""What is known of one unit of a link, and what of it outlives a change of the configuration."""

from dataclasses import dataclass, replace

from protocols.modbus.link import silence_ns
from protocols.modbus.schedule import Patience
from protocols.modbus.settings import Settings, Tuning


@dataclass(slots=True)
class Unit:
    """One unit as the session sees it."""

    tuning: Tuning
    patience: Patience
    silence_ns: int
    """Silence on the wire that it wants before a request."""
    heard: bool = False
    why: str = ""
    """Why it counts as silent."""
    doubt: bool = False
    """A request was given up whose reply, should it still come, could be taken for the next one's:
    a framing without ids tells them apart by length only. The next request is sent after a decoy
    of another length was answered, because a device answers in the order in which it was asked."""
    decoys: int = 0


def make_unit(
    config: Settings, number: int, poll_s: float, before: Unit | None, *, doubt: bool
) -> Unit:
    """A unit as it is configured, with what was known of it before.

    Args:
        config: Of the source.
        number: Its unit id.
        poll_s: The shortest interval at which anything of it is polled.
        before: What was known; None for one that is new.
        doubt: Whether the replies of a new one are in doubt.
    """
    tuning = config.tuning(number)
    first_s = min(max(poll_s, tuning.timeout_s), config.unit_retry_s_max)
    patience = Patience(round(first_s * 1e9), round(config.unit_retry_s_max * 1e9))
    silence = silence_ns(config, number)
    if before is None:
        return Unit(tuning, patience, silence, doubt=doubt)
    patience.failures, patience.retry_ns = before.patience.failures, before.patience.retry_ns
    return replace(before, tuning=tuning, patience=patience, silence_ns=silence)
