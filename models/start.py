"""A machine that starts is judged by how strange its record was at its start, until it settles."""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from models.errors import BundleError
from models.manifest import DEADBAND, Manifest

POINTS_MAX = 64
STRANGER, LONGER = 1.5, 1.25
"""No two starts are alike: times as strange, and as long, as another may be."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Start:
    """How many times the limit a machine may score from its start on.

    Over as a verdict is, with the first score below the limit's deadband: a machine that begins as
    it is when it runs is judged as ever from its first window on.

    Attributes:
        cells: Of the grid, from one factor to the next; the first is that of a run's first window.
        factors: By which a score counts for less; from 1 on, and none above the one before it.
        low: Score at which a start is over.
    """

    cells: float
    factors: tuple[float, ...]
    low: float

    @classmethod
    def of(cls, manifest: Manifest) -> Self | None:
        """What a bundle holds; None where its record showed no start.

        Raises:
            BundleError: It holds something else.
        """
        held = manifest.detail.get("start")
        if held is None or manifest.limit is None:
            return None
        try:
            cells, factors = float(held["cells"]), tuple(map(float, held["factors"]))
        except (TypeError, KeyError, ValueError):
            cells, factors = 0.0, ()
        fall = np.array([np.inf, *factors, 1.0])
        if not 0 < cells < np.inf or not factors or not (np.diff(fall) <= 0).all():
            raise BundleError(
                f"{manifest.id}: detail.start must be cells above 0 and factors that fall to 1, was"
                f" {held!r}; train the model anew"
            )
        return cls(cells, factors, (1.0 - DEADBAND) * manifest.limit.value)

    @classmethod
    def seen(cls, scores: list[Floats], limit: float, reach: int, cells: float) -> Self | None:
        """What the starts of a record teach; None where none passes the limit's deadband.

        Args:
            scores: float64[n_i], of each start, by what was learned without them.
            limit: Of the score.
            reach: Windows by which another start may be late.
            cells: From one score to the next.
        """
        low = (1.0 - DEADBAND) * limit
        most = np.ones(max(map(len, scores), default=0))
        for score in scores:
            # What is to come is no stranger than what was, or chance would tell each start apart.
            fall = np.maximum.accumulate(np.nan_to_num(score)[::-1])[::-1] / low
            most[: len(fall)] = np.maximum(most[: len(fall)], fall)
        most = most[most > 1.0]
        if not len(most):
            return None
        slower = np.arange(round(LONGER * len(most)) + reach) - reach
        most = STRANGER * most[np.maximum(slower / LONGER, 0).astype(np.int64)]
        step = -(-len(most) // POINTS_MAX)
        return cls(step * cells, tuple(np.round(most[::step], 3).tolist()), low)

    def pack(self) -> dict[str, Any]:
        """For `manifest.detail["start"]`."""
        return {"cells": self.cells, "factors": list(self.factors)}

    def next(
        self, since: Floats, score: NDArray[np.float32], cells: float = 1.0
    ) -> NDArray[np.float32]:
        """float32[n], the scores, those of machines that are starting by their factors less.

        Args:
            since: float64[n], cells since each machine's start, infinite where it has settled; is
                carried on.
            score: float32[n], the next score of each; NaN where there is none, which ends nothing.
            cells: From one score to the next.
        """
        since[score <= self.low] = np.inf
        factor = self._factor(since)
        since += cells
        return score / factor

    def along(
        self,
        since: Floats,
        score: NDArray[np.float32],
        begins: NDArray[np.bool_],
        cells: float = 1.0,
    ) -> NDArray[np.float32]:
        """The same for many scores of one machine, oldest first.

        Args:
            since: float64[1].
            score: float32[n].
            begins: bool[n], where a run begins.
            cells: As for `next`.
        """
        out = score.copy()
        first = np.flatnonzero(begins)
        for begin, at, end in zip([-1, *first], [0, *first], [*first, len(score)], strict=True):
            if begin >= 0:
                since[0] = 0.0
            times = since[0] + cells * np.arange(end - at)
            settled = np.flatnonzero(score[at:end] <= self.low)
            if len(settled):
                times[settled[0] :] = np.inf
            out[at:end] /= self._factor(times)
            since[0] = np.inf if len(settled) else since[0] + cells * (end - at)
        return out

    def _factor(self, since: Floats) -> NDArray[np.float32]:
        known = np.array([*self.factors, 1.0], np.float32)
        return known[np.clip(since / self.cells, 0, len(self.factors)).astype(np.int64)]
