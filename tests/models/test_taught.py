"""One net in place of the trees that taught it: where it says as much, and only there."""

from itertools import pairwise

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from models import quantise
from models.features.plan import FeaturePlan
from models.graph import Graph
from models.record import Record
from models.training import failure, taught
from models.training.inputs import Inputs
from models.training.trained import Trained
from models.windows import Grid

RANDOM = np.random.default_rng(5)
pytestmark = pytest.mark.usefixtures("few_questions")


def _press(n: int, seed: int) -> Record:
    random = np.random.default_rng(seed)
    values = random.normal(size=(n, 3))
    heavy = values[:, 0] * values[:, 2] + 0.2 * random.normal(size=n) > 1.0
    hot = values[:, 1] + 0.2 * random.normal(size=n) > 1.5
    labels = {"heavy": heavy.astype(float), "hot": hot.astype(float)}
    return Record(values, ("load", "heat", "speed"), labels=labels)


@pytest.fixture(scope="module")
def made(few_questions: None) -> Trained:
    return failure.train(_press(1200, 1), learn=("boosted", failure.NET))


def test_it_takes_the_place_of_trees_that_it_is_as_good_as(made: Trained) -> None:
    metrics = made.manifest.metrics["labels"]
    assert [metrics[label]["learners"] for label in ("heavy", "hot")] == [{"net": 1.0}] * 2
    assert any(note.startswith("one net, taught by trees, in their place") for note in made.notes)
    test = _press(4000, 2)
    x = test.values.astype(np.float32)
    int8, fp32 = (quantise.run(each, x)["probability"] for each in (made.int8, made.fp32))
    for column, label in zip(int8.T, ("heavy", "hot"), strict=True):
        truth = test.labels[label]
        assert average_precision_score(truth, column) > 0.85
        assert column.mean() == pytest.approx(truth.mean(), rel=0.2)
        # What was said of rows not seen holds for new ones.
        said = metrics[label]["average_precision"]
        assert average_precision_score(truth, column) == pytest.approx(said, abs=0.1)
    assert ((int8 > 0.5) != (fp32 > 0.5)).mean() < 0.005


