"""Which assets are judged by which bundle, and what windows that takes."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gateway.core.errors import ConfigError, Fault
from gateway.core.signals import Signal, SignalTable
from gateway.pipeline.assess import Judge
from gateway.pipeline.config import AssetConfig
from gateway.pipeline.event_columns import EventColumns
from gateway.pipeline.events import Events
from gateway.pipeline.findings import Findings
from gateway.pipeline.fixed import Fixed
from gateway.pipeline.forecast import AlarmsAt
from gateway.pipeline.misfits import misfits
from gateway.pipeline.waves import parts_wanted
from gateway.pipeline.windows import Watch
from models.bundle import Bundle, read
from models.errors import ModelError
from models.fixed import fixed_of
from models.manifest import Manifest
from models.record import RUNNING
from models.runtime import Session
from models.runtime.fallback import open_lasting
from models.score import held_cells

STALE_CELLS = 3
"""A sample fills so many cells by default: one lost poll or two do not blind a model."""


@dataclass(frozen=True, slots=True, eq=False)
class Post:
    """One judge at its watch.

    Attributes:
        judge: The loaded bundle, for its assets.
        findings: What its verdicts mean to an operator.
        watch: The windows that it wants to see.
        coverage_min: float64[a], below which an asset's window gets no verdict.
        event_columns: Which of its signals are events and facts; None where none is.
    """

    judge: Judge
    findings: Findings
    watch: Watch
    coverage_min: NDArray[np.float64]
    event_columns: EventColumns | None = None


@dataclass(frozen=True, slots=True)
class Assignment:
    """One asset that is to be judged by one bundle.

    Attributes:
        asset: As configured.
        path: Of the bundle.
        where: The setting that says so, for messages.
        shadow: Overrules the bundle's own state where it is not None.
    """

    asset: AssetConfig
    path: Path
    where: str
    shadow: bool | None = None


def assignments(assets: Sequence[AssetConfig], resolve: Callable[[str], Path]) -> list[Assignment]:
    """What the configuration itself assigns."""
    return [
        Assignment(asset, resolve(name), f"asset[{i}].bundle")
        for i, asset in enumerate(assets)
        for name in (*filter(None, [asset.bundle]), *asset.bundles)
    ]


def muster(
    wanted: Sequence[Assignment],
    sources_of: Mapping[Signal, str],
    signals: SignalTable,
    *,
    opener: Callable[[Bundle, str], Session] = open_lasting,
    events: Events | None = None,
) -> list[Post]:
    """Load every bundle once, prove it on its device, and group the assets that share it.

    Args:
        wanted: Who is judged by what.
        sources_of: Every configured or derived signal, and the source that feeds it.
        signals: Gives each signal its number.
        opener: Loads a bundle on the device that is named.
        events: Makes signals of events and facts.

    Raises:
        ConfigError: A bundle cannot be read, or wants other signals or units than its asset has;
            all such faults at once.
    """
    sources_of = dict(sources_of)
    events = events or Events((), (), sources_of, signals)
    named: dict[str, dict[str, Signal]] = {one.asset.id: {} for one in wanted}
    for signal in sources_of:
        named.setdefault(signal.asset, {})[signal.name] = signal
    faults: list[Fault] = []
    loaded: dict[Path, Bundle] = {}
    posts = []
    for members in _grouped(wanted):
        path, shadow = members[0].path, members[0].shadow
        try:
            bundle = loaded.get(path) or read(path)
            loaded[path] = bundle
            fitting = []
            wanted_names = [signal.name for signal in bundle.manifest.signals]
            for one in members:
                there = named[one.asset.id]
                parts = parts_wanted(wanted_names, there, sources_of)
                sources_of |= parts
                there |= {signal.name: signal for signal in parts}
                made = [signal.name for signal in parts]
                wrong = misfits(bundle.manifest, one.asset, there, made, events)
                faults += [Fault(one.where, f"{path.name}: {each}") for each in wrong]
                if not wrong:
                    fitting.append(one.asset)
            if fitting:
                session = opener(bundle, members[0].asset.device)
                judge = Judge(
                    bundle.without_graphs(),
                    session,
                    [asset.id for asset in fitting],
                    shadow=shadow,
                    alarms_at=AlarmsAt.of(
                        bundle.manifest,
                        [asset.failure_at for asset in fitting],
                        [asset.life_h for asset in fitting],
                    ),
                    follow=[asset.follow for asset in fitting],
                    hop_cells=_hop_cells(fitting[0], bundle.manifest),
                )
                posts.append(_post(judge, fitting, named, sources_of, signals, events))
        except ModelError as error:
            faults += [Fault(one.where, f"{path.name}: {error}") for one in members]
    if faults:
        raise ConfigError(faults)
    return posts


def _grouped(wanted: Sequence[Assignment]) -> Iterable[Sequence[Assignment]]:
    """Those that one judge at one watch can judge together."""
    groups: dict[tuple[object, ...], list[Assignment]] = {}
    for one in wanted:
        asset = one.asset
        grid = (asset.hop_s, asset.stale_s, asset.lateness_s)
        groups.setdefault((one.path, one.shadow, asset.device, *grid), []).append(one)
    return groups.values()


def _post(
    judge: Judge,
    assets: Sequence[AssetConfig],
    named: Mapping[str, Mapping[str, Signal]],
    sources_of: Mapping[Signal, str],
    signals: SignalTable,
    events: Events,
) -> Post:
    bundle, plan, first = judge.bundle, judge.plan, assets[0]
    period_ns = round(plan.period_s * 1e9)
    stale_s = first.stale_s or bundle.manifest.window.stale_s or STALE_CELLS * plan.period_s
    keys = [
        [named[asset.id].get(signal.name) for signal in bundle.manifest.signals] for asset in assets
    ]
    states = [named[asset.id].get(RUNNING) if asset.running.strip() else None for asset in assets]
    numbers = [signals.intern(key) if key else -1 for key in states]
    own = np.array(
        [[signals.intern(key) if key else -1 for key in row] for row in keys], dtype=np.int32
    )
    watch = Watch(
        assets=judge.assets,
        signals=own,
        sources=tuple(
            tuple(
                sorted(
                    {sources_of[key] for key in row if key}
                    | events.sources(asset.id, judge.plan.signals)
                )
            )
            for asset, row in zip(assets, keys, strict=True)
        ),
        period_ns=period_ns,
        cells=plan.cells,
        hop_cells=_hop_cells(first, bundle.manifest),
        stale_ns=round(stale_s * 1e9),
        lateness_ns=round(first.lateness_s * 1e9),
        running=np.array(numbers, dtype=np.int32) if any(states) else None,
        held_cells=() if first.stale_s else held_cells(bundle.manifest),
    )
    columns = EventColumns.of(events, judge.assets, bundle.manifest, own, signals)
    coverage_min = np.array([asset.coverage_min for asset in assets])
    fixed = Fixed.of(fixed_of(bundle.manifest.detail), {a: named[a] for a in judge.assets}, signals)
    return Post(judge, Findings(judge, fixed), watch, coverage_min, columns)


def _hop_cells(asset: AssetConfig, manifest: Manifest) -> int:
    """Cells from one window to the next: as configured, else as the bundle was trained."""
    window = manifest.window
    if not asset.hop_s:
        return window.hop_cells
    return max(1, round(asset.hop_s / (window.period_s or 1.0)))
