"""Which machines are starting, and how much less their scores count for that."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from models.manifest import Manifest
from models.start import Start


class Starting:
    """Since when each machine of one judge runs."""

    def __init__(self, manifest: Manifest, assets: Sequence[str], hop_cells: int) -> None:
        """Take all of them as settled, until one is seen to begin."""
        self._start = Start.of(manifest)
        self._assets = tuple(assets)
        self._hop_cells = hop_cells
        self._since = np.full(len(assets), np.inf)

    def weigh(
        self, rows: NDArray[np.int64], score: NDArray[np.float32], stands: NDArray[np.bool_]
    ) -> NDArray[np.float32]:
        """float32[n], the scores as they count.

        Args:
            rows: int64[n], whose windows these are.
            score: float32[n], NaN where there is no verdict.
            stands: bool[n], the machine does not run yet all through its window.
        """
        if self._start is None:
            return score
        self._since[rows[stands]] = -self._hop_cells
        since = self._since[rows]
        score = self._start.next(since, score, self._hop_cells)
        self._since[rows] = since
        return score

    def memory(self) -> dict[str, float]:
        """Cells since the start of the machines that have not settled, for the next judge."""
        pairs = zip(self._assets, self._since.tolist(), strict=True)
        return {asset: since for asset, since in pairs if np.isfinite(since)}

    def remember(self, memory: Mapping[str, float]) -> None:
        """Go on where the last judge left off."""
        for i, asset in enumerate(self._assets):
            self._since[i] = memory.get(asset, self._since[i])
