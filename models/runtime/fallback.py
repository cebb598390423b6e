"""A session that goes on: on the CPU where its device fails, and back once that proves itself.

Every call carries one golden row along, whose answer must fit: a device that begins to lie is found
by the first lie that shows there, and costs no second call.
"""

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from models.bundle import Bundle
from models.errors import DeviceError, ModelError
from models.runtime import half_tolerance, open_session
from models.runtime.session import Floats, Outputs, Precision, Session, agree

RETRY_S_MIN, RETRY_S_MAX = 30.0, 600.0
"""A device that failed is tried again after so long, each time after twice as long as before."""


class FallbackSession:
    """One bundle on the device asked for, and on the CPU whenever that fails.

    Attributes:
        fault: Why the device is not used; "" while it is.
    """

    def __init__(
        self,
        bundle: Bundle,
        device: str,
        *,
        cache: Path | None = None,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """Load on both. A device that cannot be opened is a fault to tell of, not an end.

        Args:
            bundle: As read.
            device: As for `open_session`.
            cache: Folder for compiled engines.
            now_s: Monotonic seconds.

        Raises:
            BundleError: Not even the CPU reproduces the bundle.
        """
        self.fault = ""
        self._bundle, self._asked, self._cache, self._now_s = bundle, device, cache, now_s
        self._cpu = open_session(bundle, "cpu")
        self._session: Session | None = None
        self._turn = 0
        self._wait_s = RETRY_S_MIN
        self._due_s = now_s()
        self._try()

    @property
    def device(self) -> str:
        """Where the next call runs."""
        return self._cpu.device if self._session is None else self._session.device

    @property
    def precision(self) -> Precision:
        return self._cpu.precision if self._session is None else self._session.precision

    def run(self, x: Floats) -> Outputs:
        """All outputs for `n` rows; of the device, or of the CPU where that failed.

        Raises:
            DeviceError: The CPU failed as well.
        """
        if self._session is None and self._now_s() >= self._due_s:
            self._try()
        if self._session is not None:
            try:
                return self._watched(self._session, x)
            except ModelError as error:
                self._give_up(str(error))
        return self._cpu.run(x)

    def close(self) -> None:
        if self._session is not None:
            self._session.close()
        self._cpu.close()
        self._session, self._due_s = None, float("inf")

    def _try(self) -> None:
        try:
            self._session = open_session(self._bundle, self._asked, cache=self._cache)
        except ModelError as error:
            self._give_up(str(error))
        else:
            self.fault, self._wait_s = "", RETRY_S_MIN

    def _give_up(self, why: str) -> None:
        if self._session is not None:
            self._session.close()
            self._session = None
        self.fault = why
        self._due_s = self._now_s() + self._wait_s
        self._wait_s = min(2 * self._wait_s, RETRY_S_MAX)

    def _watched(self, session: Session, x: Floats) -> Outputs:
        """The device's answer, if that to the golden row fits and no number is missing.

        Raises:
            DeviceError: The device failed, or a row has no number where the CPU has one.
            BundleError: The golden row's answer does not fit.
        """
        golden, manifest = self._bundle.golden, self._bundle.manifest
        at = self._turn % len(golden.x)
        self._turn += 1
        out = session.run(np.concatenate([x, golden.x[at : at + 1]]))
        seen = {name: value[-1:] for name, value in out.items()}
        tolerance = (
            half_tolerance(manifest) if session.precision == "fp16" else manifest.golden_tolerance
        )
        agree(session, golden, seen, tolerance, slice(at, at + 1))
        out = {name: value[:-1] for name, value in out.items()}
        if not all(np.isfinite(value).all() for value in out.values()):
            sure = self._cpu.run(x)
            if any((np.isfinite(sure[n]) & ~np.isfinite(out[n])).any() for n in sure):
                raise DeviceError(f"{session.device}: gave no number where the CPU gives one")
        return out


def open_lasting(bundle: Bundle, device: str, *, cache: Path | None = None) -> Session:
    """Where a gateway runs a bundle: the plain CPU, or a device with the CPU behind it.

    Raises:
        BundleError: Not even the CPU reproduces the bundle.
    """
    if device == "cpu":
        return open_session(bundle)
    return FallbackSession(bundle, device, cache=cache)
