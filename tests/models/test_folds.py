"""What is held out of runs that go one way: whole runs, as an eighth of each is a state apart."""

import numpy as np
from numpy.typing import NDArray

from models.record import Record
from models.training.folds import folds, one_course
from models.training.learn import learn
from models.windows import some_features


def parts(runs: int, *, seed: int, weak: int | None = None) -> Record:
    """Parts from a press, each of 80 rows; one of them may be pressed weakly."""
    rng, turn = np.random.default_rng(seed), np.linspace(0, 1, 80)
    force = 60 * np.exp(-(((turn - 0.5) / 0.15) ** 2))
    course = np.column_stack([force, 100 * turn, np.where(turn < 0.7, 8.0, 2.0)])
    values = np.tile(course, (runs, 1)) + rng.normal(0, (1.0, 0.5, 0.2), (80 * runs, 3))
    group = np.repeat(np.arange(runs), 80)
    if weak is not None:
        values[group == weak, 0] -= 0.15 * force
    return Record(
        values,
        ("force", "way", "flow"),
        time_s=np.tile(0.05 * np.arange(80), runs),
        group=group,
        groups=tuple(map(str, range(runs))),
    )


def test_a_weak_part_is_told_among_parts_of_one_course() -> None:
    learned = learn(parts(16, seed=0))

    def strange(record: Record) -> NDArray[np.bool_]:
        told, x = some_features(record, learned.plan, learned.grid, 1)
        out = np.zeros(len(record), bool)
        out[told] = learned.states.score(x) > learned.limit.value
        return out

    assert strange(parts(20, seed=1)).mean() < 0.01
    judged = parts(20, seed=1, weak=7)
    weak = strange(judged)
    assert weak[judged.group == 7].any()
    assert weak[judged.group != 7].mean() < 0.01


def test_the_place_in_the_run_tells_of_one_course() -> None:
    strokes = list(parts(40, seed=0).values.reshape(40, 80, 3).astype(np.float32))
    steps = np.random.default_rng(0).normal(size=(40, 80, 3))
    walks = list(steps.cumsum(axis=1).astype(np.float32))
    assert one_course(strokes, 3)
    assert not one_course(walks, 3)
    assert not one_course(strokes[:7], 3)


def test_runs_of_one_course_are_held_out_whole() -> None:
    for fold in folds([70] * 16, 10, alike=True):
        assert {index for index, _ in fold.test}.isdisjoint(index for index, _ in fold.learn)
        assert all(at == slice(0, 70) for _, at in (*fold.test, *fold.learn))


def test_runs_that_drift_together_are_held_out_together() -> None:
    first = next(folds([70] * 16, 10, alike=True))
    assert [index for index, _ in first.test] == [0, 1]
