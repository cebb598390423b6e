"""To which side each machine's signals stray for long, and what that counts for."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from models.manifest import Manifest
from models.strays import RESIDUAL, Blame, Strays, eased


class Straying:
    """The averages of the machines of one judge."""

    def __init__(self, manifest: Manifest, assets: Sequence[str], hop_cells: int) -> None:
        """Take all of them as where they should be, until windows are seen."""
        strays = Strays.of(manifest)
        self._strays = strays
        self._blame: Blame | None = None
        self._assets = tuple(assets)
        self._hop_cells = hop_cells
        self._level = np.empty(0)
        if strays is not None:
            self._blame = Blame.of(manifest.features, tuple(s.name for s in manifest.signals))
            self._level = strays.begin(len(assets))

    def weigh(
        self,
        rows: NDArray[np.int64],
        outputs: Mapping[str, NDArray[np.float32]],
        alone: NDArray[np.float32],
        made: tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int8]],
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int8]]:
        """Score, contribution and direction with what strays: of each window, what says more.

        Args:
            rows: int64[n], whose windows these are.
            outputs: The graph's.
            alone: float32[n], the score of each window, as it counts; NaN where there is none.
            made: Score, contribution and direction as they are without.
        """
        strays, blame = self._strays, self._blame
        if strays is None or blame is None:
            return made
        score, contribution, direction = made
        level = self._level[rows]
        off = eased(outputs[RESIDUAL], outputs["score"], alone)
        lasts = strays.next(level, off, alone, self._hop_cells)
        self._level[rows] = level
        by = np.flatnonzero(lasts > score)
        if len(by):
            contribution, direction = contribution.copy(), direction.copy()
            contribution[by], direction[by] = blame.blamed(strays.astray(level[by]))
        return np.fmax(score, lasts), contribution, direction

    def memory(self) -> dict[str, list[list[float]]]:
        """How far each machine's signals have strayed; for the next judge by the same bundle."""
        levels: list[list[list[float]]] = np.round(self._level, 5).tolist()
        return dict(zip(self._assets, levels, strict=False))

    def remember(self, memory: Mapping[str, list[list[float]]]) -> None:
        """Go on where the last judge left off; what is of another shape was of another model."""
        for i in range(len(self._level)):
            known = np.asarray(memory.get(self._assets[i], ()), np.float64)
            if known.shape == self._level[i].shape and np.isfinite(known).all():
                self._level[i] = known
