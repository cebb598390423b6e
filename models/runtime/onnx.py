"""ONNX Runtime: the CPU, and NVIDIA's GPUs through its CUDA and TensorRT providers."""

from typing import Any

import numpy as np
import onnxruntime as ort

from models.bundle import Bundle
from models.errors import BundleError, DeviceError
from models.runtime.session import Floats, Outputs, Precision, checked


class OnnxSession:
    """One graph in ONNX Runtime."""

    def __init__(self, device: str, precision: Precision, session: ort.InferenceSession) -> None:
        self.device = device
        self.precision: Precision = precision
        self._session: Any = session
        self._names = [output.name for output in session.get_outputs()]

    def run(self, x: Floats) -> Outputs:
        try:
            values = self._session.run(self._names, {"x": x})
        except Exception as error:  # the runtime's errors share no base but this one
            raise DeviceError(f"{self.device}: {error}") from error
        out = {n: np.asarray(v, np.float32) for n, v in zip(self._names, values, strict=True)}
        return checked(out, len(x), self.device)

    def close(self) -> None:
        self._session = None


def open_onnx(bundle: Bundle, device: str, precision: Precision) -> OnnxSession:
    """Load a bundle from its bytes (so that nothing outside them can be read).

    Raises:
        BundleError: The runtime refuses the graph.
    """
    graph = bundle.int8 if precision == "int8" else bundle.fp32
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.enable_cpu_mem_arena = False
    options.enable_mem_pattern = False
    try:
        session = ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # as above
        raise BundleError(f"{bundle.id}: {device} refuses the graph: {error}") from error
    return OnnxSession(device, precision, session)
