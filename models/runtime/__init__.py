"""Runs a bundle's graph on the device that the box has."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from models.bundle import Bundle
from models.errors import BundleError, DeviceError
from models.manifest import Manifest
from models.runtime.session import Precision, Replay, Session, proven, replay

__all__ = [
    "Precision",
    "Replay",
    "Session",
    "Tried",
    "candidates",
    "half_tolerance",
    "open_session",
    "proven",
    "replay",
    "try_all",
]

HALF_TOLERANCE = 0.05
"""Half precision reproduces the float32 graph less well than int8 reproduces itself."""
HALF_TOO = ("tensorrt", "http://", "https://")
"""Devices that may compute in half precision what they cannot take in int8."""
TIMED_CALLS = 30


def open_session(
    bundle: Bundle,
    device: str = "cpu",
    *,
    precision: Precision | None = None,
    cache: Path | None = None,
) -> Session:
    """Load a bundle on a device and prove it there with the golden vectors.

    Args:
        bundle: As `models.bundle.read` gives it.
        device: `cpu`, `cuda`, `tensorrt`, `openvino:CPU|GPU|NPU`, the URL of a model server, or
            `auto` for the fastest of those here that reproduces the bundle.
        precision: None for int8, or half precision where a server or TensorRT has no int8 that
            passes (an NCS2 has none at all).
        cache: Folder for compiled engines.

    Raises:
        DeviceError: The device is not here, or cannot run this.
        BundleError: It runs, and gives other numbers than the bundle promises.
    """
    if device == "auto":
        return _fastest(bundle, precision, cache)
    try:
        return _proven(bundle, device, precision or "int8", cache)
    except BundleError:
        if not device.startswith(HALF_TOO) or precision is not None:
            raise
        # What cannot be had in int8 may be had in half precision, and has to prove itself.
        return _proven(bundle, device, "fp16", cache)


def _proven(bundle: Bundle, device: str, precision: Precision, cache: Path | None) -> Session:
    session = _open(bundle, device, precision, cache)
    half = half_tolerance(bundle.manifest) if precision == "fp16" else None
    return proven(session, bundle, tolerance=half)


def half_tolerance(manifest: Manifest) -> float:
    """What half precision may differ by, as a share of |expected| + mean |expected|."""
    return max(manifest.golden_tolerance, HALF_TOLERANCE)


@dataclass(frozen=True, slots=True)
class Tried:
    """How one device did with one bundle.

    Attributes:
        device: Its name.
        precision: What was run.
        refused: Why it cannot be used; "" where it can.
        load_ms: From bytes to a proven session.
        batch_1_us: Median time of a call with one row; NaN where refused.
        batch_32_us: The same with 32 rows.
        off: Worst difference from the golden vectors, as a share of what is allowed.
    """

    device: str
    precision: Precision
    refused: str
    load_ms: float = float("nan")
    batch_1_us: float = float("nan")
    batch_32_us: float = float("nan")
    off: float = float("nan")


def candidates(servers: Sequence[str] = ()) -> list[tuple[str, Precision]]:
    """Everything on this machine that may run a bundle, and the servers named."""
    from models.runtime import onnx, openvino  # noqa: PLC0415 - only what is asked for is loaded

    local: list[tuple[str, Precision]] = [(name, "int8") for name in onnx.here()]
    local += [(f"openvino:{name}", "int8") for name in openvino.here()]
    remote: list[tuple[str, Precision]] = [(url, "int8") for url in servers]
    return [*local, *remote]


def try_all(bundle: Bundle, devices: Sequence[tuple[str, Precision]]) -> list[Tried]:
    """Load, prove and time a bundle on each device; no refusal stops the others."""
    return [_try(bundle, device, precision) for device, precision in devices]


def _try(bundle: Bundle, device: str, precision: Precision) -> Tried:
    started_s = time.perf_counter()
    try:
        session = open_session(bundle, device, precision=precision)
    except (DeviceError, BundleError) as error:
        return Tried(device, precision, str(error))
    load_ms = 1e3 * (time.perf_counter() - started_s)
    try:
        seen = replay(session, bundle.golden, bundle.manifest.golden_tolerance)
        one = _median_us(session, bundle, 1)
        many = _median_us(session, bundle, 32)
    except (DeviceError, BundleError) as error:
        return Tried(device, precision, str(error))
    finally:
        session.close()
    return Tried(device, precision, "", load_ms, one, many, seen.worst)


def _median_us(session: Session, bundle: Bundle, n: int) -> float:
    rows = np.resize(bundle.golden.x, (n, bundle.golden.x.shape[1]))
    times = []
    for _ in range(TIMED_CALLS):
        started_ns = time.perf_counter_ns()
        session.run(rows)
        times.append(time.perf_counter_ns() - started_ns)
    return float(np.median(times)) / 1e3


def _fastest(bundle: Bundle, precision: Precision | None, cache: Path | None) -> Session:
    """The device with the shortest call that passes; the CPU always does."""
    wanted = [(device, precision or held) for device, held in candidates()]
    passed = [tried for tried in try_all(bundle, wanted) if not tried.refused]
    if not passed:
        return open_session(bundle, "cpu", precision=precision, cache=cache)
    best = min(passed, key=lambda tried: tried.batch_1_us)
    return open_session(bundle, best.device, precision=best.precision, cache=cache)


def _open(bundle: Bundle, device: str, precision: Precision, cache: Path | None) -> Session:
    kind, _, rest = device.partition(":")
    if kind in {"http", "https"}:
        from models.runtime import oip  # noqa: PLC0415 - only what is asked for is loaded

        return oip.open_oip(bundle, device, precision)
    if kind == "openvino" and rest:
        from models.runtime import openvino  # noqa: PLC0415

        return openvino.open_openvino(bundle, rest, precision)
    if kind in {"cpu", "cuda", "tensorrt"} and not rest:
        from models.runtime import onnx  # noqa: PLC0415

        return onnx.open_onnx(bundle, kind, precision, cache=cache)
    raise DeviceError(
        "device: must be auto, cpu, cuda, tensorrt, openvino:NAME or the URL of a model server, "
        f"was {device!r}"
    )
