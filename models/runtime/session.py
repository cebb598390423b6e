"""What every runtime gives: one call from features to outputs, proven on the device at load."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from models.bundle import Bundle, Golden
from models.errors import BundleError, DeviceError

Precision = Literal["int8", "fp32", "fp16"]
Floats = NDArray[np.float32]
Outputs = dict[str, NDArray[np.float32]]


class Session(Protocol):
    """A loaded bundle on one device. Used by one thread at a time."""

    @property
    def device(self) -> str:
        """Where it runs, as `forewarn devices` names it: `cpu`, `openvino:GPU`, `http://…`."""
        ...

    @property
    def precision(self) -> Precision: ...

    def run(self, x: Floats) -> Outputs:
        """All outputs for `n` rows of features, by name; the first axis of each is `n`.

        Raises:
            DeviceError: The device failed or answered with the wrong shape; use another.
        """
        ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Replay:
    """How far a device's answers lie from those of the training machine.

    Attributes:
        worst: Largest difference of any output, as a share of what is allowed; > 1 is a refusal.
        output: Which output that was.
    """

    worst: float
    output: str


def replay(session: Session, golden: Golden, tolerance: float) -> Replay:
    """Run the golden inputs and compare with what the same graph gave when it was made.

    Raises:
        DeviceError: From `run`.
        BundleError: An output is missing, or differs in shape or in where it is NaN.
    """
    return compare(session, golden, session.run(golden.x), tolerance)


def compare(
    session: Session,
    golden: Golden,
    outputs: Outputs,
    tolerance: float,
    rows: slice = slice(None),
) -> Replay:
    """How far the answers to (some of) the golden rows lie from those of the training machine.

    Args:
        session: Who answered.
        golden: What was asked.
        outputs: The answers, for `rows`.
        tolerance: Allowed, as a share of |expected| + mean |expected|.
        rows: Which golden rows were asked.

    Raises:
        BundleError: An output is missing, or differs in shape or in where it is NaN.
    """
    want_all: Mapping[str, NDArray[Any]] = (
        golden.int8 if session.precision == "int8" else golden.fp32
    )
    worst, where = 0.0, ""
    for name, raw in want_all.items():
        every = np.asarray(raw, dtype=np.float64)
        want = every[rows]
        got = np.asarray(outputs.get(name, np.zeros(0)), dtype=np.float64)
        if got.shape != want.shape:
            raise BundleError(
                f"{session.device}: {name} must have shape {want.shape}, was {got.shape}"
            )
        finite = np.isfinite(want)
        if not np.array_equal(finite, np.isfinite(got)):
            raise BundleError(f"{session.device}: {name} is not a number where it should be one")
        if not finite.any():
            continue
        scale = np.abs(every[np.isfinite(every)]).mean()
        allowed = tolerance * (np.abs(want[finite]) + scale) + 1e-7
        share = float((np.abs(got[finite] - want[finite]) / allowed).max())
        if share > worst:
            worst, where = share, name
    return Replay(worst, where)


def agree(
    session: Session, golden: Golden, outputs: Outputs, tolerance: float, rows: slice
) -> None:
    """Compare, and refuse what lies too far off.

    Raises:
        BundleError: It does, or cannot be compared.
    """
    seen = compare(session, golden, outputs, tolerance, rows)
    if seen.worst > 1:
        raise BundleError(
            f"{session.device}: a golden vector must agree within {tolerance:g}, "
            f"{seen.output} was {seen.worst:.1f} times further off"
        )


def proven(session: Session, bundle: Bundle, *, tolerance: float | None = None) -> Session:
    """The session, if it reproduces the golden vectors; closed and refused otherwise.

    Raises:
        BundleError: It does not.
        DeviceError: The device failed while trying.
    """
    allowed = bundle.manifest.golden_tolerance if tolerance is None else tolerance
    try:
        seen = replay(session, bundle.golden, allowed)
    except (BundleError, DeviceError):
        session.close()
        raise
    if seen.worst > 1:
        session.close()
        raise BundleError(
            f"{bundle.id}: golden vectors on {session.device} must agree within {allowed:g}, "
            f"{seen.output} was {seen.worst:.1f} times further off; run `forewarn devices` to see "
            "which device reproduces this bundle"
        )
    return session


def checked(outputs: Outputs, n: int, device: str) -> Outputs:
    """The outputs, if each has `n` rows.

    Raises:
        DeviceError: One has not.
    """
    for name, value in outputs.items():
        if value.ndim == 0 or len(value) != n:
            raise DeviceError(f"{device}: {name} must have {n} rows, had shape {value.shape}")
    return outputs