def test_trees_stay_where_it_says_less(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(taught, "ROUNDS", 1)
    monkeypatch.setattr(taught, "QUESTIONS", 256)
    made = failure.train(_press(600, 1), ["heavy"], learn=("boosted", failure.NET))
    assert list(made.manifest.metrics["labels"]["heavy"]["learners"]) == ["boosted"]
    assert any(note.startswith("trees, and not a net: log loss") for note in made.notes)


def test_it_sees_more_where_it_says_less(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(taught, "RAMPS", ((2, 1), (256, 32)))
    made = failure.train(_press(1200, 1), ["heavy"], learn=("boosted", failure.NET))
    assert list(made.manifest.metrics["labels"]["heavy"]["learners"]) == ["net"]


def test_what_int8_would_lose_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failure, "LOST_MAX", -1.0)
    made = failure.train(_press(600, 1), ["hot"], learn=("boosted", failure.NET))
    assert list(made.manifest.metrics["labels"]["hot"]["learners"]) == ["boosted"]
    assert made.notes[0].endswith("of average precision with it: net")


def test_where_no_tree_is_left_nothing_teaches() -> None:
    made = failure.train(_press(400, 1), ["hot"], learn=("nets", failure.NET))
    assert list(made.manifest.metrics["labels"]["hot"]["learners"]) == ["nets"]


@pytest.mark.parametrize("columns", [4, 40])
def test_the_graph_says_what_the_net_says(columns: int) -> None:
    sizes = (5, 8, 6, 2)
    layers = [
        (RANDOM.normal(size=(a, b)).astype(np.float32), RANDOM.normal(size=b).astype(np.float32))
        for a, b in pairwise(sizes)
    ]
    column = np.array([0, 0, 3, 3, 3])
    net = taught.Net(column, np.array([-1.0, 0.5, -2.0, 0.0, 1.0]), np.full(5, 0.75), layers)
    graph = Graph("failure", columns)
    graph.output(net.emit(graph, graph.x, columns, 0.5), "logit", ["n", 2])
    x = RANDOM.normal(size=(500, columns)).astype(np.float32)
    fp32 = quantise.run(graph.model(), x)["logit"]
    np.testing.assert_allclose(fp32, net.predict(x) + 0.5, atol=1e-4)
    # Ramps are cut by int8 itself, so far beyond their ends nothing moves.
    int8 = quantise.quantise(graph.model(), x, ranges=graph.ranges)
    assert "Clip" not in {node.op_type for node in int8.graph.node}
    far, near = np.zeros((2, columns), np.float32), np.zeros((2, columns), np.float32)
    far[:, [0, 3]] = np.array([[-9, -9], [9, 9]])
    near[:, [0, 3]] = np.array([[-1, -2], [1.5, 2]])
    first, second = (quantise.run(int8, each)["logit"] for each in (far, near))
    np.testing.assert_array_equal(first, second)


def test_a_ramp_rises_between_its_threshold_and_the_next() -> None:
    net = taught.Net(np.array([1, 1]), np.array([-1.0, 0.5]), np.array([1.5, 2.0]), [])
    z = np.array([[9, -1], [9, -0.25], [9, 0.5], [9, 2.5]], np.float32)
    low, middle = taught.OFF, (1 + taught.OFF) / 2
    want = np.array([[low, low], [middle, low], [1, low], [1, 1]])
    np.testing.assert_allclose(net.ramps(z), want, atol=1e-6)


@pytest.mark.parametrize("cells", [1, 24])
def test_a_question_takes_all_of_a_signal_from_another_row(cells: int) -> None:
    """Of a window's features one alone would be none that any machine can have."""
    names = ("a:level", "a:rise", "a:noise", "b:level", "kind:last") if cells > 1 else ("a:last",)
    signals = tuple(dict.fromkeys(name.rpartition(":")[0] for name in names))
    plan = FeaturePlan(signals, names, 1.0, cells, 1)
    words = {len(names) - 1: 3} if cells > 1 else {}
    inputs = Inputs(plan, Grid(True, 1.0, cells, 1, 3), words=words)
    # Row i holds i, and i % 3 as a word: what stands in a question tells where it comes from.
    x = np.repeat(np.arange(300, dtype=np.float32)[:, None], len(names), axis=1)
    for column in words:
        x[:, column] %= 3
    told = np.zeros((300, 1), np.float32)
    asked = taught._questions(inputs, x, told, np.random.default_rng(2))
    whole = asked == np.round(asked)
    if cells == 1:
        assert whole.all()
        return
    assert (asked[:, 0] == asked[:, 1]).all()
    assert (asked[:, 0] == asked[:, 2]).all()
    assert (asked[:, 0] != asked[:, 3]).mean() > 0.3
    assert whole[:, -1].all()
    # Every second one stands between two rows where it left its own.
    assert 0.25 < (~whole[::2, 0]).mean() < 0.35
    assert whole[1::2].all()


def test_slopes_are_those_of_the_cross_entropy() -> None:
    layers = [
        (RANDOM.normal(size=(a, b)), RANDOM.normal(size=b)) for a, b in pairwise((4, 7, 5, 2))
    ]
    h, target = RANDOM.normal(size=(9, 4)), RANDOM.random((9, 2))

    def entropy() -> float:
        seen = h
        for weight, bias in layers[:-1]:
            seen = np.maximum(seen @ weight + bias, 0)
        logit = seen @ layers[-1][0] + layers[-1][1]
        return float((np.logaddexp(0, logit) - target * logit).sum() / len(h))

    slopes = taught._slopes(layers, h, target)  # type: ignore[arg-type]
    parts = [part for layer in layers for part in layer]
    for part, slope in zip(parts, slopes, strict=True):
        at = np.unravel_index(int(np.abs(slope).argmax()), slope.shape)
        before = part[at]
        told = []
        for step in (1e-5, -1e-5):
            part[at] = before + step
            told.append(entropy())
        part[at] = before
        assert (told[0] - told[1]) / 2e-5 == pytest.approx(slope[at], rel=1e-3)
