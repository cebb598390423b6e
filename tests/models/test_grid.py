"""Which window a record asks for, and how often a gateway judges by a model, where nobody said."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.signal import lfilter

from models.features.plan import FeaturePlan
from models.record import Record
from models.training.anomaly import train
from models.training.grid import choose, judged_cells
from models.training.plan import floors
from models.windows import Grid


def cycling(cells: int, *, repeats: int = 100, seed: int = 0) -> Record:
    """A press whose every second stroke is a little harder, beside something that has no cycle."""
    rng, n = np.random.default_rng(seed), cells * repeats
    turn = np.arange(n) % cells / cells
    stroke = np.maximum(0, np.sin(2 * np.pi * turn)) * (1 + 0.1 * (np.arange(n) // cells % 2))
    columns = np.column_stack([10 * stroke + rng.normal(0, 0.3, n), rng.normal(20, 1, n)])
    return Record(
        columns, ("force", "air"), ("kN", "°C"), time_s=0.1 * np.arange(n, dtype=np.float64)
    )


def test_a_window_holds_four_cycles_and_its_newest_part_one(tmp_path: Path) -> None:
    record = cycling(60)
    grid = choose(record)
    assert grid.cells == 4 * 60
    assert grid.newest == 60
    window = train(record).write(tmp_path / "m.fwm").manifest
    plan = FeaturePlan.from_manifest(window)
    last = np.zeros((1, 2, 240))
    last[:, 0, -60:] = 1.0
    assert plan.compute(last)[0, plan.names.index("force:recent_mean")] == 1.0
    last[:, 0, -60] = 0.0
    assert plan.compute(last)[0, plan.names.index("force:recent_mean")] < 1.0


def test_gaps_and_rounding_are_weighed_by_the_cells_of_the_newest_cycle() -> None:
    names = ("force:mean", "force:recent_mean", "force:error", "force:recent_error")
    usual = ((240.0, 60.0), (240.0, 60.0))
    plan = FeaturePlan(("force",), names, 0.1, 240, recent_cells=60, usual=usual)
    window = np.random.default_rng(0).normal(size=(1, 1, 240))
    assert plan.compute(window)[0, 3] == 0
    window[0, 0, -60:-35] = np.nan
    assert plan.compute(window)[0, 3] > 0
    # A reading rounded to whole numbers is known as well as so many cells let it be.
    assert floors(plan, np.ones(1)) == pytest.approx([(12 * 240) ** -0.5, (12 * 60) ** -0.5])


@pytest.mark.parametrize("cells", [5, 0])
def test_a_short_cycle_or_none_leaves_the_newest_eighth(cells: int) -> None:
    grid = choose(cycling(cells, repeats=400) if cells else noise())
    assert (grid.cells, grid.newest) == (48, 6)


def noise() -> Record:
    rng = np.random.default_rng(0)
    return Record(rng.normal(size=(3000, 1)), ("air",), ("°C",), time_s=np.arange(3000.0))


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


def moving(rows: int, period_s: float = 0.001, most: int = 140, seed: int = 3) -> Record:
    """An axis that goes on to some other place every 60 to 140 rows, and how warm it is."""
    rng = np.random.default_rng(seed)
    steps = rng.integers(60, most + 1, rows // 60)
    at = np.concatenate([[0], np.cumsum(steps)])
    place = np.interp(np.arange(rows), at, rng.uniform(-1, 1, len(at)))
    warm = np.cumsum(rng.normal(0, 0.01, rows))
    columns = np.column_stack([place + rng.normal(0, 0.01, rows), warm])
    time_s = period_s * np.arange(rows, dtype=np.float64)
    return Record(columns, ("place", "warm"), ("mm", "°C"), time_s=time_s)


def test_a_window_of_what_moves_by_no_clock_holds_some_of_its_moves() -> None:
    record = moving(100_000)
    cells = choose(record).cells
    assert 300 < cells < 900, "straight lines between places drawn by lot hang together for one"
    there = record.values.copy()
    there[::11, 0] = np.nan
    gaps = replace(record, values=there)
    assert choose(gaps).cells == pytest.approx(cells, rel=0.1)
    there[: len(there) // 5, 0] = np.nan
    assert choose(replace(record, values=there)).cells == 48, "too little of it is there"


@pytest.mark.parametrize("about", [0.0, 70.0])
def test_it_hangs_together_for_the_integral_of_its_correlation(about: float) -> None:
    rng, n = np.random.default_rng(0), 100_000
    column = about + lfilter([1.0], [1.0, -0.97], rng.normal(size=n))
    # (1 + 0.97) / (1 - 0.97) = 66 cells.
    still = np.full(n, 5.0)
    time_s = 0.001 * np.arange(n, dtype=np.float64)
    record = Record(np.column_stack([column, still]), ("a", "b"), ("", ""), time_s=time_s)
    assert choose(record).cells == pytest.approx(4 * 66, rel=0.12)


@pytest.mark.parametrize(
    ("record", "cells"),
    [
        (moving(131_072, most=270), 1024),  # windows get no longer
        (moving(20_000), 48),  # as often as that it did not move
        (moving(100_000, period_s=1.0), 48),  # 48 s are long enough
        (moving(100_000, period_s=0.1), 400),  # its newest eighth takes 5 s
    ],
)
def test_a_window_grows_for_moves_no_further_than_the_record_and_promptness_let_it(
    record: Record, cells: int
) -> None:
    assert choose(record).cells == cells


def test_a_step_that_was_asked_for_stands() -> None:
    assert judged_cells(Grid(False, 1.0, 48, 30, 3)) == 30


def test_days_and_weeks_are_no_cycles_of_a_machine() -> None:
    rng, hour = np.random.default_rng(0), np.arange(24.0 * 365)
    day, week = np.sin(2 * np.pi * hour / 24), (hour // 24 % 7 < 5).astype(float)
    values = np.column_stack([day, day + 2 * week]) + rng.normal(0, 0.1, (len(hour), 2))
    record = Record(values, ("outside", "load"), time_s=3600.0 * hour)
    assert (choose(record).cells, choose(record).newest) == (48, 6)
    # Strokes of a machine that take a minute are a cycle, and so is what no time is known of.
    for time_s in (2.5 * hour, None):
        assert choose(replace(record, time_s=time_s)).cells > 48


def test_the_flank_of_a_cycle_that_is_too_long_is_none() -> None:
    hour = np.arange(0, 24.0 * 30, 1 / 6)
    values = np.sin(2 * np.pi * hour / 7)[:, None] + np.zeros((1, 2))
    values += np.random.default_rng(0).normal(0, 0.1, values.shape)
    record = Record(values, ("level", "flow"), time_s=3600.0 * hour)
    assert (choose(record).cells, choose(record).newest) == (48, 6)
