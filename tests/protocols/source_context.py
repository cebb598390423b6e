"""A source's world for tests of protocols: real clocks, a fixed seed, a folder of its own."""

from pathlib import Path
from random import Random

import structlog

from gateway.core.alarm import Condition
from gateway.core.clock import SystemClock
from gateway.core.meter import SourceMeter
from gateway.core.signals import SignalTable
from gateway.core.source import SourceContext


def make_context(data_dir: Path, *, protocol: str, source: str = "s") -> SourceContext:
    """A context whose meter, table and reports the test can look into."""
    reported: list[Condition] = []
    return SourceContext(
        clock=SystemClock(),
        random=Random(0),
        log=structlog.get_logger(),
        signals=SignalTable(),
        meter=SourceMeter(source, protocol),
        data_dir=data_dir,
        report=reported.append,
    )
