"""ONNX Runtime: the CPU, and NVIDIA's GPUs through its CUDA and TensorRT providers."""

import contextlib
import io
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from models.bundle import Bundle
from models.errors import BundleError, DeviceError
from models.runtime.session import Floats, Outputs, Precision, checked

PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}
HOW = {
    "cuda": "install onnxruntime-gpu in place of onnxruntime, and NVIDIA's driver",
    "tensorrt": "install NVIDIA's onnxruntime-gpu wheel and TensorRT (the `jetson` page)",
}


ROWS_AT_ONCE, ROWS_AT_ONCE_SMALL = 128, 256
"""A CPU works in parts, so that what lies between two layers stays in its cache."""
SMALL_BYTES = 150_000
"""Of the float32 graph; what lies between the layers of a smaller one is small too."""
ARENA_BYTES = 1 << 18
"""What the arena begins with; it grows by what is asked for."""
ENGINE_ROWS_MAX = 1024
"""A TensorRT engine is built for 1 to so many rows; a larger one would be built anew in service."""


class OnnxSession:
    """One graph in ONNX Runtime."""

    def __init__(self, device: str, precision: Precision, session: Any, rows_max: int) -> None:
        self.device = device
        self.precision: Precision = precision
        self._session: Any = session
        self._step = rows_max
        self._names = [output.name for output in session.get_outputs()]

    def run(self, x: Floats) -> Outputs:
        if self._session is None:
            raise DeviceError(f"{self.device}: the session is closed")
        starts = range(0, max(1, len(x)), self._step)
        parts = [self._part(x[at : at + self._step]) for at in starts]
        if len(parts) == 1:
            return parts[0]
        return {name: np.concatenate([part[name] for part in parts]) for name in self._names}

    def _part(self, x: Floats) -> Outputs:
        try:
            values = self._session.run(self._names, {"x": x})
        except Exception as error:  # the runtime's errors share no base but this one
            raise DeviceError(f"{self.device}: {error}") from error
        out = {n: np.asarray(v, np.float32) for n, v in zip(self._names, values, strict=True)}
        return checked(out, len(x), self.device)

    def close(self) -> None:
        self._session = None


def here() -> tuple[str, ...]:
    """Devices that the installed ONNX Runtime was built for."""
    built = set(ort.get_available_providers())
    return tuple(name for name, provider in PROVIDERS.items() if provider in built)


def open_onnx(
    bundle: Bundle, device: str, precision: Precision, *, cache: Path | None = None
) -> OnnxSession:
    """Load a bundle from its bytes (so that nothing outside them can be read).

    Args:
        bundle: As read.
        device: `cpu`, `cuda` or `tensorrt`.
        precision: Which graph.
        cache: Folder for TensorRT's engines, which take minutes to build; None for no cache.

    Raises:
        DeviceError: ONNX Runtime here has no such provider, or it would quietly use the CPU.
        BundleError: The runtime refuses the graph.
    """
    if device not in here():
        raise DeviceError(
            f"{device}: ONNX Runtime {ort.__version__} here has only {', '.join(here())}; "
            f"{HOW.get(device, 'install onnxruntime')}"
        )
    if device != "cpu":
        # NVIDIA's libraries from PyPI lie where no loader looks; silent where there are none.
        with contextlib.redirect_stdout(io.StringIO()):
            ort.preload_dlls()
    graph = bundle.int8 if precision == "int8" else bundle.fp32
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.enable_mem_pattern = False
    if device == "cpu":
        _share_arena()
        options.add_session_config_entry("session.use_env_allocators", "1")
    providers = _providers(device, bundle, precision, cache)
    try:
        session = ort.InferenceSession(graph, options, providers=providers)
    except Exception as error:  # as above
        raise BundleError(f"{bundle.id}: {device} refuses the graph: {error}") from error
    if device != "cpu" and PROVIDERS[device] not in session.get_providers():
        raise DeviceError(f"{device}: the provider did not start; {HOW[device]}")
    # It would hold the bytes for a fallback to other providers, which is ours to choose.
    session.disable_fallback()
    session._model_bytes = None  # noqa: SLF001 - nothing public lets go of them
    at_once = ROWS_AT_ONCE if len(bundle.fp32) > SMALL_BYTES else ROWS_AT_ONCE_SMALL
    rows_max = {"tensorrt": ENGINE_ROWS_MAX, "cuda": 1 << 30}.get(device, at_once)
    return OnnxSession(device, precision, session, rows_max)


@cache
def _share_arena() -> None:
    """One arena for all models: they run one after the other, and in parts, which bounds it.

    Each its own would hold the most that its model ever took, 8 MB for a forest; none would wait
    for pages half the time.
    """
    kind, where = ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, ort.OrtMemType.DEFAULT
    grow_by_what_is_asked = 1
    ort.create_and_register_allocator(
        ort.OrtMemoryInfo("Cpu", kind, 0, where),
        ort.OrtArenaCfg(
            {
                "arena_extend_strategy": grow_by_what_is_asked,
                "initial_chunk_size_bytes": ARENA_BYTES,
            }
        ),
    )


def _providers(device: str, bundle: Bundle, precision: Precision, cache: Path | None) -> list[Any]:
    """The provider and what may take over what it cannot run."""
    cpu = PROVIDERS["cpu"]
    if device == "cpu":
        return [cpu]
    # TF32 keeps 10 bits of mantissa of what is called float32.
    cuda = (PROVIDERS["cuda"], {"use_tf32": 0})
    if device == "cuda":
        return [cuda, cpu]
    # Explicit Q/DQ needs no calibration table. What is not int8 stays float32 beside it: raw units
    # do not fit into half precision.
    d = len(bundle.manifest.features)
    options: dict[str, Any] = {
        "trt_int8_enable": precision == "int8",
        "trt_fp16_enable": precision == "fp16",
        "trt_profile_min_shapes": f"x:1x{d}",
        "trt_profile_opt_shapes": f"x:32x{d}",
        "trt_profile_max_shapes": f"x:{ENGINE_ROWS_MAX}x{d}",
    }
    if cache is not None:
        cache.mkdir(parents=True, exist_ok=True)
        options |= {
            "trt_engine_cache_enable": True,
            "trt_engine_cache_path": str(cache),
            "trt_engine_cache_prefix": f"{bundle.sha256[:16]}_{precision}",
        }
    return [(PROVIDERS["tensorrt"], options), cuda, cpu]
