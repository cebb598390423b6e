"""Lets a command open a source without a gateway, with what that one keeps (its certificates)."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gateway.core.source import SourceContext

HEARD_BYTES = 60
"""Shown of what came last."""


@contextmanager
def borrowed(kept: Path) -> Iterator[Path]:
    """A copy of a source's folder, for as long as the block runs: what is left there is nobody's.

    A gateway may be running on the same folder, so the command must not write to it.
    """
    with tempfile.TemporaryDirectory() as folder:
        if kept.is_dir():
            shutil.copytree(kept, folder, dirs_exist_ok=True)
        yield Path(folder)


def context_for(source: str, kind: str, folder: Path) -> "SourceContext":
    """A world for one source; what it has to say stands in its meter and its errors."""
    from random import Random

    import structlog

    from gateway.core.clock import SystemClock
    from gateway.core.meter import SourceMeter
    from gateway.core.signals import SignalTable
    from gateway.core.source import SourceContext
    from gateway.core.tap import OPEN_S_MAX

    context = SourceContext(
        clock=SystemClock(),
        random=Random(),
        log=structlog.wrap_logger(structlog.ReturnLogger()),
        signals=SignalTable(),
        meter=SourceMeter(source, kind),
        data_dir=folder,
        report=lambda _condition: None,
    )
    context.tap.start(context.clock, OPEN_S_MAX)
    return context


def errors_of(context: "SourceContext") -> list[str]:
    """What was counted against the source, most of it first."""
    return [f"{n} × {kind}" for kind, n in context.meter.errors.most_common(3)]


def came(context: "SourceContext") -> bytes:
    """The last that its peer sent, as far as it is kept; empty where nothing came."""
    return next((f.data for f in reversed(context.tap.frames()) if not f.sent), b"")


def heard(context: "SourceContext") -> str:
    """What came and was of no use: the difference between a dead line and a wrong setting."""
    last = came(context)[-HEARD_BYTES:]
    told = f"last heard: {last!r}" if last else "nothing was heard"
    return ", ".join([*errors_of(context), told])
