"""Of three sensors two agree: the third is told, unless they moved and it stayed."""

import json
from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from models.majority import Majority, find

Floats = NDArray[np.float64]
OFFSETS, GAINS = np.array([0.0, -4, 6, 2]), np.array([1.0, 1.1, -0.9, 1.05])


def levels(n: int, sensors: int, seed: int = 0) -> Floats:
    """So many sensors of one heat, one of them upside down, and a flow beside them."""
    random = np.random.default_rng(seed)
    heat = 60 + 3 * random.normal(size=n)
    seen = heat[:, None] * GAINS[:sensors] + OFFSETS[:sensors] + random.normal(0, 0.1, (n, sensors))
    return np.column_stack([seen, random.normal(5, 1, n)])


def taught(sensors: int) -> Majority:
    units = [*["°C"] * sensors, "m3/h"]
    found = find(levels(2000, sensors), units)
    return Majority.unpack(json.loads(json.dumps(found.pack())))


def told(
    majority: Majority, sensors: int, moved: Sequence[int], by: float, *, share: float = 0.889
) -> set[int]:
    """Which sensors are told of a machine at 60 °C, where the first that moved carries the most."""
    seen = OFFSETS[:sensors] + GAINS[:sensors] * 60.0
    seen[list(moved)] += by * GAINS[list(moved)]
    contribution = np.zeros((1, sensors + 1), np.float32)
    contribution[0, :sensors] = (0.99 - share) / (sensors - 1)
    contribution[0, moved[0]] = share
    direction = np.ones((1, sensors + 1), np.int8)
    strays = majority.strays(contribution, direction, np.append(seen, 5.0)[None])
    return set(np.flatnonzero(strays[0]).tolist())


@pytest.mark.parametrize("sensors", [3, 4])
@pytest.mark.parametrize("by", [2.0, -2.0, 40.0])
def test_the_one_that_parts_from_all_is_told(sensors: int, by: float) -> None:
    majority = taught(sensors)
    assert majority.at[:, 0].tolist() == list(range(sensors))
    for one in range(sensors):
        assert told(majority, sensors, [one], by) == {one}
        assert set(majority.witnesses(one)) == set(range(sensors)) - {one}


def test_who_agrees_with_another_or_shares_the_score_with_others_is_not_told() -> None:
    assert told(taught(3), 3, [0, 1, 2], 20.0) == set()
    assert told(taught(4), 4, [0, 1], 8.0) == set()
    assert told(taught(3), 3, [1], 0.1) == set(), "no further apart than ever"
    assert told(taught(3), 3, [0], 2.0, share=0.4) == {0}
    unlike = find(levels(2000, 3), ["°C", "°C", "K", "m3/h"])
    assert not len(unlike.at)
    assert not len(find(levels(2000, 2), ["°C", "°C", "m3/h"]).at)


def test_where_two_leave_their_range_and_the_third_stays_it_is_not_the_third() -> None:
    majority = taught(3)
    seen = np.array([[60.0, 72.0, -58.8, 5.0]])
    share = np.array([[0.889, 0.05, 0.05, 0.011]], np.float32)
    up = np.ones((1, 4), np.int8)
    assert not majority.strays(share, up, seen).any()
    inside = np.array([[57.0, 62.0, -48.0, 5.0]])
    assert np.flatnonzero(majority.strays(share, up, inside)[0]).tolist() == [0]
    assert not majority.strays(share, 0 * up, inside).any(), "it is no level that is odd"
    missing = np.where(np.arange(4) == 1, np.nan, inside)
    assert not majority.strays(share, up, missing).any(), "one against one is no majority"
