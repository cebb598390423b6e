"""What strays to one side for long: seen where no window shows it, soon over, blamed rightly."""

import asyncio
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.clock import SystemClock
from gateway.flow.memory import Memory
from gateway.pipeline.assess import Judge
from gateway.pipeline.straying import Straying
from gateway.pipeline.windows import Windows
from gateway.store.config import StoreConfig
from gateway.store.log import Log
from models.bundle import Bundle
from models.errors import BundleError
from models.quantise import run
from models.record import Record
from models.runtime import open_session
from models.score import score
from models.strays import Blame, Strays, eased, of_the_window
from models.training import company, straying
from models.training.anomaly import train
from models.training.detector_graph import graph_of
from models.training.learn import Learned, learn
from models.training.parity import measure
from models.windows import features
from tests.models.bundles import manifest
from tests.models.rigs import wander
from tests.models.test_bends import ROWS, trained_turbine, turbine
from tests.models.test_rigs import verdicts

STRAYS = Strays(cells=80.0, unit=(0.5, 1.0), usual=1.0, healthy=0.6, stretch=1.5, most=3.0)
FAULT = ROWS + 1500
LEVELS = ("power:mean", "wind:mean")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return trained_turbine().write(tmp_path_factory.mktemp("strays") / "m.fwm")


@cache
def learned() -> Learned:
    return learn(turbine(1).rows(slice(0, ROWS)))


def weak(share: float, until: int | None = None) -> Record:
    """Less power from a row on, as of worn blades."""
    whole = turbine(1)
    values = whole.values.copy()
    values[FAULT:until, 1] *= share
    return replace(whole, values=values)


