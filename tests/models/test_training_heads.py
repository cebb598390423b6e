"""Failure and remaining-life models: what they learn, what they promise, what they refuse."""

from functools import cache
from pathlib import Path
from typing import cast

import numpy as np
import pytest
from onnx import numpy_helper
from sklearn.ensemble import HistGradientBoostingRegressor, RandomForestClassifier
from sklearn.metrics import average_precision_score

from models import heads, quantise
from models.errors import RecordError
from models.features import regimes
from models.features.partial import PARTIAL
from models.graph import Graph
from models.record import Record
from models.training import failure, judged, learners, mixture, nets, rul, selection, trees
from models.training.inputs import Inputs
from models.training.trained import Trained

RANDOM = np.random.default_rng(5)
pytestmark = pytest.mark.usefixtures("few_questions")


def _fleet(units: int, seed: int, *, conditions: int = 1) -> Record:
    """Machines whose wear grows towards the end, under conditions that come and go."""
    random = np.random.default_rng(seed)
    values, group, cycle = [], [], []
    for unit in range(units):
        life = int(random.integers(70, 140))
        left = np.arange(life)[::-1]
        wear = np.exp(-left / 30.0)
        which = random.integers(0, conditions, life)
        speed = 1000.0 * (1 + which) + random.normal(size=life)
        gain, shift = 1 + which, 40.0 * which
        sensors = [
            shift + gain * (10 + sign * wear + 0.2 * random.normal(size=life))
            for sign in (1, -1, 0.5, 0)
        ]
        values.append(np.column_stack([speed, *sensors, np.full(life, 3.0)]))
        group += [unit] * life
        cycle += list(range(life))
    return Record(
        np.concatenate(values),
        ("speed", "a", "b", "c", "d", "still"),
        time_s=np.array(cycle, float),
        group=np.array(group),
        groups=tuple(map(str, range(units))),
    )


def _left(record: Record, cap: float) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    out = np.empty(len(record))
    for _, rows in record.sequences():
        out[rows] = np.minimum(np.arange(len(rows))[::-1], cap)
    return out


@cache
def _lives(conditions: int) -> Trained:
    """Made once: its teachers take long."""
    return rul.train(_fleet(16, 1, conditions=conditions), cap=60, seed=1)


@pytest.mark.parametrize("conditions", [1, 3])
def test_remaining_life(conditions: int, tmp_path: Path) -> None:
    held = _lives(conditions).write(tmp_path / "r.fwm")
    test = _fleet(8, 2, conditions=conditions)
    got = heads.answer(held, test)
    assert got.columns == ("rul", "low", "high")
    want, known = _left(test, 60), ~np.isnan(got.values[:, 0])
    life, low, high = got.values[known].T
    naive = np.sqrt(np.mean((want[known] - want[known].mean()) ** 2))
    assert np.sqrt(np.mean((life - want[known]) ** 2)) < 0.55 * naive
    assert (low <= life).all()
    assert (life <= high).all()
    assert 0 <= life.min() <= life.max() <= 60
    assert 0.6 < np.mean((low <= want[known]) & (want[known] <= high)) <= 0.98
    # Ten cycles are enough for a first answer, and no row before has one.
    first = np.array([rows[0] for _, rows in test.sequences()])
    assert not known[np.add.outer(first, np.arange(9))].any()
    assert known[first + 9].all()
    assert ("regimes" in held.manifest.detail) == (conditions > 1)
    assert "still" not in [signal.name for signal in held.manifest.signals]
    exact = heads.answer(held, test, precision="fp32").values
    assert np.nanmean(np.abs(exact[:, 0] - got.values[:, 0])) < 0.6


class _Said:
    """A learner that says its only feature."""

    def predict(self, z: np.ndarray[tuple[int, int], np.dtype[np.float32]]) -> learners.Floats:
        return z[:, 0].astype(float)

    def emit(self, graph: Graph, z: str, weight: float, bias: learners.Floats) -> str:
        weights = np.full((1, len(bias)), weight)
        return graph.dense(z, weights, bias, "")


