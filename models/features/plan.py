"""Which features a model takes, of which signals, in which order; computes them for all assets."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from models.errors import BundleError
from models.features.bends import BENDS, SHARES, above
from models.features.catalogue import CATALOGUE, correlation
from models.features.earlier import EARLIER
from models.features.partial import PARTIAL
from models.features.regimes import Regimes
from models.features.stack import Stack, hole_max, recent_cells

if TYPE_CHECKING:
    from models.manifest import Manifest

ERROR, RECENT_ERROR = ERRORS = "error", "recent_error"
"""What gaps may have done to a mean; these no catalogue can tell from the values alone."""
SAMPLES_LEAST = 0.5
"""No sample of its own, but one held from before: known half as well as by one."""
CHUNK_CELLS = 1 << 15
"""Cells worked on at once: a larger array is memory that a gateway takes from the system each time
(decision 030), which took a third longer."""

_KINDS = {**PARTIAL, **EARLIER, **{name: row.compute for name, row in CATALOGUE.items()}}
HINTS = frozenset({*EARLIER, *BENDS})
"""Kinds of features that explain others, and are not judged."""

Ints = NDArray[np.int64]


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
        recent_cells: Cells of the newest part of the window, which `recent_` features see; 0: as
            `stack.recent_cells` says.
        usual: float[k + 1, 2], samples that nine of ten healthy windows hold of each signal, in the
            whole window and in its newest part; last, cells with a sample of any signal in the
            windows that had the fewest. Empty where a model takes no account of gaps.
        levels: float[k, 3], the levels of `models.features.bends`; empty where no feature asks.
        _alike: Each kind of feature, its columns, and the signal (of correlations the two) of each.
    """

    signals: tuple[str, ...]
    names: tuple[str, ...]
    period_s: float
    cells: int
    hop_cells: int = 1
    regimes: Regimes | None = None
    recent_cells: int = 0
    usual: tuple[tuple[float, float], ...] = ()
    levels: tuple[tuple[float, ...], ...] = ()
    _alike: tuple[tuple[str, Ints, Ints], ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        at = {name: i for i, name in enumerate(self.signals)}
        known = set(at)
        columns: dict[str, list[int]] = {}
        owners: dict[str, list[Any]] = {}
        for column, name in enumerate(self.names):
            subject, _, feature = name.rpartition(":")
            pair = feature == "correlation"
            parts = _pair(subject, known) if pair else (subject,)
            if (
                not parts
                or not set(parts) <= known
                or not (pair or feature in ERRORS or feature in BENDS or feature in _KINDS)
            ):
                raise BundleError(f"features: {name!r} is not a feature of this model's signals")
            columns.setdefault(feature, []).append(column)
            mine = [at[part] for part in parts]
            owners.setdefault(feature, []).append(mine if pair else mine[0])
        alike = tuple((f, np.array(columns[f]), np.array(owners[f])) for f in columns)
        object.__setattr__(self, "_alike", alike)

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
            recent_cells=manifest.window.recent_cells or 0,
            usual=_usual(manifest),
            levels=_levels(manifest),
        )

    @property
    def newest(self) -> int:
        """Cells that `recent_` features see."""
        return self.recent_cells or recent_cells(self.cells)

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

    @property
    def measured(self) -> int:
        """How many of the names are features; errors stand behind them."""
        return sum(name.rpartition(":")[2] not in ERRORS for name in self.names)

    def compute(
        self, window: NDArray[np.float64], fresh: NDArray[np.bool_] | None = None
    ) -> NDArray[np.float32]:
        """All features of all assets at once.

        Args:
            window: float64[a, k, cells], NaN where a cell has no usable sample.
            fresh: bool[a, k, cells], which cells have a sample of their own; None for all that
                hold one.

        Returns:
            float32[a, d] in the order of `names`; NaN where a feature has too few samples.
        """
        a, k, cells = window.shape
        assert k == len(self.signals)
        assert cells == self.cells, f"window must have {self.cells} cells, was {cells}"
        out = np.empty((a, len(self.names)), np.float32)
        step = max(1, CHUNK_CELLS // max(1, k * cells))
        for start in range(0, a, step):
            part = slice(start, start + step)
            self._compute(window[part], None if fresh is None else fresh[part], out[part])
        return out

    def _compute(
        self,
        window: NDArray[np.float64],
        fresh: NDArray[np.bool_] | None,
        out: NDArray[np.float32],
    ) -> None:
        a, k, cells = window.shape
        if self.regimes is not None:
            window = self.regimes.normalise(window.transpose(0, 2, 1)).transpose(0, 2, 1)
        most = hole_max(cells) if self.usual else None
        rows = np.ascontiguousarray(window).reshape(a * k, cells)
        stack = Stack(rows, self.period_s, most, self.newest)
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            for feature, columns, signals in self._alike:
                if feature == "correlation":
                    for column, (first, second) in zip(columns, signals, strict=True):
                        out[:, column] = correlation(window[:, first], window[:, second])
                    continue
                if feature in ERRORS:
                    values = self._error(feature, stack, fresh)
                elif feature in BENDS:
                    values = above(stack, np.asarray(self.levels), feature)
                else:
                    values = _KINDS[feature](stack)
                out[:, columns] = np.broadcast_to(values, a * k).reshape(a, k)[:, signals]

    def _error(
        self, feature: str, stack: Stack, fresh: NDArray[np.bool_] | None
    ) -> NDArray[np.float64]:
        """Standard error of each mean by the samples that it lacks; 0 where it lacks none.

        Rows that are missing altogether are lacked by all signals alike, so that levels still
        belong to each other; they count where the healthy record never missed so many.
        """
        lately = feature == RECENT_ERROR
        *usual, fewest = (each[lately] for each in self.usual)
        there = ~np.isnan(stack.values) if fresh is None else fresh
        there = there.reshape(-1, len(usual), self.cells)
        if lately:
            there = there[:, :, -self.newest :]
        rows = np.maximum(there.any(axis=1).sum(axis=1, keepdims=True), fewest)
        asked = np.maximum(np.minimum(usual, rows), SAMPLES_LEAST)
        lacks = 1.0 / np.maximum(there.sum(axis=2), SAMPLES_LEAST) - 1.0 / asked
        told = np.isnan(stack.recent.mean if lately else stack.mean)
        # The fluctuation of the whole window: that of a few samples is known too badly.
        error = np.sqrt(np.nan_to_num(stack.variance) * np.maximum(lacks, 0.0).ravel())
        return np.where(told, np.nan, error)


def _usual(manifest: "Manifest") -> tuple[tuple[float, float], ...]:
    held = manifest.detail.get("usual", [])
    try:
        out = tuple((float(whole), float(recent)) for whole, recent in held)
    except (TypeError, ValueError) as error:
        raise BundleError(f"detail.usual: cannot be read ({error})") from error
    if out and len(out) != len(manifest.signals) + 1:
        raise BundleError(
            f"detail.usual: must be of {len(manifest.signals)} signals and of rows, was {held!r}"
        )
    return out


def _levels(manifest: "Manifest") -> tuple[tuple[float, ...], ...]:
    if not any(name.rpartition(":")[2] in BENDS for name in manifest.features):
        return ()
    held = manifest.detail.get("levels", [])
    try:
        out = tuple(tuple(map(float, each)) for each in held)
    except (TypeError, ValueError) as error:
        raise BundleError(f"detail.levels: cannot be read ({error})") from error
    k = len(manifest.signals)
    if len(out) != k or any(len(e) != len(SHARES) or not np.isfinite(e).all() for e in out):
        raise BundleError(
            f"detail.levels: must be {len(SHARES)} of each of {k} signals, was {held!r}"
        )
    return out


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
