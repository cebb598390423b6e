"""A scripted source: what it does, and when, is the test."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import TypeAlias

import numpy as np
import structlog

from gateway.core.alarm import Condition
from gateway.core.batch import Batch
from gateway.core.clock import SystemClock
from gateway.core.errors import LinkError, LinkLost
from gateway.core.meter import SourceMeter
from gateway.core.signals import SignalTable
from gateway.core.source import Session, SignalConfig, Source, SourceContext

Step: TypeAlias = float | LinkError | int
"""A float waits (s); an int yields that many samples; an error is raised."""


@dataclass
class ScriptedSource:
    """Plays one script a session, in order; silent after the last step of the last."""

    scripts: Sequence[Sequence[Step]]
    id: str = "s"
    kind: str = "scripted"
    keeps_link: bool = True
    signals: Sequence[SignalConfig] = (SignalConfig(asset="press", signal="speed", unit="rpm"),)
    opened_at_s: list[float] = field(default_factory=list)

    @asynccontextmanager
    async def open(self, context: SourceContext) -> AsyncIterator[Session]:
        n = len(self.opened_at_s)
        self.opened_at_s.append(context.clock.mono_ns() / 1e9)
        yield _ScriptedSession(iter(self.scripts[n]), context, keeps_link=self.keeps_link)


class _ScriptedSession:
    def __init__(self, script: Iterator[Step], context: SourceContext, *, keeps_link: bool) -> None:
        self._script = script
        self._context = context
        self._keeps_link = keeps_link

    async def read(self) -> Batch:
        for step in self._script:
            match step:
                case LinkError():
                    raise step
                case int(n):
                    return batch(n, t_ns=self._context.clock.mono_ns())
                case float(seconds):
                    await asyncio.sleep(seconds)
        raise LinkLost("end of script")

    async def apply(self, source: Source) -> bool:
        return self._keeps_link


def batch(n: int, *, t_ns: int = 0, source: str = "s", signal: int = 0) -> Batch:
    """`n` good samples of one signal, one nanosecond apart."""
    return Batch(
        source=source,
        signal=np.full(n, signal, dtype=np.int32),
        t_ns=np.arange(n, dtype=np.int64) + t_ns,
        value=np.zeros(n),
        quality=np.zeros(n, dtype=np.uint8),
        received_ns=t_ns,
    )


def source_context(
    conditions: list[Condition] | None = None, *, source: str = "s", data_dir: Path = Path()
) -> SourceContext:
    """A context on the real (or the simulated) loop's time, with a fixed seed."""
    return SourceContext(
        clock=SystemClock(),
        random=Random(0),
        log=structlog.get_logger(),
        signals=SignalTable(),
        meter=SourceMeter(source, "scripted"),
        data_dir=data_dir,
        report=(conditions if conditions is not None else []).append,
    )
