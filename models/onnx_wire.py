"""Reads what an ONNX file asks for, straight off its protobuf bytes, and runs nothing.

The `onnx` package has a long list of CVEs and is no run-time dependency; what a gateway must know
before it hands a graph to a runtime fits in a walk over a few field numbers (onnx.proto, IR 3-10).
Also runs in the NCS2 worker, so it keeps to Python 3.9 and the standard library.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Union

OPERATORS = frozenset(
    """
    Abs Add And ArgMax ArgMin AveragePool Cast Clip Concat Constant Conv DequantizeLinear Div
    Equal  Erf Exp Flatten Gather Gemm GlobalAveragePool GlobalMaxPool Greater GreaterOrEqual
    Identity  IsInf IsNaN LeakyRelu Less LessOrEqual Log MatMul Max MaxPool Min Mul Neg Not Or
    Pow  QuantizeLinear Reciprocal ReduceL2 ReduceMax ReduceMean ReduceMin ReduceSum
    ReduceSumSquare  Relu Reshape Round Sigmoid Sign Slice Softmax Softplus Split Sqrt Squeeze
    Sub Sum Tanh TopK  Transpose Unsqueeze Where
    """.split()  # noqa: SIM905 - forty names read better as text
)
"""What a bundle's graph may use. No control flow, no strings, nothing that makes a large tensor
out of a small file (Expand, Tile, ConstantOfShape, Range, Pad, Resize), no foreign domain."""

IR_VERSION_MIN, IR_VERSION_MAX = 7, 10
OPSET_MIN, OPSET_MAX = 13, 21
NODES_MAX = 2_000
ATTRIBUTE_MAX = 65_536
TENSOR_VALUES_MAX = 16_000_000

_VARINT, _I64, _BYTES, _I32 = 0, 1, 2, 5
_MODEL_IR, _MODEL_GRAPH, _MODEL_OPSET, _MODEL_TRAINING, _MODEL_FUNCTIONS = 1, 7, 8, 20, 25
_GRAPH_NODE, _GRAPH_INITIALIZER, _GRAPH_INPUT, _GRAPH_OUTPUT, _GRAPH_SPARSE = 1, 5, 11, 12, 15
_NODE_OP, _NODE_ATTRIBUTE, _NODE_DOMAIN = 4, 5, 7
_ATTR_NAME, _ATTR_INT, _ATTR_TENSOR, _ATTR_INTS = 1, 3, 5, 8
_ATTR_FORBIDDEN = frozenset({6, 10, 11, 14, 15, 22, 23})
"""Sub-graphs, types and lists of tensors: no allowed operator has one."""
_TENSOR_DIMS, _TENSOR_TYPE, _TENSOR_EXTERNAL, _TENSOR_LOCATION = 1, 2, 13, 14
_TENSOR_STRING = 6

Value = Union[int, bytes]  # noqa: UP007 - Python 3.9


class WireError(Exception):
    """The bytes are no ONNX graph, or one that may not run: names the rule and the value."""


@dataclass
class Asked:
    """What a graph asks for."""

    ir_version: int = 0
    opset: int = 0
    operators: dict[str, int] = field(default_factory=dict)
    inputs: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    initializers: int = 0


def fields(data: bytes) -> Iterator[tuple[int, int, Value]]:
    """Cut one protobuf message into (field number, wire type, value), in file order.

    Raises:
        WireError: The bytes end early, or hold a group, which ONNX never does.
    """
    at, end = 0, len(data)
    while at < end:
        key, at = _varint(data, at)
        number, wire = key >> 3, key & 7
        if number == 0:
            raise WireError("field number must be at least 1, was 0")
        value: Value
        if wire == _VARINT:
            value, at = _varint(data, at)
        elif wire == _BYTES:
            size, at = _varint(data, at)
            if size > end - at:
                raise WireError(f"field {number}: {size} bytes announced, {end - at} left")
            value, at = data[at : at + size], at + size
        elif wire in {_I64, _I32}:
            size = 8 if wire == _I64 else 4
            if size > end - at:
                raise WireError(f"field {number}: cut off")
            value, at = data[at : at + size], at + size
        else:
            raise WireError(f"field {number}: wire type must be 0, 1, 2 or 5, was {wire}")
        yield number, wire, value


def check(model: bytes) -> Asked:
    """Say what a graph asks for, and refuse what a bundle may not.

    Raises:
        WireError: Not a graph, an operator or domain off the list, external data, functions,
            sub-graphs, or a size out of bounds.
    """
    asked = Asked()
    graphs: list[bytes] = []
    for number, _, value in fields(model):
        if number == _MODEL_IR:
            asked.ir_version = _int(value)
        elif number == _MODEL_GRAPH:
            graphs.append(_bytes(value))
        elif number == _MODEL_OPSET:
            asked.opset = _opset(_bytes(value))
        elif number == _MODEL_FUNCTIONS:
            raise WireError("local functions are not allowed")
        elif number == _MODEL_TRAINING:
            raise WireError("training information is not allowed")
    if not IR_VERSION_MIN <= asked.ir_version <= IR_VERSION_MAX:
        raise WireError(
            f"IR version must be {IR_VERSION_MIN} to {IR_VERSION_MAX}, was {asked.ir_version}"
        )
    if not OPSET_MIN <= asked.opset <= OPSET_MAX:
        raise WireError(f"opset must be {OPSET_MIN} to {OPSET_MAX}, was {asked.opset}")
    if len(graphs) != 1:
        raise WireError(f"there must be one graph, were {len(graphs)}")
    _graph(graphs[0], asked)
    return asked


def _graph(graph: bytes, asked: Asked) -> None:
    nodes = 0
    for number, _, value in fields(graph):
        if number == _GRAPH_NODE:
            nodes += 1
            if nodes > NODES_MAX:
                raise WireError(f"nodes must be at most {NODES_MAX}, were more")
            operator = _node(_bytes(value))
            asked.operators[operator] = asked.operators.get(operator, 0) + 1
        elif number == _GRAPH_INITIALIZER:
            asked.initializers += _tensor(_bytes(value))
        elif number == _GRAPH_INPUT:
            asked.inputs.append(_name(_bytes(value)))
        elif number == _GRAPH_OUTPUT:
            asked.outputs.append(_name(_bytes(value)))
        elif number == _GRAPH_SPARSE:
            raise WireError("sparse initializers are not allowed")
    if asked.initializers > TENSOR_VALUES_MAX:
        raise WireError(f"constants must be at most {TENSOR_VALUES_MAX} values in all")


def _node(node: bytes) -> str:
    operator = domain = ""
    for number, _, value in fields(node):
        if number == _NODE_OP:
            operator = _text(value)
        elif number == _NODE_DOMAIN:
            domain = _text(value)
        elif number == _NODE_ATTRIBUTE:
            _attribute(_bytes(value))
    if domain not in {"", "ai.onnx"}:
        raise WireError(f"operator domain must be ai.onnx, was {domain!r} ({operator!r})")
    if operator not in OPERATORS:
        raise WireError(f"operator {operator!r} is not on the list")
    return operator


def _attribute(attribute: bytes) -> None:
    for number, wire, value in fields(attribute):
        if number in _ATTR_FORBIDDEN:
            raise WireError("an attribute must not hold a graph, a type or a sparse tensor")
        if number == _ATTR_TENSOR:
            _tensor(_bytes(value))
        elif number == _ATTR_INT:
            _bounded(_int(value))
        elif number == _ATTR_INTS:
            for item in [_int(value)] if wire == _VARINT else _packed(_bytes(value)):
                _bounded(item)


def _tensor(tensor: bytes) -> int:
    """Count the values of a tensor by its shape, having checked that its data is inside."""
    values = 1
    for number, wire, value in fields(tensor):
        if number == _TENSOR_EXTERNAL or (number == _TENSOR_LOCATION and value != 0):
            raise WireError("external data is not allowed: a bundle holds its whole graph")
        if number == _TENSOR_STRING:
            raise WireError("text tensors are not allowed")
        if number == _TENSOR_DIMS:
            for size in [_int(value)] if wire == _VARINT else _packed(_bytes(value)):
                if not 0 <= size <= TENSOR_VALUES_MAX:
                    raise WireError(f"a tensor's size must be 0 to {TENSOR_VALUES_MAX}, was {size}")
                values *= size
    if values > TENSOR_VALUES_MAX:
        raise WireError(f"a tensor must hold at most {TENSOR_VALUES_MAX} values, was {values}")
    return values


def _opset(data: bytes) -> int:
    domain, version = "", 0
    for number, _, value in fields(data):
        if number == 1:
            domain = _text(value)
        elif number == 2:
            version = _int(value)
    if domain not in {"", "ai.onnx"}:
        raise WireError(f"operator set must be ai.onnx, was {domain!r}")
    return version


def _name(value_info: bytes) -> str:
    for number, _, value in fields(value_info):
        if number == 1:
            return _text(value)
    return ""


def _bounded(value: int) -> None:
    if abs(value) > ATTRIBUTE_MAX:
        raise WireError(f"an attribute must be within +-{ATTRIBUTE_MAX}, was {value}")


def _packed(data: bytes) -> Iterator[int]:
    at = 0
    while at < len(data):
        value, at = _varint(data, at)
        yield _signed(value)


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(data):
            raise WireError("a number is cut off")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFF_FFFF_FFFF_FFFF, at
        shift += 7
        if shift > 63:
            raise WireError("a number is longer than 64 bits")


def _signed(value: int) -> int:
    return value - (1 << 64) if value >= 1 << 63 else value


def _int(value: Value) -> int:
    if not isinstance(value, int):
        raise WireError("a number was expected, were bytes")
    return _signed(value)


def _bytes(value: Value) -> bytes:
    if not isinstance(value, bytes):
        raise WireError("bytes were expected, was a number")
    return value


def _text(value: Value) -> str:
    return _bytes(value)[:200].decode("utf-8", errors="replace")
