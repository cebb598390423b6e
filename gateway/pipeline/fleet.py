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
from gateway.pipeline.event_columns import EventColumns, unknown_words
from gateway.pipeline.events import Events
from gateway.pipeline.findings import Findings
from gateway.pipeline.forecast import AlarmsAt, reach_h
from gateway.pipeline.waves import ACCELERATION_UNITS, parts_wanted
from gateway.pipeline.windows import Watch
from models.bundle import Bundle, read
from models.errors import ModelError
from models.features.rotor import ORDERS
from models.manifest import Manifest
from models.record import RUNNING
from models.runtime import Session
from models.runtime.fallback import open_lasting
from models.score import held_cells

ORDER_ENDS = tuple(f" {order}" for order in ORDERS)
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
                differences = _differences(bundle.manifest, one.asset, there, events)
                differences += _shaft_lacks(bundle.manifest, one.asset, [s.name for s in parts])
                faults += [Fault(one.where, f"{path.name}: {d}") for d in differences]
                if not differences:
                    fitting.append(one.asset)
            if fitting:
                judge = Judge(
                    bundle,
                    opener(bundle, members[0].asset.device),
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
    return Post(judge, Findings(judge), watch, coverage_min, columns)


def _hop_cells(asset: AssetConfig, manifest: Manifest) -> int:
    """Cells from one window to the next: as configured, else as the bundle was trained."""
    window = manifest.window
    if not asset.hop_s:
        return window.hop_cells
    return max(1, round(asset.hop_s / (window.period_s or 1.0)))


def _differences(
    manifest: Manifest, config: AssetConfig, named: Mapping[str, Signal], events: Events
) -> list[str]:
    """What a bundle wants of an asset's signals and settings and does not find."""
    out = unknown_words(events, config.id, manifest)
    asset, life_h = config.id, config.life_h
    if manifest.kind == "rul" and life_h is not None and life_h >= (reach := reach_h(manifest)):
        out.append(
            f"tells lives apart up to {reach:.3g} h, and {asset} would alarm below its life_h of"
            f" {life_h:g} h: always; give it a life_h below {reach:.3g}, or none"
        )
    if manifest.window.period_s is None:
        out.append("counts rows and knows no time, so it runs in `forewarn score` only")
    lacking = {
        wanted.name
        for wanted in manifest.signals
        if wanted.name not in named and not events.makes(config.id, wanted.name)
    }
    blocks = _blocks(manifest, lacking)
    if blocks:
        needs = "; ".join(blocks)
        out.append(f"was trained with events and facts that {asset} does not have; add {needs}")
    for wanted in manifest.signals:
        signal = named.get(wanted.name)
        if signal is None:
            if wanted.name not in lacking or wanted.name in _beside_names(manifest):
                continue
            there = sorted(named)
            out.append(
                f"was trained on signal {wanted.name!r}, which {asset} does not have"
                f" (it has {', '.join(there)}); name the signal so, or train on this machine"
            )
        elif wanted.unit and not _one_unit(signal.unit, wanted.unit):
            out.append(
                f"was trained on {wanted.name} in {wanted.unit!r}, {asset} has it in"
                f" {signal.unit!r}; convert it with `scale` and `offset`, or train anew"
            )
    return out


def _one_unit(first: str, second: str) -> bool:
    return first == second or {first, second} <= set(ACCELERATION_UNITS)


def _shaft_lacks(manifest: Manifest, config: AssetConfig, parts: Sequence[str]) -> list[str]:
    """What a bundle wants to know of a machine's shaft and bearing.

    Args:
        manifest: Of the bundle.
        config: Of the machine.
        parts: The signals that are to be made of its waveforms.
    """
    # Bundles from before the shaft's own orders keep them under the name of the bearing.
    held = manifest.detail.get("orders") or manifest.detail.get("bearing") or {}
    speed = "speed, the signal of its shaft's speed"
    if (geometry := held.get("geometry")) and config.bearing is None:
        told = ", ".join(f"{name} = {value:g}" for name, value in geometry.items())
        told += "" if config.shaft else f", and {speed}"
        text = f"was trained on a bearing's orders, and {config.id} has no bearing"
        return [f"{text}; add [asset.bearing] with {told}"]
    if config.rotor is None and any(name.endswith(ORDER_ENDS) for name in parts):
        text = f"was trained on the orders of a shaft, and {config.id} has no shaft"
        return [f"{text}; add [asset.shaft] with {speed}"]
    return []


def _beside_names(manifest: Manifest) -> set[str]:
    """The signals that training took from tables beside the telemetry."""
    return set(manifest.detail.get("events", {}).get("names", ()))


def _blocks(manifest: Manifest, lacking: set[str]) -> list[str]:
    """What to write into the configuration, so that events and facts that lack are there."""
    out = []
    facts = _beside_names(manifest)
    for log, codes in manifest.detail.get("events", {}).get("codes", {}).items():
        made = {code: {f"{log}.{code}", f"{log}.{code}.ago_h"} for code in codes}
        facts -= set().union(*made.values())
        missing = [f'"{code}"' for code in codes if made[code] & lacking]
        if missing:
            out.append(f'[[event_log]] id = "{log}", codes = [{", ".join(missing)}]')
    if missing_facts := sorted(facts & lacking):
        told = ", ".join(f"{name} = …" for name in missing_facts)
        out.append(f"facts = {{ {told} }} in its [[asset]]")
    return out