@settings(deadline=None)
@given(st.integers(0, 1000), st.floats(0.1, 10))
def test_one_after_the_other_and_all_at_once_are_the_same(seed: int, cells: float) -> None:
    rng = np.random.default_rng(seed)
    off = rng.normal(size=(150, 2)).astype(np.float32) * 4
    scores = rng.exponential(2.0, 150).astype(np.float32)
    scores[rng.random(150) < 0.1] = np.nan
    one, other = STRAYS.begin(1), STRAYS.begin(1)
    live = [STRAYS.next(one, off[i : i + 1], scores[i : i + 1], cells)[0] for i in range(150)]
    told, levels = STRAYS.along(other, off, scores, cells)
    np.testing.assert_allclose(told, live, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(one, other, atol=1e-9)
    np.testing.assert_array_equal(levels[-1], other[0])


def test_what_passes_the_limit_is_not_remembered_and_no_window_says_more_than_its_bound() -> None:
    level = STRAYS.begin(1)
    STRAYS.along(level, np.full((50, 2), 30, np.float32), np.full(50, 3.1, np.float32))
    assert not level.any()
    STRAYS.along(level, np.full((500, 2), 1e9, np.float32), np.full(500, 2.9, np.float32))
    np.testing.assert_allclose(level, 8.0, rtol=0.01)


def test_what_is_over_is_over_within_a_few_windows() -> None:
    level = STRAYS.begin(1)
    off = np.concatenate([np.full((400, 2), 2.0), np.zeros((60, 2))]).astype(np.float32)
    told, _ = STRAYS.along(level, off, np.ones(460, np.float32))
    assert told[399] > 3.0
    assert level[0, 0, 0] > 0.9, "the long average still holds it"
    assert told[459] < 0.1


def test_ups_and_downs_cancel() -> None:
    up_and_down = np.tile([[2.0], [-2.0]], (200, 2)).astype(np.float32)
    told, _ = STRAYS.along(STRAYS.begin(1), up_and_down, np.ones(400, np.float32))
    assert told[-1] < 0.2


def test_a_twentieth_of_the_power_is_told_though_no_window_shows_it(bundle: Bundle) -> None:
    healthy, fault = score(bundle, turbine(1)), score(bundle, weak(0.95))
    assert healthy.anomalous[ROWS:].mean() < 0.005
    late = slice(FAULT + 600, None)
    assert fault.anomalous[late].mean() > 0.6
    power = fault.signals.index("power")
    told = np.flatnonzero(fault.anomalous[late]) + late.start
    assert np.median(fault.contribution[told, power]) > 0.5
    assert (fault.direction[told, power] == -1).mean() > 0.9
    without = bundle.manifest.model_copy(
        update={"detail": {**bundle.manifest.detail, "strays": None}}
    )
    alone = score(replace(bundle, manifest=without), weak(0.95))
    assert alone.anomalous[late].mean() < 0.5 * fault.anomalous[late].mean()


def test_a_fault_that_ends_is_not_told_for_long_after(bundle: Bundle) -> None:
    until = FAULT + 2000
    made = score(bundle, weak(0.85, until))
    cells = bundle.manifest.window.cells
    assert made.anomalous[until - 500 : until].mean() > 0.8
    assert made.anomalous[until + 5 * cells :].mean() < 0.02


def test_a_record_too_short_to_say_remembers_nothing() -> None:
    short = train(turbine(1).rows(slice(0, 700))).manifest
    assert short.detail["strays"] is None
    assert short.outputs == ("score", "contribution", "direction")


def test_a_level_that_wanders_within_the_record_may_wander_on() -> None:
    rng = np.random.default_rng(3)
    still, wanders = rng.normal(size=(2, 4000))
    wanders += np.repeat(rng.normal(size=8), 500)
    told = learned()
    off = np.zeros((4000, int(told.states.whole.blocks[0].sum())))
    off[:, 0], off[:, 1] = still, wanders
    made = straying.strays(
        [off],
        [np.ones(4000) + 0.1 * rng.random(4000)],
        told.states,
        3.0,
        windows=84.0,
        per_window=48,
        cells=48,
    )
    assert made is not None
    assert made.unit[1] > 3.0 > 3 * made.unit[0]


def test_the_graph_says_what_the_detector_says_is_off() -> None:
    told, made = learned(), trained_turbine()
    x, _ = features(turbine(1).rows(slice(0, 1500)), told.plan, told.grid)
    x = x[np.isfinite(x[:, : told.plan.measured]).all(axis=1)]
    got = run(made.fp32, x)["residual"]
    assert got.shape[1] == len(of_the_window(made.manifest.features))
    np.testing.assert_allclose(got, told.states.off(x), rtol=2e-3, atol=2e-3)


def test_the_graph_says_so_of_what_was_never_seen_too(monkeypatch: pytest.MonkeyPatch) -> None:
    told, made = learned(), trained_turbine()
    table = turbine(1).rows(slice(0, 1500))
    table.values[700::5, 1] = np.nan
    x, _ = features(table, told.plan, told.grid)
    x = x[np.isfinite(x[:, : told.plan.measured]).all(axis=1)]
    x[:, told.plan.names.index("wind:mean")] += 30.0
    got, want = run(made.fp32, x)["residual"], told.states.off(x)
    np.testing.assert_allclose(got, want, rtol=2e-3, atol=2e-3)
    window = np.flatnonzero(told.states.whole.blocks[0])
    monkeypatch.setattr(company, "WRONG", 0.0)
    plain = told.states.off(x)
    power, wind = (window.tolist().index(told.plan.names.index(n)) for n in LEVELS)
    assert np.abs(want[:, power]).mean() < 0.7 * np.abs(plain[:, power]).mean(), "a guess"
    assert np.abs(want[:, wind]).mean() > 0.95 * np.abs(plain[:, wind]).mean(), "none of its own"


def driven(seed: int, oil: float) -> Record:
    """A drive whose voltage and slip follow its speed; its oil is warm from it, each second."""
    rng, n = np.random.default_rng(seed), ROWS
    speed = 370 + 17 * wander(rng, n, 90)
    slip = 6 * (speed / 370) ** 2
    warm = oil + 0.02 * (speed - 370) + 2.0 * wander(rng, n, 3000)
    values = np.column_stack([speed, 1.25 * speed, speed - slip, warm])
    values += rng.normal(size=values.shape) * (0.05, 0.3, 0.05, 0.1)
    names = ("speed", "voltage", "shaft", "oil")
    return Record(values, names, ("rad/s", "V", "rad/s", "°C"), np.arange(0.0, n))


def test_a_cold_machine_is_none_that_strays(monkeypatch: pytest.MonkeyPatch) -> None:
    """Learned while warm: what its oil lets expect of the shaft is a guess where it is cold."""
    made, warm, cold = learn(driven(6, 55.0)), driven(3, 55.0), driven(3, 36.0)
    assert verdicts(made, warm, 100).mean() < 0.005
    assert verdicts(made, cold, 100).mean() < 0.005
    dragged = warm.values.copy()
    dragged[1000:, 2] -= 0.4
    assert verdicts(made, replace(warm, values=dragged), 1500).mean() > 0.9
    monkeypatch.setattr(company, "WRONG", 0.0)
    assert verdicts(made, cold, 100).mean() > 0.5


def test_blame_is_by_the_fourth_power_and_to_the_side_of_the_level() -> None:
    names = ("a:mean", "b:mean", "a:spread", "b:roughness", "a:recent_mean", "b:late_mean")
    blame = Blame.of((*names, "a:error", "b:error"), ("a", "b"))
    share, side = blame.blamed(np.array([[-2.0, 0.0, 0.0, 2.0], [1.0, 0.0, 3.0, 0.0]]))
    np.testing.assert_allclose(share, [[0.5, 0.5], [1.0, 0.0]])
    assert side.tolist() == [[-1, 0], [0, 0]], "of what fluctuates more than it moves, no side"
    share, _ = blame.blamed(np.array([[2.0, 1.0, 0.0, 0.0]]))
    np.testing.assert_allclose(share, [[16 / 17, 1 / 17]])


def test_a_promise_is_checked_forward_with_what_strays(monkeypatch: pytest.MonkeyPatch) -> None:
    assert any("flags 0.0% of the last 30 %" in note for note in learned().notes)

    def twitchy(*args: Any, **more: Any) -> Strays:
        made = real(*args, **more)
        assert made is not None
        return replace(made, unit=tuple(unit / 50 for unit in made.unit))

    real = straying.strays
    monkeypatch.setattr(straying, "strays", twitchy)
    told = learn(turbine(1).rows(slice(0, ROWS)))
    assert not any("flags 0.0% of the last 30 %" in note for note in told.notes)
    assert not told.limit.supported


def test_int8_must_agree_on_what_strays() -> None:
    told = learned()
    plain = graph_of(told.states, told.plan, residuals=True)
    other = onnx.ModelProto()
    other.CopyFrom(plain)
    for node in other.graph.node:
        node.output[:] = ["small" if name == "residual" else name for name in node.output]
    other.graph.initializer.append(onnx.numpy_helper.from_array(np.array(0.5, np.float32), "half"))
    other.graph.node.append(onnx.helper.make_node("Mul", ["small", "half"], ["residual"]))
    graphs = plain.SerializeToString(), other.SerializeToString()
    assert measure(*graphs, told, how="", seed=0).decisions_changed > 0.01
    without = replace(told, strays=None)
    assert measure(*graphs, without, how="", seed=0).decisions_changed == 0.0


@pytest.mark.parametrize(
    "held",
    [
        "x",
        {},
        {**STRAYS.pack(), "unit": [1.0]},
        {**STRAYS.pack(), "unit": [1.0, 0.0]},
        {**STRAYS.pack(), "cells": -1.0},
        {**STRAYS.pack(), "stretch": float("nan")},
        {**STRAYS.pack(), "more": 1.0},
    ],
)
def test_a_bundle_with_other_numbers_is_refused(held: object) -> None:
    of = {"features": ("speed:mean", "load:mean"), "outputs": ("score", "residual")}
    made = manifest(detail={"strays": STRAYS.pack()}).model_copy(update=of)
    assert Strays.of(made) == STRAYS
    with pytest.raises(BundleError, match=r"detail\.strays.*train the model anew"):
        Strays.of(manifest(detail={"strays": held}).model_copy(update=of))


def test_a_graph_that_does_not_say_what_is_off_is_refused() -> None:
    of = {"features": ("speed:mean", "load:mean"), "outputs": ("score", "direction")}
    with pytest.raises(BundleError, match="must hold residual"):
        Strays.of(manifest(detail={"strays": STRAYS.pack()}).model_copy(update=of))


@pytest.mark.parametrize("kind", ["failure", "rul"])
def test_a_model_of_another_kind_strays_nowhere(kind: str) -> None:
    """Whatever its features are of: a correlation is of two signals."""
    made = manifest(kind=kind, features=("s0:level_4", "s0|s1:correlation"))
    straying = Straying(made, ["pump-1"], 1)
    score = np.ones(1, np.float32)
    given = score, np.zeros((1, 12), np.float32), np.zeros((1, 12), np.int8)
    assert straying.weigh(np.zeros(1, np.int64), {}, score, given) is given
    assert straying.memory() == {}


def test_what_is_off_at_a_start_counts_as_much_less_as_its_score() -> None:
    off = np.full((3, 2), 4.0, np.float32)
    eased_off = eased(off, *np.array([[8.0, 2.0, 0.0], [2.0, 2.0, 0.0]], np.float32))
    np.testing.assert_allclose(eased_off, [[1.0, 1.0], [4.0, 4.0], [4.0, 4.0]])


def seen(table: Record, end: int, cells: int) -> Windows:
    return Windows(
        rows=np.array([0]),
        end_ns=np.array([end * 600 * 10**9], np.int64),
        value=table.values[end - cells : end].T[None].copy(),
        coverage=np.ones((1, table.values.shape[1])),
        full=np.array([True]),
    )


def reloaded(judge: Judge, bundle: Bundle, folder: Path) -> Judge:
    """The judge of a gateway that was stopped and started, which knows what its log kept."""

    async def stop() -> None:
        log = Log.open(folder, StoreConfig(), SystemClock())
        Memory(log).keep([post(judge)])
        await log.flush()
        log.close()

    asyncio.run(stop())
    log = Log.open(folder, StoreConfig(), SystemClock())
    after = Judge(bundle, open_session(bundle, "cpu"), ["wt-1"], shadow=False, hop_cells=1)
    Memory(log).hand_over([], [post(after)])
    log.close()
    return after


def post(judge: Judge) -> Any:
    """As much of a post as its memory needs."""
    return SimpleNamespace(judge=judge, findings=SimpleNamespace(past=None))


def test_the_gateway_strays_as_score_does_and_goes_on_after_a_restart(
    bundle: Bundle, tmp_path: Path
) -> None:
    table = weak(0.8).rows(slice(FAULT, FAULT + 900))
    replayed = score(bundle, table)
    cells = bundle.manifest.window.cells
    judge = Judge(bundle, open_session(bundle, "cpu"), ["wt-1"], shadow=False, hop_cells=1)
    told = []
    for end in range(cells, len(table) + 1):
        if end == 500:
            judge = reloaded(judge, bundle, tmp_path)
        told.append(judge.judge(seen(table, end, cells), np.array([0.5])).assessments)
    ours = np.array([a.score[0] for a in told])
    np.testing.assert_allclose(ours, replayed.score[cells - 1 :], rtol=0.02)
    assert replayed.anomalous[-400:].mean() > 0.5
    shares = np.array([a.contribution[0] for a in told])
    np.testing.assert_allclose(shares, replayed.contribution[cells - 1 :], atol=0.05)


def test_what_another_model_remembered_is_not_taken_up(bundle: Bundle) -> None:
    judge = Judge(bundle, open_session(bundle, "cpu"), ["wt-1"], shadow=False)
    before = judge.straying.memory()
    judge.straying.remember({"wt-1": [[1.0], [2.0]], "other": [[1.0], [1.0]]})
    judge.straying.remember({})
    assert judge.straying.memory() == before
