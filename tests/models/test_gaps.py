"""Rows with missing values: they are no news of the machine, and no reason to stop looking."""

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray

from gateway.cli import group
from gateway.core.batch import Batch
from gateway.pipeline.assess import Judge
from gateway.pipeline.windows import Watch, WindowBuilder
from models.quantise import run
from models.record import Record
from models.runtime import open_session
from models.score import held_cells, score
from models.training.anomaly import train
from models.training.gaps import owners
from models.training.learn import Learned, learn
from models.training.rates import only_changes, sampling
from models.windows import features
from tests.models.plants import NAMES, healthy, with_values
from tests.models.rigs import RIGS, Rig
from tests.models.test_rigs import record, taught, verdicts

S = 1_000_000_000
Floats = NDArray[np.float64]


@cache
def motor() -> tuple[Record, Learned]:
    """A healthy motor and what is learned of it; once for all tests."""
    whole = healthy(4000)
    return whole, learn(whole)


def at_rest(learned: Learned, x: NDArray[np.float32]) -> NDArray[np.float32]:
    """The windows as a detector takes them, of a machine that does not move."""
    still = np.zeros((len(x), len(learned.states.whole.motion.at)), np.float32)
    return np.hstack([x, still])


def one_by_one(values: Floats, share: float) -> Floats:
    """Each value by itself may be missing."""
    gone = np.random.default_rng(2).random(values.shape) < share
    return np.where(gone, np.nan, values)


def for_long(values: Floats, rows: int = 150) -> Floats:
    """Now and then a signal is missing for three windows, a tenth of the time in all."""
    out, rng = values.copy(), np.random.default_rng(2)
    for column in out.T:
        for start in np.flatnonzero(rng.random(len(out)) < 0.1 / rows):
            column[start : start + rows] = np.nan
    return out


def at_rates(values: Floats, rates: tuple[int, ...] = (1, 10, 60)) -> Floats:
    """Signals of different rates, merged: a sample each so many rows, and nothing between."""
    out = np.full(values.shape, np.nan)
    for column in range(values.shape[1]):
        every = rates[column % len(rates)]
        out[::every, column] = values[::every, column]
    return out


def on_change(values: Floats, deadband: Floats) -> Floats:
    """Each signal is logged when it has moved by its deadband."""
    out = np.full(values.shape, np.nan)
    for column in range(values.shape[1]):
        last = np.inf
        for row, value in enumerate(values[:, column]):
            if abs(value - last) >= deadband[column]:
                out[row, column] = last = value
    return out


def shifted(rig: Rig, whole: Record) -> Record:
    """Six times a signal's noise, from 500 rows after the record on."""
    values = whole.values.copy()
    values[rig.rows + 500 :, 1] += 6 * rig.noise[1]
    return replace(whole, values=values)


@pytest.mark.parametrize("name", ["building", "loaded", "mains", "wide"])
def test_healthy_rows_of_which_two_fifths_are_missing_stay_silent(name: str) -> None:
    rig, whole, learned = taught(name)
    gappy = replace(whole, values=one_by_one(whole.values, 0.4))
    assert verdicts(learned, gappy, rig.rows).mean() < 0.01


@pytest.mark.parametrize("name", ["loaded", "mains", "recipes", "wide"])
def test_a_fault_is_found_though_two_fifths_are_missing(name: str) -> None:
    rig, whole, learned = taught(name)
    fault = shifted(rig, whole)
    gappy = replace(fault, values=one_by_one(fault.values, 0.4))
    assert verdicts(learned, gappy, rig.rows + 1500).mean() > 0.8


@pytest.mark.parametrize("name", ["recipes", "wide"])
def test_signals_that_are_missing_for_long_make_no_strangers_of_the_others(name: str) -> None:
    rig, whole, learned = taught(name)
    assert verdicts(learned, replace(whole, values=for_long(whole.values)), rig.rows).mean() < 0.01
    fault = shifted(rig, whole)
    gappy = replace(fault, values=for_long(fault.values))
    assert verdicts(learned, gappy, rig.rows + 1500).mean() > 0.6


