"""Cuts a graph in two: what must stay float32 on the host, and what the stick computes.

Forewarn's graphs begin with the standardisation of raw units, which does not fit into half
precision (a pressure of 101325 Pa is beyond its largest number). That part is a dozen simple
operators; numpy runs them here, and the rest becomes a graph of its own whose input is `prepared`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

import numpy as np

_TYPES = {1: "<f4", 6: "<i4", 7: "<i8", 9: "?", 11: "<f8"}


class Cut:
    """A graph without its beginning, and the beginning."""

    def __init__(
        self, rest: bytes, nodes: list[dict[str, Any]], constants: dict[str, np.ndarray], at: str
    ) -> None:
        self.rest = rest
        self._nodes = nodes
        self._constants = constants
        self._at = at
        self.width = 0

    def prepare(self, x: np.ndarray) -> np.ndarray:
        """float32[n, d] raw features to float32[n, e], as ONNX Runtime computes them."""
        held: dict[str, np.ndarray] = {**self._constants, "x": x}
        with np.errstate(all="ignore"):
            for node in self._nodes:
                given = [held[name] for name in node["inputs"]]
                held[node["output"]] = _OPERATORS[node["op"]](node, *given)
        return np.ascontiguousarray(held[self._at], np.float32)


_OPERATORS: dict[str, Any] = {
    "Equal": lambda _, a, b: a == b,
    "Where": lambda _, c, a, b: np.where(c, a, b),
    "Add": lambda _, a, b: a + b,
    "Sub": lambda _, a, b: a - b,
    "Mul": lambda _, a, b: a * b,
    "Clip": lambda _, x, low, high: np.minimum(np.maximum(x, low), high),
    "Gather": lambda node, x, at: np.take(x, at, axis=node["axis"]),
    "Concat": lambda node, *parts: np.concatenate(parts, axis=node["axis"]),
    "Identity": lambda _, x: x,
    "Cast": lambda _, x: x.astype(np.float32),
}


def cut_before(model: bytes, tensor: str, features: int) -> Cut | None:
    """Cut at `tensor` a graph of so many features; None where what lies before it is also needed
    behind it, or is unknown."""
    parts = list(_fields(model))
    graph = next(value for number, value in parts if number == 7)
    held = list(_fields(graph))
    nodes = [_node(value) for number, value in held if number == 1]
    wanted = {tensor}
    before: list[bool] = [False] * len(nodes)
    for i in range(len(nodes) - 1, -1, -1):
        if nodes[i]["output"] in wanted:
            before[i] = True
            wanted.update(nodes[i]["inputs"])
    made = {node["output"] for node, early in zip(nodes, before) if early}
    used = {name for node, early in zip(nodes, before) if not early for name in node["inputs"]}
    known = all(node["op"] in _OPERATORS for node, early in zip(nodes, before) if early)
    if tensor not in made or (made | {"x"}) & used != {tensor} or not known:
        return None
    constants = {}
    rest = b""
    at = 0
    for number, value in held:
        if number == 1:
            if not before[at]:
                rest += _field(1, value)
            at += 1
        elif number == 5:
            name, array = _tensor(value)
            if name in wanted:
                constants[name] = array
            if name in used:
                rest += _field(5, value)
        elif number != 11:
            rest += _field(number, value)
    early_nodes = [node for node, early in zip(nodes, before) if early]
    cut = Cut(b"", early_nodes, constants, tensor)
    cut.width = cut.prepare(np.zeros((1, features), np.float32)).shape[1]
    rest += _field(11, _input(tensor, cut.width))
    cut.rest = b"".join(_field(number, rest if number == 7 else value) for number, value in parts)
    return cut


def _node(data: bytes) -> dict[str, Any]:
    node: dict[str, Any] = {"inputs": [], "output": "", "op": "", "axis": 0}
    for number, value in _fields(data):
        if number == 1:
            node["inputs"].append(value.decode())
        elif number == 2:
            node["output"] = value.decode()
        elif number == 4:
            node["op"] = value.decode()
        elif number == 5:
            attribute = dict(_fields(value))
            if attribute.get(1) == b"axis":
                axis = attribute.get(3, 0)
                node["axis"] = axis - (1 << 64) if axis >= 1 << 63 else axis
    return node


def _tensor(data: bytes) -> tuple[str, np.ndarray]:
    dims: list[int] = []
    kind, name, raw = 1, "", b""
    for number, value in _fields(data):
        if number == 1:
            dims += [value] if isinstance(value, int) else list(_varints(value))
        elif number == 2:
            kind = value
        elif number == 8:
            name = value.decode()
        elif number == 9:
            raw = value
    return name, np.frombuffer(raw, _TYPES[kind]).reshape(dims) if raw else np.zeros(dims, "<f4")


def _input(name: str, width: int) -> bytes:
    """A ValueInfoProto: float32[1, width]."""
    shape = b"".join(_field(1, _field(1, size)) for size in (1, width))
    return _field(1, name.encode()) + _field(2, _field(1, _field(1, 1) + _field(2, shape)))


def _fields(data: bytes) -> Iterator[tuple[int, Any]]:
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        wire = key & 7
        value: Any
        if wire == 0:
            value, at = _varint(data, at)
        elif wire == 2:
            size, at = _varint(data, at)
            value, at = data[at : at + size], at + size
        else:
            size = 8 if wire == 1 else 4
            value, at = (
                struct.unpack("<d" if wire == 1 else "<f", data[at : at + size])[0],
                at + size,
            )
        yield key >> 3, value


def _field(number: int, value: bytes | int) -> bytes:
    if isinstance(value, int):
        return _number(number << 3) + _number(value)
    return _number(number << 3 | 2) + _number(len(value)) + value


def _number(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7


def _varints(data: bytes) -> Iterator[int]:
    at = 0
    while at < len(data):
        value, at = _varint(data, at)
        yield value
