"""Remembers to which side signals stray: a little off for many windows is an anomaly too.

What each feature is off by, with its sign, is averaged over windows, so that what goes up and down
cancels and what stays to one side does not. That sees what no single window shows: a fifth of the
power lost, a vane ten degrees off. `models.ewma` remembers how strange a machine has been instead.
"""

from dataclasses import asdict, dataclass, fields
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from models.errors import BundleError
from models.ewma import Ewma, average
from models.features.plan import ERRORS, HINTS
from models.manifest import Manifest

RESIDUAL = "residual"
"""The graph's output that is remembered: float32[n, f]."""
SHORT = 8
"""The short average's time is so much shorter than the long one's."""
STILL = 3.0
"""The long average counts up to so many times the short one, so it is over when the machine is
well; the short one is less sure by the root of 8."""
BOUND = 8.0
"""Standard deviations at which one window says no more."""
POWER = 4
"""Of the norm over features, as of a window's own score."""

Floats = NDArray[np.float64]
Scores = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Strays:
    """Exponentially weighted moving averages of residuals, and what they count for.

    Attributes:
        cells: After so many cells of the grid what was weighs e times less in the long average.
        unit: Of each of the `f` features of the whole window: how far its average may stray.
        usual: Score that usual averages count for, the median of the healthy record.
        healthy: Norm of the averages, in units, that is usual.
        stretch: Powers of the one for each of the other, so that both limits meet.
        most: The limit. What passes it is told at once, and not remembered.

    Source:
        Lowry, Woodall, Champ and Rigdon 1992, A multivariate exponentially weighted moving average
        control chart; here with a norm that a single signal can pass.
    """

    cells: float
    unit: tuple[float, ...]
    usual: float
    healthy: float
    stretch: float
    most: float

    @classmethod
    def of(cls, manifest: Manifest) -> Self | None:
        """What a bundle holds; None where its record was too short to tell.

        Raises:
            BundleError: It holds something else.
        """
        held = manifest.detail.get("strays")
        if held is None:
            return None
        count = len(of_the_window(manifest.features))
        if RESIDUAL not in manifest.outputs or not _fits(held, cls, count):
            raise BundleError(
                f"{manifest.id}: detail.strays must be {', '.join(f.name for f in fields(cls))},"
                f" all above 0, with a unit for each of {count} features, and the outputs must hold"
                f" {RESIDUAL}; was {str(held)[:80]} beside {', '.join(manifest.outputs)}; train the"
                " model anew"
            )
        return cls(**{**held, "unit": tuple(map(float, held["unit"]))})

    def pack(self) -> dict[str, Any]:
        """For `manifest.detail["strays"]`."""
        return asdict(self)

    def begin(self, machines: int) -> Floats:
        """float64[machines, 2, f], the averages, long and short, of machines not known yet."""
        return np.zeros((machines, 2, len(self.unit)))

    def next(self, level: Floats, residual: Scores, score: Scores, cells: float = 1.0) -> Scores:
        """float32[n], what the averages count for; NaN where there is no score.

        Args:
            level: float64[n, 2, f], the machines' averages, which are carried on.
            residual: float32[n, f], how far each feature is off, in standard deviations.
            score: float32[n], of the window alone.
            cells: From one window to the next.
        """
        heard = score <= self.most
        keep = self._keep(cells)[:, None]
        off = bounded(residual[heard])[:, None]
        level[heard] = keep * level[heard] + (1.0 - keep) * off
        return np.where(np.isnan(score), np.float32(np.nan), self.counted(level))

    def along(
        self, level: Floats, residual: Scores, score: Scores, cells: float = 1.0
    ) -> tuple[Scores, Floats]:
        """The same for many windows of one machine, oldest first; and float64[n, 2, f].

        Args:
            level: float64[1, 2, f], its averages.
            residual: float32[n, f].
            score: float32[n].
            cells: As for `next`.
        """
        heard = score <= self.most
        past = np.concatenate([level, self._past(level[0], residual[heard], cells)])
        level[0] = past[-1]
        levels = past[np.cumsum(heard)]
        told = np.where(np.isnan(score), np.float32(np.nan), self.counted(levels))
        return told, levels

    def astray(self, levels: Floats) -> Floats:
        """float64[n, f], in units: how far each feature has strayed, and still does."""
        out: Floats = still(levels) / np.array(self.unit)
        return out

    def counted(self, levels: Floats) -> Scores:
        """float32[n], the score that these averages count for."""
        far = np.mean(self.astray(levels) ** POWER, axis=-1) ** (1.0 / POWER)
        told = self.usual * (far / self.healthy) ** self.stretch
        return np.asarray(told, np.float32)

    def _keep(self, cells: float) -> Floats:
        out: Floats = np.exp(-cells / self.cells * np.array([1.0, SHORT]))
        return out

    def _past(self, level: Floats, residual: Scores, cells: float) -> Floats:
        return averages(bounded(residual), self._keep(cells), level)