@pytest.mark.parametrize("name", ["recipes", "loaded"])
def test_a_merged_table_of_three_rates_trains_and_finds(name: str) -> None:
    rig = RIGS[name]
    whole = record(rig, 11)
    merged = replace(whole, values=at_rates(whole.values))
    learned = learn(merged.rows(slice(0, rig.rows)))
    assert learned.plan.signals == whole.names
    assert learned.grid.held_cells == (3, 30, 180, 3)
    assert not verdicts(learned, merged, rig.rows).any()
    fault = shifted(rig, whole)
    late = verdicts(learned, replace(fault, values=at_rates(fault.values)), rig.rows + 1500)
    assert late.mean() > 0.6


def test_loggers_whose_rows_never_meet_are_laid_on_the_fastest_ones_interval() -> None:
    values = healthy(4000).values
    n, k = values.shape
    apart = np.full((n * k, k), np.nan)
    for column in range(k):
        apart[column::k, column] = values[:, column]
    merged = Record(apart, NAMES, time_s=np.arange(n * k) / k)
    assert sampling(merged) == (1.0, True)
    learned = learn(merged)
    assert learned.grid.period_s == 1.0
    assert learned.plan.signals == NAMES


def test_random_gaps_are_not_taken_for_a_slower_rate() -> None:
    whole = healthy(4000)
    gappy = with_values(whole, one_by_one(whole.values, 0.6))
    assert sampling(gappy) == (1.0, True)
    assert learn(gappy).plan.signals == NAMES


def test_a_signal_that_is_logged_when_it_changes_is_held_until_it_does() -> None:
    whole = healthy(4000)
    logged = on_change(whole.values, np.array([15.0, 0.3, 0.15, 0.15]))
    assert np.isnan(logged).mean() > 0.5
    assert all(only_changes(column) for column in logged.T)
    assert not any(only_changes(column) for column in one_by_one(whole.values, 0.5).T)
    learned = learn(with_values(whole, logged))
    assert learned.plan.signals == NAMES
    _, coverage = features(with_values(whole, logged), learned.plan, learned.grid)
    assert np.nanmean(coverage) > 0.99


def test_where_nothing_is_missing_nothing_is_doubted() -> None:
    _, learned = motor()
    x, d = at_rest(learned, np.concatenate(learned.sequences)), learned.plan.measured
    for company in learned.states.whole.companies:
        assert (company.unsure(x[:, company.at], x[:, d + company.errors]) == 1.0).all()
        own = np.searchsorted(company.errors, owners(learned.plan)[company.mine])
        assert company.felt[own, np.arange(len(own))].min() > 0


def test_fewer_samples_leave_more_unsure_and_missing_neighbours_too() -> None:
    _, learned = motor()
    company, d = learned.states.whole.companies[0], learned.plan.measured
    row = at_rest(learned, learned.sequences[0][:1])
    mean = company.at.tolist().index(learned.plan.names.index("current:mean"))

    def doubt() -> float:
        return float(company.unsure(row[:, company.at], row[:, d + company.errors])[0, mean])

    unsure = []
    for error in (0.0, 0.05, 0.2):
        row[0, d + NAMES.index("current")] = error
        unsure.append(doubt())
    assert unsure[0] == 1.0 < unsure[1] < unsure[2]
    row[0, d:] = 0.0
    alone = []
    for signal in ("speed", "vibration"):
        row[0, [i for i, name in enumerate(learned.plan.names) if name.startswith(signal)]] = np.nan
        alone.append(doubt())
    assert 1.1 < alone[0] < alone[1], "a current is known worse without what it follows"


def test_the_graphs_weigh_gaps_as_the_detector_does() -> None:
    whole, learned = motor()
    made = train(whole, precision="fp32")
    gappy = with_values(whole, for_long(one_by_one(whole.values, 0.3)))
    x, _ = features(gappy, learned.plan, learned.grid)
    x = x[np.isfinite(x[:, : learned.plan.measured]).any(axis=1)]
    assert np.isnan(x).any()
    want = learned.states.score(x)
    np.testing.assert_allclose(run(made.fp32, x)["score"], want, rtol=1e-3, equal_nan=True)


