"""Causality above all: what comes later never changes what was said before."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.errors import BundleError, RecordError
from models.features.plan import FeaturePlan
from models.record import Record, join
from models.windows import Grid, features, lay

PLAN = FeaturePlan(("a", "b"), ("a:mean", "b:last", "a|b:correlation", "b:slope"), 1.0, 4)


def record(n: int, seed: int = 0, *, jitter: float = 0.0, gap_at: int | None = None) -> Record:
    rng = np.random.default_rng(seed)
    time_s = np.arange(n) + jitter * rng.uniform(-1, 1, n)
    if gap_at is not None:
        time_s[gap_at:] += 50
    values = rng.normal(size=(n, 2))
    values[rng.random((n, 2)) < 0.05] = np.nan
    return Record(values, ("a", "b"), time_s=np.sort(time_s))


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 99),
    jitter=st.sampled_from([0.0, 0.3, 3.0]),
    rows=st.booleans(),
    hop=st.sampled_from([1, 3]),
    cut=st.integers(1, 59),
)
def test_a_row_sees_only_rows_up_to_it(
    seed: int, jitter: float, rows: bool, hop: int, cut: int
) -> None:
    grid = Grid(rows, 1.0, 4, hop)
    whole = record(60, seed, jitter=jitter, gap_at=30)
    all_features, coverage = features(whole, PLAN, grid)
    early_features, early_coverage = features(whole.rows(slice(0, cut)), PLAN, grid)
    np.testing.assert_array_equal(all_features[:cut], early_features)
    np.testing.assert_array_equal(coverage[:cut], early_coverage)


def test_regular_rows_and_a_time_grid_give_the_same() -> None:
    whole = record(50)
    by_time, _ = features(whole, PLAN, Grid(False, 1.0, 4))
    by_row, _ = features(whole, PLAN, Grid(True, None, 4))
    np.testing.assert_allclose(by_time, by_row)
    assert np.isnan(by_row[:3]).all()
    assert by_row[10, 0] == pytest.approx(np.nanmean(whole.values[7:11, 0]), rel=1e-6)


def test_a_gap_and_a_group_start_afresh_and_a_value_is_held_only_while_fresh() -> None:
    grid = Grid(False, 1.0, 4, stale_cells=3)
    with_gap, _ = features(record(40, gap_at=20), PLAN, grid)
    assert np.isnan(with_gap[20:23]).all()
    assert np.isfinite(with_gap[23, 0])
    two = join([record(10, 1), record(10, 2)])
    assert np.isnan(features(two, PLAN, grid)[0][10:13]).all()
    values = np.array([[1.0, 1.0]] + [[np.nan, 1.0]] * 6)
    laid = lay(values, np.arange(7.0), grid)
    np.testing.assert_array_equal(laid.table[:, 0], [1, 1, 1] + [np.nan] * 4)


def test_a_clock_that_steps_back_starts_afresh_instead_of_mixing_times() -> None:
    values = np.arange(12.0)[:, None]
    time_s = np.array([0, 1, 2, 3, 4, 5, -100, -99, -98, -97, -96, -95.0])
    laid = lay(values, time_s, Grid(False, 1.0, 3))
    assert laid.full.tolist() == [False, False, True, True, True, True] + [False] * 2 + [True] * 4


def test_long_records_are_worked_on_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = record(80)
    grid = Grid(False, 1.0, 4)
    want = features(whole, PLAN, grid)[0]
    monkeypatch.setattr("models.windows.CHUNK_CELLS", 64)
    monkeypatch.setattr("models.features.plan.CHUNK_CELLS", 16)
    np.testing.assert_array_equal(features(whole, PLAN, grid)[0], want)


def test_names_with_bars_and_colons_are_told_apart() -> None:
    plan = FeaturePlan(("a|b", "c:d"), ("a|b|c:d:correlation", "c:d:mean"), 1.0, 4)
    assert plan.owners == (("a|b", "c:d"), ("c:d",))
    assert plan.compute(np.ones((3, 2, 4))).shape == (3, 2)


@pytest.mark.parametrize("name", ["z:mean", "a:nothing", "a|z:correlation", "a"])
def test_an_unknown_feature_is_refused(name: str) -> None:
    with pytest.raises(BundleError, match="not a feature"):
        FeaturePlan(("a", "b"), (name,), 1.0, 4)


def test_a_missing_signal_is_named_with_those_that_are_there() -> None:
    with pytest.raises(RecordError, match=r"pressure not in the record, which has a, b"):
        record(5).select(["a", "pressure"])
    other = Record(np.zeros((3, 1)), ("c",), time_s=np.arange(3.0))
    with pytest.raises(RecordError, match="same signals"):
        join([record(5), other])
