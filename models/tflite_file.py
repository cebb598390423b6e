"""A TFLite file under construction: its tensors, its operators, and the bytes of both."""

from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

TYPES = {
    np.dtype(np.float32): schema.TensorType.FLOAT32,
    np.dtype(np.int8): schema.TensorType.INT8,
    np.dtype(np.int32): schema.TensorType.INT32,
    np.dtype(np.int64): schema.TensorType.INT64,
    np.dtype(np.bool_): schema.TensorType.BOOL,
}
OPTIONS = {
    "ADD": "AddOptions",
    "SUB": "SubOptions",
    "MUL": "MulOptions",
    "DIV": "DivOptions",
    "EQUAL": "EqualOptions",
    "GREATER": "GreaterOptions",
    "GREATER_EQUAL": "GreaterEqualOptions",
    "LESS": "LessOptions",
    "LESS_EQUAL": "LessEqualOptions",
    "MAXIMUM": "MaximumMinimumOptions",
    "MINIMUM": "MaximumMinimumOptions",
    "SELECT_V2": "SelectV2Options",
    "QUANTIZE": "QuantizeOptions",
    "DEQUANTIZE": "DequantizeOptions",
    "CAST": "CastOptions",
    "RESHAPE": "ReshapeOptions",
    "SLICE": "SliceOptions",
    "TRANSPOSE": "TransposeOptions",
    "EXP": "ExpOptions",
    "ABS": "AbsOptions",
    "NEG": "NegOptions",
    "SIGN": "SignOptions",
    "BATCH_MATMUL": "BatchMatMulOptions",
    "ADD_N": "AddNOptions",
}

Array = NDArray[Any]


class TfliteFile:
    """One graph; a tensor is known by its number."""

    def __init__(self) -> None:
        self._tensors: list[Any] = []
        self._buffers: list[Any] = [schema.BufferT()]
        self._operators: list[Any] = []
        self._codes: dict[int, int] = {}

    def constant(self, value: Array, scale: Array | None = None) -> int:
        """A tensor that holds these numbers; int8 or int32 with a scale a channel, or one."""
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(np.ascontiguousarray(value).tobytes(), np.uint8)
        self._buffers.append(buffer)
        made = self.tensor(f"k{len(self._buffers)}", value.shape, value.dtype, scale)
        self._tensors[made].buffer = len(self._buffers) - 1
        return made

    def tensor(
        self,
        name: str,
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        scale: Array | None = None,
    ) -> int:
        """A tensor that an operator fills, or the input."""
        tensor = schema.TensorT()
        tensor.name, tensor.shape, tensor.type = name, list(shape), TYPES[dtype]
        tensor.buffer = 0
        if scale is not None:
            held = schema.QuantizationParametersT()
            held.scale = scale.astype(np.float32).tolist()
            held.zeroPoint = [0] * len(scale)
            tensor.quantization = held
        self._tensors.append(tensor)
        return len(self._tensors) - 1

    def operator(self, kind: str, inputs: list[int], output: int, options: Any = None) -> None:
        """Add one builtin operator; `options` where it has other than its kind's defaults."""
        code = getattr(schema.BuiltinOperator, kind)
        operator = schema.OperatorT()
        operator.opcodeIndex = self._codes.setdefault(code, len(self._codes))
        operator.inputs, operator.outputs = inputs, [output]
        if options is None and kind in OPTIONS:
            options = getattr(schema, f"{OPTIONS[kind]}T")()
        if options is not None:
            name = type(options).__name__.removesuffix("T")
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, name)
            operator.builtinOptions = options
        self._operators.append(operator)

    def pack(self, inputs: list[int], outputs: list[int]) -> bytes:
        """The file's bytes."""
        import flatbuffers  # noqa: PLC0415 - comes with ai-edge-litert

        graph = schema.SubGraphT()
        graph.tensors, graph.operators = self._tensors, self._operators
        graph.inputs, graph.outputs = inputs, outputs
        graph.name = "main"
        model = schema.ModelT()
        model.version, model.description = 3, "forewarn"
        model.subgraphs, model.buffers = [graph], self._buffers
        model.operatorCodes = []
        for code in self._codes:
            held = schema.OperatorCodeT()
            held.builtinCode, held.deprecatedBuiltinCode, held.version = code, min(code, 127), 1
            model.operatorCodes.append(held)
        builder = flatbuffers.Builder(1024)
        builder.Finish(model.Pack(builder), b"TFL3")
        return bytes(builder.Output())
