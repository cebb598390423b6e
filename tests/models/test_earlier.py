"""What follows late: where other signals were explains it, where it helps and only there."""

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from gateway.pipeline.assess import Judge
from gateway.pipeline.windows import Windows
from models.features.earlier import EARLIER
from models.features.plan import FeaturePlan
from models.follow import Bounds
from models.record import Record
from models.runtime import open_session
from models.score import score
from models.training import plan
from models.training.anomaly import train
from models.training.companies import Members, hinted
from models.training.explained import _Sums, axes, weights
from models.training.learn import Learned, learn
from models.training.trained import Trained
from tests.models.plants import healthy
from tests.models.rigs import RIGS, SWITCHED
from tests.models.test_rigs import agrees, record, verdicts


@cache
def oven() -> Trained:
    """Learned in several conditions, and asked where its signals were."""
    rig = SWITCHED["oven"]
    return train(record(rig, 11).rows(slice(0, rig.rows)))


def knows_earlier(learned: Learned) -> bool:
    return any(name.rpartition(":")[2] in EARLIER for name in learned.plan.names)


def test_a_temperature_that_follows_its_load_late_is_told_when_it_is_a_little_off(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rig = SWITCHED["oven"]
    whole = record(rig, 13)
    values = whole.values.copy()
    values[rig.rows + 500 :, 2] += 6 * rig.noise[2]
    fault = replace(whole, values=values)
    learned = learn(whole.rows(slice(0, rig.rows)))
    assert knows_earlier(learned)
    assert any("known by where other signals were, too: s" in note for note in learned.notes)
    assert verdicts(learned, whole, rig.rows).mean() < 0.01
    assert verdicts(learned, fault, rig.rows + 1000).mean() > 0.8
    monkeypatch.setattr(plan, "EXPLAINING_MAX", 0)
    without = learn(whole.rows(slice(0, rig.rows)))
    assert verdicts(without, fault, rig.rows + 1000).mean() < 0.5


def test_where_nothing_is_late_nothing_earlier_is_asked() -> None:
    learned = learn(healthy(4000))
    assert not knows_earlier(learned)
    assert not any("where other signals were" in note for note in learned.notes)


def test_a_product_that_the_record_holds_once_is_no_fault_for_what_is_known_of_the_others() -> None:
    """Known where the signals were, two of three products are foretold so well that the third,
    made once in 3,000 rows, would be far from anything."""
    rig, rng = RIGS["recipes"], np.random.default_rng(701)
    values = rig.make(rng, 11 * rig.rows)
    values += rng.normal(size=values.shape) * rig.noise
    names = tuple(f"s{i}" for i in range(values.shape[1]))
    whole = Record(values[: 4 * rig.rows], names, time_s=np.arange(0.0, 8.0 * rig.rows, 2.0))
    once = np.abs(whole.values[:, 1] - 4.5) < 0.2
    assert once[: rig.rows].sum() < 210 < once[rig.rows :].sum()
    learned = learn(whole.rows(slice(0, rig.rows)))
    assert verdicts(learned, whole, rig.rows).mean() < 0.01


def test_where_a_signal_was_never_explains_itself() -> None:
    rng = np.random.default_rng(2)
    signals = np.array([0, 1, 2, 0, 1, 2, 0, 1, 2])
    x = rng.normal(size=(500, 9)) @ rng.normal(size=(9, 9))
    members = hinted(Members(np.arange(3), 3), np.arange(3, 9), signals)
    assert (members.told, members.judged) == (3, 3)
    z = (x - x.mean(axis=0)) / x.std(axis=0)
    found = _Sums.of(z, np.ones(z.shape, bool))
    ridges = np.full(9, 0.01)
    weight = weights(found.axes, ridges, members.barred)
    for j in range(3):
        heard = np.flatnonzero((np.arange(9) < 3) | (signals != j))
        want = weights(axes(np.corrcoef(z[:, heard].T)), ridges[: len(heard)])
        np.testing.assert_allclose(weight[heard, j], want[:, j], atol=1e-9)
        barred = np.setdiff1d(np.arange(9), heard)
        np.testing.assert_allclose(weight[barred, j], 0.0, atol=1e-12)
    quick = found.lost(z, np.ones(z.shape, bool), members.barred)
    left = found.left_over(z, np.ones(z.shape, bool), np.full(9, 0.1), members.barred)
    np.testing.assert_allclose(quick[2, :3], np.log((left[:, :3] ** 2).sum(axis=0)), rtol=1e-6)


def test_the_parts_lie_two_four_and_seven_sevenths_back() -> None:
    names = tuple(f"a:{kind}" for kind in EARLIER)
    window = np.arange(48.0)[None, None]
    eighths = FeaturePlan(("a",), names, 1.0, 48).compute(window)
    assert eighths.tolist() == [[32.5, 20.5, 2.5]]
    quarters = FeaturePlan(("a",), names, 1.0, 48, recent_cells=12).compute(window)
    assert quarters.tolist() == [[29.5, 17.5, 5.5]], "whole cycles of a machine that has some"


def test_the_graphs_explain_and_stand_in_as_the_detector_does() -> None:
    rig = SWITCHED["oven"]
    whole = record(rig, 11).rows(slice(0, rig.rows))
    learned, made = learn(whole), train(whole, precision="fp32")
    assert knows_earlier(learned)
    assert len(learned.states.parts) > 1
    gappy = replace(whole, values=whole.values.copy())
    gappy.values[1000:1400, 1] = np.nan
    gappy.values[np.random.default_rng(1).random(whole.values.shape) < 0.2] = np.nan
    agrees(learned, made.fp32, whole, gappy)


def test_openvino_judges_by_several_conditions(tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    made = oven()
    assert len(made.manifest.detail["conditions"]) > 1
    bundle = made.write(tmp_path / "oven.fwm")
    told = []
    for device in ("cpu", "openvino:CPU"):
        session = open_session(bundle, device)
        told.append([session.run(bundle.golden.x[:n])["score"] for n in (48, 1)])
        session.close()
    for want, got in zip(*told, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-4)


def test_several_conditions_hold_no_more_than_a_few_matrices_each() -> None:
    made = oven()
    parts, d = len(made.manifest.detail["conditions"]), len(made.manifest.features)
    held = [numpy_helper.to_array(t) for t in onnx.load_from_string(made.fp32).graph.initializer]
    assert parts > 1
    assert max(a.size for a in held) <= parts * d * d
    # What explains, what stands in, and how unsure both are; and what gaps and movement do.
    assert sum(a.size for a in held) < 4 * parts * d * d
    # What only explains has something to stand in for it, and is not judged.
    measured = sum(not name.endswith("error") for name in made.manifest.features)
    assert [a.shape for a in held].count((parts, measured, measured)) == 1


def test_where_a_missing_signal_was_is_told_by_where_the_others_were() -> None:
    rig = SWITCHED["oven"]
    learned = learn(record(rig, 11).rows(slice(0, rig.rows)))
    x = np.concatenate(learned.sequences)
    one = learned.states.whole.companies[0]
    z = np.clip((x[:, one.at] - one.centre) / one.scale, -8, 8)
    told = (np.nan_to_num(z) @ one.expected)[:, one.told :]
    assert told.shape[1] == 9
    assert min(np.corrcoef(told[:, i], z[:, one.told + i])[0, 1] for i in range(9)) > 0.7


def test_what_is_followed_moves_where_a_signal_was_as_well() -> None:
    made = oven()
    bounds = Bounds.of(made.manifest)
    assert bounds is not None
    moved = {made.manifest.features[i] for i in bounds.features.tolist()}
    assert {f"s1:{kind}" for kind in ("mean", "recent_mean", *EARLIER)} <= moved


def test_the_gateway_knows_where_signals_were_as_score_does(tmp_path: Path) -> None:
    rig = SWITCHED["oven"]
    bundle = oven().write(tmp_path / "oven.fwm")
    table = record(rig, 12).rows(slice(0, 400))
    replayed = score(bundle, table)
    judge = Judge(bundle, open_session(bundle, "cpu"), ["oven-1"], shadow=False)
    cells = bundle.manifest.window.cells
    for end in (200, 260, 400):
        seen = Windows(
            rows=np.array([0]),
            end_ns=np.array([end], np.int64),
            value=table.values[end - cells : end].T[None].copy(),
            coverage=np.ones((1, table.values.shape[1])),
            full=np.array([True]),
        )
        judged = judge.judge(seen, np.array([0.5]))
        np.testing.assert_allclose(judged.features[0], replayed.features[end - 1], rtol=1e-6)
        assert judged.assessments.contribution[0] == pytest.approx(
            replayed.contribution[end - 1], abs=1e-4
        )
