"""Remembers over sessions and crashes where each signal ended and which gaps are still open."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import numpy as np

from gateway.core.source import SourceContext
from protocols.opcua.settings import Settings

FILE_NAME = "resume.json"
GAPS_MAX = 20
"""Of one signal, waiting to be filled; the oldest is given up first."""
OVERLAP_NS = 5_000_000_000
"""After a crash a gap begins so much earlier, and two publishing intervals: what was on its way to
the log is lost, and a value that was said again hides a change that the server had not told yet."""
PER_CALL_MIN = 10
"""Nodes in one request that every server must bear."""
PROCESS = uuid4().hex
"""What another process wrote is believed, but compared with the log: it may have died since."""


@dataclass(frozen=True, slots=True)
class Mark:
    """The last sample of a signal that is known to have been delivered.

    Attributes:
        t_ns: UTC ns.
        value: NaN where only its time is known.
        from_ns: The gap behind it is looked for from here on.
        doubtful: Whether the log must be asked what it holds of the gap.
    """

    t_ns: int
    value: float
    from_ns: int
    doubtful: bool


@dataclass(frozen=True, slots=True)
class Span:
    """What is missing of one signal: after `start_ns` and before `end_ns`, UTC."""

    start_ns: int
    end_ns: int
    doubtful: bool

    def row(self) -> tuple[int, int, bool]:
        return (self.start_ns, self.end_ns, self.doubtful)


@dataclass(slots=True)
class Resume:
    """What the sessions of one source hand on to each other.

    Attributes:
        marks: Where each signal ended, until the next session has its first sample.
        gaps: What is missing of each signal, until it was passed on.
        passed: Gaps whose samples were passed on: name, span, and the time of the last; they are
            forgotten when that sample is in the log, so that a crash before then loses nothing.
        heard_ns: UTC ns at the gateway when the server last spoke; 0 if it never did.
        per_call: Nodes in one request, fewer than configured where a link broke at more; 0 if none
            did. Some servers end the link at a request that is too long, and say nothing.
        subscriptions: What the session before left at the server: number, next message expected.
        handles: Names of its items, by their client handle.
    """

    config: Settings
    context: SourceContext
    marks: dict[str, Mark] = field(default_factory=dict)
    gaps: dict[str, list[Span]] = field(default_factory=dict)
    passed: list[tuple[str, Span, int]] = field(default_factory=list)
    heard_ns: int = 0
    per_call: int = 0
    subscriptions: list[tuple[int, int]] = field(default_factory=list)
    handles: list[str] = field(default_factory=list)
    _written: str = ""

    def shrink(self, per_call: int) -> None:
        """Ask for half as much at once from the next session on."""
        self.per_call = max(PER_CALL_MIN, per_call // 2)

    def add_gap(self, name: str, span: Span) -> None:
        """One more gap of a signal."""
        gaps = self.gaps.setdefault(name, [])
        gaps.append(span)
        del gaps[:-GAPS_MAX]

    def take_gaps(self, name: str) -> list[Span]:
        """The gaps of a signal, oldest first, each moment in one: after a crash they overlap."""
        spans: list[Span] = []
        for span in sorted(self.gaps.pop(name, ()), key=Span.row):
            if spans and span.start_ns < spans[-1].end_ns:
                last = spans.pop()
                end_ns, doubtful = max(last.end_ns, span.end_ns), last.doubtful or span.doubtful
                span = Span(last.start_ns, end_ns, doubtful)  # noqa: PLW2901  # The two as one.
            spans.append(span)
        return spans

    def keep(self) -> None:
        """Write it to the source's folder; where nothing is open, take the file away."""
        path = self.context.data_dir / FILE_NAME
        part = path.with_suffix(".part")
        kept = {
            "process": PROCESS,
            "heard_ns": self.heard_ns,
            "per_call": self.per_call,
            "subscriptions": self.subscriptions,
            "handles": self.handles if self.subscriptions else [],
            "marks": {n: [m.t_ns, m.value, m.doubtful] for n, m in self.marks.items()},
            "gaps": {n: [s.row() for s in spans] for n, spans in self.gaps.items()},
            "passed": [[n, span.row(), last_ns] for n, span, last_ns in self.passed],
        }
        try:
            if not (self.marks or self.gaps or self.passed or self.per_call):
                path.unlink(missing_ok=True)
                return
            text = json.dumps(kept)
            if text == self._written and path.exists():
                return
            self.context.data_dir.mkdir(parents=True, exist_ok=True)
            part.write_text(text)
            part.replace(path)
            self._written = text
        except OSError as error:
            self.context.log.warning("history.marks", error=str(error))

    def _read(self) -> None:
        """What the session before wrote. Its file stays, for it is true until the log says more."""
        path = self.context.data_dir / FILE_NAME
        try:
            kept = json.loads(path.read_text())
            self._take(kept)
        except FileNotFoundError:
            return
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            self.context.log.warning("history.marks", error=str(error))
            self.marks, self.gaps, self.passed = {}, {}, []

    def _take(self, kept: dict[str, Any]) -> None:
        other = kept.get("process") != PROCESS
        names = {str(signal.key()) for signal in self.config.signals}
        self.heard_ns = int(kept.get("heard_ns", 0))
        self.per_call = 0 if other else int(kept["per_call"])
        if not other:
            self.subscriptions = [(int(n), int(expected)) for n, expected in kept["subscriptions"]]
            self.handles = [str(name) for name in kept["handles"]]
        for name in names & kept["marks"].keys():
            t_ns, value, doubtful = kept["marks"][name]
            self.marks[name] = self.mark(int(t_ns), float(value), doubtful=doubtful or other)
        for name in names & kept["gaps"].keys():
            self.gaps[name] = [Span(int(a), int(b), c or other) for a, b, c in kept["gaps"][name]]
        for name, (start_ns, end_ns, doubtful), last_ns in kept["passed"]:
            span = Span(int(start_ns), int(end_ns), doubtful or other)
            if name in names and other:
                self.add_gap(name, span)
            elif name in names:
                self.passed.append((name, span, int(last_ns)))

    def mark(self, t_ns: int, value: float = float("nan"), *, doubtful: bool = False) -> Mark:
        """A mark at one time; the gap behind a doubtful one is looked for from earlier on."""
        overlap_ns = OVERLAP_NS + round(2e9 * self.config.publishing_interval_s)
        return Mark(t_ns, value, t_ns - overlap_ns if doubtful else t_ns, doubtful)


