"""Comparing models by the faults that they tell from healthy windows."""

import numpy as np
import pytest

from models.training.invented import FEW, Told


def test_few_alarms_are_limits_at_the_strangest_healthy_windows() -> None:
    rng = np.random.default_rng(1)
    well, ill = rng.normal(size=200), 1 + rng.normal(size=300)
    limits = sorted(well)[-round(FEW * 200) :]
    told = Told.by(np.append(well, np.nan), np.append(ill, np.nan))
    assert told.found == pytest.approx(np.mean([np.mean(ill > limit) for limit in limits]))
    assert told.auroc == pytest.approx(np.mean(ill[:, None] > well))


def test_what_the_strangest_healthy_windows_hide_is_not_found() -> None:
    well = np.r_[np.zeros(90), np.full(10, 9.0)]
    told = Told.by(well, np.full(50, 5.0))
    assert told == (0.9, 0.0)
    assert Told.by(well, np.full(50, 9.0)).found == 0.0
    assert Told.by(np.zeros(3), np.ones(1)) == (1.0, 1.0)


@pytest.mark.parametrize(
    ("one", "other", "by", "want"),
    [
        (Told(0.81, 0.4), Told(0.80, 0.4), 0.0, True),
        (Told(0.81, 0.3), Told(0.80, 0.4), 0.0, False),
        (Told(0.80, 0.5), Told(0.80, 0.4), 0.0, False),
        (Told(0.81, 0.5), Told(0.80, 0.4), 0.02, False),
    ],
)
def test_better_is_better_in_all_and_no_worse_at_few_alarms(
    one: Told, other: Told, by: float, want: bool
) -> None:
    assert one.better(other, by) is want
