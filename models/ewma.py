"""Remembers how strange a machine has been: a little strange for many windows is an anomaly too."""

from dataclasses import asdict, dataclass, fields
from typing import Self

import numpy as np
from numpy.typing import NDArray

from models.errors import BundleError
from models.manifest import Manifest

LEAST = 0.1
"""Of the limit; scores below are equally well, and remembered as this."""
BLOCK = 64

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Ewma:
    """An exponentially weighted moving average of a score's logarithm, and what it counts for.

    What lasts averages the machine's own ups and downs out, so its limit lies lower. About the
    usual score it is stretched to the score's own limit, so that a healthy machine looks as it did.
    It counts no more than the present score does: what is over is not told any longer.

    Attributes:
        cells: After so many cells of the grid what was weighs e times less.
        usual: Score at which a machine begins, the median of its healthy record.
        most: The limit. What passes it is told at once and not remembered: it must not make a
            machine suspect for long after, while the window still holds what is over.
        stretch: How much further the limit lies from the usual than the limit of the average does,
            as a ratio of logarithms; above 1.

    Source:
        Roberts 1959, Control chart tests based on geometric moving averages.
    """

    cells: float
    usual: float
    most: float
    stretch: float

    @classmethod
    def of(cls, manifest: Manifest) -> Self | None:
        """What a bundle holds; None where its record was too short to tell.

        Raises:
            BundleError: It holds something else.
        """
        held = manifest.detail.get("ewma")
        if held is None:
            return None
        names = [field.name for field in fields(cls)]
        if (
            not isinstance(held, dict)
            or sorted(held) != sorted(names)
            or not all(
                isinstance(value, int | float) and 0 < value < np.inf for value in held.values()
            )
        ):
            raise BundleError(
                f"{manifest.id}: detail.ewma must be {', '.join(names)}, all above 0, was {held!r};"
                " train the model anew"
            )
        return cls(**held)

    def pack(self) -> dict[str, float]:
        """For `manifest.detail["ewma"]`."""
        return asdict(self)

    def begin(self, machines: int) -> Floats:
        """float64[machines], the averages of machines that nothing is known of."""
        return np.full(machines, np.log(self.usual))

    def next(
        self, level: Floats, score: NDArray[np.float32], cells: float = 1.0
    ) -> NDArray[np.float32]:
        """float32[n], the scores with what is remembered of each machine.

        Args:
            level: float64[n], the machines' averages; one that has no score, or one above the
                limit, keeps its own.
            score: float32[n], the next score of each; NaN where there is none.
            cells: From one score to the next.
        """
        keep, heard = np.exp(-cells / self.cells), score <= self.most
        level[heard] = keep * level[heard] + (1.0 - keep) * self._log(score[heard])
        return self._with(level, score)

    def along(
        self, level: Floats, score: NDArray[np.float32], cells: float = 1.0
    ) -> NDArray[np.float32]:
        """The same for many scores of one machine, oldest first.

        Args:
            level: float64[1], its average, which is carried on.
            score: float32[n].
            cells: As for `next`.
        """
        heard = score <= self.most
        past = average(self._log(score[heard]), np.exp(-cells / self.cells), level[0])
        # Each score counts with the average as it was left by the last one that was heard.
        past = np.concatenate([level, past])
        level[0] = past[-1]
        return self._with(past[np.cumsum(heard)], score)

    def _with(self, level: Floats, score: NDArray[np.float32]) -> NDArray[np.float32]:
        lasting = np.minimum(score, np.exp(level).astype(np.float32)) / np.float32(self.usual)
        return np.maximum(score, np.float32(self.usual) * lasting ** np.float32(self.stretch))

    def _log(self, score: NDArray[np.float32]) -> Floats:
        return np.log(np.maximum(score.astype(np.float64), LEAST * self.most))


def average(x: Floats, keep: float, start: float | Floats) -> Floats:
    """float64[n] or [n, f]: each is `keep` of the one before (first `start`) and the rest of `x`.

    >>> average(np.array([1.0, 1.0, 0.0]), 0.5, 0.0)
    array([0.5  , 0.75 , 0.375])
    """
    out = np.empty(x.shape)
    power = keep ** np.arange(BLOCK + 1)
    lag = np.subtract.outer(np.arange(BLOCK), np.arange(BLOCK))
    weight = (1.0 - keep) * np.where(lag >= 0, power[np.abs(lag)], 0.0)
    for at in range(0, len(x), BLOCK):
        part = x[at : at + BLOCK]
        n = len(part)
        out[at : at + n] = weight[:n, :n] @ part + np.multiply.outer(power[1 : n + 1], start)
        start = out[at + n - 1]
    return out