def averages(x: Floats, keep: Floats, level: Floats) -> Floats:
    """float64[n, 2, f], the long and the short average of `x` float64[n, f] as each row left it."""
    both = (average(x, float(k), start) for k, start in zip(keep, level, strict=True))
    return np.stack(list(both), axis=1)


def still(levels: Floats) -> Floats:
    """float64[n, f], the long average as far as the short one bears it out."""
    long, short = levels[..., 0, :], levels[..., 1, :]
    with_it = np.maximum(STILL * short * np.sign(long), 0.0)
    out: Floats = np.sign(long) * np.minimum(np.abs(long), with_it)
    return out


def of_the_window(features: tuple[str, ...]) -> list[int]:
    """Which features are judged over the whole window; a graph's `residual` is of these."""
    kinds = [name.rpartition(":")[2] for name in features]
    other = {*HINTS, *ERRORS}
    return [i for i, k in enumerate(kinds) if k not in other and not k.startswith("recent_")]


@dataclass(frozen=True, slots=True, eq=False)
class Blame:
    """Which signals of a model carry what strays.

    Attributes:
        owner: float64[f, k], 1 where a feature is of a signal.
        level: float64[f, k], the same of what tells its level.
    """

    owner: Floats
    level: Floats

    @classmethod
    def of(cls, features: tuple[str, ...], signals: tuple[str, ...]) -> Self:
        """Of a bundle's features and signals."""
        at = of_the_window(features)
        owner, level = np.zeros((len(at), len(signals))), np.zeros((len(at), len(signals)))
        for row, (signal, _, kind) in enumerate(features[i].rpartition(":") for i in at):
            owner[row, signals.index(signal)] = 1.0
            level[row, signals.index(signal)] = float(kind == "mean")
        return cls(owner, level)

    def blamed(self, astray: Floats) -> tuple[Scores, NDArray[np.int8]]:
        """float32[n, k], each signal's share of what strays, and int8[n, k], to which side."""
        fourth = astray**POWER
        mine = fourth @ self.owner
        share = mine / np.maximum(mine.sum(axis=1, keepdims=True), 1e-30)
        side = np.sign(astray @ self.level) * (2.0 * (fourth @ self.level) >= mine)
        return share.astype(np.float32), side.astype(np.int8)


def eased(residual: Scores, score: Scores, alone: Scores) -> Scores:
    """float32[n, f], what is off at a machine's start: as much less as its score counts then.

    Args:
        residual: float32[n, f], of the graph.
        score: float32[n], of the graph.
        alone: float32[n], that score as it counts.
    """
    known = score > 0
    share = np.where(known, alone / np.where(known, score, 1.0), 1.0)
    return (residual * share[:, None]).astype(np.float32)


def remembered(
    alone: Scores, residual: Scores, ewma: Ewma | None, strays: Strays | None, cells: float
) -> Scores:
    """float32[n], the scores of one machine, not known before, with all that is remembered of it.

    Args:
        alone: float32[n], of each window by itself, oldest first.
        residual: float32[n, f].
        ewma: How strange it has been.
        strays: To which side its signals stray.
        cells: From one window to the next.
    """
    out = alone if ewma is None else ewma.along(ewma.begin(1), alone, cells)
    if strays is not None:
        out = np.fmax(out, strays.along(strays.begin(1), residual, alone, cells)[0])
    return out


def bounded(residual: Scores | Floats) -> Floats:
    """float64[n, f], as one window may count; 0 where nothing is known."""
    out: Floats = np.clip(np.nan_to_num(residual), -BOUND, BOUND).astype(np.float64)
    return out


def _fits(held: object, kind: type[Strays], count: int) -> bool:
    names = {field.name for field in fields(kind)}
    if not isinstance(held, dict) or held.keys() != names:
        return False
    unit = held["unit"]
    if not isinstance(unit, list | tuple) or len(unit) != count:
        return False
    every = [*unit, *(value for name, value in held.items() if name != "unit")]
    return all(isinstance(value, int | float) and 0 < value < np.inf for value in every)
