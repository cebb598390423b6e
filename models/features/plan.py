"""Which features a model takes, of which signals, in which order; computes them for all assets."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

from models.errors import BundleError
from models.features.catalogue import CATALOGUE, Stack, correlation
from models.features.partial import PARTIAL
from models.features.regimes import Regimes

if TYPE_CHECKING:
    from models.manifest import Manifest

CHUNK_CELLS = 1 << 22
"""Cells worked on at once, so that memory stays bounded however many windows are asked for."""


@dataclass(frozen=True, slots=True)
class FeaturePlan:
    """The inputs of one model.

    Attributes:
        signals: The `k` signal names, in the order of the window's second axis.
        names: The `d` features: `signal:feature`, or `signal|signal:correlation`.
        period_s: Time between grid cells (for row windows: what was seen in training, else 1).
        cells: Length of the window.
        hop_cells: Step from one window to the next.
        regimes: Operating conditions to take out of every cell first, or None.
    """

    signals: tuple[str, ...]
    names: tuple[str, ...]
    period_s: float
    cells: int
    hop_cells: int = 1
    regimes: Regimes | None = None

    def __post_init__(self) -> None:
        known = set(self.signals)
        for name in self.names:
            subject, _, feature = name.rpartition(":")
            pair = feature == "correlation"
            parts = _pair(subject, known) if pair else (subject,)
            if (
                not parts
                or not set(parts) <= known
                or not (pair or feature in CATALOGUE or feature in PARTIAL)
            ):
                raise BundleError(f"features: {name!r} is not a feature of this model's signals")

    @classmethod
    def from_manifest(cls, manifest: "Manifest") -> Self:
        """The plan of a bundle.

        Raises:
            BundleError: A feature or signal that this version does not know.
        """
        return cls(
            signals=tuple(signal.name for signal in manifest.signals),
            names=manifest.features,
            period_s=manifest.window.period_s or 1.0,
            cells=manifest.window.cells,
            hop_cells=manifest.window.hop_cells,
            regimes=_regimes(manifest),
        )

    @property
    def rate_hz(self) -> float:
        """Grid cells a second."""
        return 1.0 / self.period_s

    @property
    def owners(self) -> tuple[tuple[str, ...], ...]:
        """For each feature, the signal (or the two) that it is made of."""
        known = set(self.signals)
        return tuple(
            _pair(subject, known) if feature == "correlation" else (subject,)
            for subject, _, feature in (name.rpartition(":") for name in self.names)
        )

    def compute(self, window: NDArray[np.float64]) -> NDArray[np.float32]:
        """All features of all assets at once.

        Args:
            window: float64[a, k, cells], NaN where a cell has no usable sample.

        Returns:
            float32[a, d] in the order of `names`; NaN where a feature has too few samples.
        """
        a, k, cells = window.shape
        assert k == len(self.signals)
        assert cells == self.cells, f"window must have {self.cells} cells, was {cells}"
        out = np.empty((a, len(self.names)), np.float32)
        step = max(1, CHUNK_CELLS // max(1, k * cells))
        for start in range(0, a, step):
            self._compute(window[start : start + step], out[start : start + step])
        return out

    def _compute(self, window: NDArray[np.float64], out: NDArray[np.float32]) -> None:
        a, k, cells = window.shape
        if self.regimes is not None:
            window = self.regimes.normalise(window.transpose(0, 2, 1)).transpose(0, 2, 1)
        stack = Stack(np.ascontiguousarray(window).reshape(a * k, cells), self.period_s)
        done: dict[str, NDArray[np.float64]] = {}
        at = {name: i for i, name in enumerate(self.signals)}
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            for column, name in enumerate(self.names):
                subject, _, feature = name.rpartition(":")
                if feature == "correlation":
                    first, second = _pair(subject, set(at))
                    out[:, column] = correlation(window[:, at[first]], window[:, at[second]])
                    continue
                if feature not in done:
                    held = CATALOGUE.get(feature)
                    values = PARTIAL[feature](stack) if held is None else held.compute(stack)
                    done[feature] = np.broadcast_to(values, a * k).reshape(a, k)
                out[:, column] = done[feature][:, at[subject]]


def _regimes(manifest: "Manifest") -> Regimes | None:
    held = manifest.detail.get("regimes")
    if held is None:
        return None
    try:
        return Regimes.unpack(held, len(manifest.signals))
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise BundleError(f"detail.regimes: cannot be read ({error})") from error


def _pair(subject: str, known: set[str]) -> tuple[str, ...]:
    """The two signals of `a|b`, whose names may hold bars themselves; empty if none."""
    parts = subject.split("|")
    for cut in range(1, len(parts)):
        first, second = "|".join(parts[:cut]), "|".join(parts[cut:])
        if first in known and second in known:
            return first, second
    return ()
