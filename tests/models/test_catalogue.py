"""Every feature against a naive computation, window by window, with and without gaps."""

import doctest
import itertools
import math
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from models.features import catalogue, stack
from models.features.catalogue import BANDS, CATALOGUE, correlation
from models.features.stack import Stack

PERIOD_S = 0.5


def naive(name: str, cells: NDArray[np.float64]) -> float:
    """One feature of one window, as a textbook would write it."""
    x = [float(v) for v in cells if not math.isnan(v)]
    n = len(x)
    m = sum(x) / n
    var = sum((v - m) ** 2 for v in x) / n
    sd = math.sqrt(var)
    t = [i * PERIOD_S for i, v in enumerate(cells) if not math.isnan(v)]
    if name.startswith("recent_"):
        return naive(name.removeprefix("recent_"), cells[-max(2, len(cells) // 8) :])
    if name == "last":
        return float(cells[-1])
    if name.startswith(("band", "spectral")):
        full = np.array(cells)
        gap = np.isnan(full)
        at = np.arange(len(full))
        full[gap] = np.interp(at[gap], at[~gap], full[~gap])
        # The mean removed is that of the samples present, as the window function needs.
        wave = (full - m) * np.hanning(len(full))
        power = []
        for f in range(1, len(full) // 2 + 1):
            phase = 2 * math.pi * f * at / len(full)
            power.append(
                float((wave * np.cos(phase)).sum() ** 2 + (wave * np.sin(phase)).sum() ** 2)
            )
        total = sum(power)
        hz = [(i + 1) / (len(full) * PERIOD_S) for i in range(len(power))]
        if name == "spectral_centroid":
            return sum(h * p for h, p in zip(hz, power, strict=True)) / total
        if name == "spectral_entropy":
            return -sum(p / total * math.log(p / total) for p in power) / math.log(len(power))
        i = int(name[4:]) - 1
        return sum(power[len(power) * i // BANDS : len(power) * (i + 1) // BANDS]) / total
    if name == "slope":
        tm = sum(t) / n
        above = sum((a - tm) * (v - m) for a, v in zip(t, x, strict=True))
        return above / sum((a - tm) ** 2 for a in t)
    steps = [b - a for a, b in itertools.pairwise(cells) if not math.isnan(b - a)]
    return {
        "mean": m,
        "median": sorted(x)[n // 2] if n % 2 else sum(sorted(x)[n // 2 - 1 : n // 2 + 1]) / 2,
        "minimum": min(x),
        "maximum": max(x),
        "peak_to_peak": max(x) - min(x),
        "spread": sd,
        "rms": math.sqrt(sum(v * v for v in x) / n),
        "crest_factor": max(abs(v - m) for v in x) / sd,
        "skewness": sum((v - m) ** 3 for v in x) / n / sd**3,
        "kurtosis": sum((v - m) ** 4 for v in x) / n / var**2,
        "roughness": math.sqrt(sum(s * s for s in steps) / len(steps)),
    }[name]


@pytest.mark.parametrize("name", sorted(CATALOGUE))
@pytest.mark.parametrize("gaps", [False, True])
@pytest.mark.parametrize("cells", [17, 64])
def test_feature_is_what_the_textbook_says(name: str, gaps: bool, cells: int) -> None:
    rng = np.random.default_rng(7)
    window = rng.normal(5.0, 2.0, (6, cells)) + np.linspace(0, 1, cells)
    if gaps:
        window[1:, 3] = np.nan
        window[2, 5:8] = np.nan
    got = CATALOGUE[name].compute(Stack(window, PERIOD_S))
    want = [naive(name, row) for row in window]
    np.testing.assert_allclose(np.broadcast_to(got, len(window)), want, rtol=1e-9, atol=1e-12)
    row = CATALOGUE[name]
    assert np.all((got >= row.low - 1e-12) & (got <= row.high + 1e-12))


@pytest.mark.parametrize("name", sorted(CATALOGUE))
def test_too_few_samples_are_not_a_number(name: str) -> None:
    window = np.full((2, 40), np.nan)
    window[1, -3:] = 1.0, 2.0, 5.0
    got = CATALOGUE[name].compute(Stack(window))
    assert math.isnan(got[0])
    # `last` and `recent_` look at the newest cells alone, and those are there.
    assert name == "last" or name.startswith("recent_") or math.isnan(got[1])


@settings(max_examples=60, deadline=None)
@given(
    cells=st.integers(1, 40),
    level=st.sampled_from([0.0, 1e-9, 1.0, -3.3, 1e12]),
    gap=st.integers(0, 40),
)
def test_a_still_window_gives_values_in_range_or_none(cells: int, level: float, gap: int) -> None:
    window = np.full((1, cells), level)
    window[0, :gap] = np.nan
    for name, row in CATALOGUE.items():
        with np.errstate(all="ignore"):
            (got,) = np.broadcast_to(row.compute(Stack(window)), 1)
        assert math.isnan(got) or row.low <= got <= row.high, name
        if name in {"crest_factor", "kurtosis", "skewness", "spectral_entropy"}:
            assert math.isnan(got), name


def test_correlation_agrees_with_numpy_and_has_no_value_for_a_still_signal() -> None:
    rng = np.random.default_rng(3)
    a, b = rng.normal(size=(2, 5, 30))
    a[1, 4] = b[1, 9] = np.nan
    b[2] = 4.0
    got = correlation(a, b)
    both = ~np.isnan(a[1] + b[1])
    assert got[0] == pytest.approx(np.corrcoef(a[0], b[0])[0, 1])
    assert got[1] == pytest.approx(np.corrcoef(a[1][both], b[1][both])[0, 1])
    assert math.isnan(got[2])


@pytest.mark.parametrize(("module", "least"), [(catalogue, 10), (stack, 2)])
def test_the_examples_hold(module: ModuleType, least: int) -> None:
    found = doctest.testmod(module, extraglobs={"np": np})
    assert found.attempted >= least
    assert not found.failed