async def recall(config: Settings, context: SourceContext) -> Resume:
    """Where the session before this one ended, be it that of a process that was killed.

    What no session wrote down, the log knows: its last sample of each signal. A signal of which it
    holds nothing recent, while it holds others of this source, had not changed up to then.
    """
    resume = Resume(config, context)
    resume._read()  # noqa: SLF001  # Its own file.
    lacking = [signal.key() for signal in config.signals if str(signal.key()) not in resume.marks]
    if not lacking:
        return resume
    numbers = [context.signals.intern(key) for key in lacking]
    t_ns, value = await context.logged.last(numbers)
    if not t_ns.any():
        return resume
    earliest_ns = int(t_ns[t_ns > 0].min())
    resume.marks |= _marks(resume, [str(key) for key in lacking], t_ns.tolist(), value, earliest_ns)
    resume.heard_ns = max(resume.heard_ns, int(t_ns.max()))
    resume.keep()
    return resume


def _marks(
    resume: Resume, names: Sequence[str], t_ns: Sequence[int], value: Any, earliest_ns: int
) -> dict[str, Mark]:
    return {
        name: resume.mark(at_ns or earliest_ns, float(held) if at_ns else np.nan, doubtful=True)
        for name, at_ns, held in zip(names, t_ns, value, strict=True)
    }
