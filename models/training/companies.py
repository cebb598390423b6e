"""Which features are compared with each other: all of a scale, or companies of a wide machine.

What others let expect of a feature is learned, stored and computed for each pair, so with the
square of the features, and their correlations are turned with the cube. A company is what belongs
together, and it hears delegates of all the rest of the machine. Why: gateway/decisions/049.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FEATURES_MAX = 512
"""Of a company, delegates included: of a scale of so many, all are one company. On a machine of up
to 256 signals they are."""
DELEGATES = 128
REACH_Z = 8.0
"""Standard deviations beyond which a window says nothing more of who belongs to whom."""

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Members:
    """One company before anything is learned of it.

    Attributes:
        at: int64[g + h], its features, and behind them the delegates that are not of them, and what
            only explains.
        judged: How many of them, g, are its own.
        barred: int64[g, b], places in `at` of what explains all but this feature, being of the same
            signal; None where nothing only explains.
    """

    at: Ints
    judged: int
    barred: Ints | None = None

    @property
    def told(self) -> int:
        """How many of them are features of which something is foretold: all but what explains."""
        return len(self.at) if self.barred is None else int(self.barred.min())

    @property
    def mine(self) -> Ints:
        """int64[g], its own features."""
        return self.at[: self.judged]


def companies(
    sequences: Sequence[Floats], blocks: Sequence[NDArray[np.bool_]], signals: Ints
) -> tuple[Members, ...]:
    """The companies of each scale; each feature is judged in one, a signal's in the same.

    Args:
        sequences: float32[n_i, d + e] each.
        blocks: For each of the scales, bool[d]: the features it holds.
        signals: int64[d], which signal each feature is of.
    """
    scales = [np.flatnonzero(block) for block in blocks]
    if max(map(len, scales)) <= FEATURES_MAX:
        return tuple(Members(at, len(at)) for at in scales)
    room = FEATURES_MAX - DELEGATES
    first = scales[0]
    told = _correlation(sequences, first)
    weight = np.bincount(signals[first], minlength=int(signals.max()) + 1)
    # As few as may be, and then all of about one size.
    most = -(-len(first) // -(-len(first) // room))
    parts = _parts(_affinity(told, signals[first]), weight, most)
    out = []
    for at in scales:
        heard = at[_delegates(told if at is first else _correlation(sequences, at))]
        for part in parts:
            own = at[np.isin(signals[at], part)]
            if len(own):
                out.append(Members(np.concatenate([own, np.setdiff1d(heard, own)]), len(own)))
    return tuple(out)


def hinted(members: Members, hints: Ints, signals: Ints) -> Members:
    """The same, with what only explains behind it.

    Args:
        members: Without delegates.
        hints: Features that explain, each those of other signals; as many of every signal.
        signals: int64[d], which signal each feature is of.
    """
    place = len(members.at) + np.arange(len(hints))
    same = [place[signals[hints] == signals[at]] for at in members.mine]
    return Members(np.concatenate([members.at, hints]), members.judged, np.array(same))


def _correlation(sequences: Sequence[Floats], at: Ints) -> Floats:
    """float32[g, g]; what is missing counts as usual."""
    x = np.concatenate([s[:, at] for s in sequences])
    x -= np.nanmean(x, axis=0)
    x /= np.maximum(np.nanstd(x, axis=0), 1e-30)
    np.nan_to_num(x, copy=False)
    np.clip(x, -REACH_Z, REACH_Z, out=x)
    x /= np.maximum(np.sqrt(np.square(x).sum(axis=0)), 1e-30)
    return np.asarray(x.T @ x)


def _affinity(told: Floats, signals: Ints) -> Floats:
    """float32[k, k], the largest correlation, without its sign, of any two features of signals."""
    order = np.argsort(signals, kind="stable")
    starts = np.flatnonzero(np.diff(signals[order], prepend=-1))
    most = np.maximum.reduceat(np.abs(told)[np.ix_(order, order)], starts, axis=0)
    return np.asarray(np.maximum.reduceat(most, starts, axis=1))


def _parts(affinity: Floats, weight: Ints, most: int) -> list[Ints]:
    """Signals that resemble each other in parts of at most so many features.

    The tree of average distances is cut where a branch is small enough; neighbouring branches
    share a part as long as they fit.
    """
    from scipy.cluster.hierarchy import linkage, to_tree  # noqa: PLC0415 - slow to import
    from scipy.spatial.distance import squareform  # noqa: PLC0415 - slow to import

    distance = np.clip(1.0 - affinity.astype(np.float64), 0.0, None)
    np.fill_diagonal(distance, 0.0)
    out: list[list[int]] = []
    pending = [to_tree(linkage(squareform(distance, checks=False), "average"))]
    while pending:
        node = pending.pop()
        mine = node.pre_order()
        size = int(weight[mine].sum())
        if size > most and not node.is_leaf():
            pending += [node.right, node.left]
        elif out and size + int(weight[out[-1]].sum()) <= most:
            out[-1] += mine
        else:
            out.append(mine)
    return [np.sort(np.asarray(part, np.int64)) for part in out]


def _delegates(told: Floats) -> Ints:
    """The features that explain the most of all the others, each beside those before it.

    Source:
        McCabe, Principal variables, Technometrics 26 (1984), by steps.
    """
    left = told.copy()
    out: list[int] = []
    for _ in range(DELEGATES):
        own = np.maximum(np.diag(left), 1e-3)
        gain = np.square(left).sum(axis=0) / own
        gain[out] = -1.0
        best = int(np.argmax(gain))
        out.append(best)
        column = left[:, best] / np.sqrt(own[best])
        left -= np.outer(column, column)
    return np.sort(np.asarray(out, np.int64))
