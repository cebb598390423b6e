"""Every error the gateway raises on purpose, and who acts on it.

    GatewayError
      ConfigError     the operator edits the file; raised before start (or before a reload is taken)
      LinkError       the peer is not there; the supervisor reconnects
        LinkTimeout     it was too slow
        LinkLost        it was there and went away
        LinkRefused     it is there and turned us away (certificate, password); retried slowly
      PeerError       the peer answered "no" to one thing; that signal goes BAD, the link stays up
      DataError       bytes or a file that we cannot read; dropped and counted
      StoreError      the disk or its file fails; data is held in memory and an alarm is raised
      Refused         a person asked for what makes no sense now; told why, nothing changes
                      (in `refusal.py`: it is worded in the console's language)

Models know nothing of the gateway; their errors are in `models/errors.py`.
Anything else that escapes a task is a bug: it ends the process, and the process is restarted.
Messages name path, rule, value and next step.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

NAMED = 3
"""Of faults that are alike, besides the first."""

_NUMBER = re.compile(r"\[\d+\]")


class GatewayError(Exception):
    """Base of every error raised on purpose."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong with a configuration: where, and what the rule was."""

    path: str
    message: str
    file: str = ""
    line: int = 0

    def __str__(self) -> str:
        where = (
            f" ({self.file}:{self.line})" if self.line else f" ({self.file})" if self.file else ""
        )
        return f"{self.path}: {self.message}{where}" if self.path else f"{self.message}{where}"


def folded(faults: Sequence[Fault]) -> list[str]:
    """A line for each fault; those that differ in nothing but their number share one."""
    alike: dict[tuple[str, str, str], list[Fault]] = {}
    for fault in faults:
        key = (_NUMBER.sub("[]", fault.path), fault.message, fault.file)
        alike.setdefault(key, []).append(fault)
    return [_together(*group) for group in alike.values()]


def _together(first: Fault, *rest: Fault) -> str:
    if not rest:
        return str(first)
    named = [f"{f.path} (line {f.line})" if f.line else f.path for f in rest[:NAMED]]
    more = ", …" if len(rest) > NAMED else ""
    return f"{first}; {len(rest):,} more alike: {', '.join(named)}{more}"


class ConfigError(GatewayError):
    """The configuration cannot be run; the operator must change it. Carries every fault at once."""

    def __init__(self, faults: str | Sequence[Fault]) -> None:
        self.faults = (Fault("", faults),) if isinstance(faults, str) else tuple(faults)
        super().__init__("\n".join(folded(self.faults)))


class LinkError(GatewayError):
    """The peer cannot be reached; trying again later may help."""


class LinkTimeout(LinkError):
    """The peer did not answer in time."""


class LinkLost(LinkError):
    """An established link ended."""


class LinkRefused(LinkError):
    """The peer is there and turned us away; a person must act on one of the two ends."""


class PeerError(GatewayError):
    """The peer understood us and refused one thing."""

    def __init__(self, message: str, *, code: int) -> None:
        super().__init__(message)
        self.code = code


class DataError(GatewayError):
    """Bytes or a file that the format does not allow."""


class StoreError(GatewayError):
    """The disk, or the file on it, does not take or give what it should."""
