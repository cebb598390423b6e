"""What the tables of a configuration demand of each other: faults, each with its place."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeAlias

from gateway.alarms.zones import UNIT
from gateway.core.signals import Signal
from gateway.core.source import SignalConfig, SourceConfig
from gateway.faults import did_you_mean
from gateway.settings import Settings
from gateway.toml_lines import Path as TomlPath
from models.errors import RecordError
from models.formula import Formula
from models.paths import unreadable
from models.record import RUNNING

PER_SECOND = ("hz", "1/s", "rps")
"""Units that a speed may be in, and must not where rpm are wanted."""

Found: TypeAlias = Iterator[tuple[TomlPath, str]]


def check_sources(sources: Sequence[SourceConfig | None]) -> Found:
    """What holds between sources; None stands for one that could not be typed."""
    ids: dict[str, int] = {}
    owner: dict[tuple[str, str], str] = {}
    for i, source in enumerate(sources):
        if source is None:
            continue
        if source.id in ids:
            text = f"must be unique, {source.id!r} is source[{ids[source.id]}] too"
            yield ("source", i, "id"), text
        ids.setdefault(source.id, i)
        for j, signal in enumerate(source.signals):
            other = owner.setdefault((signal.asset, signal.signal), source.id)
            if other != source.id:
                text = f"{signal.key()} is read by source {other!r} already; rename one"
                yield ("source", i, "signals", j), text


def check_settings(settings: Settings, sources: Sequence[SourceConfig], folder: Path) -> Found:
    """What holds between the other tables, and between them and the sources.

    Args:
        settings: All tables but the sources.
        sources: All of them.
        folder: Where relative paths start.
    """
    read = [signal for source in sources for signal in source.signals]
    yield from _channels(settings)
    yield from _assets(settings, {each.asset for each in read})
    yield from _bundles(settings, folder)
    yield from _running(settings, read)
    yield from _shafts(settings, read)
    yield from _events(settings, read)
    yield from _zones(settings, read)


def _channels(settings: Settings) -> Found:
    channels = [channel.id for channel in settings.notify]
    for i, name in enumerate(channels):
        if name in channels[:i]:
            yield ("notify", i, "id"), f"must be unique, {name!r} stands twice"


def _assets(settings: Settings, read: set[str]) -> Found:
    seen: set[str] = set()
    for i, asset in enumerate(settings.asset):
        at: TomlPath = ("asset", i, "id")
        if asset.id in seen:
            yield at, f"must be unique, {asset.id!r} stands twice"
        seen.add(asset.id)
        if asset.id not in read:
            hint = did_you_mean(asset.id, read, "add a signal with this asset")
            yield at, f"no source has a signal of {asset.id!r}; {hint}"


def _bundles(settings: Settings, folder: Path) -> Found:
    wanted: dict[str, list[TomlPath]] = {}
    for i, asset in enumerate(settings.asset):
        if asset.bundle is not None:
            wanted.setdefault(asset.bundle, []).append(("asset", i, "bundle"))
        for j, name in enumerate(asset.bundles):
            wanted.setdefault(name, []).append(("asset", i, "bundles", j))
    for name, places in wanted.items():
        path = folder / name
        try:
            path.open("rb").close()
        except OSError as error:
            told = f"{name}: {unreadable(path, error, '.fwm')}; `forewarn train` writes one"
            yield from ((at, told) for at in places)


def _running(settings: Settings, read: Sequence[SignalConfig]) -> Found:
    for i, asset in enumerate(settings.asset):
        rule, at = asset.running.strip(), ("asset", i, "running")
        if not rule:
            continue
        names = list(dict.fromkeys(each.signal for each in read if each.asset == asset.id))
        if rule == RUNNING and RUNNING in names:
            continue
        if RUNNING in names:
            text = f"{asset.id} has a signal {RUNNING!r}, so the rule must be just that"
            yield at, f"{text}, was {rule!r}"
            continue
        try:
            if not Formula.parse(f"{RUNNING} = {rule}").needs(names):
                yield at, f"must name at least one signal of {asset.id}, was {rule!r}"
        except RecordError as error:
            yield at, str(error).removeprefix("derive: ")


def _shafts(settings: Settings, read: Sequence[SignalConfig]) -> Found:
    made = {Signal(each.asset, each.signal, each.unit) for each in settings.derive}
    there = {each.key() for each in read} | made
    arrays = {(each.asset, each.signal) for each in read if getattr(each, "rate_hz", None)}
    for i, asset in enumerate(settings.asset):
        if (shaft := asset.rotor) is None:
            continue
        at: TomlPath = ("asset", i, "bearing" if asset.shaft is None else "shaft", "speed")
        units = {s.name: s.unit for s in there if s.asset == asset.id}
        unit = units.get(shaft.speed)
        if unit is None:
            hint = did_you_mean(shaft.speed, units, f"it has {', '.join(units)}")
            yield at, f"{asset.id} has no signal {shaft.speed!r}; {hint}"
        elif shaft.pulses_per_turn and (asset.id, shaft.speed) not in arrays:
            yield at, f"pulses must be an array, {shaft.speed} is none; give it rate_hz"
        elif not shaft.pulses_per_turn and unit.lower() in PER_SECOND:
            yield at, f"must be in rpm, {shaft.speed} is in {unit!r}; scale = 60"


def _events(settings: Settings, read: Sequence[SignalConfig]) -> Found:
    known = {asset.id for asset in settings.asset}
    named = {(each.asset, each.signal) for each in read}
    named |= {(each.asset, each.signal) for each in settings.derive}
    made: dict[tuple[str, str], TomlPath] = {
        (asset.id, fact): ("asset", i, "facts")
        for i, asset in enumerate(settings.asset)
        for fact in asset.facts
    }
    for i, log in enumerate(settings.event_log):
        at: TomlPath = ("event_log", i)
        for asset in log.assets or known:
            if asset not in known:
                yield (*at, "assets"), f"must name an [[asset]], was {asset!r}"
            if log.signal is not None and (asset, log.signal) not in named:
                text = f"no source has {asset}/{log.signal}; name the machines in `assets`"
                yield (*at, "signal"), text
            for name in (f"{log.id}.{code}" for code in log.codes):
                if (asset, name) in made:
                    yield (*at, "id"), f"{asset}/{name} is made already; rename one"
                made |= {(asset, name): at, (asset, f"{name}.ago_h"): at}
    for pair in made.keys() & named:
        yield made[pair], f"{'/'.join(pair)} is a signal of a source already; rename one"


def _zones(settings: Settings, read: Sequence[SignalConfig]) -> Found:
    units = {(each.asset, each.signal): each.unit for each in read}
    for i, asset in enumerate(settings.asset):
        for j, limit in enumerate(asset.limits):
            unit = units.get((asset.id, limit.signal), UNIT)
            if limit.iso_20816 is not None and unit != UNIT:
                text = (
                    f"is for a velocity in {UNIT}, {limit.signal} is in {unit!r}; of a waveform"
                    f' in g take "{limit.signal} velocity [mm/s]"'
                )
                yield ("asset", i, "limits", j, "iso_20816"), text
