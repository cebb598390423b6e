"""Windows against a slow and obvious reference, and against clocks that misbehave."""

from itertools import groupby, pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.batch import Batch, Quality
from gateway.pipeline.windows import Watch, WindowBuilder, Windows

S = 1_000_000_000


def watch(**changes: object) -> Watch:
    given: dict[str, object] = {
        "assets": ("a",),
        "signals": np.array([[0, 1]], dtype=np.int32),
        "sources": (("s",),),
        "period_ns": S,
        "cells": 5,
        "hop_cells": 2,
        "stale_ns": 3 * S,
        "lateness_ns": 2 * S,
    }
    return Watch(**(given | changes))  # type: ignore[arg-type]


def samples(rows: list[tuple[int, float, float]], source: str = "s") -> Batch:
    """Rows of (signal, seconds, value); a NaN value is BAD."""
    value = np.array([row[2] for row in rows], dtype=np.float64)
    return Batch(
        source=source,
        signal=np.array([row[0] for row in rows], dtype=np.int32),
        t_ns=np.array([round(row[1] * S) for row in rows], dtype=np.int64),
        value=value,
        quality=np.where(np.isnan(value), Quality.BAD, Quality.GOOD).astype(np.uint8),
        received_ns=0,
    )


def run(builder: WindowBuilder, batch: Batch, mono_ns: int = 0) -> list[Windows]:
    return [w for _, w in builder.add(batch, mono_ns)] + [w for _, w in builder.close(mono_ns)]


def reference(rows: list[tuple[int, float, float]], end_s: int, one: Watch) -> np.ndarray:
    """What DESIGN section 4 says of one window, said in loops."""
    out = np.full((2, one.cells), np.nan)
    for signal in range(2):
        for i in range(one.cells):
            cell = end_s - one.cells + 1 + i
            held = (one.held_cells or (one.stale_cells,) * 2)[signal]
            for s, t, value in rows:
                own = int(np.ceil(t))
                if s == signal and cell - held < own <= cell and np.isfinite(value):
                    out[signal, i] = value  # Rows come in order of time: the last one stays.
    return out


times = st.lists(
    st.tuples(
        st.integers(0, 1), st.integers(10_000, 400_000), st.floats(-1e6, 1e6) | st.just(np.nan)
    ),
    min_size=1,
    max_size=200,
)


