"""What was found at a server, and how it is written as a source that is ready to paste. Pure."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from asyncua import ua

from protocols.opcua.settings import Settings

_NUMBERS = frozenset(
    (
        "Boolean",
        "SByte",
        "Byte",
        "Int16",
        "UInt16",
        "Int32",
        "UInt32",
        "Int64",
        "UInt64",
        "Float",
        "Double",
    )
)
_INSECURE = "  # as it was browsed; without this line encrypted, after: forewarn trust URL"


@dataclass(slots=True, eq=False)
class Found:
    """One node of the tree.

    Attributes:
        name: Its browse name, without namespace.
        node: Its id at the server.
        address: The same as an operator writes it, by namespace URI.
        variable: Whether it holds a value.
        type: Name of the value's type, `[]` behind it for an array; "" for an object.
        unit: From EngineeringUnits; "" where the server tells none.
        low, high: From EURange; None where the server tells none.
        value: What it holds now; None where it cannot be read.
        fields: Of a structure, each number in it by its field path.
        children: In the server's order.
    """

    name: str
    node: ua.NodeId
    address: str
    variable: bool
    type: str = ""
    unit: str = ""
    low: float | None = None
    high: float | None = None
    value: Any = None
    fields: dict[str, float] = field(default_factory=dict)
    children: list["Found"] = field(default_factory=list)

    @property
    def number(self) -> bool:
        """Whether it is one number, or true or false: what a signal can be without more ado."""
        return self.type in _NUMBERS

    def walk(self, depth: int = 0) -> Iterator[tuple[int, "Found"]]:
        """Itself and all below it, with their depth."""
        yield depth, self
        for child in self.children:
            yield from child.walk(depth + 1)


def to_toml(root: Found, config: Settings) -> str:
    """A source with every number below `root`, ready to paste and to thin out."""
    lines = [
        "[[source]]",
        'kind = "opcua"',
        f"id = {_text(config.id)}",
        f"url = {_text(config.url)}",
    ]
    if config.security_policy != "Basic256Sha256":
        lines.append(f"security_policy = {_text(config.security_policy)}{_INSECURE}")
    lines.append("signals = [")
    used: set[tuple[str, str]] = set()
    for asset, found in _with_parent(root, root.name):
        paths = list(found.fields) if not found.number else [""]
        if todo := _unfinished(found):
            lines.append(
                f"  # {{ asset = {_text(_name(asset))}, signal = {_text(_name(found.name))}, "
                f"address = {_text(found.address)}, {todo}"
            )
        for path in paths:
            name = found.name + (path if path.startswith("[") else f".{path}" if path else "")
            names = (_name(asset), _name(name))
            n = 2
            while names in used:
                names = names[0], f"{_name(name)} {n}"
                n += 1
            used.add(names)
            unit = f", unit = {_text(found.unit[:40])}" if found.unit else ""
            inside = f", field = {_text(path)}" if path else ""
            lines.append(
                f"  {{ asset = {_text(names[0])}, signal = {_text(names[1])}{unit}, "
                f"address = {_text(found.address)}{inside} }},{_remark(found, path)}"
            )
    return "\n".join([*lines, "]", ""])


def _unfinished(found: Found) -> str:
    """What a text or a waveform wants of a person before it is a signal; "" for all else."""
    if found.type == "String":
        return f"states = {{ {_text(str(found.value)[:40])} = 1 }} }},  # a text: number its words"
    array_of_numbers = found.type.endswith("[]") and found.type[:-2] in _NUMBERS
    return "rate_hz = … },  # an array: samples per second" if array_of_numbers else ""


def _remark(found: Found, path: str) -> str:
    """What an engineer wants to see beside a row: its present value, and its range."""
    value = found.fields[path] if path else found.value
    span = "" if path or found.low is None else f", {found.low:g} to {found.high:g}"
    shown = f"{value:g}" if isinstance(value, int | float) else "no value"
    return f"  # now {shown}{span}"


def _with_parent(found: Found, parent: str) -> Iterator[tuple[str, Found]]:
    yield parent, found
    for child in found.children:
        yield from _with_parent(child, found.name)


def _name(text: str) -> str:
    """A browse name as an identifier: no slash, nothing that does not print."""
    return "".join("_" if c == "/" or not c.isprintable() else c for c in text)[:80] or "_"


def _text(text: str) -> str:
    """A TOML string."""
    return json.dumps(text, ensure_ascii=False)
