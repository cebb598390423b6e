"""To which side each machine's signals stray for long, and what that counts for."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from models.manifest import Manifest
from models.strays import Blame, Strays


class Straying:
    """The averages of the machines of one judge."""

    def __init__(self, manifest: Manifest, assets: Sequence[str], hop_cells: int) -> None:
        """Take all of them as where they should be, until windows are seen."""
        self._strays = Strays.of(manifest) if manifest.kind == "anomaly" else None
        self._blame = Blame.of(manifest.features, tuple(s.name for s in manifest.signals))
        self._assets = tuple(assets)
        self._hop_cells = hop_cells
        count = len(assets) if self._strays is not None else 0
        self._level = self._strays.begin(count) if self._strays is not None else np.empty(0)

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
        strays = self._strays
        if strays is None:
            return made
        score, contribution, direction = made
        # What is off at a start counts as much less as its score does.
        raw = outputs["score"]
        share = np.where(raw > 0, alone / np.where(raw > 0, raw, 1), 1).astype(np.float32)
        level = self._level[rows]
        off = outputs["residual"] * share[:, None]
        lasts = strays.next(level, off, alone, self._hop_cells)
        self._level[rows] = level
        by = np.flatnonzero(lasts > score)
        if len(by):
            contribution, direction = contribution.copy(), direction.copy()
            contribution[by], direction[by] = self._blame.blamed(strays.astray(level[by]))
        return np.fmax(score, lasts), contribution, direction

    def memory(self) -> dict[str, list[list[float]]]:
        """How far each machine's signals have strayed; for the next judge by the same bundle."""
        levels = (np.round(level, 5).tolist() for level in self._level)
        return dict(zip(self._assets, levels, strict=False))

    def remember(self, memory: Mapping[str, list[list[float]]]) -> None:
        """Go on where the last judge left off; what is of another shape was of another model."""
        for i in range(len(self._level)):
            known = np.asarray(memory.get(self._assets[i], ()), np.float64)
            if known.shape == self._level[i].shape and np.isfinite(known).all():
                self._level[i] = known
