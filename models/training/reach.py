"""Chooses how far back a remaining life looks: as far as it tells more of machines not seen."""

import numpy as np
from numpy.typing import NDArray

from models.features.regimes import Regimes
from models.record import Record
from models.training import grid as grids
from models.training import learners, mixture, rates
from models.training.inputs import Features, Inputs, choose
from models.windows import Grid

CELLS = 60
"""Averages of so many cells tell wear from noise; half of a short life, if that is less."""
SHORT_SHARE = 0.1
"""Share of the machines that may live less than two windows: one that broke at once is no rule."""
TIMES = 4
"""Longer windows that are tried, one after the other: the newest quarter of each is the last."""
GAIN_MIN = 0.1
"""Share of the squared error that a longer window must take off."""
ROWS_TRIED = 8_000

Floats = NDArray[np.float64]
Chosen = tuple[Inputs, Features, NDArray[np.bool_], list[str]]


def windows(record: Record, window: str | None, lives: NDArray[np.int64]) -> list[Grid]:
    """60 rows, or half of what nine in ten live, and up to half of a median life, longer ones to
    try; or what was asked for."""
    period_s, regular = rates.sampling(record)
    if window is not None:
        cells, rows = grids.span(window, "window", period_s)
        return [Grid(rows or not regular, period_s, cells, 1, 3)]
    short = int(np.quantile(lives, SHORT_SHARE, method="lower"))
    lengths = [max(1, min(CELLS, short // 2))]
    while TIMES * lengths[-1] <= min(grids.CELLS_MAX, np.median(lives) / 2):
        lengths.append(TIMES * lengths[-1])
    return [Grid(True, period_s, cells, 1, 3) for cells in lengths]


def farthest(
    record: Record,
    windows: list[Grid],
    left: Floats,
    found: Regimes | None,
    keep: NDArray[np.bool_],
    seed: int,
) -> Chosen:
    """Signals and features of the longest window that earns its length, as `choose` gives them.

    Args:
        record: All candidate signals.
        windows: From short to long.
        left: float64[n], the life that each row has left, flat above the cap.
        found: Its operating conditions, to take out.
        keep: bool[n], rows to learn from.
        seed: Of everything random.
    """
    if len(windows) == 1:
        return choose(record, windows[0], regimes=found, rows=keep)
    rows = np.flatnonzero(keep)
    some = np.zeros(len(record), bool)
    some[rows[:: max(1, -(-len(rows) // ROWS_TRIED))]] = True
    wrong: list[float] = []
    for grid in windows:
        tried = choose(record, grid, regimes=found, rows=some)
        wrong.append(_wrong(tried, record, left, seed))
        if len(wrong) > 1 and wrong[-1] > (1 - GAIN_MIN) * wrong[-2]:
            wrong.pop()
            break
    best = windows[len(wrong) - 1]
    made = choose(record, best, regimes=found, rows=keep)
    if len(wrong) > 1:
        made[3].append(
            f"window of {best.cells} rows: with it trees are wrong by {np.sqrt(wrong[-1]):.3g} on "
            f"machines not seen, with {windows[0].cells} by {np.sqrt(wrong[0]):.3g}"
        )
    return made


def _wrong(made: Chosen, record: Record, left: Floats, seed: int) -> float:
    """Mean squared error of boosted trees on machines not seen."""
    inputs, x, ready, _ = made
    z, y = inputs.fitted(x[ready]).standard(x[ready]), left[ready]
    folds = mixture.folds_of(record.group[ready], whole=True)
    said = mixture.unseen(learners.boosted_value, z, y, folds, seed, "regress")
    return float(np.mean((said - y) ** 2))
