"""Remembers what earlier anomalies looked like, and what was said of them, to name the like."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from gateway.core.alarm import Cause, Transition
from gateway.core.assessment import Assessments
from gateway.core.texts import Phrase

EPISODES_MAX = 64
"""Of one machine; beyond, the oldest that nobody judged goes, else the oldest."""
ALIKE = 0.9
"""Cosine between two signatures from which they are called alike."""
NOTE_MAX = 80

Signature = Mapping[str, float]
"""`signal` with its way (`+`, `-`, `~`) -> share of the score; shares below 5 % are left out."""
SHARE_MIN = 0.05
WAYS = {1: "+", -1: "-", 0: "~"}


def signature(
    signals: Sequence[str], share: NDArray[np.float32], direction: NDArray[np.int8]
) -> Signature:
    """What one window looks like: who carries the score, and which way."""
    at = np.flatnonzero(np.nan_to_num(share) >= SHARE_MIN).tolist()
    return {signals[i] + WAYS[int(direction[i])]: float(share[i]) for i in at}


@dataclass(slots=True)
class _Machine:
    """The episodes of one machine: `n` of them, by `k` ways that any signal ever went.

    Attributes:
        ways: The `k` names.
        look: float32[n, k], the signature of each at its worst.
        occurrence, t_ns: Of the alarm.
        verdict, note: What was said of it; "" while nothing was.
        worst: Largest severity of the episode that lasts; 0 when none does.
    """

    ways: list[str] = field(default_factory=list)
    look: NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    occurrence: list[int] = field(default_factory=list)
    t_ns: list[int] = field(default_factory=list)
    verdict: list[str] = field(default_factory=list)
    note: list[str] = field(default_factory=list)
    worst: float = 0.0

    def row(self, look: Signature) -> NDArray[np.float32]:
        """float32[k], after making room for ways that are new."""
        new = [way for way in look if way not in self.ways]
        if new:
            self.ways += new
            self.look = np.pad(self.look, ((0, 0), (0, len(new))))
        return np.array([look.get(way, 0.0) for way in self.ways], np.float32)

    def add(self, occurrence: int, t_ns: int) -> None:
        if len(self.t_ns) >= EPISODES_MAX:
            old = next((i for i, said in enumerate(self.verdict) if not said), 0)
            self.look = np.delete(self.look, old, axis=0)
            for column in (self.occurrence, self.t_ns, self.verdict, self.note):
                del column[old]
        self.look = np.vstack([self.look, np.zeros((1, len(self.ways)), np.float32)])
        self.occurrence.append(occurrence)
        self.t_ns.append(t_ns)
        self.verdict.append("")
        self.note.append("")

    def pack(self) -> bytes:
        return json.dumps(
            {
                "ways": self.ways,
                "look": np.round(self.look, 3).tolist(),
                "occurrence": self.occurrence,
                "t_ns": self.t_ns,
                "verdict": self.verdict,
                "note": self.note,
            },
            ensure_ascii=False,
        ).encode()


class Past:
    """The earlier anomalies of every machine."""

    def __init__(self) -> None:
        self._machines: dict[str, _Machine] = {}

    def saw(self, a: Assessments) -> None:
        """Take verdicts; the worst window of an episode that lasts is what it looked like."""
        severity = a.severity
        for row in np.flatnonzero(severity > 1).tolist():
            machine = self._machines.get(a.assets[row])
            if machine is None or not machine.t_ns or severity[row] <= machine.worst:
                continue
            if machine.worst == 0 and machine.look[-1].any():
                continue  # The last episode is over; this one has not alarmed yet.
            machine.worst = float(severity[row])
            look = machine.row(signature(a.signals, a.contribution[row], a.direction[row]))
            machine.look[-1] = look

    def heard(self, transition: Transition) -> Iterator[tuple[str, bytes]]:
        """Take a transition; the machine's memory, to be kept, where that changed it."""
        if transition.cause is not Cause.ANOMALY:
            return
        asset, event = transition.asset, transition.event
        machine = self._machines.setdefault(asset, _Machine())
        if event == "active":
            machine.add(transition.occurrence, transition.t_ns)
            machine.worst = 1e-9
            return
        if event.startswith("gone"):
            machine.worst = 0.0
        elif event.startswith("feedback.") and transition.occurrence in machine.occurrence:
            at = machine.occurrence.index(transition.occurrence)
            machine.verdict[at] = event.removeprefix("feedback.")
            machine.note[at] = transition.note[:NOTE_MAX]
        else:
            return
        yield asset, machine.pack()

    def like(self, asset: str, look: Signature) -> Phrase | None:
        """The earlier episode most like a window, and what was said of it."""
        machine = self._machines.get(asset)
        if machine is None or not look:
            return None
        row = machine.row(look)
        over = len(machine.t_ns) - (1 if machine.worst > 0 else 0)
        known = machine.look[:over]
        length = np.linalg.norm(known, axis=1) * float(np.linalg.norm(row))
        cosine = known @ row / np.where(length > 0, length, np.inf)
        alike = np.flatnonzero(cosine >= ALIKE)
        if not len(alike):
            return None
        # One that was judged tells more than one that only looks a little more like it.
        judged = [i for i in alike.tolist() if machine.verdict[i]]
        best = max(judged or alike.tolist(), key=lambda i: (round(float(cosine[i]), 2), i))
        at = datetime.fromtimestamp(machine.t_ns[best] / 1e9, UTC)
        note = machine.note[best]
        return Phrase(
            "past.alike",
            at=f"{at:%Y-%m-%d %H:%M}",
            verdict=Phrase(f"past.{machine.verdict[best] or 'none'}"),
            note=Phrase("past.note", note=note) if note else "",
        )

    def restore(self, asset: str, data: bytes) -> None:
        """Take up what `heard` gave before a restart.

        Raises:
            ValueError, KeyError, TypeError: The bytes are not that.
        """
        held = json.loads(data)
        n, k = len(held["t_ns"]), len(held["ways"])
        machine = _Machine(
            list(held["ways"]),
            np.array(held["look"], np.float32).reshape(n, k),
            [int(v) for v in held["occurrence"]],
            [int(v) for v in held["t_ns"]],
            [str(v) for v in held["verdict"]],
            [str(v) for v in held["note"]],
        )
        if not len(machine.occurrence) == len(machine.verdict) == len(machine.note) == n:
            raise ValueError("columns must be of one length")
        self._machines[asset] = machine
