"""The gateway's configuration for the demo plant, as the TOML that an operator would write."""

import json
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from gateway.demo.layout import ASSETS, LINE, NAMESPACE, REGISTERS
from gateway.demo.machines import CLASSES

POLL_S = 0.25
LIFE_H = 0.05
"""Remaining hours at which the demo's short-lived conveyor alarms."""
LINES = {"pump-1": "water", "compressor-1": "air", "conveyor-1": "line 1", "lathe-1": "line 1"}
LEARN = '{ collect_s = 80, shadow_s = 30, false_alarms = "1/15min" }'
"""Short enough to watch; a real machine is given a day, and a promise of 30."""
ARTIFACTS = Path(str(files("models"))) / "artifacts"


def shipped_bundles() -> dict[str, list[Path]]:
    """The bundles that come with the program, by class: `pump.fwm` first, then `pump-rul.fwm`…"""
    return {
        kind: sorted(
            [*ARTIFACTS.glob(f"{kind}.fwm"), *ARTIFACTS.glob(f"{kind}-*.fwm")],
            key=lambda path: (path.stem != kind, path.name),
        )
        for kind in CLASSES
    }


def configuration(
    addresses: Mapping[str, Mapping[str, Any]],
    *,
    data_dir: Path,
    bundles: Mapping[str, Sequence[Path]],
    learn: Sequence[str] = (),
    more: str = "",
) -> str:
    """Write the configuration.

    Args:
        addresses: What the plant said it listens on, by source (its `listening` event).
        data_dir: Where the gateway keeps its log.
        bundles: Model bundles of each class: the first judges, the others say more.
        learn: Assets that are to be learned live instead of judged by a shipped bundle.
        more: Further TOML tables, appended as they are.
    """
    parts = [f'[gateway]\nid = "demo"\ndata_dir = {_quoted(data_dir)}\n']
    parts += [
        _opcua("pump-1", addresses["pump-1"]["url"]),
        _modbus(
            "compressor-1",
            f"tcp://{addresses['compressor-1']['host']}:{addresses['compressor-1']['port']}",
            addresses["compressor-1"]["unit"],
        ),
        _modbus(
            "conveyor-1",
            f"rtu://{addresses['conveyor-1']['path']}",
            addresses["conveyor-1"]["unit"],
        ),
        _serial("lathe-1", addresses["lathe-1"]["path"]),
    ]
    for asset, kind in ASSETS.items():
        text = (
            f'[[asset]]\nid = "{asset}"\nclass = "{kind}"\nsite = "demo"\nline = "{LINES[asset]}"\n'
        )
        if CLASSES[kind].running:
            text += f"running = {_quoted(CLASSES[kind].running)}\n"
        own = list(bundles.get(kind, ()))
        if asset in learn:
            text += f"learn = {LEARN}\n"
        elif own:
            text += f"bundle = {_quoted(own.pop(0))}\n"
        if own and asset not in learn:
            text += f"bundles = [{', '.join(map(_quoted, own))}]\nlife_h = {LIFE_H}\n"
        parts.append(text)
    return "\n".join([*parts, more])


def _quoted(value: object) -> str:
    # A JSON string is a TOML basic string.
    return json.dumps(str(value), ensure_ascii=False)


def _signals(asset: str, rows: Mapping[str, str]) -> str:
    sensors = CLASSES[ASSETS[asset]].sensors
    lines = [
        f'  {{ asset = "{asset}", signal = "{name}", unit = "{sensors[name].unit}", {rest} }},'
        for name, rest in rows.items()
    ]
    return "\n".join(["signals = [", *lines, "]"]) + "\n"


def _opcua(asset: str, url: str) -> str:
    # A namespace is written by its URI: its index may change when the server is changed.
    rows = {
        name: f'address = "nsu={NAMESPACE};s={asset}.{name}"'
        for name in CLASSES[ASSETS[asset]].sensors
    }
    return (
        f'[[source]]\nkind = "opcua"\nid = "{asset}"\nurl = "{url}"\nsecurity_policy = "None"\n'
        f"publishing_interval_s = {POLL_S}\nsampling_interval_s = {POLL_S}\n"
        + _signals(asset, rows)
    )


def _modbus(asset: str, url: str, unit: int) -> str:
    rows = {}
    for name, register in REGISTERS[asset].items():
        rows[name] = f'address = "holding:{register.address}", type = "{register.type}"'
        if register.scale != 1.0:
            rows[name] += f", scale = {register.scale}"
    # A pseudo-terminal has no parity.
    line = 'parity = "none"\n' if url.startswith("rtu:") else ""
    return (
        f'[[source]]\nkind = "modbus"\nid = "{asset}"\nurl = "{url}"\nunit_id = {unit}\n'
        f"poll_s = {POLL_S}\n{line}" + _signals(asset, rows)
    )


def _serial(asset: str, path: str) -> str:
    pattern = r"\s+".join(rf"{letter}\s+(?P<{name}>\S+)" for name, letter in LINE.items())
    rows = {name: f'field = "{name}"' for name in LINE}
    return (
        f'[[source]]\nkind = "serial"\nid = "{asset}"\nport = "{path}"\nbaud_rate = 9600\n'
        f"{_signals(asset, rows)}[source.text]\npattern = '{pattern}'\n"
    )
