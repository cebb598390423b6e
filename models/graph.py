"""Builds the small ONNX graphs that bundles hold. Needs the train extra, not the gateway.

A graph takes `x` float32[n, d] with NaN where a feature is missing. `prepare` is the part that
must stay exact (float32, on the host where a device computes in half precision): it ends in the
tensor `prepared`, which a worker may cut at.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import ArrayLike, NDArray
from onnx import TensorProto, helper, numpy_helper

OPSET = 13
"""Every runtime that we support reads it."""
IR_VERSION = 8
PREPARED = "prepared"
EXACT = "exact"
"""Prefix of the names of heavy tensors that stay float32."""


class Graph:
    """One graph under construction. Methods add nodes and give the name of what they make."""

    def __init__(self, name: str, d: int) -> None:
        self.name = name
        self.d = d
        self.ranges: dict[str, float] = {}
        """Largest magnitudes that are known for certain, for `models.quantise`."""
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[tuple[str, tuple[int, ...], bytes], str] = {}
        self._initializers: list[onnx.TensorProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []
        self._count = 0

    @property
    def x(self) -> str:
        """The input, float32[n, d]."""
        return "x"

    def constant(self, value: ArrayLike, dtype: type[np.generic] = np.float32) -> str:
        """A constant; equal ones are stored once."""
        array = np.ascontiguousarray(np.asarray(value, dtype=dtype))
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._constants:
            name = f"c{len(self._constants)}"
            self._constants[key] = name
            self._initializers.append(numpy_helper.from_array(array.copy(), name))
        return self._constants[key]

    def node(self, operator: str, *inputs: str, name: str | None = None, **attributes: Any) -> str:
        """One operator with one output; the output's name."""
        self._count += 1
        made = name or f"t{self._count}"
        self._nodes.append(
            helper.make_node(
                operator, list(inputs), [made], name=f"{operator}_{made}", **attributes
            )
        )
        return made

    def first(self, tensor: str, columns: int) -> str:
        """The first so many columns of a tensor."""
        ends = [self.constant([value], np.int64) for value in (0, columns, -1)]
        return self.node("Slice", tensor, *ends)

    def name_exact(self) -> str:
        """A name for a heavy node's output that `models.quantise` leaves in float32."""
        self._count += 1
        return f"{EXACT}{self._count}"

    def prepare(
        self, tensor: str, centre: ArrayLike, scale: ArrayLike, *, clip: float = 10.0
    ) -> tuple[str, str]:
        """(tensor - centre) / scale within +-clip; what is missing becomes 0 and counts as absent.

        The choice stands between the two, since some runtimes would else compute
        tensor / scale - centre / scale, which loses the digits that a tree's threshold asks for.

        Args:
            tensor: Name of float32[n, d], NaN where missing.
            centre: float[d].
            scale: float[d], > 0.
            clip: Largest magnitude that passes; also the range that int8 has to cover.

        Returns:
            Names of z float32[n, d] (called `prepared`) and of present bool[n, d].
        """
        present = self.node("Equal", tensor, tensor, name="present")
        centred = self.node("Sub", tensor, self.constant(centre))
        known = self.node("Where", present, centred, self.constant(0.0))
        scaled = self.node("Mul", known, self.constant(1.0 / np.asarray(scale, dtype=np.float64)))
        low, high = self.constant(-clip), self.constant(clip)
        return self.node("Clip", scaled, low, high, name=PREPARED), present

    def dense(
        self,
        x: str,
        weight: NDArray[np.floating[Any]],
        bias: NDArray[np.floating[Any]],
        activation: str = "Relu",
    ) -> str:
        """x @ weight + bias, then an activation ("" for none).

        Args:
            x: Name of float32[n, i].
            weight: float[i, o].
            bias: float[o].
            activation: An operator of one input, such as Relu, Tanh, Sigmoid.
        """
        made = self.node("Gemm", x, self.constant(weight), self.constant(bias))
        return self.node(activation, made) if activation else made

    def output(self, tensor: str, name: str, shape: Sequence[int | str]) -> None:
        """Make a float32 tensor an output called `name`."""
        self.node("Identity", tensor, name=name)
        self._outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape)))

    def model(self) -> onnx.ModelProto:
        """The finished model, checked by the onnx package."""
        x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", self.d])
        graph = helper.make_graph(
            self._nodes, self.name, [x], self._outputs, initializer=self._initializers
        )
        model: onnx.ModelProto = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
            producer_name="forewarn",
        )
        onnx.checker.check_model(model, full_check=True)
        return model