class _AsItIs:
    def emit(self, graph: Graph) -> str:
        return graph.x


def test_the_interval_is_the_line_between_the_knots() -> None:
    knots = np.linspace(0.0, 100.0, rul.KNOTS)
    low = np.array([-1.0, -9.0, -20.0, -15.0, -30.0, -12.0])
    high = np.array([4.0, 12.0, 6.0, 25.0, 3.0, 0.0])
    graph = Graph("rul", 1)
    mixed = mixture.Mix(("said",), (_Said(),), np.array([2.0]), 5.0)
    rul._emit(graph, mixed, cast("Inputs", _AsItIs()), (knots, low, high), 100.0)
    x = np.linspace(-20.0, 80.0, 501, dtype=np.float32)[:, None]
    life = np.clip(2.0 * x[:, 0] + 5.0, 0, 100)
    want = [life, *(np.clip(life + np.interp(life, knots, at), 0, 100) for at in (low, high))]
    np.testing.assert_allclose(quantise.run(graph.model(), x)["rul"].T, want, atol=1e-3)


def test_a_row_sees_only_rows_up_to_it(tmp_path: Path) -> None:
    held = _lives(1).write(tmp_path / "r.fwm")
    test = _fleet(1, 3)
    whole = heads.answer(held, test).values
    part = heads.answer(held, test.rows(slice(0, 40))).values
    np.testing.assert_allclose(whole[:40], part, rtol=1e-6)


def _milling(n: int, seed: int) -> Record:
    """Independent rows; one failure when power leaves its band, one when heat cannot leave."""
    random = np.random.default_rng(seed)
    speed, torque = random.normal(1500, 150, n), random.normal(40, 9, n)
    air = random.normal(300, 2, n)
    process = air + random.normal(10, 1, n)
    power = speed * torque * 0.1047
    labels = {
        "power": (power > 8800).astype(float),
        "heat": ((process - air < 8.8) & (speed < 1550)).astype(float),
    }
    grade = random.integers(0, 3, n).astype(float)
    return Record(
        np.column_stack([speed, torque, air, process, grade]),
        ("speed", "torque", "air", "process", "grade"),
        labels=labels,
        categories={"grade": ("H", "L", "M")},
    )


def test_failures_of_single_rows(tmp_path: Path) -> None:
    train, test = _milling(800, 1), _milling(1500, 2)
    made = failure.train(train, ["power", "heat"])
    held = made.write(tmp_path / "f.fwm")
    assert held.manifest.window.cells == 1
    got = heads.answer(held, test)
    assert got.columns == ("p_power", "p_heat")
    assert np.isfinite(got.values).all()
    for column, label in zip(got.values.T, ("power", "heat"), strict=True):
        assert average_precision_score(test.labels[label], column) > 0.85
        # Calibrated: as many failures are seen as are announced.
        assert column.mean() == pytest.approx(test.labels[label].mean(), rel=0.4)
    # Power is a product and heat a difference: both are found without being told.
    assert ["speed:last", "torque:last"] in held.manifest.detail["products"]
    assert ["air:last", "process:last"] in held.manifest.detail["differences"]
    exact = heads.answer(held, test, precision="fp32").values
    assert np.abs(exact - got.values).max() < 0.1
    assert max(held.manifest.parity["average_precision_lost"].values()) <= failure.LOST_MAX
    assert held.manifest.metrics["labels"]["power"]["reliability"]


def test_a_column_that_only_numbers_the_rows_teaches_nothing() -> None:
    train = _milling(300, 1)
    number = np.arange(len(train), dtype=np.float64)[:, None] + 10_000
    numbered = Record(np.hstack([number, train.values]), ("uid", *train.names), labels=train.labels)
    made = failure.train(numbered, ["power"], learn=["boosted"])
    assert "uid" not in [signal.name for signal in made.manifest.signals]
    assert any("only numbers the rows: uid" in note for note in made.notes)


