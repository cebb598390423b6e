"""One event log of one machine: when each code happened, from when on that is all, who says so."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from gateway.core.event import Event
from gateway.pipeline.ledger import Ledger

KEPT_MAX = 256
"""Events kept of each code of a machine, the newest; a window hardly holds more."""
ALWAYS_NS = -(1 << 61)
"""Since when a history that was given whole is known."""
UNTOLD_NS = 1 << 62
"""Where nobody has watched yet."""
WORD_MAX = 2.0**53
"""What is larger has no lowest bit in a double."""


@dataclass(slots=True, eq=False)
class Kept:
    """One event log of one machine.

    Attributes:
        at_ns: Code -> int64, when it happened, ascending.
        since_ns: From when on nothing is missing.
        value: Signal that says codes -> its last value.
        ledger: Who said so.
    """

    at_ns: dict[str, NDArray[np.int64]] = field(default_factory=dict)
    since_ns: int = UNTOLD_NS
    value: dict[str, float] = field(default_factory=dict)
    ledger: Ledger = field(default_factory=Ledger)

    def add(self, code: str, t_ns: NDArray[np.int64]) -> int:
        """Take events; those that are known count once. How many were new."""
        before = self.at_ns[code]
        after = np.union1d(before, t_ns)
        self.at_ns[code] = after[-KEPT_MAX:]
        return len(after) - len(before)

    def near(self, event: Event) -> NDArray[np.bool_]:
        """Which of a code's times people call by this one, to the microsecond."""
        micros: NDArray[np.int64] = self.at_ns[event.code] // 1000
        return np.equal(micros, event.t_ns // 1000)

    def pack(self) -> bytes:
        counts = {code: len(at) for code, at in self.at_ns.items()}
        head = json.dumps([self.since_ns, self.value, counts], ensure_ascii=False)
        times = np.concatenate(list(self.at_ns.values())).astype("<i8")
        return head.encode() + b"\n" + times.tobytes()

    def unpack(self, data: bytes) -> None:
        """Take up what `pack` gave; of codes that are no longer configured nothing is.

        Raises:
            ValueError, TypeError: The bytes are not that.
        """
        head, _, body = data.partition(b"\n")
        since_ns, value, counts = json.loads(head)
        times = np.frombuffer(body, "<i8").astype(np.int64)
        ends = np.cumsum(list(dict(counts).values()))
        parts = np.split(times, ends)
        if len(times) != ends[-1]:
            raise ValueError("must hold as many times as it says")
        for code, at in zip(counts, parts[:-1], strict=True):
            if code in self.at_ns:
                self.at_ns[code] = at
        # A code that was not known when the rest was told has been missing until now.
        self.since_ns = since_ns if self.at_ns.keys() <= counts.keys() else UNTOLD_NS
        self.value = {str(signal): float(last) for signal, last in dict(value).items()}


@dataclass(frozen=True, slots=True)
class Teller:
    """A signal of a machine whose values, or their bits, say codes of a log."""

    asset: str
    log: str
    signal: str
    codes: Mapping[float, str]
    bits: bool

    def says(self, key: float, value: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Whether the code of this key stands in each value."""
        if not self.bits:
            return np.equal(value, key)
        word = np.where(np.abs(value) < WORD_MAX, value, 0).astype(np.int64)
        return (word >> int(key) & 1).astype(bool)
