"""Slow healthy change is followed, in virtual months; a growing fault alarms as before."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.signal import lfilter

from models.bundle import Bundle
from models.errors import RecordError
from models.follow import PACE_A_WEEK, SPREADS_MAX, STEP_S, Bounds, Follow, Held
from models.record import Record
from models.score import Scored, score
from models.training.anomaly import train
from tests.models.plants import NAMES, UNITS

PERIOD_S = 600.0
DAY = round(86_400 / PERIOD_S)
TEMPERATURE, VIBRATION = NAMES.index("temperature"), NAMES.index("vibration")
Change = Callable[[NDArray[np.float64]], NDArray[np.float64]]


def life(weeks: float, seed: int, signal: int = 0, change: Change = np.zeros_like) -> Record:
    """A motor read every ten minutes; `change` of the time in weeks is added to one signal."""
    n, rng = round(weeks * 7 * DAY), np.random.default_rng(seed)
    hold = np.repeat(rng.uniform(900, 1500, n // 6 + 1), 6)[:n]
    warm = lfilter([0.2], [1, -0.9], rng.normal(0, 1, n))
    values = np.column_stack(
        [
            hold + rng.normal(0, 5, n),
            2 + hold / 300 + rng.normal(0, 0.1, n),
            55 + 0.004 * hold + warm + rng.normal(0, 0.05, n),
            1 + (hold / 1500) ** 2 + rng.normal(0, 0.05, n),
        ]
    )
    values[:, signal] += change(np.arange(n) / (7 * DAY))
    return Record(values, NAMES, UNITS, time_s=1.767e9 + np.arange(n, dtype=np.float64) * PERIOD_S)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    trained = train(life(6, 0))
    return trained.write(tmp_path_factory.mktemp("follow") / "m.fwm")


def bounds(model: Bundle) -> Bounds:
    held = Bounds.of(model.manifest)
    assert held is not None
    return held


def both(model: Bundle, record: Record) -> tuple[Scored, Scored]:
    return score(model, record), score(model, record, follow=True)


def over(scored: Scored) -> NDArray[np.bool_]:
    out: NDArray[np.bool_] = np.nan_to_num(scored.score) > scored.limit.max()
    return out


def lasting_week(scored: Scored) -> float:
    """When half of a day was over the limit, in weeks."""
    share = np.convolve(over(scored), np.ones(DAY) / DAY)[: len(scored.score)]
    return float(np.flatnonzero(share >= 0.5)[0]) / (7 * DAY)


def test_a_season_raises_less_than_half_of_the_false_alarms(model: Bundle) -> None:
    spread = bounds(model).spread[TEMPERATURE]
    season: Change = lambda week: 3.5 * spread * np.sin(week / 52 * 2 * np.pi)  # noqa: E731
    plain, followed = both(model, life(52, 5, TEMPERATURE, season))
    assert over(plain).sum() > 50
    assert over(followed).sum() < 0.5 * over(plain).sum()


def test_health_raises_no_more_alarms_for_being_followed(model: Bundle) -> None:
    for seed in (6, 7):
        plain, followed = both(model, life(26, seed))
        assert over(followed).sum() <= over(plain).sum() + 2


@pytest.mark.parametrize("weeks", [2, 6, 12])
@pytest.mark.parametrize("signal", [TEMPERATURE, VIBRATION])
def test_a_growing_fault_is_found_before_it_is_a_third_larger(
    model: Bundle, signal: int, weeks: float
) -> None:
    spread = bounds(model).spread[signal]
    shapes: dict[str, Change] = {
        "linear": lambda week: 12 * spread * week / weeks,
        "exponential": lambda week: 0.1 * spread * 2 ** (8 * week / weeks),
    }
    for change in shapes.values():
        plain, followed = map(lasting_week, both(model, life(weeks, 5, signal, change)))
        sizes = change(np.array([plain, followed]))
        assert sizes[1] <= 4 / 3 * sizes[0]


# The follower alone, by hand: one asset, three signals of spread 1


def plain_bounds(k: int = 3, limit: float = 4.0) -> Bounds:
    return Bounds(
        tuple("abcdefgh"[:k]),
        ("K",) * k,
        np.ones(k),
        np.arange(k, dtype=np.int64),
        np.arange(k, dtype=np.int64),
        np.ones(k),
        2 * k,
        limit,
    )


def feed(
    follow: Follow, days: float, direction: list[int], severity: float = 0.3, start_day: float = 0
) -> float:
    """Verdicts all alike, an hour apart; the day after the last."""
    for hour in range(round(24 * start_day), round(24 * (start_day + days))):
        follow.saw(
            np.zeros(1, np.int64),
            np.array([hour * 3600 * 10**9]),
            np.array([severity], np.float32),
            np.array([direction], np.int8),
        )
    return start_day + days


def test_the_pace_is_the_pace_and_the_room_is_the_room() -> None:
    follow = Follow(plain_bounds(), 1)
    feed(follow, 8, [1, 0, 0])
    at_8 = follow.offset[0].copy()
    assert at_8[1] == at_8[2] == 0
    feed(follow, 7, [1, 0, 0], start_day=8)
    assert follow.offset[0, 0] - at_8[0] == pytest.approx(PACE_A_WEEK)
    feed(follow, 200, [1, 0, 0], start_day=15)
    room = plain_bounds().room ** 0.25
    assert follow.offset[0, 0] <= min(SPREADS_MAX, room) + 1e-9
    assert follow.offset[0, 0] > min(SPREADS_MAX, room) - PACE_A_WEEK * STEP_S / (7 * 86_400) - 1e-9
    assert follow.held == [Held.FULL]
    # Back towards the baseline is free.
    feed(follow, 30, [-1, 0, 0], start_day=215)
    assert follow.offset[0, 0] < min(SPREADS_MAX, room) - 0.5
    assert follow.held == [Held.NO]
    features = np.zeros((1, 3), np.float32)
    seen = follow.corrected(np.zeros(1, np.int64), features)
    assert seen[0, 0] == pytest.approx(-follow.offset[0, 0])
    assert features[0, 0] == 0


def test_noise_on_both_sides_moves_nothing() -> None:
    follow = Follow(plain_bounds(), 1)
    for hour in range(24 * 30):
        feed(follow, 1 / 24, [1 if hour % 2 else -1] * 3, start_day=hour / 24)
    assert not follow.offset.any()


@pytest.mark.parametrize(
    ("held", "severity"), [(Held.ALARM, 1.5), (Held.TOGETHER, 0.3), (Held.RISING, 0.6)]
)
def test_whatever_looks_like_a_fault_holds_it_still(held: Held, severity: float) -> None:
    follow = Follow(plain_bounds(), 1)
    day = feed(follow, 20, [0, 0, 0], severity=0.3)
    if held is Held.ALARM:
        day = feed(follow, 0.5, [0, 0, 0], severity=severity, start_day=day)
        feed(follow, 1, [1, 0, 0], start_day=day)
    else:
        feed(follow, 2, [1, 1, 1] if held is Held.TOGETHER else [1, 0, 0], severity, day)
    assert follow.held == [held]
    assert not follow.offset.any()


def test_windows_near_the_limit_and_abstentions_teach_nothing() -> None:
    follow = Follow(plain_bounds(), 1)
    feed(follow, 30, [1, 0, 0], severity=0.9)
    feed(follow, 30, [1, 0, 0], severity=float("nan"), start_day=30)
    assert not follow.offset.any()


def test_it_survives_a_restart_by_the_signals_names() -> None:
    follow = Follow(plain_bounds(), 2)
    feed(follow, 10, [1, 0, -1])
    again = Follow(plain_bounds(k=4), 2)
    again.unpack(1, follow.pack(0))
    assert again.offset[1].tolist() == [*follow.offset[0].tolist(), 0.0]
    signal, moved, spreads = again.followed(1)[0]
    assert signal == "a"
    assert moved.startswith("+")
    assert 0 < spreads < SPREADS_MAX
    for damaged in (b"", b"{}", b"[]", follow.pack(0).replace(b"0.", b"NaN, 0.", 1)):
        with pytest.raises((ValueError, KeyError, TypeError)):
            again.unpack(0, damaged)
    assert not again.offset[0].any()


def test_a_bundle_without_spreads_is_not_followed(model: Bundle) -> None:
    detail = {k: v for k, v in model.manifest.detail.items() if k != "follow"}
    assert Bounds.of(model.manifest.model_copy(update={"detail": detail})) is None
    untimed = life(1, 0)
    with pytest.raises(RecordError, match=r"needs a time column|cannot follow"):
        score(model, Record(untimed.values, NAMES, UNITS), follow=True)
