"""The record that a model is made of: how much of it there is, and its training beside the work."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from gateway.core.signals import Signal
from gateway.core.texts import Phrase
from gateway.learning.background import run_low
from gateway.learning.progress import Progress
from gateway.pipeline.config import AssetConfig
from gateway.store.trends import Trends
from models.bundle import read
from models.errors import ModelError
from models.no_values import hold_none
from models.training.readiness import Lack, Readiness, readiness, unseen

POINTS_MAX = 2000
CORRECTED_WINDOWS = 4
"""So many windows before and after an alarm that was called false are learned with it."""


def gathered(
    trends: Trends,
    signals: Sequence[tuple[int, Signal]],
    running: int | None,
    start_ns: int,
    end_ns: int,
    needed_s: float,
) -> tuple[Readiness, tuple[Phrase, ...]]:
    """How far collecting has come, by the bucket means of every signal; and which do not come.

    Args:
        trends: Where they are.
        signals: Of the asset, with their numbers.
        running: Number of the signal that tells when it runs; None where nothing tells.
        start_ns: From when on, UTC ns.
        end_ns: Until now.
        needed_s: Least running time, s.

    Raises:
        StoreError: The trends cannot be read.
    """
    series = [trends.series(number, start_ns, end_ns, POINTS_MAX) for number, _ in signals]
    width_s = max((s.width_s for s in series), default=1.0)
    t_ns = np.unique(np.concatenate([s.t_ns for s in series])) if series else np.empty(0)
    mean = np.full((len(t_ns), len(series)), np.nan)
    for column, one in enumerate(series):
        # A bucket that holds a number that means none says nothing: its mean is of both.
        kept = ~hold_none(one.least, one.greatest)
        mean[np.searchsorted(t_ns, one.t_ns[kept]), column] = one.mean[kept]
    if running is not None:
        # Only what it did while it ran all through says how it runs.
        state = trends.series(running, start_ns, end_ns, POINTS_MAX)
        mean[~np.isin(t_ns, state.t_ns[state.least > 0])] = np.nan
    names = [signal.name for _, signal in signals]
    silent = tuple(
        Phrase("lack.unseen", signal=names[column], at=_minute(int(t_ns[row])))
        if row >= 0
        else Phrase("lack.never_seen", signal=names[column])
        for column, row in unseen(mean).items()
    )
    return readiness(mean, names, width_s=width_s, needed_s=needed_s), silent


def lacking(lack: Lack) -> Phrase:
    """What a record has not shown yet, for people."""
    match lack.what:
        case "time":
            return Phrase("lack.time", has=lack.has, needed=lack.needed)
        case "samples":
            return Phrase("lack.samples")
        case "range":
            return Phrase("lack.range", signal=lack.signal, share=lack.share)
        case "drift":
            return Phrase("lack.drift", signal=lack.signal)


async def train(
    config_file: Path, config: AssetConfig, progress: Progress, out: Path, false_alarms: str
) -> str:
    """Train on what was gathered, in a process of its own; "" where it succeeded, else why not."""
    arguments = [
        *("-m", "gateway", "train", "--kind", "anomaly"),
        *("--data", str(config_file), "--asset", config.id),
        *("--from", _iso(progress.start_ns), "--to", _iso(progress.end_ns)),
        *("--asset-class", config.asset_class, "--false-alarms", false_alarms),
        *("--out", str(out)),
    ]
    if progress.correcting:
        margin_s = CORRECTED_WINDOWS * _window_s(out.with_name(progress.bundle))
        arguments += ["--corrected", f"{margin_s:g}"]
    return await run_low(arguments)


def _minute(t_ns: int) -> str:
    return f"{datetime.fromtimestamp(t_ns / 1e9, UTC):%Y-%m-%d %H:%M}"


def _iso(t_ns: int) -> str:
    return datetime.fromtimestamp(t_ns / 1e9, UTC).isoformat()


def _window_s(path: Path) -> float:
    """Length of a bundle's window; 0 where the bundle is gone."""
    try:
        window = read(path).manifest.window
    except ModelError:
        return 0.0
    return window.cells * (window.period_s or 0.0)
