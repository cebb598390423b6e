"""Q/DQ pairs of one layer: what it reads as int8, its weight as int8, its bias as int32.

Rounding to int8 also cuts, and that is put to work: a Relu between two layers, and a Clip to the
range of int8 before one, are no operators of their own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

INT8_MAX = 127
"""Of a symmetric weight or activation: -128 is not used."""


@dataclass(frozen=True, slots=True)
class Source:
    """What a heavy node reads as int8.

    Attributes:
        tensor: Its name in the float32 graph.
        scale: Of one step.
        shift: What the tensor is lowered by, so that int8's least value is 0.
    """

    tensor: str
    scale: float
    shift: float = 0.0


def source_of(
    graph: onnx.GraphProto,
    name: str,
    peak: float,
    heavy: Sequence[onnx.NodeProto],
    weights: Mapping[str, onnx.TensorProto],
) -> Source:
    """Past a Relu or Clip that rounding to int8 does as well.

    A layer whose bias is 128 steps lower is cut at -128 steps, where Relu cuts; the layer that
    follows has the 128 steps in its bias. All 256 steps then serve what Relu lets pass.
    """
    maker = _maker(graph, name)
    while maker is not None and maker.op_type == "Clip" and _reaches(maker, peak, weights):
        name = maker.input[0]
        maker = _maker(graph, name)
    plain = Source(name, max(peak, 1e-6) / INT8_MAX)
    if maker is None:
        return plain
    readers = [node for node in graph.node if name in node.input]
    layers = [node for node in heavy if maker.input[0] in node.output] + readers
    if (
        maker.op_type == "Relu"
        and len(layers) > len(readers)
        and sum(maker.input[0] in node.input for node in graph.node) == 1
        and all(any(node is other for other in heavy) for node in readers)
        and all(
            node.op_type == "Gemm" and node.input[2:3] and node.input[2] in weights
            for node in layers
        )
    ):
        step = max(peak, 1e-6) / 255.0
        return Source(maker.input[0], step, 128.0 * step)
    return plain


def _maker(graph: onnx.GraphProto, name: str) -> onnx.NodeProto | None:
    return next((node for node in graph.node if name in node.output), None)


def _reaches(clip: onnx.NodeProto, peak: float, weights: Mapping[str, onnx.TensorProto]) -> bool:
    """Whether it lets pass all that int8 does, so that rounding cuts as well."""
    bounds = clip.input[1:]
    if len(bounds) != 2 or not set(bounds) <= set(weights):
        return False
    low, high = (float(numpy_helper.to_array(weights[each]).item()) for each in bounds)
    return low <= -peak and high >= peak


class Builder:
    """Makes the Q/DQ nodes and their constants."""

    def __init__(self, graph: onnx.GraphProto, weights: dict[str, onnx.TensorProto]) -> None:
        self._graph = graph
        self._weights = weights
        self._done: dict[str, tuple[float, NDArray[np.float64]]] = {}

    def activation(self, tensor: str, scale: float, name: str) -> list[onnx.NodeProto]:
        """Quantise and dequantise an activation as `name`, per tensor, zero point 0."""
        self._add(f"{name}_scale", np.float32(scale))
        self._add("zero_point", np.int8(0))
        return [
            helper.make_node(
                "QuantizeLinear",
                [tensor, f"{name}_scale", "zero_point"],
                [f"{name}_q"],
                name=f"{name}_quantise",
            ),
            helper.make_node(
                "DequantizeLinear",
                [f"{name}_q", f"{name}_scale", "zero_point"],
                [f"{name}_dq"],
                name=f"{name}_dequantise",
            ),
        ]

    def weight(
        self, node: onnx.NodeProto, input_scale: float, input_shift: float, output_shift: float
    ) -> list[onnx.NodeProto]:
        """Store the weight as int8 and the bias as int32 (scale: input x weight)."""
        name = node.input[1]
        made: list[onnx.NodeProto] = []
        if name not in self._done:
            weight = numpy_helper.to_array(self._weights[name])
            top = float(np.abs(weight).max())
            whole = top <= INT8_MAX and not (weight % 1).any()
            scale = 1.0 if whole else max(top, 1e-12) / INT8_MAX
            held = np.clip(np.rint(weight / scale), -INT8_MAX, INT8_MAX)
            transposed = any(a.name == "transB" and a.i for a in node.attribute)
            axis = 0 if node.op_type == "Conv" or transposed else weight.ndim - 1
            other = tuple(i for i in range(weight.ndim) if i != axis)
            self._done[name] = scale, (held * scale).sum(axis=other)
            made.append(self._dequantise(name, held.astype(np.int8), scale))
        node.input[1] = f"{name}_dq"
        if len(node.input) > 2 and node.input[2] in self._weights:
            bias = numpy_helper.to_array(self._weights[node.input[2]]).astype(np.float64)
            if bias.ndim == 1:
                scale, total = self._done[name]
                step, limit = float(np.float32(input_scale * scale)), 2**31 - 1
                held = np.rint((bias + input_shift * total - output_shift) / step)
                name = f"{node.output[0]}_bias"
                rounded = np.clip(held, -limit, limit).astype(np.int32)
                made.append(self._dequantise(name, rounded, step))
                node.input[2] = f"{name}_dq"
        return made

    def _dequantise(
        self, name: str, held: NDArray[np.int8] | NDArray[np.int32], scale: float
    ) -> onnx.NodeProto:
        """What stands for a constant as `name`_dq."""
        self._add(f"{name}_q", held)
        self._add(f"{name}_scale", np.float32(scale))
        self._add(f"{name}_zero", held.dtype.type(0))
        return helper.make_node(
            "DequantizeLinear",
            [f"{name}_q", f"{name}_scale", f"{name}_zero"],
            [f"{name}_dq"],
            name=f"{name}_dequantise",
        )

    def zero(self) -> str:
        """The float32 constant 0."""
        self._add("zero", np.float32(0))
        return "zero"

    def finish(self) -> None:
        """Drop constants that no node reads any more."""
        used = {name for node in self._graph.node for name in node.input}
        kept = [tensor for tensor in self._graph.initializer if tensor.name in used]
        del self._graph.initializer[:]
        self._graph.initializer.extend(kept)

    def _add(self, name: str, value: Any) -> None:
        if not any(tensor.name == name for tensor in self._graph.initializer):
            self._graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