def test_the_gateway_says_of_gaps_what_score_says(tmp_path: Path) -> None:
    """Samples that are not there, in the stream as in the table: held per signal, and doubted."""
    whole = healthy(4000)
    merged = at_rates(whole.values, (1, 1, 10, 1))
    bundle = train(with_values(whole, merged)).write(tmp_path / "motor.fwm")
    assert held_cells(bundle.manifest) == (3, 3, 30, 3)
    gappy = one_by_one(merged, 0.3)[:600]
    times = whole.time_s
    assert times is not None
    replayed = score(bundle, Record(gappy, NAMES, whole.units, time_s=times[:600]))
    window = bundle.manifest.window
    assert window.period_s
    watch = Watch(
        assets=("motor-1",),
        signals=np.arange(len(NAMES), dtype=np.int32)[None],
        sources=(("s",),),
        period_ns=S,
        cells=window.cells,
        hop_cells=1,
        stale_ns=3 * S,
        lateness_ns=S,
        held_cells=held_cells(bundle.manifest),
    )
    builder = WindowBuilder([watch], len(NAMES))
    judge = Judge(bundle, open_session(bundle, "cpu"), ["motor-1"], shadow=False, hop_cells=1)
    told: dict[int, float] = {}
    for row, (t, values) in enumerate(zip(times.tolist(), gappy[:, :], strict=False)):
        there = np.flatnonzero(np.isfinite(values)).astype(np.int32)
        batch = Batch(
            source="s",
            signal=there,
            t_ns=np.full(len(there), round(t * S)),
            value=values[there],
            quality=np.zeros(len(there), np.uint8),
            received_ns=0,
        )
        for _, cut in (*builder.add(batch, row * S), *builder.close(row * S)):
            judged = judge.judge(cut, np.array([0.5])).assessments
            told |= dict(zip((cut.end_ns // S).tolist(), judged.score.tolist(), strict=True))
    rows = [row for row in range(600) if round(times[row]) in told]
    got = np.array([told[round(times[row])] for row in rows])
    known = np.isfinite(got)
    assert known.sum() > 500
    np.testing.assert_allclose(got[known], replayed.score[rows][known], rtol=1e-3)


def test_a_merged_csv_trains_and_scores(tmp_path: Path) -> None:
    """An outer join of three loggers, with clocks of their own, as a user would give it."""
    whole = healthy(6000)
    assert whole.time_s is not None
    lines = []
    for column, (every, offset) in enumerate(((1, 0.0), (1, 0.4), (10, 0.7), (1, 0.4))):
        for row in range(0, 6000, every):
            lines.append((row + offset, column, whole.values[row, column]))
    moments = sorted({moment for moment, _, _ in lines})
    cells = {moment: [""] * 4 for moment in moments}
    for moment, column, value in lines:
        cells[moment][column] = f"{value:.6g}"
    text = [",".join(("time", *NAMES))] + [",".join((f"{m:.1f}", *cells[m])) for m in moments]
    (tmp_path / "joined.csv").write_text("\n".join(text))
    made = CliRunner().invoke(
        group,
        f"train --data {tmp_path}/joined.csv --rows 0:8000 --out {tmp_path}/m.fwm".split(),
    )
    assert made.exit_code == 0, made.output
    assert "of 4 signals, window 48 s" in made.output
    told = CliRunner().invoke(
        group,
        f"score {tmp_path}/m.fwm --data {tmp_path}/joined.csv --out {tmp_path}/s.csv".split(),
    )
    assert told.exit_code == 0, told.output
    verdicts_of = [
        line.split(",")[4] for line in (tmp_path / "s.csv").read_text().split("\n")[1:-1]
    ]
    assert len(verdicts_of) == len(moments)
    assert verdicts_of.count("1") < 0.01 * len(moments)
