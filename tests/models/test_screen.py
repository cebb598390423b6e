"""What of a record cannot be learned is left out, and said."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from models.formula import Formula
from models.record import Record
from models.training.screen import goes_round, screen
from tests.models.rigs import wander

N = 4000
ONE = np.zeros(N, np.int64)
Floats = NDArray[np.float64]


def turning(seed: int) -> Floats:
    """A wind's direction, degrees from 0 to 360."""
    rng = np.random.default_rng(seed)
    out: Floats = (300 * wander(rng, N, 200) + rng.normal(size=N) * 8) % 360.0
    return out


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 1000), st.sampled_from([0.0, -180.0]), st.sampled_from([0.01, 1.0, 10.0]))
def test_a_direction_is_told_by_how_it_passes_north(seed: int, low: float, step: float) -> None:
    column = np.round((turning(seed) + low) / step) * step
    assert goes_round(column, ONE)


@pytest.mark.parametrize(
    "what", ["drive", "switched", "kiln", "vane", "rack", "slow", "ramps", "seldom", "runs"]
)
def test_what_only_looks_like_a_direction_is_kept(what: str) -> None:
    rng = np.random.default_rng(2)
    on = np.repeat(rng.random(N // 20) > 0.5, 20)
    at_rest = np.abs(rng.normal(size=N))
    column = {
        "drive": np.where(on, np.minimum(rng.uniform(60, 355, N // 20).repeat(20), 355), at_rest),
        "switched": np.where(on, 350.0 + rng.normal(size=N), at_rest),
        "kiln": np.clip(180 + 170 * wander(rng, N, 50), 0, 360),
        "vane": np.where(rng.random(N) < 0.02, rng.uniform(-180, 180, N), rng.normal(size=N) * 9),
        "rack": np.where(on, 340.0, 20.0) + rng.uniform(-18, 18, N),
        "slow": np.linspace(0, 720, N) % 360,
        "ramps": np.tile(np.r_[np.linspace(0, 350, 60), np.zeros(20)], N // 80) + at_rest,
        "seldom": (np.arange(N) // 50 * 37.0) % 360,
        "runs": np.linspace(
            rng.uniform(0, 40, N // 80), rng.uniform(320, 360, N // 80), 80
        ).T.ravel(),
    }[what]
    group = np.repeat(np.arange(N // 80), 80) if what == "runs" else ONE
    assert not goes_round(column, group)


def test_a_direction_is_left_out_and_its_cosine_as_the_note_says_is_not() -> None:
    rng = np.random.default_rng(5)
    direction, name = turning(5), "Wind dir [°]"
    table = np.column_stack([direction, rng.normal(size=N)])
    table[::7, 0] = np.nan
    made = screen(Record(table, (name, "power")))
    assert made.record.names == ("power",)
    note = next(note for note in made.notes if note.startswith(f"{name}: left out"))
    formula = Formula.parse(note.split("--derive '")[1].rstrip("'"))
    (word, column), *more = formula.needs((name, "power")).items()
    assert (column, more) == (name, [])
    cosine = formula.compute({word: direction}, N)
    np.testing.assert_allclose(cosine, np.cos(np.deg2rad(direction)), atol=1e-5)
    beside = screen(Record(np.column_stack([table, cosine]), (name, "power", formula.name)))
    assert beside.record.names == ("power", "north")