def test_failures_announced_by_events(tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    units, hours = 8, 400
    values, labels = np.zeros((units * hours, 2)), np.zeros(units * hours)
    values[:, 0] = random.normal(size=len(values))
    for unit in range(units):
        for at in (120, 250, 380):
            end = unit * hours + at + int(random.integers(-15, 15))
            labels[end - 12 : end] = 1
            values[end - 12, 1] = 1
    record = Record(
        values,
        ("noise", "error"),
        time_s=np.tile(np.arange(hours) * 3600.0, units),
        group=np.repeat(np.arange(units), hours),
        groups=tuple(map(str, range(units))),
        labels={"fails": labels},
    )
    train, test = record.rows(record.group < 6), record.rows(record.group >= 6)
    made = failure.train(train, ["fails"])
    held = made.write(tmp_path / "e.fwm")
    assert held.manifest.window.cells >= 12
    assert "error:since" in held.manifest.features
    got = heads.answer(held, test)
    known = np.isfinite(got.values[:, 0])
    assert average_precision_score(test.labels["fails"][known], got.values[known, 0]) > 0.9


def test_what_cannot_be_learned_is_said() -> None:
    record = _milling(300, 1)
    with pytest.raises(RecordError, match="'gone' is not in the record"):
        failure.train(record, ["gone"])
    none = Record(record.values, record.names, labels={"never": np.zeros(300)})
    with pytest.raises(RecordError, match="'never' must hold in at least 5 rows, did in 0"):
        failure.train(none, ["never"])
    with pytest.raises(RecordError, match="at least 2 sequences"):
        rul.train(_fleet(1, 1))
    grades = Record(record.values, record.names, labels={"valve": np.arange(300.0) % 3 * 10 + 80})
    with pytest.raises(RecordError, match=r"held 80, 90, 100; .* as --label 'valve=80'"):
        failure.train(grades)
    life = Record(record.values, record.names, labels={"left": np.arange(300.0)[::-1]})
    with pytest.raises(RecordError, match=r"held 300 numbers from 0 to 299 .*--kind rul"):
        failure.train(life)
    still = Record(np.ones((300, 2)), ("a", "b"), labels={"x": (np.arange(300) % 9 == 0) * 1.0})
    with pytest.raises(RecordError, match="at least one must move"):
        failure.train(still, ["x"])


def test_labels_among_the_signals_are_left_out_unless_they_are_named() -> None:
    random = np.random.default_rng(3)
    values = random.normal(size=(600, 2))
    fails = (values[:, 0] > 1.2).astype(float)
    why = np.where(fails > 0, random.integers(1, 3, 600), 0).astype(float)
    rare = (np.arange(600) % 100 == 0).astype(float)
    switch = (np.arange(600) % 2).astype(float)
    names = ("a", "b", "why", "rare", "switch")
    record = Record(np.column_stack([values, why, rare, switch]), names, labels={"fails": fails})
    made = failure.train(record, learn=["boosted"])
    assert {signal.name for signal in made.manifest.signals} == {"a", "b", "switch"}
    assert any(note.startswith("left out, look like labels: why, rare") for note in made.notes)
    named = failure.train(record, learn=["boosted"], named=names)
    assert "why" in {signal.name for signal in named.manifest.signals}
    assert any("why is other than usual almost only where fails holds" in n for n in named.notes)


def test_what_is_known_only_after_a_failure_foretells_none() -> None:
    random = np.random.default_rng(5)
    values = random.normal(size=(600, 2))
    fails = (values[:, 0] > 1.2).astype(float)
    cost = np.where(fails > 0, random.normal(800, 50, 600), 0.0)
    repaired = np.where(fails > 0, random.normal(size=600), np.nan)
    flow = np.where(random.random(600) < 0.3, random.normal(5, 1, 600), 0.0)
    batch = np.arange(600) // 7 * 1.0
    names = ("a", "b", "cost", "repaired", "flow", "batch")
    columns = np.column_stack([values, cost, repaired, flow, batch])
    record = Record(columns, names, labels={"fails": fails})
    made = failure.train(record, learn=["boosted"])
    assert {signal.name for signal in made.manifest.signals} <= {"a", "b", "flow"}
    assert any(note.startswith("left out, look like labels: cost, repaired") for note in made.notes)
    assert "left out, only counts up, so its next values are all new: batch" in made.notes


def test_operating_conditions_are_taken_out_of_what_foretells_a_stretch() -> None:
    fleet = _fleet(8, 1, conditions=3)
    soon = (_left(fleet, 60) < 15).astype(float)
    record = Record(
        fleet.values, fleet.names, group=fleet.group, groups=fleet.groups, labels={"soon": soon}
    )
    made = failure.train(record, learn=["boosted"])
    assert "regimes" in made.manifest.detail
    assert "3 operating conditions, told apart by speed" in made.notes


def test_a_category_is_the_same_in_all_conditions() -> None:
    three = _fleet(6, 1, conditions=3)
    kind = three.group % 3 * 1.0
    found = regimes.find(np.column_stack([three.values, kind]), three.group, [6])
    assert found is not None
    assert found.mean[:, 6].tolist() == [0, 0, 0]
    assert found.spread[:, 6].tolist() == [1, 1, 1]


def test_other_classes_and_what_counts_down_to_the_failure_foretell_none() -> None:
    random = np.random.default_rng(6)
    values = random.normal(size=(600, 2))
    kind = np.where(values[:, 0] > 1.2, 2, random.integers(0, 2, 600))
    fails, scratch, stain = (kind == 2, kind == 0, kind == 1)
    steel = (np.arange(600) % 2).astype(float)
    names = ("a", "b", "scratch", "stain", "steel")
    record = Record(
        np.column_stack([values, scratch, stain, steel]).astype(float),
        names,
        labels={"fails": fails.astype(float)},
    )
    made = failure.train(record, learn=["boosted"])
    assert {signal.name for signal in made.manifest.signals} <= {"a", "b", "steel"}
    left = np.concatenate([np.arange(100.0)[::-1]] * 6)
    worn = np.exp(-left / 30) + 0.3 * random.normal(size=600)
    counted = Record(
        np.column_stack([left, worn]),
        ("left", "worn"),
        group=np.repeat(np.arange(6), 100),
        groups=tuple("abcdef"),
        labels={"soon": (left < 20).astype(float)},
    )
    made = failure.train(counted, learn=["boosted"])
    assert [signal.name for signal in made.manifest.signals] == ["worn"]


def test_a_column_that_tells_the_life_left_is_what_is_learned() -> None:
    """Also in another unit than rows, and of machines whose record ends before their life."""
    random = np.random.default_rng(7)
    values, group = [], []
    for unit in range(6):
        life = int(random.integers(30, 50))
        left = np.repeat(np.arange(life)[::-1], 3) * 1.0
        wear = 10 * np.exp(-left / 15) + 0.3 * random.normal(size=len(left))
        values.append(np.column_stack([wear, left]))
        group += [unit] * len(left)
    record = Record(
        np.concatenate(values),
        ("wear", "flights"),
        time_s=np.arange(0.0, 600.0 * len(group), 600.0),
        group=np.array(group),
        groups=tuple("abcdef"),
    )
    made = rul.train(record)
    assert [signal.name for signal in made.manifest.signals] == ["wear"]
    assert made.manifest.detail["label"] == "flights"
    assert 15 <= made.manifest.detail["cap"] <= 50
    assert made.manifest.detail["row_s"] == pytest.approx(1800, rel=0.05)
    assert any("flights: counts down to the end, so taken for --label" in n for n in made.notes)
    cut = record.rows(record.values[:, 1] >= 5)
    told = Record(
        cut.values[:, :1],
        ("wear",),
        group=cut.group,
        groups=cut.groups,
        labels={"flights": cut.values[:, 1]},
    )
    assert rul.train(told, cap=25).manifest.metrics["unseen_rmse"] < 4


def test_a_long_life_does_not_outweigh_short_ones() -> None:
    lives = np.array([3, *[60] * 12, 5000])
    record = Record(
        np.zeros((lives.sum(), 1)),
        ("a",),
        group=np.repeat(np.arange(len(lives)), lives),
        groups=tuple(map(str, lives)),
    )
    left = np.concatenate([np.arange(life)[::-1] for life in lives])
    rows = rul._telling(record, np.minimum(left, 40.0), 40.0)
    assert np.bincount(record.group[rows]).tolist() == [3, *[60] * 12, 40 + 120]
    assert np.isin(np.flatnonzero(left < 40), rows).all()


def test_each_machine_has_the_same_say_in_the_interval() -> None:
    """One that lives a hundred times as long would else tell how wrong the others are."""
    error = np.concatenate([np.zeros(2000), np.full(20, 8.0), np.full(20, -8.0)])
    machine = np.concatenate([np.zeros(2000, int), np.ones(20, int), np.full(20, 2)])
    _, low, high = rul._band(np.full(2040, 50.0), 50 + error, machine, 100.0)
    assert low.max() == -12
    assert high.min() == 12


def test_a_model_no_better_than_chance_may_not_alarm() -> None:
    random = np.random.default_rng(8)
    values = random.normal(size=(600, 3))
    wear = values[:, 0] + 0.8 * random.normal(size=600) > 1.8
    states = {}
    for name, fails in (("chance", random.random(600) < 0.08), ("wear", wear)):
        record = Record(values, ("a", "b", "c"), labels={name: fails.astype(float)})
        made = failure.train(record, learn=["boosted"])
        states[name] = made.manifest.state
        told = made.manifest.metrics["labels"][name]
        begins = f"{name}: average precision {told['average_precision']:.2f} on rows not seen"
        assert any(note.startswith(begins) for note in made.notes)
    assert states == {"chance": "shadow", "wear": "active"}


def test_rows_to_learn_from_are_bounded_also_where_most_of_them_fail() -> None:
    known = np.arange(1000) >= 10
    target = (np.arange(1000) < 800).astype(float)[:, None]
    keep, rate = failure._sample(target, known, 100, 0)
    assert np.bincount(target[keep, 0].astype(int)).tolist() == [50, 50]
    assert not keep[:10].any()
    assert rate == pytest.approx((50 / 200) / (50 / 790))
    keep, rate = failure._sample(target, known, 2000, 0)
    assert keep.sum() == 990
    assert rate == 1


def test_rows_left_out_count_in_what_is_said_of_unseen_ones() -> None:
    """Nine of ten healthy rows were left out: an alarm in one of them stands for ten."""
    y = np.repeat([1.0, 0.0], [50, 100])
    said = np.where(y > 0.5, 1.0, -3.0)
    said[50:60] = 1.0
    told = judged.judge(y, said, {}, {}, 0.1)
    assert told["average_precision"] == pytest.approx(50 / 150)
    assert told["false_at_half"] == pytest.approx(0.1)
    assert told["share"] == pytest.approx(50 / 1050)


def test_rows_sorted_by_their_label_are_learned_each_alone() -> None:
    """As tables of failures come: blocks and windows of such rows would hold one kind each."""
    plain = _milling(800, 1)
    fails = np.maximum(plain.labels["power"], plain.labels["heat"])
    order = np.argsort(fails, kind="stable")
    record = Record(
        np.column_stack([plain.values, plain.labels["power"], plain.labels["heat"]])[order],
        (*plain.names, "power", "heat"),
        labels={"fails": fails[order]},
    )
    made = failure.train(record, learn=["boosted"])
    assert {signal.name for signal in made.manifest.signals}.isdisjoint({"power", "heat"})
    assert made.manifest.window.cells == 1
    assert made.manifest.state == "active"
    assert made.manifest.metrics["split"] == "every fourth row"
    assert {selection.LOOSE, failure.SORTED} <= set(made.notes)


def _rig(order: list[int], held: int, blur: float) -> Record:
    """A test rig, run at one grade after the other; each run shows its own a little otherwise."""
    grade = np.repeat(order, held)
    random = np.random.default_rng(3)
    shown = grade + np.repeat(blur * random.normal(size=len(order)), held)
    shown += 0.05 * random.normal(size=len(grade))
    return Record(
        np.column_stack([shown, random.normal(size=len(grade))]),
        ("pressure", "flow"),
        time_s=np.arange(len(grade), dtype=float),
        labels={f"valve={each}": (grade == each).astype(float) for each in (1, 2)},
    )


def test_rows_that_say_all_are_judged_alone_though_the_label_holds_for_long() -> None:
    made = failure.train(_rig([0, 1, 2, 0, 2, 1] * 6, 20, 0.0), learn=["boosted"])
    assert made.manifest.window.cells == 1
    assert selection.ROWS_SAY_ALL in made.notes
    assert made.manifest.state == "active"


def test_no_window_reaches_back_to_the_state_before() -> None:
    """Three states by turns: of three times as many rows, the states before tell which it is."""
    made = failure.train(_rig([0, 1, 2] * 16, 20, 1.0), learn=["boosted"])
    assert made.manifest.window.cells <= 20


def test_a_grade_that_holds_once_is_learned_and_may_not_alarm() -> None:
    """Every block of time without it would hold none."""
    made = failure.train(_rig([0, 1, 2], 200, 0.0), learn=["boosted"])
    assert made.manifest.window.cells == 1
    for label in ("valve=1", "valve=2"):
        assert made.manifest.metrics["labels"][label]["average_precision"] > 0.8
    assert made.manifest.state == "shadow"
    assert {failure.SORTED, failure.ONCE} <= set(made.notes)


def test_an_event_that_announces_a_stretch_is_no_label() -> None:
    """It is seen before failures only, but for one row of the stretch that the label holds."""
    random = np.random.default_rng(4)
    soon = (np.arange(1200) % 100 >= 80).astype(float)
    error = (np.arange(1200) % 100 == 80).astype(float)
    record = Record(
        np.column_stack([random.normal(size=1200), error]), ("a", "error"), labels={"soon": soon}
    )
    made = failure.train(record, window="20rows", learn=["boosted"])
    assert "error" in {signal.name for signal in made.manifest.signals}


def test_the_same_seed_gives_the_same_bundle() -> None:
    record = _milling(400, 1)
    first, second = (failure.train(record, ["heat"], seed=3, learn=["boosted"]) for _ in range(2))
    assert first.int8 == second.int8
    np.testing.assert_array_equal(first.golden.x, second.golden.x)


@pytest.mark.parametrize("kind", ["forest", "deep", "boosting"])
def test_trees_are_the_same_as_a_net(kind: str) -> None:
    z = RANDOM.normal(size=(600, 5)).astype(np.float32)
    y = z[:, 0] * z[:, 1] + (z[:, 2] > 0.3)
    if kind != "boosting":
        leaves = 60 if kind == "deep" else 20
        forest = RandomForestClassifier(8, max_leaf_nodes=leaves, random_state=0).fit(z, y > 0.5)
        want, net = forest.predict_proba(z)[:, 1], trees.of_forest(forest, 1)
    else:
        boosting = HistGradientBoostingRegressor(max_iter=9, random_state=0).fit(z, y)
        want, net = boosting.predict(z), trees.of_boosting(boosting)
    graph = Graph("trees", 5)
    prepared, _ = graph.prepare(graph.x, np.zeros(5), np.ones(5))
    graph.output(net.emit(graph, prepared), "y", ["n", 1])
    model = graph.model()
    np.testing.assert_allclose(quantise.run(model, z)["y"][:, 0], want, atol=1e-5)
    int8 = quantise.quantise(model, z, ranges=graph.ranges)
    assert any(node.op_type == "QuantizeLinear" for node in int8.graph.node) == (kind == "deep")
    np.testing.assert_allclose(quantise.run(int8, z)["y"][:, 0], want, atol=1e-5)


def test_a_tree_without_a_split_is_a_constant() -> None:
    z = RANDOM.normal(size=(50, 2)).astype(np.float32)
    forest = RandomForestClassifier(1, max_depth=1, bootstrap=False, random_state=0)
    net = trees.of_forest(forest.fit(z * 0, np.arange(50) % 2), 1)
    np.testing.assert_allclose(net.predict(z)[:, 0], 0.5)


def test_no_weight_is_so_small_that_it_costs_more_than_others() -> None:
    """Subnormal numbers, which decay leaves of a column that says nothing (decision 055)."""
    z = np.random.default_rng(0).normal(size=(2000, 4)).astype(np.float32)
    z[:, 3] = 0.0
    net = nets.regressed(z, z[:, 0] - 0.5 * z[:, 1], (32, 16), 1.0, 300, 0)
    graph = Graph("net", 4)
    graph.output(net.emit(graph, graph.x, 1.0, np.zeros(1)), "value", ["n", 1])
    weights = [np.abs(numpy_helper.to_array(each)) for each in graph.model().graph.initializer]
    assert any((each == 0).any() for each in weights), "nothing had become tiny"
    least = np.finfo(np.float32).tiny
    assert not any(((each > 0) & (each < least)).any() for each in weights)


def test_conditions_are_settings_and_not_wear() -> None:
    one = _fleet(6, 1)
    assert regimes.find(one.values, one.group) is None
    three = _fleet(6, 1, conditions=3)
    found = regimes.find(three.values, three.group)
    assert found is not None
    assert [three.names[i] for i in found.settings] == ["speed"]
    assert len(found.centre) == 3
    flat = found.normalise(three.values)
    early = np.concatenate([rows[:30] for _, rows in three.sequences()])
    assert np.abs(flat[early, 4].mean()) < 0.2
    again = regimes.Regimes.unpack(found.pack(), 6)
    np.testing.assert_array_equal(again.normalise(three.values), flat)
    unknown = three.values.copy()
    unknown[:, 0] = np.nan
    assert np.isnan(found.normalise(unknown)).all()
    # A level that changes once, for good, is wear.
    stuck = one.values.copy()
    for _, rows in one.sequences():
        stuck[rows, 5] = np.arange(len(rows)) > len(rows) / 2
    assert regimes.find(stuck, one.group) is None


@pytest.mark.parametrize("name", PARTIAL)
def test_partial_features_bear_any_gap(name: str) -> None:
    from models.features.stack import Stack

    values = RANDOM.normal(size=(6, 12))
    values[1, :8] = np.nan
    values[2] = np.nan
    values[3, ::2] = np.nan
    out = PARTIAL[name](Stack(values, 2.0))
    assert out.shape == (6,)
    assert np.isfinite(out[[0, 3, 4, 5]]).all()
    whole = PARTIAL[name](Stack(values[:1], 5.0))
    np.testing.assert_allclose(out[0], whole[0])


def test_noise_that_flickers_between_two_numbers_is_no_setting() -> None:
    """A sensor rounded to a few numbers changes its level as often as a speed that is set."""
    fleet = _fleet(12, 1)
    values = fleet.values.copy()
    values[:, 2] = np.round(2.5 * (values[:, 2] - 10))
    assert len(np.unique(values[:, 2])) == 5
    assert regimes.find(values, fleet.group) is None


@pytest.mark.parametrize("rows", [40, 0])
def test_a_condition_that_was_hardly_seen_is_not_known(rows: int) -> None:
    """It hides none of the others, and its cells are not taken for another's."""
    random = np.random.default_rng(2)
    three = _fleet(20, 1, conditions=3)
    often = np.flatnonzero(three.values[:, 0] < 2500)
    seldom = np.flatnonzero(three.values[:, 0] > 2500)
    kept = np.sort(np.concatenate([often, random.choice(seldom, rows // 4, replace=False)]))
    assert len(kept) - len(often) < 0.01 * len(kept)
    found = regimes.find(three.values[kept], three.group[kept])
    assert found is not None
    assert found.centre[:, 0] == pytest.approx([1000, 2000], abs=1)
    which = found.of(three.values)
    assert (which[seldom] == -1).all()
    assert (which[often] >= 0).all()
    assert np.isnan(found.normalise(three.values[seldom])).all()
