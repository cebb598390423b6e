"""Runs a bundle's graph on the device that the box has."""

from models.bundle import Bundle
from models.errors import DeviceError
from models.runtime.session import Precision, Replay, Session, proven, replay

__all__ = ["Precision", "Replay", "Session", "open_session", "proven", "replay"]


def open_session(
    bundle: Bundle, device: str = "cpu", *, precision: Precision | None = None
) -> Session:
    """Load a bundle on a device and prove it there with the golden vectors.

    Args:
        bundle: As `models.bundle.read` gives it.
        device: `cpu`, `cuda`, `tensorrt`, `openvino:CPU|GPU|NPU`, or the URL of a model server.
        precision: int8 unless the device has none, or fp32 is asked for.

    Raises:
        DeviceError: The device is not here, or cannot run this.
        BundleError: It runs, and gives other numbers than the bundle promises.
    """
    kind, _, rest = device.partition(":")
    if kind in {"cpu", "cuda", "tensorrt"}:
        from models.runtime import onnx  # noqa: PLC0415 - a runtime is imported when asked for

        return proven(onnx.open_onnx(bundle, kind, precision or "int8"), bundle)
    del rest
    raise DeviceError(f"device: must be cpu, cuda, tensorrt, was {device!r}")
