"""How often a gateway judges by a model, where nobody said it."""

import pytest

from models.training.grid import judged_cells
from models.windows import Grid


@pytest.mark.parametrize(
    ("rows", "period_s", "cells", "expected"),
    [
        (False, 1.0, 48, 5),  # Every five seconds.
        (False, 0.25, 48, 6),  # Eight times a window.
        (False, 0.001, 1024, 128),
        (False, 10.0, 48, 1),  # No row is passed over where they are far apart.
        (False, 3600.0, 48, 1),
        (False, 1.0, 4, 1),
        (True, None, 1, 1),  # Rows without a time.
    ],
)
def test_a_gateway_judges_every_five_seconds_or_eight_times_a_window(
    rows: bool, period_s: float | None, cells: int, expected: int
) -> None:
    assert judged_cells(Grid(rows, period_s, cells, 1, 3)) == expected


def test_a_step_that_was_asked_for_stands() -> None:
    assert judged_cells(Grid(False, 1.0, 48, 30, 3)) == 30
