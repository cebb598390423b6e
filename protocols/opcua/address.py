"""Reads what an operator writes for a node: a node id, or a path of browse names. Pure.

    i=2258                          numeric, namespace 0
    ns=2;s=Pump.Speed               text, by namespace index
    nsu=urn:plant:press;s=Speed     text, by namespace URI: survives a PLC download
    /Objects/2:Pump/2:Speed         browse path from the root folder
    /Objects/{urn:plant}Pump/Speed  the same by URI; a name without a namespace takes the last one

In a path `&` escapes the characters `/ : { } &` in a name (Part 4, A.2). A field path leads into
a structure or array: `Motor.Temperature`, `Winding[2]`, `[0].Value`.
"""

import re
from dataclasses import dataclass
from typing import Literal, TypeAlias

Namespace: TypeAlias = int | str
"""By index, or by URI."""


@dataclass(frozen=True, slots=True)
class NodeAddress:
    """A node id whose namespace may still be a URI."""

    namespace: Namespace
    kind: Literal["i", "s", "g", "b"]
    identifier: str


@dataclass(frozen=True, slots=True)
class PathAddress:
    """Browse names from the root folder on."""

    names: tuple[tuple[Namespace, str], ...]


Address: TypeAlias = NodeAddress | PathAddress

_NODE = re.compile(
    r"(?:ns=(?P<ns>\d{1,5});|nsu=(?P<nsu>[^;]+);)?(?P<kind>[isgb])=(?P<id>.+)", re.DOTALL
)
_STEP = re.compile(r"(?:(?P<ns>\d{1,5}):|\{(?P<nsu>[^}]+)\})?(?P<name>.+)", re.DOTALL)
_FIELD = re.compile(r"\.?(?P<name>[^.\[\]]+)|\[(?P<index>\d{1,9})\]")
_GUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_BASE64 = re.compile(r"[A-Za-z0-9+/]+={0,2}")
NAMESPACE_MAX = 65_535


def parse_address(text: str) -> Address:
    """Read one address.

    Raises:
        ValueError: With the rule that it breaks.
    """
    if text.startswith("/"):
        return _parse_path(text)
    found = _NODE.fullmatch(text)
    if found is None:
        raise ValueError(
            "must be a node id (ns=2;s=Pump.Speed, nsu=urn:plant;i=7) "
            "or a browse path (/Objects/2:Pump/2:Speed)"
        )
    kind, identifier = found["kind"], found["id"]
    if kind == "i" and not (identifier.isascii() and identifier.isdigit()):
        raise ValueError(f"i= must be followed by a whole number, was {identifier!r}")
    if kind == "i" and int(identifier) > 2**32 - 1:
        raise ValueError(f"a numeric identifier is at most 4294967295, was {identifier}")
    if kind == "g" and not _GUID.fullmatch(identifier):
        raise ValueError(f"g= must be followed by a GUID, was {identifier!r}")
    if kind == "b" and not _BASE64.fullmatch(identifier):
        raise ValueError(f"b= must be followed by base64, was {identifier!r}")
    return NodeAddress(_namespace(found["ns"], found["nsu"], 0), _kind(kind), identifier)


def parse_field(text: str) -> tuple[str | int, ...]:
    """Read a field path: names and positions, outermost first; nothing for an empty text.

    Raises:
        ValueError: With the rule that it breaks.
    """
    steps: list[str | int] = []
    at = 0
    while at < len(text):
        found = _FIELD.match(text, at)
        if found is None or (at == 0 and text.startswith(".")):
            raise ValueError(f"must be like Motor.Temperature or Winding[2], was {text!r}")
        if at and found["name"] and text[at] != ".":
            raise ValueError(f"must be like Motor.Temperature or Winding[2], was {text!r}")
        steps.append(int(found["index"]) if found["name"] is None else found["name"])
        at = found.end()
    return tuple(steps)


def _parse_path(text: str) -> PathAddress:
    names: list[tuple[Namespace, str]] = []
    namespace: Namespace = 0
    for step in _split(text[1:]):
        found = _STEP.fullmatch(step)
        if found is None:
            raise ValueError(f"a browse path has no empty name, was {text!r}")
        namespace = _namespace(found["ns"], found["nsu"], namespace)
        names.append((namespace, re.sub(r"&(.)", r"\1", found["name"], flags=re.DOTALL)))
    return PathAddress(tuple(names))


def _split(text: str) -> list[str]:
    """Cut at each slash that is neither escaped nor inside the braces of a namespace URI."""
    steps, step, depth, escaped = [], "", 0, False
    for char in text:
        if char == "/" and not depth and not escaped:
            steps.append(step)
            step = ""
            continue
        if not escaped:
            depth += (char == "{" and not step) - (char == "}" and depth > 0)
        escaped = char == "&" and not escaped and not depth
        step += char
    return [*steps, step]


def _namespace(index: str | None, uri: str | None, default: Namespace) -> Namespace:
    if index is not None:
        if int(index) > NAMESPACE_MAX:
            raise ValueError(f"a namespace index is at most {NAMESPACE_MAX}, was {index}")
        return int(index)
    return default if uri is None else uri


def _kind(text: str) -> Literal["i", "s", "g", "b"]:
    match text:
        case "i" | "s" | "g" | "b":
            return text
        case _:
            raise AssertionError(text)
