"""Signals that a model has not seen for long: which, since when, and why."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gateway.pipeline.windows import Windows
from models.features.burst import base_of
from models.features.plan import ERRORS, FeaturePlan
from models.sensors import MASKED, SensorFault

MISSING, SPARSE = "missing", "sparse"
"""No usable sample in the window, or too few of them; other reasons are faults of the sensor."""


@dataclass(frozen=True, slots=True)
class Gone:
    """A signal in which nothing is seen.

    Attributes:
        signal: Its name; a waveform's where all that describes it is gone.
        since_ns: UTC ns, the end of the first window without it.
        why: `missing`, `sparse`; or `stuck` or `no_value`, for which it is hidden.
    """

    signal: str
    since_ns: int
    why: str


class Unseen:
    """What one judge did not see of the assets that it judges."""

    def __init__(self, plan: FeaturePlan, assets: Sequence[str]) -> None:
        self._assets, self._signals = assets, plan.signals
        self._span_ns = round(plan.cells * plan.period_s * 1e9)
        own: dict[str, int] = {}
        for column, (owners, name) in enumerate(zip(plan.owners, plan.names, strict=True)):
            if len(owners) == 1 and name.rpartition(":")[2] not in ERRORS:
                own.setdefault(owners[0], column)
        # A signal without a feature of its own cannot be missed.
        self._column = np.array([own.get(signal, -1) for signal in plan.signals])
        self._since_ns = np.zeros((len(assets), len(plan.signals)), np.int64)
        self._bases = tuple(base_of(signal) for signal in plan.signals)
        self._parts = Counter(self._bases)

    def memory(self) -> dict[str, dict[str, int]]:
        """Since when what is not seen; for the next judge by the same bundle."""
        known: dict[str, dict[str, int]] = {}
        for row, k in np.argwhere(self._since_ns > 0).tolist():
            known.setdefault(self._assets[row], {})[self._signals[k]] = int(self._since_ns[row, k])
        return known

    def remember(self, memory: Mapping[str, Mapping[str, int]]) -> None:
        """Go on where the last judge left off: a restart brings no signal back."""
        for row, asset in enumerate(self._assets):
            for k, signal in enumerate(self._signals):
                self._since_ns[row, k] = memory.get(asset, {}).get(signal, 0)

    def saw(
        self,
        windows: Windows,
        features: NDArray[np.float32],
        faults: NDArray[np.uint8] | None = None,
    ) -> tuple[tuple[Gone, ...], ...]:
        """What was not seen in each window, nor for a window's length before; () where all was.

        Args:
            windows: What there was to see.
            features: float32[n, d], NaN where too few samples were usable.
            faults: uint8[n, k], `SensorFault` of each signal; None where nobody can tell.
        """
        gone = np.isnan(features[:, self._column]) & (self._column >= 0)
        before = self._since_ns[windows.rows]
        if not gone.any() and not before.any():
            return ()
        end_ns = windows.end_ns[:, None]
        # What is not judged is not looked at either.
        looked = windows.full if windows.running is None else windows.full & (windows.running == 1)
        since_ns = np.where(gone, np.where(before > 0, before, end_ns), 0)
        since_ns = np.where(looked[:, None], since_ns, before)
        self._since_ns[windows.rows] = since_ns
        long = (since_ns > 0) & (end_ns - since_ns >= self._span_ns)
        return tuple(
            self._named(
                since_ns[row],
                np.flatnonzero(long[row]),
                looked[row] & (windows.coverage[row] > 0),
                None if faults is None else faults[row],
            )
            for row in range(len(long))
        )

    def _named(
        self,
        since_ns: NDArray[np.int64],
        at: NDArray[np.int64],
        came: NDArray[np.bool_],
        faults: NDArray[np.uint8] | None,
    ) -> tuple[Gone, ...]:
        """What is gone of one machine; a waveform of which all parts are is gone itself."""
        whole = {
            b for b, n in Counter(self._bases[k] for k in at).items() if b and n == self._parts[b]
        }
        out: dict[str, Gone] = {}
        for k in at.tolist():
            fault = SensorFault.NONE if faults is None else SensorFault(faults[k])
            nothing = SPARSE if came[k] else MISSING
            why = fault.name.lower() if fault in MASKED else nothing
            name = self._bases[k] if self._bases[k] in whole else self._signals[k]
            out.setdefault(name, Gone(name, int(since_ns[k]), why))
        return tuple(out.values())
