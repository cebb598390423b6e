"""What follows along a bend: how far signals lie above levels explains it, and only there."""

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from gateway.pipeline.assess import Judge
from gateway.pipeline.windows import Windows
from models.errors import BundleError
from models.features.bends import ABOVE, BENDS, RECENT_ABOVE, levels_of
from models.features.earlier import EARLIER
from models.features.plan import FeaturePlan
from models.follow import Bounds, Follow
from models.record import Record
from models.runtime import open_session
from models.score import score
from models.training import conditions, hints, plan
from models.training.anomaly import train
from models.training.company import Form
from models.training.invented import Told
from models.training.learn import Learned, learn
from models.training.trained import Trained
from tests.models.rigs import RIGS, wander
from tests.models.test_rigs import agrees, record, verdicts

ROWS = 6000


def turbine(seed: int) -> Record:
    """Power by the cube of a wind that gusts, up to what is rated; pitch beyond it; each 10 min."""
    rng, n = np.random.default_rng(seed), 2 * ROWS
    wind = np.abs(8 + 3 * wander(rng, n, 150) + 1.5 * wander(rng, n, 6))
    power = np.minimum(2.0 * wind**3, 2000.0)
    pitch = np.maximum(wind - 10.0, 0.0) * 2.0
    room = 20 + 3 * wander(rng, n, 60)
    values = np.column_stack([wind, power, pitch, room])
    values += rng.normal(size=values.shape) * (0.2, 20.0, 0.2, 0.3)
    names = ("wind", "power", "pitch", "room")
    return Record(values, names, ("m/s", "kW", "°", "°C"), np.arange(0.0, 600.0 * n, 600.0))


@cache
def learned_turbine() -> Learned:
    return learn(turbine(1).rows(slice(0, ROWS)))


@cache
def trained_turbine() -> Trained:
    return train(turbine(1).rows(slice(0, ROWS)))


def knows_bends(learned: Learned) -> bool:
    return any(name.rpartition(":")[2] in BENDS for name in learned.plan.names)


def weak(whole: Record, at: int) -> Record:
    """Power a fifth lower from a row on, as of worn blades."""
    values = whole.values.copy()
    values[at:, 1] *= 0.8
    return replace(whole, values=values)


