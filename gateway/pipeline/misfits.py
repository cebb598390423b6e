"""What a bundle wants of a machine and does not find there, in words for its owner."""

from collections.abc import Mapping, Sequence

from gateway.core.signals import Signal
from gateway.pipeline.config import AssetConfig
from gateway.pipeline.event_columns import word
from gateway.pipeline.events import Events
from gateway.pipeline.forecast import reach_h
from gateway.pipeline.waves import ACCELERATION_UNITS
from models.features.rotor import ORDERS
from models.manifest import Manifest

SLASH = "/"
"""Parts a machine from its signal wherever both are told, so no name holds it."""
ORDER_ENDS = tuple(f" {order}" for order in ORDERS)


def misfits(
    manifest: Manifest,
    config: AssetConfig,
    named: Mapping[str, Signal],
    made: Sequence[str],
    events: Events,
) -> list[str]:
    """What a bundle wants of a machine and does not find; nothing where it fits.

    Args:
        manifest: Of the bundle.
        config: Of the machine.
        named: Its signals by their names, with those that are made of its waveforms.
        made: The names of the latter.
        events: What is known of its events and facts.
    """
    out = unknown_words(manifest, config.id, events)
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
            way = "name the signal so, or train on this machine"
            if SLASH in wanted.name:
                plain = wanted.name.partition(" [")[0].replace(SLASH, "_")
                way = f"no signal may hold {SLASH!r}: name the column {plain!r} and train anew"
            out.append(
                f"was trained on signal {wanted.name!r}, which {asset} does not have"
                f" (it has {', '.join(there)}); {way}"
            )
        elif wanted.unit and not _one_unit(signal.unit, wanted.unit):
            out.append(
                f"was trained on {wanted.name} in {wanted.unit!r}, {asset} has it in"
                f" {signal.unit!r}; convert it with `scale` and `offset`, or train anew"
            )
    return out + _shaft_lacks(manifest, config, made)


def _one_unit(first: str, second: str) -> bool:
    return first == second or {first, second} <= set(ACCELERATION_UNITS)


def unknown_words(manifest: Manifest, asset: str, events: Events) -> list[str]:
    """Facts that a bundle cannot take: words that it did not learn."""
    return [
        f"facts.{s.name}: {asset}: must be one of {', '.join(s.categories)}, was {fact!r}"
        if s.categories
        else f"facts.{s.name}: {asset}: must be a number, was {fact!r}"
        for s in manifest.signals
        if (fact := events.facts.get((asset, s.name))) is not None
        and (word(fact) not in s.categories if s.categories else isinstance(fact, str))
    ]


def _shaft_lacks(manifest: Manifest, config: AssetConfig, made: Sequence[str]) -> list[str]:
    """What a bundle wants to know of a machine's shaft and bearing.

    Args:
        manifest: Of the bundle.
        config: Of the machine.
        made: The signals that are to be made of its waveforms.
    """
    # Bundles from before the shaft's own orders keep them under the name of the bearing.
    held = manifest.detail.get("orders") or manifest.detail.get("bearing") or {}
    speed = "speed, the signal of its shaft's speed"
    if (geometry := held.get("geometry")) and config.bearing is None:
        told = ", ".join(f"{name} = {value:g}" for name, value in geometry.items())
        told += "" if config.shaft else f", and {speed}"
        text = f"was trained on a bearing's orders, and {config.id} has no bearing"
        return [f"{text}; add [asset.bearing] with {told}"]
    if config.rotor is None and any(name.endswith(ORDER_ENDS) for name in made):
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
