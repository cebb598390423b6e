"""Takes numbers that a model learned to mean "no value" for what they are: BAD, and counted."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from gateway.core.batch import BAD, Batch
from gateway.pipeline.fleet import Post


class NoValues:
    """What means "no value" of which signal.

    Attributes:
        seen: Samples that were such a number, since the start.
    """

    def __init__(self) -> None:
        self.seen = 0
        self._codes = np.empty((0, 0))

    def learn(self, posts: Sequence[Post]) -> None:
        """Go by what the bundles of these posts learned, each of its own assets' signals."""
        codes: dict[int, set[float]] = {}
        for post in posts:
            manifest = post.judge.bundle.manifest
            learned = manifest.detail.get("no_value") or {}
            for column, signal in enumerate(manifest.signals):
                for number in (
                    post.watch.signals[:, column].tolist() if signal.name in learned else ()
                ):
                    if number >= 0:
                        codes.setdefault(number, set()).update(learned[signal.name])
        # The last column is for signals that came to be known later: they have none.
        depth, width = max(map(len, codes.values()), default=0), max(codes, default=-1) + 2
        self._codes = np.full((depth, width), np.nan)
        for number, each in codes.items():
            self._codes[: len(each), number] = sorted(each)

    def taken_out(self, batch: Batch) -> Batch:
        """The batch, BAD where a sample is such a number."""
        depth, width = self._codes.shape
        if not depth:
            return batch
        none = (batch.value == self._codes[:, np.minimum(batch.signal, width - 1)]).any(axis=0)
        if not none.any():
            return batch
        self.seen += int(np.count_nonzero(none))
        return replace(
            batch,
            value=np.where(none, np.nan, batch.value),
            quality=np.where(none, BAD, batch.quality),
        )
