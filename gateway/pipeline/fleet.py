"""Which assets are judged by which bundle, and what windows that takes."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gateway.core.errors import ConfigError, Fault
from gateway.core.signals import Signal, SignalTable
from gateway.pipeline.assess import Judge
from gateway.pipeline.config import AssetConfig
from gateway.pipeline.forecast import reach_h
from gateway.pipeline.waves import parts_wanted
from gateway.pipeline.windows import Watch
from models.bundle import Bundle, read
from models.errors import ModelError
from models.manifest import Manifest
from models.record import RUNNING
from models.runtime import Session
from models.runtime.fallback import open_lasting

STALE_CELLS = 3
"""A sample fills so many cells by default: one lost poll or two do not blind a model."""


@dataclass(frozen=True, slots=True, eq=False)
class Post:
    """One judge at its watch.

    Attributes:
        judge: The loaded bundle, for its assets.
        watch: The windows that it wants to see.
        coverage_min: float64[a], below which an asset's window gets no verdict.
    """

    judge: Judge
    watch: Watch
    coverage_min: NDArray[np.float64]


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
) -> list[Post]:
    """Load every bundle once, prove it on its device, and group the assets that share it.

    Args:
        wanted: Who is judged by what.
        sources_of: Every configured or derived signal, and the source that feeds it.
        signals: Gives each signal its number.
        opener: Loads a bundle on the device that is named.

    Raises:
        ConfigError: A bundle cannot be read, or wants other signals or units than its asset has;
            all such faults at once.
    """
    sources_of = dict(sources_of)
    named: dict[str, dict[str, Signal]] = {one.asset.id: {} for one in wanted}
    for signal in sources_of:
        named.setdefault(signal.asset, {})[signal.name] = signal
    faults: list[Fault] = []
    groups: dict[tuple[object, ...], list[Assignment]] = {}
    for one in wanted:
        asset = one.asset
        key = (
            one.path,
            one.shadow,
            asset.device,
            asset.hop_s,
            asset.stale_s,
            asset.lateness_s,
        )
        groups.setdefault(key, []).append(one)
    loaded: dict[Path, Bundle] = {}
    posts = []
    for members in groups.values():
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
                differences = _differences(bundle.manifest, one.asset, there)
                faults += [Fault(one.where, f"{path.name}: {d}") for d in differences]
                if not differences:
                    fitting.append(one.asset)
            if fitting:
                judge = Judge(
                    bundle,
                    opener(bundle, members[0].asset.device),
                    [asset.id for asset in fitting],
                    shadow=shadow,
                    failure_at=[asset.failure_at for asset in fitting],
                    life_h=[asset.life_h for asset in fitting],
                    follow=[asset.follow for asset in fitting],
                    hop_cells=_hop_cells(fitting[0], bundle.manifest),
                )
                posts.append(_post(judge, fitting, named, sources_of, signals))
        except ModelError as error:
            faults += [Fault(one.where, f"{path.name}: {error}") for one in members]
    if faults:
        raise ConfigError(faults)
    return posts


def _post(
    judge: Judge,
    assets: Sequence[AssetConfig],
    named: Mapping[str, Mapping[str, Signal]],
    sources_of: Mapping[Signal, str],
    signals: SignalTable,
) -> Post:
    bundle, plan, first = judge.bundle, judge.plan, assets[0]
    period_ns = round(plan.period_s * 1e9)
    stale_s = first.stale_s or bundle.manifest.window.stale_s or STALE_CELLS * plan.period_s
    keys = [
        [named[asset.id].get(signal.name) for signal in bundle.manifest.signals] for asset in assets
    ]
    states = [named[asset.id].get(RUNNING) if asset.running.strip() else None for asset in assets]
    numbers = [signals.intern(key) if key else -1 for key in states]
    watch = Watch(
        assets=judge.assets,
        signals=np.array(
            [[signals.intern(key) if key else -1 for key in row] for row in keys], dtype=np.int32
        ),
        sources=tuple(tuple(sorted({sources_of[key] for key in row if key})) for row in keys),
        period_ns=period_ns,
        cells=plan.cells,
        hop_cells=_hop_cells(first, bundle.manifest),
        stale_ns=round(stale_s * 1e9),
        lateness_ns=round(first.lateness_s * 1e9),
        running=np.array(numbers, dtype=np.int32) if any(states) else None,
    )
    return Post(judge, watch, np.array([asset.coverage_min for asset in assets]))


def _hop_cells(asset: AssetConfig, manifest: Manifest) -> int:
    """Cells from one window to the next: as configured, else as the bundle was trained."""
    window = manifest.window
    if not asset.hop_s:
        return window.hop_cells
    return max(1, round(asset.hop_s / (window.period_s or 1.0)))


def _differences(manifest: Manifest, config: AssetConfig, named: Mapping[str, Signal]) -> list[str]:
    """What a bundle wants of an asset's signals and settings and does not find."""
    out = []
    asset, life_h = config.id, config.life_h
    if manifest.kind == "rul" and life_h is not None and life_h >= (reach := reach_h(manifest)):
        out.append(
            f"tells lives apart up to {reach:.3g} h, and {asset} would alarm below its life_h of"
            f" {life_h:g} h: always; give it a life_h below {reach:.3g}, or none"
        )
    if manifest.window.period_s is None:
        out.append("counts rows and knows no time, so it runs in `forewarn score` only")
    for wanted in manifest.signals:
        signal = named.get(wanted.name)
        if signal is None:
            there = sorted(named)
            out.append(
                f"was trained on signal {wanted.name!r}, which {asset} does not have"
                f" (it has {', '.join(there)}); name the signal so, or train on this machine"
            )
        elif wanted.unit and signal.unit != wanted.unit:
            out.append(
                f"was trained on {wanted.name} in {wanted.unit!r}, {asset} has it in"
                f" {signal.unit!r}; convert it with `scale` and `offset`, or train anew"
            )
    return out
