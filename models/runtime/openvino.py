"""OpenVINO: Intel's CPUs, GPUs and NPUs, from the same Q/DQ graph. Needs the openvino extra."""

from collections.abc import Collection
from typing import Any

import numpy as np

from models.bundle import Bundle
from models.errors import BundleError, DeviceError
from models.runtime.session import Floats, Outputs, Precision, checked

STATIC = ("NPU",)
"""Devices that compile for one batch size only; rows then go one by one."""


class OpenVinoSession:
    """One graph compiled by OpenVINO."""

    def __init__(
        self,
        device: str,
        precision: Precision,
        compiled: Any,
        names: Collection[str],
        *,
        static: bool,
    ) -> None:
        self.device = device
        self.precision: Precision = precision
        self._request: Any = compiled.create_infer_request()
        # A tensor has the name of every node that only hands it on, and keeps them in no order.
        self._outputs = [(n, each) for each in compiled.outputs for n in each.names & set(names)]
        self._static = static

    def run(self, x: Floats) -> Outputs:
        if self._request is None:
            raise DeviceError(f"{self.device}: the session is closed")
        rows = [x[i : i + 1] for i in range(len(x))] if self._static and len(x) else [x]
        parts = [self._infer(each) for each in rows]
        out = {name: np.concatenate([part[name] for part in parts]) for name, _ in self._outputs}
        return checked(out, len(x), self.device)

    def close(self) -> None:
        self._request = None

    def _infer(self, x: Floats) -> Outputs:
        try:
            made = self._request.infer({"x": x}, share_inputs=True, share_outputs=False)
        except RuntimeError as error:
            raise DeviceError(f"{self.device}: {error}") from error
        return {name: np.asarray(made[port], np.float32) for name, port in self._outputs}


def here() -> tuple[str, ...]:
    """OpenVINO's devices on this machine; empty where the extra is not installed."""
    try:
        import openvino  # noqa: PLC0415 - an extra
    except ImportError:
        return ()
    return tuple(openvino.Core().available_devices)


def open_openvino(bundle: Bundle, device: str, precision: Precision) -> OpenVinoSession:
    """Compile a bundle for one of OpenVINO's devices.

    Args:
        bundle: As read.
        device: `CPU`, `GPU`, `GPU.1`, `NPU`.
        precision: Which graph.

    Raises:
        DeviceError: The extra or the device is not here.
        BundleError: OpenVINO refuses the graph.
    """
    name = f"openvino:{device}"
    try:
        import openvino  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise DeviceError(f"{name}: needs the extra: pip install 'forewarn[openvino]'") from error
    core = openvino.Core()
    there = tuple(core.available_devices)
    if device not in there and device.partition(".")[0] not in there:
        raise DeviceError(
            f"{name}: OpenVINO {openvino.__version__} sees only {', '.join(there) or 'nothing'}; "
            "install the device's driver"
        )
    static = device.startswith(STATIC)
    # Left to itself OpenVINO computes "float32" in bfloat16 where the CPU can: 8 bits of mantissa
    # beside exact int8, and answers that differ from box to box.
    hints: dict[str, Any] = {"INFERENCE_PRECISION_HINT": "f32"} if device == "CPU" else {}
    if device == "CPU":
        hints["INFERENCE_NUM_THREADS"] = 1
    try:
        model = core.read_model(bundle.int8 if precision == "int8" else bundle.fp32)
        if static:
            model.reshape({"x": [1, len(bundle.manifest.features)]})
        compiled = core.compile_model(model, device, hints)
    except RuntimeError as error:
        raise BundleError(f"{bundle.id}: {name} refuses the graph: {error}") from error
    return OpenVinoSession(name, precision, compiled, bundle.manifest.outputs, static=static)