@settings(max_examples=150, deadline=None)
@given(
    times,
    st.integers(1, 7),
    st.integers(1, 4),
    st.integers(1, 6),
    st.just(()) | st.tuples(st.integers(1, 6), st.integers(1, 9)),
)
def test_windows_equal_the_reference(
    raw: list[tuple[int, int, float]],
    cells: int,
    hop: int,
    stale_s: int,
    held_cells: tuple[int, ...],
) -> None:
    rows = sorted(((s, t / 1000, v) for s, t, v in raw), key=lambda row: row[1])
    one = watch(cells=cells, hop_cells=hop, stale_ns=stale_s * S, held_cells=held_cells)
    builder = WindowBuilder([one], 2)
    got: dict[int, np.ndarray] = {}
    for _, together in groupby(rows, key=lambda row: row[1]):
        for windows in run(builder, samples(list(together))):
            got |= dict(zip((windows.end_ns // S).tolist(), windows.value, strict=True))
    assert list(got) == sorted(got)
    for end_s in range(min(got, default=0), max(got, default=-1) + 1, hop):
        expected = reference([row for row in rows if row[1] <= end_s], end_s, one)
        if end_s in got:
            np.testing.assert_array_equal(got[end_s], expected)
        else:  # Skipped over a gap longer than the ring, and then there was nothing to see.
            assert builder.counters.windows_skipped > 0
            assert np.isnan(expected).all()


def test_one_long_batch_gives_the_same_windows_as_many_short_ones() -> None:
    rows = [(i % 2, 100 + i / 4, float(i)) for i in range(4000)]
    whole, parts = WindowBuilder([watch()], 2), WindowBuilder([watch()], 2)
    at_once = run(whole, samples(rows))
    pieces = [w for i in range(0, 4000, 16) for w in run(parts, samples(rows[i : i + 16]))]
    ends = [int(end) for w in at_once for end in w.end_ns]
    assert ends == [int(end) for w in pieces for end in w.end_ns]
    assert len(ends) == 500
    for a, b in zip(at_once, pieces, strict=True):
        np.testing.assert_array_equal(a.value, b.value)


def test_a_window_waits_for_the_slowest_source_but_not_for_ever() -> None:
    one = watch(sources=(("s", "t"),))
    builder = WindowBuilder([one], 2)
    run(builder, samples([(0, 11.0, 1.0)]), mono_ns=0)
    run(builder, samples([(1, 11.0, 1.0)], "t"), mono_ns=0)
    run(builder, samples([(0, 14.0, 1.0)]), mono_ns=3 * S)
    # `t` is silent: the window that ends at 14 s closes when lateness has passed beyond it.
    assert list(builder.close(int(4.9 * S))) == []
    ((_, window),) = builder.close(5 * S)
    assert window.end_ns.tolist() == [14 * S]


def test_silence_still_closes_windows_with_falling_coverage() -> None:
    builder = WindowBuilder([watch()], 2)
    for t in range(20, 30):
        run(builder, samples([(0, t, 1.0), (1, t, 1.0)]), mono_ns=(t - 20) * S)
    coverage = [w.coverage.mean() for m in range(10, 30) for _, w in builder.close(m * S)]
    assert len(coverage) >= 8
    assert coverage[-1] == 0
    assert all(b <= a for a, b in pairwise(coverage))


@pytest.mark.parametrize("step_s", [3600, -3600, 10**9])
def test_a_stepped_device_clock_neither_stalls_nor_floods(step_s: int) -> None:
    builder = WindowBuilder([watch()], 2)
    closed = 0
    for i in range(200):
        t = 2e9 + i + (step_s if i >= 100 else 0)
        closed += len(run(builder, samples([(0, t, 1.0), (1, t, 1.0)]), mono_ns=i * S))
    # One window every two seconds, but for the few around the step.
    assert 90 <= closed <= 140
    assert builder.counters.clock_steps == (1 if step_s < 0 else 0)
    assert (builder.counters.windows_skipped > 0) == (step_s > 0)


def test_bad_samples_leave_holes_and_missing_signals_are_missing() -> None:
    one = watch(signals=np.array([[0, -1]], dtype=np.int32), stale_ns=S)
    builder = WindowBuilder([one], 2)
    rows = [(0, float(t), np.nan if t == 13 else 1.0) for t in range(10, 18)]
    windows = run(builder, samples(rows))[-1]
    assert np.isnan(windows.value[0, 1]).all()
    assert windows.coverage[0].tolist() == [0.8, 0.0]


def test_resume_goes_on_behind_the_last_assessed_window() -> None:
    first, second = WindowBuilder([watch()], 2), WindowBuilder([watch()], 2)
    rows = [(i % 2, 100 + i / 2, float(i)) for i in range(80)]
    before = run(first, samples(rows[:40]))
    second.resume(first.ends_ns())
    after = run(second, samples(rows))
    ends = [int(w.end_ns[0]) for w in before + after]
    assert ends == list(range(ends[0], ends[-1] + 1, 2 * S))
    assert after[0].full.all()


def test_a_window_is_full_after_a_restart_where_it_would_be_without_one() -> None:
    """Stopped within the first window: what was seen since the first sample is not a window yet."""
    straight, first, second = (WindowBuilder([watch(cells=20)], 2) for _ in range(3))
    rows = [(i % 2, 100 + i / 2, float(i)) for i in range(80)]
    unbroken = run(straight, samples(rows[:16])) + run(straight, samples(rows[16:]))
    before = run(first, samples(rows[:16]))
    second.resume(first.ends_ns())
    after = run(second, samples(rows[:16])) + run(second, samples(rows[16:]))
    told = [(int(w.end_ns[0]), bool(w.full[0])) for w in before + after]
    assert told == [(int(w.end_ns[0]), bool(w.full[0])) for w in unbroken]
    assert {full for _, full in told} == {False, True}


def test_assets_of_one_watch_are_cut_together() -> None:
    n = 500
    one = watch(
        assets=tuple(f"a{i}" for i in range(n)),
        signals=np.arange(2 * n, dtype=np.int32).reshape(n, 2),
        sources=(("s",),) * n,
    )
    builder = WindowBuilder([one], 2 * n)
    cuts = []
    for t in range(100, 120):
        cuts += run(builder, samples([(s, float(t), s + t / 1000) for s in range(2 * n)]))
    assert {len(w.rows) for w in cuts} == {n}
    np.testing.assert_allclose(cuts[-1].value[7, 1, -1], 15 + cuts[-1].end_ns[7] / S / 1000)