def test_lost_power_is_missed_only_where_its_curve_is_known(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole, learned = turbine(1), learned_turbine()
    assert knows_bends(learned)
    assert any("along a bend: wind, power" in note for note in learned.notes)
    assert verdicts(learned, whole, ROWS).mean() < 0.01
    alone = replace(learned, strays=None)
    assert verdicts(alone, weak(whole, ROWS), ROWS + 100).mean() > 0.7
    monkeypatch.setattr(plan, "EXPLAINING_MAX", 0)
    without = replace(learn(whole.rows(slice(0, ROWS))), strays=None)
    assert verdicts(without, weak(whole, ROWS), ROWS + 100).mean() < 0.4


def test_where_nothing_bends_no_level_is_asked() -> None:
    rig = RIGS["loaded"]
    learned = learn(record(rig, 1).rows(slice(0, rig.rows)))
    assert not knows_bends(learned)
    assert learned.plan.levels == ()
    assert not any("bend" in note for note in learned.notes)


def test_a_mean_above_a_level_is_that_of_the_cells_there_and_of_those_that_are_known() -> None:
    rng = np.random.default_rng(4)
    window = rng.normal(size=(3, 2, 48))
    window[1, 0, 5:9] = np.nan
    levels = levels_of(window.transpose(0, 2, 1).reshape(-1, 2))
    assert levels[0][1] == pytest.approx(np.nanmedian(window[:, 0]))
    names = tuple(f"{signal}:{kind}" for kind in BENDS for signal in "ab")
    told = FeaturePlan(("a", "b"), names, 1.0, 48, levels=levels).compute(window)
    for column, name in enumerate(names):
        signal, _, kind = name.rpartition(":")
        of, (which, newest) = "ab".index(signal), BENDS[kind]
        seen = window[:, of, -6:] if newest else window[:, of]
        want = np.nanmean(np.maximum(seen - levels[of][which], 0.0), axis=1)
        np.testing.assert_allclose(told[:, column], want, rtol=1e-5)
    window[1, 0, 2:40] = np.nan
    told = FeaturePlan(("a", "b"), names, 1.0, 48, levels=levels).compute(window)
    assert np.isnan(told[1, names.index("a:above_low")]), "too few cells: not 0"


def test_each_scale_is_explained_by_what_is_of_it() -> None:
    learned = learned_turbine()
    names = learned.plan.names
    for one, out in zip(learned.states.whole.companies, (RECENT_ABOVE, ABOVE), strict=True):
        kinds = {names[i].rpartition(":")[2] for i in one.at}
        assert kinds & BENDS.keys()
        assert not kinds & set(out)


def test_only_drops_what_is_not_asked_for() -> None:
    learned = learned_turbine()
    kept = learned.plan.names
    assert not any(name.rpartition(":")[2] == "late_mean" for name in kept)
    assert [len(s[0]) for s in learned.sequences] == [len(kept)]


HIDES = 0.8
"""Told better than by anything else, but worse where alarms are few."""


@pytest.mark.parametrize(
    ("late", "bent", "both", "want"),
    [
        (0.720, 0.730, 0.740, hints.BOTH),
        (0.720, 0.730, 0.734, frozenset(BENDS)),
        (0.730, 0.704, 0.760, frozenset(EARLIER)),
        (0.704, 0.704, 0.760, hints.NONE),
        (0.720, HIDES, 0.760, frozenset(EARLIER)),
        (0.720, 0.730, HIDES, frozenset(BENDS)),
    ],
)
def test_each_kind_of_hint_must_help_clearly_and_both_only_more_than_either(
    monkeypatch: pytest.MonkeyPatch, late: float, bent: float, both: float, want: frozenset[str]
) -> None:
    asked: dict[int, float] = {}

    def tells(sequences: list[np.ndarray], form: Form, *_: object) -> Told:
        wide = len(form.floor) - form.judged
        told = asked.setdefault(wide, {0: 0.7, 12: late, 24: bent, 36: both}[wide])
        return Told(told, 0.5 - 0.1 * (told == HIDES))

    monkeypatch.setattr(conditions, "tells", tells)
    record = turbine(1).rows(slice(0, 2000))
    told = learn(record)
    kinds = {name.rpartition(":")[2] for name in told.plan.names}
    assert kinds & hints.BOTH == want
    assert (36 in asked) == (min(late, bent) > 0.705 and bent != HIDES)


def test_the_graphs_know_bends_as_the_detector_does() -> None:
    whole, learned = turbine(1).rows(slice(0, ROWS)), learned_turbine()
    made = train(whole, precision="fp32")
    gappy = replace(whole, values=whole.values.copy())
    gappy.values[np.random.default_rng(1).random(whole.values.shape) < 0.2] = np.nan
    agrees(learned, made.fp32, whole, gappy)


def test_the_gateway_bends_as_score_does(tmp_path: Path) -> None:
    bundle = trained_turbine().write(tmp_path / "turbine.fwm")
    table = turbine(2).rows(slice(0, 300))
    replayed = score(bundle, table)
    judge = Judge(bundle, open_session(bundle, "cpu"), ["wt-1"], shadow=False)
    cells = bundle.manifest.window.cells
    seen = Windows(
        rows=np.array([0]),
        end_ns=np.array([280], np.int64),
        value=table.values[280 - cells : 280].T[None].copy(),
        coverage=np.ones((1, table.values.shape[1])),
        full=np.array([True]),
    )
    judged = judge.judge(seen, np.array([0.5]))
    np.testing.assert_allclose(judged.features[0], replayed.features[279], rtol=1e-6)


def test_what_is_followed_moves_what_lies_above_a_level_by_the_share_that_does() -> None:
    made = trained_turbine()
    bounds = Bounds.of(made.manifest)
    assert bounds is not None
    follow = Follow(bounds, 1)
    follow.offset[0, 0] = 0.4
    names = made.manifest.features
    seen = follow.corrected(np.zeros(1, np.int64), np.zeros((1, len(names)), np.float32))[0]
    moved = {name: float(seen[i]) for i, name in enumerate(names) if seen[i] != 0}
    assert moved.pop("wind:above_low") == pytest.approx(-0.3)
    assert moved.pop("wind:recent_above_high") == pytest.approx(-0.1)
    assert moved.pop("wind:mean") == pytest.approx(-0.4)
    assert all(name.startswith("wind:") for name in moved)


@pytest.mark.parametrize("held", [None, [], [[1.0, 2.0]] * 4, "x", [[1.0, 2.0, float("nan")]] * 4])
def test_levels_that_do_not_fit_are_refused(held: object) -> None:
    made = trained_turbine().manifest
    FeaturePlan.from_manifest(made)
    detail = {**made.detail, "levels": held}
    with pytest.raises(BundleError, match="levels"):
        FeaturePlan.from_manifest(made.model_copy(update={"detail": detail}))
