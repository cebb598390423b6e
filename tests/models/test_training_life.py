"""How far out a remaining life is told, and what is said of one that may be longer."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from models import heads
from models.features import regimes
from models.record import Record
from models.training import ends, fading, reach, rul

Wear = Callable[[fading.Floats], fading.Floats]


def _even(age: fading.Floats) -> fading.Floats:
    """A cell that fades from its first day."""
    return age


def _late(age: fading.Floats) -> fading.Floats:
    """A fault that shows only late."""
    return np.asarray(np.expm1(5 * age) / np.expm1(5))


def _run_in(age: fading.Floats) -> fading.Floats:
    """The same, of a machine that changes fast while it is new."""
    return _late(age) - 0.5 * np.exp(-age / 0.03)


def _sudden(age: fading.Floats) -> fading.Floats:
    """One of which the last twentieth of its life tells all."""
    return np.clip(20 * age - 19, 0, 1)


def _fleet(
    wear: Wear,
    machines: int,
    seed: int,
    *,
    settings: int = 1,
    lives: tuple[int, int] = (120, 200),
    noisy: float = 0.08,
) -> Record:
    """Machines whose two sensors wear so, beside one that does not, and one that counts hours."""
    random = np.random.default_rng(seed)
    values, group = [], []
    for machine in range(machines):
        life = int(random.integers(*lives))
        worn = wear(np.linspace(0, 1, life))
        noise = random.normal(0, noisy, (life, 3))
        load = random.integers(0, settings, life)
        sensors = np.column_stack([worn, -worn, np.zeros(life)]) + noise
        sensors = sensors * (1 + load[:, None]) + 9.0 * load[:, None]
        hours = np.arange(float(life))
        values.append(np.column_stack([sensors, load, hours]))
        group += [machine] * life
    return Record(
        np.concatenate(values),
        ("a", "b", "c", "load", "hours"),
        group=np.array(group),
        groups=tuple(map(str, range(machines))),
    )


@pytest.mark.parametrize("machines", [3, 12])
@pytest.mark.parametrize("settings", [1, 3])
@pytest.mark.parametrize(("wear", "share"), [(_even, 1.0), (_late, 0.6), (_run_in, 0.6)])
def test_a_life_is_told_as_far_out_as_machines_not_seen_show_wear(
    wear: Wear, share: float, settings: int, machines: int
) -> None:
    record = _fleet(wear, machines, 1, settings=settings)
    left, _ = rul._left(record)
    found = regimes.find(record.values, record.group)
    assert (found is None) == (settings == 1)
    assert fading.told_share(record, left, found) == share


def test_what_tells_nothing_of_machines_not_seen_shows_no_wear() -> None:
    """With many columns and few machines, an index of those it was fitted on falls evenly."""
    record = _fleet(_even, 2, 1)
    noise = np.random.default_rng(0).normal(size=(len(record), 80)).cumsum(axis=0)
    walk = Record(
        noise, tuple(f"w{i}" for i in range(80)), group=record.group, groups=record.groups
    )
    left, _ = rul._left(walk)
    seen = fading._signals(walk, None)
    by_itself = seen @ np.linalg.lstsq(seen, left, rcond=None)[0]
    assert np.corrcoef(by_itself, left)[0, 1] > 0.9
    assert fading.told_share(walk, left, None) == fading.LATE_SHARE


def test_a_life_that_may_be_longer_than_any_told_has_no_upper_end(tmp_path: Path) -> None:
    made = rul.train(_fleet(_even, 6, 1))
    assert made.manifest.state == "active"
    cap = made.manifest.detail["cap"]
    assert cap == round(np.median(rul._left(_fleet(_even, 6, 1))[1]))
    assert any(note.startswith(f"lives are told apart up to {cap:g}, ") for note in made.notes)
    test = _fleet(_even, 6, 2)
    got = heads.answer(made.write(tmp_path / "r.fwm"), test).values
    life, low, high = got[~np.isnan(got[:, 0])].T
    true = rul._left(test)[0][~np.isnan(got[:, 0])]
    assert np.isinf(high[life >= cap]).all()
    assert high[np.isfinite(high)].max() < cap
    assert np.isfinite(high[true < 20]).all()
    assert np.mean((low <= true) & (true <= high)) > 0.75


def test_few_machines_have_a_wider_interval() -> None:
    error = np.tile(np.linspace(-5, 5, 40), 2)
    widths = {}
    for machines in (2, 3, 4):
        y = 50 + np.resize(error, 40 * machines)
        _, low, high = rul._band(np.full(len(y), 50.0), y, np.repeat(range(machines), 40), 100.0)
        widths[machines] = high[0] - low[0]
    assert widths[2] == pytest.approx(20)
    assert widths[3] == pytest.approx(15)
    assert widths[4] == pytest.approx(10, abs=1)


@pytest.mark.parametrize(
    ("lives", "wear", "noisy", "cells"),
    [
        ((120, 200), _even, 0.5, [60]),
        ((600, 900), _even, 0.5, [60, 240]),
        ((600, 900), _sudden, 0.02, [60, 240]),
    ],
)
def test_a_window_is_as_long_as_tells_more_of_machines_not_seen(
    lives: tuple[int, int], wear: Wear, noisy: float, cells: list[int]
) -> None:
    """Wear that goes on for hundreds of rows is lost in the noise of sixty."""
    record = _fleet(wear, 8, 3, lives=lives, noisy=noisy)
    lengths = np.array([len(rows) for _, rows in record.sequences()])
    windows = reach.windows(record, None, lengths)
    assert [grid.cells for grid in windows] == cells
    left = np.minimum(rul._left(record)[0], 0.6 * np.median(lengths))
    keep = np.arange(len(record)) % 3 == 0
    made, _, _, notes = reach.farthest(record, windows, left, None, keep, 0)
    longer = wear is _even and len(cells) > 1
    assert made.grid.cells == cells[-1 if longer else 0]
    assert longer == any(note.startswith("window of 240 rows: ") for note in notes)


@pytest.mark.parametrize("cut", [0, 2, 25])
def test_machines_that_end_unlike_the_others_are_named(cut: int) -> None:
    """Taken for failures, records that were cut short teach that the healthy are about to fail."""
    groups = tuple(f"m{i}" for i in range(60))
    left = np.minimum(np.tile(np.arange(100.0)[::-1], 60), 60.0)
    group = np.repeat(range(60), 100)
    unseen = np.where(group < cut, 50.0, left)
    told = ends.unlike(unseen, left, group, 60.0, groups)
    assert len(told) == (cut > 0)
    for note in told:
        named = "m0, m1" if cut == 2 else ", ".join(groups[:20]) + " and 5 more"
        assert note.startswith(f"{named}: at the end as others are with 30 or more left")
    assert ends.unlike(np.full(6000, 50.0), left, group, 60.0, groups) == []


def test_a_life_told_no_better_than_by_the_mean_may_not_alarm() -> None:
    noise = np.random.default_rng(2).normal(size=(160, 2))
    record = Record(noise, ("a", "b"), group=np.repeat(range(4), 40), groups=tuple("wxyz"))
    made = rul.train(record, window="5rows")
    assert made.manifest.state == "shadow"
    assert rul.NO_BETTER in made.notes


def test_a_machine_that_broke_at_once_sets_no_window() -> None:
    record = Record(np.zeros((8, 1)), ("a",))
    lives = np.array([3, *[60] * 12, 5000])
    assert [grid.cells for grid in reach.windows(record, None, lives)] == [30]


def test_a_fleet_is_told_which_of_its_machines_may_not_have_failed() -> None:
    whole = _fleet(_even, 8, 4, lives=(50, 80))
    rows = [rows for _, rows in whole.sequences()]
    kept = np.concatenate([*(each[: len(each) // 5] for each in rows[:2]), *rows[2:]])
    # Without the hours: they tell when each of the others fails.
    cut = whole.rows(kept).select(("a", "b", "c"))
    assert any(note.startswith("0, 1: at the end as others are") for note in rul.train(cut).notes)
