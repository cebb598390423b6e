"""Training on an imaginary motor: it finds faults, names them, and says what it cannot promise."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from models.errors import ModelError, RecordError
from models.explain import drivers, healthy_of
from models.features.plan import FeaturePlan
from models.record import Record, join
from models.score import held, score
from models.training import anomaly, company, detector_int8, limits
from models.training.anomaly import train
from models.training.companies import Members
from models.training.company import Form
from models.training.folds import folds
from models.training.invented import auroc
from models.training.learn import _around_faults
from models.training.nameplate import Nameplate
from models.training.plan import blocks_of
from models.training.trained import Trained
from tests.models.plants import NAMES, healthy, with_values

HOURS = 4 * 3600


@pytest.fixture(scope="module")
def motor() -> Trained:
    return train(healthy(HOURS), false_alarms="1/1d")


def test_a_fault_is_found_and_named_with_its_direction(motor: Trained, tmp_path: Path) -> None:
    bundle = motor.write(tmp_path / "motor.fwm")
    assert bundle.manifest.state == "active", bundle.manifest.limit
    fresh = healthy(3000, seed=5)
    values = fresh.values.copy()
    values[2000:, 3] += 0.5
    made = score(bundle, with_values(fresh, values))
    assert not made.anomalous[:2000].any()
    assert made.anomalous[2060:].mean() > 0.95
    assert made.top(2500) == ("vibration",)
    assert made.direction[2500, NAMES.index("vibration")] == 1
    (first, *_) = drivers(
        made.contribution[2500],
        made.direction[2500],
        made.signals,
        made.features[2500],
        healthy_of(bundle.manifest.detail),
    )
    assert (first.signal, first.how) == ("vibration", "high")
    assert first.value.endswith(" mm/s")


def test_a_signal_that_leaves_its_company_is_found_though_it_stays_in_its_range(
    motor: Trained, tmp_path: Path
) -> None:
    bundle = motor.write(tmp_path / "motor.fwm")
    fresh = healthy(3000, seed=6)
    values = fresh.values.copy()
    # The current no longer follows the speed.
    values[2000:, 1] = np.median(values[:, 1]) + np.random.default_rng(0).normal(0, 0.1, 1000)
    made = score(bundle, with_values(fresh, values))
    assert values[2000:, 1].max() < fresh.values[:, 1].max()
    assert made.anomalous[2100:].mean() > 0.6
    assert "current" in made.top(2800)


def test_int8_says_what_fp32_says(motor: Trained, tmp_path: Path) -> None:
    bundle = motor.write(tmp_path / "motor.fwm")
    assert b"QuantizeLinear" in bundle.int8
    fresh = healthy(4000, seed=7)
    values = fresh.values + np.linspace(0, 3, 4000)[:, None] * np.array([0, 0.2, 0, 0])
    whole = with_values(fresh, values)
    small, exact = score(bundle, whole), score(bundle, whole, precision="fp32")
    assert np.mean(small.anomalous != exact.anomalous) <= 0.01
    assert motor.manifest.parity["auroc_loss_worst"] <= 0.01


def test_a_missing_signal_is_masked_and_the_others_are_still_judged(
    motor: Trained, tmp_path: Path
) -> None:
    bundle = motor.write(tmp_path / "motor.fwm")
    fresh = healthy(3000, seed=8)
    values = fresh.values.copy()
    values[500:, 2] = np.nan
    values[2000:, 3] += 0.5
    made = score(bundle, with_values(fresh, values))
    assert not made.anomalous[:2000].any()
    assert made.anomalous[2060:].mean() > 0.95
    assert made.coverage[1500] == pytest.approx(0.75)
    np.testing.assert_array_equal(made.contribution[1500, 2], 0)
    gone = with_values(fresh, np.full_like(values, np.nan))
    assert np.isnan(score(bundle, gone).score).all()


def test_training_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    record, dated = healthy(2000), Nameplate(created=datetime(2026, 1, 1, tzinfo=UTC))
    paths = [tmp_path / name for name in ("a.fwm", "b.fwm")]
    for path in paths:
        train(record, nameplate=dated, seed=3).write(path)
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_a_short_record_stays_in_shadow_and_says_why() -> None:
    limit = train(healthy(400)).manifest.limit
    assert limit is not None
    assert not limit.supported
    assert "not enough" in limit.reason
    assert "8 windows" in limit.reason
    longer = train(healthy(3000)).manifest
    assert longer.state == "shadow"
    assert longer.limit is not None
    assert "1/30d needs 3.0 days" in longer.limit.reason


def test_a_record_without_time_can_be_learned_but_promises_nothing() -> None:
    record = healthy(3000)
    manifest = train(Record(record.values, record.names)).manifest
    assert manifest.window.rows
    assert manifest.limit is not None
    assert "no time" in manifest.limit.reason


def test_a_fault_inside_the_record_is_said_and_trained_around(tmp_path: Path) -> None:
    record = healthy(6000)
    values = record.values.copy()
    values[3000:3400, 3] += 4.0
    trained = train(with_values(record, values), false_alarms="1/1h")
    assert any("left out of training" in note for note in trained.notes)
    assert trained.manifest.state == "shadow"
    made = score(trained.write(tmp_path / "m.fwm"), with_values(record, values))
    assert made.anomalous[3060:3400].mean() > 0.95
    assert made.anomalous[:2990].mean() < 0.01


def test_a_fault_among_short_runs_is_trained_around() -> None:
    # Runs between two stops may be hardly longer than a window; that is no reason to fail.
    rng = np.random.default_rng(0)
    # Two features, and a standard error that is 0: nothing is missing.
    runs = [(rng.normal(size=(n, 3)) * (1, 1, 0)).astype(np.float32) for n in (200, 5, 5, 5, 200)]
    scores = [np.ones(len(run)) for run in runs]
    scores[2][1] = 50.0
    both = np.arange(2)
    form = Form(np.full(2, 1e-9), (np.ones(2, bool),), 0 * both, np.zeros(2), (Members(both, 2),))
    kept, _, notes = _around_faults(runs, scores, form, 3)
    assert [len(run) for run in kept] == [200, 5, 5, 200], "5 windows are all within its reach"
    assert "as a fault would" in notes[0]


def test_constant_and_missing_signals_are_left_out_and_said() -> None:
    record = healthy(1000)
    values = np.column_stack([record.values, np.full(1000, 7.0), np.full(1000, np.nan)])
    whole = Record(values, (*record.names, "stuck", "gone"), time_s=record.time_s)
    trained = train(whole)
    assert [signal.name for signal in trained.manifest.signals] == list(NAMES)
    assert any("stuck: left out, it never changes (always 7)" in note for note in trained.notes)
    assert any("gone: left out, 100% of its samples" in note for note in trained.notes)


def test_an_idle_or_empty_record_is_refused() -> None:
    with pytest.raises(RecordError, match="nothing to learn"):
        train(Record(np.ones((500, 2)), ("a", "b")))
    with pytest.raises(RecordError, match="must have rows"):
        train(Record(np.zeros((0, 2)), ("a", "b")))
    with pytest.raises(RecordError, match="too few"):
        train(Record(np.random.default_rng(0).normal(size=(2, 2)), ("a", "b")))


def test_a_storm_of_missing_samples_is_survived() -> None:
    record = healthy(3000)
    values = record.values.copy()
    rng = np.random.default_rng(1)
    values[rng.random(values.shape) < 0.3] = np.nan
    values[1000:1500] = np.nan
    trained = train(with_values(record, values))
    assert any("too few samples" in note for note in trained.notes)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda x: 1.8 * x + 32, "°C to °F"),
        (lambda x: (x - 32) / 1.8, "°F to °C"),
        (lambda x: 1000 * x, "times 1000 up"),
        (lambda x: x / 1000, "times 1000 down"),
    ],
)
def test_a_change_of_unit_is_named_and_trained_around(change: object, words: str) -> None:
    assert callable(change)
    record = healthy(3000)
    values = record.values.copy()
    values[2400:, 2] = change(values[2400:, 2])
    trained = train(with_values(record, values))
    (note,) = (note for note in trained.notes if "unit" in note)
    assert words in note
    assert "row 2401" in note


def test_healthy_speed_changes_are_no_change_of_unit() -> None:
    for seed in range(5):
        assert not any("unit" in note for note in train(healthy(1500, seed)).notes)


def test_a_record_that_is_half_something_else_is_said() -> None:
    record = healthy(4000)
    values = record.values.copy()
    values[::500, 3] += 1
    values[2000:3500, 3] += np.linspace(0, 500, 1500)
    notes = train(with_values(record, values)).notes
    assert notes


def test_a_drifting_signal_counts_for_less_than_a_steady_one(tmp_path: Path) -> None:
    record = healthy(3000)
    values = record.values.copy()
    values[:, 2] += np.linspace(0, 5, 3000)
    trained = train(with_values(record, values))
    assert any("still drifting" in note and "temperature" in note for note in trained.notes)
    later = healthy(2000, seed=2)
    shifted = later.values.copy()
    shifted[:, 2] += np.linspace(5, 8, 2000)
    made = score(trained.write(tmp_path / "m.fwm"), with_values(later, shifted))
    assert made.anomalous.mean() < 0.02


def warming(rows: int, seed: int, water: float, motor: float) -> Record:
    """A pump that warms up once, from these temperatures on."""
    rng, t = np.random.default_rng(seed), np.arange(rows, dtype=float)
    columns = (
        10 + rng.normal(0, 0.2, rows),
        5 + rng.normal(0, 0.1, rows),
        45 - (45 - water) * np.exp(-t / 4400) + rng.normal(0, 0.05, rows),
        70 - (70 - motor) * np.exp(-t / 2500) + rng.normal(0, 0.1, rows),
    )
    names, units = ("flow", "current", "water", "motor"), ("m3/h", "A", "°C", "°C")
    return Record(np.column_stack(columns), names, units, time_s=t)


def test_two_temperatures_that_rose_together_once_need_not_do_so_again(tmp_path: Path) -> None:
    bundle = train(warming(4000, 0, 25, 30)).write(tmp_path / "m.fwm")
    assert score(bundle, warming(1100, 1, 35, 30)).anomalous.mean() < 0.05
    hot = warming(1100, 2, 25, 30)
    hot.values[600:, 3] += 45
    assert score(bundle, hot).anomalous[660:].mean() > 0.9


def test_only_a_record_that_can_tell_a_trend_from_chance_counts_it_as_one_value() -> None:
    rng = np.random.default_rng(0)
    x = np.column_stack([np.linspace(0, 9, 600), rng.normal(size=600)])
    x[:, 0] += 0.1 * rng.normal(size=600)
    both = np.arange(2)
    members = Members(both, 2)
    form = Form(np.full(2, 1e-9), (np.ones(2, bool),), 0 * both, np.zeros(2), (members,))
    rows = np.column_stack([x, np.zeros(600)])
    parts = list(folds([600], 20))
    long, independent = company.learn(rows, members, form, parts, [600], 20)
    short, _ = company.learn(rows, members, form, parts, [600], 60)
    assert independent[0] < 4
    assert long.own[0] < 0.6 * short.own[0]
    assert long.own[1] > 0.9 * short.own[1]


def test_several_runs_are_one_record(tmp_path: Path) -> None:
    runs = [healthy(400, seed) for seed in range(10)]
    trained = train(join(runs))
    made = score(trained.write(tmp_path / "m.fwm"), healthy(400, 99))
    assert made.anomalous.mean() < 0.15
    assert trained.manifest.metrics["sequences"] == 10


def test_runs_are_learned_in_the_order_of_their_time_not_of_their_files() -> None:
    runs = []
    for run in range(10):
        one = healthy(400, run)
        one.values[:, 2] += 0.5 * run  # The hall grows warmer through the day.
        assert one.time_s is not None
        runs.append(replace(one, time_s=one.time_s + 1200.0 * run))
    there = train(join(runs)).manifest
    back = train(join([runs[i] for i in (0, 1, 9, 2, 8, 3, 7, 4, 6, 5)])).manifest
    assert back.limit == there.limit
    assert back.detail["independent"] == there.detail["independent"]


def test_a_bundle_for_other_signals_or_units_is_refused_with_the_difference(
    motor: Trained, tmp_path: Path
) -> None:
    bundle = motor.write(tmp_path / "m.fwm")
    other = healthy(100)
    renamed = Record(other.values, ("speed", "amps", "temperature", "vibration"), other.units)
    with pytest.raises(RecordError, match=r"no signal current.*there are speed, amps"):
        score(bundle, renamed)
    foreign = Record(other.values, other.names, ("rpm", "A", "°F", "mm/s"))
    with pytest.raises(RecordError, match="temperature is in °F, the model wants °C"):
        score(bundle, foreign)
    with pytest.raises(RecordError, match="needs a time column"):
        score(bundle, Record(other.values, other.names, other.units))


def test_int8_that_decides_otherwise_is_not_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.training.parity.DECISIONS_MAX", 1e-12)
    monkeypatch.setattr("models.training.parity.AUROC_LOSS_MAX", 1e-12)
    monkeypatch.setattr("models.training.detector_int8.WAYS", detector_int8.WAYS[:1])
    with pytest.raises(ModelError, match="worst sequence"):
        train(healthy(2000))


def test_one_signal_alone_can_be_learned(tmp_path: Path) -> None:
    record = healthy(1500).select(["vibration"])
    bundle = train(record).write(tmp_path / "m.fwm")
    values = record.values.copy()
    values[1000:] += 2
    assert score(bundle, with_values(record, values)).anomalous[1060:].all()


@pytest.mark.parametrize("window", ["1row", "3rows", "10rows", "90s"])
def test_any_window_that_fits_can_be_asked_for(window: str, tmp_path: Path) -> None:
    bundle = train(healthy(1500), window=window).write(tmp_path / "m.fwm")
    made = score(bundle, healthy(300, 4))
    assert int(np.isfinite(made.score).argmax()) == bundle.manifest.window.cells - 1


def test_a_window_longer_than_the_record_is_refused() -> None:
    with pytest.raises(RecordError, match="must fit"):
        train(healthy(100), window="200rows")
    with pytest.raises(RecordError, match="such as 30s"):
        train(healthy(100), window="long")
    with pytest.raises(RecordError, match="such as 1/30d"):
        train(healthy(100), false_alarms="seldom")


@pytest.mark.parametrize("period_s", [0.001, 60.0, 3600.0])
def test_the_window_follows_the_sampling_interval(period_s: float) -> None:
    window = train(healthy(1000, period_s=period_s)).manifest.window
    assert window.period_s == pytest.approx(period_s)
    assert window.cells == 48
    assert window.hop_cells == (6 if period_s < 0.01 else 1)


def test_a_cycle_makes_the_window_long_enough_for_several() -> None:
    rng = np.random.default_rng(0)
    wave = np.sin(2 * np.pi * np.arange(6000) / 30)[:, None] + 0.1 * rng.normal(size=(6000, 2))
    window = train(Record(wave, ("a", "b"), time_s=np.arange(6000.0))).manifest.window
    assert window.cells == 120


def test_verdicts_are_held_until_the_score_is_well_below_the_limit() -> None:
    row = np.array([1, 3, 1.7, 1.5, 1.7, np.nan, 3, np.nan, 1.9], np.float32)
    expect = np.array([2, 2, 1.6, 1.6, 2, 2, 2, 1.6, 2], np.float32)
    np.testing.assert_allclose(held(row, 2.0), expect)
    assert len(held(row[:0], 2.0)) == 0


def test_the_extreme_value_fit_finds_the_level_of_a_known_distribution() -> None:
    rng = np.random.default_rng(0)
    pareto = 2.0 * (1.0 + rng.pareto(10.0, 4000))
    assert limits.tail_level(pareto, 1000.0) == pytest.approx(2.0 * 1000**0.1, rel=0.1)


def test_blocks_of_two_kinds_do_not_carry_the_limit_away() -> None:
    rng = np.random.default_rng(0)
    idle, busy = rng.normal(0.5, 0.05, 60), rng.normal(3.0, 0.2, 60)
    assert 3.3 < limits.tail_level(np.concatenate([idle, busy]), 1200.0) < 6


def test_the_false_alarm_promise_holds_on_fresh_healthy_machines(tmp_path: Path) -> None:
    """Twenty machines, each learned for 3,000 rows and watched for 3,000 more."""
    flagged = []
    for seed in range(20):
        whole = healthy(6000, 100 + seed)
        bundle = train(whole.rows(slice(0, 3000))).write(tmp_path / "m.fwm")
        flagged.append(score(bundle, whole).anomalous[3000:].mean())
    assert np.mean(flagged) < 0.003


def test_the_manifest_tells_what_was_learned(motor: Trained) -> None:
    manifest = motor.manifest
    assert manifest.limit is not None
    assert manifest.limit.confidence is not None
    plan = FeaturePlan.from_manifest(manifest)
    judged = [n for n, at in zip(plan.names, np.any(blocks_of(plan), axis=0), strict=False) if at]
    assert [each["feature"] for each in manifest.detail["healthy"]] == judged
    assert len(manifest.data_sha256) == 64
    assert manifest.outputs[:3] == anomaly.OUTPUTS


def idling(n: int, seed: int) -> Record:
    """A pump that stands still, starts, and runs at another load every few minutes."""
    rng = np.random.default_rng(seed)
    on = np.repeat(rng.random(n // 300 + 1) < 0.6, 300)[:n].astype(float)
    load = np.repeat(rng.uniform(0.4, 1, n // 300 + 1), 300)[:n] * on
    slow = np.empty(n)
    state = 0.0
    for i, value in enumerate(load):
        state += 0.2 * (value - state)
        slow[i] = state
    values = np.column_stack(
        [
            on * (1500 + rng.normal(0, 2, n)),
            0.5 + 10 * slow + rng.normal(0, 0.1, n),
            0.05 + 2 * slow + rng.normal(0, 1, n) * (0.05 + 0.1 * slow),
        ]
    )
    return Record(values, ("speed", "current", "vibration"), time_s=np.arange(n, dtype=float))


def test_a_machine_that_starts_and_stops_gets_several_healthy_states(tmp_path: Path) -> None:
    trained = train(idling(8000, 1))
    assert len(trained.manifest.detail["conditions"]) > 1
    assert any("operating conditions" in note for note in trained.notes)
    bundle = trained.write(tmp_path / "m.fwm")
    fresh = idling(6000, 2)
    values = fresh.values.copy()
    values[3000:, 1] *= 1.25
    made = score(bundle, with_values(fresh, values))
    assert made.anomalous[:3000].mean() < 0.01
    running = fresh.values[3000:, 0] > 0
    late = made.score[3000:]
    rank = auroc(
        np.concatenate([made.score[100:3000], late[running]]),
        np.concatenate([np.zeros(2900, bool), np.ones(int(running.sum()), bool)]),
    )
    assert rank > 0.9
    exact = score(bundle, with_values(fresh, values), precision="fp32")
    assert np.mean(exact.anomalous != made.anomalous) < 0.01


def test_one_steady_state_stays_one() -> None:
    rng = np.random.default_rng(0)
    record = Record(rng.normal(size=(8000, 3)), ("a", "b", "c"), time_s=np.arange(8000.0))
    assert train(record).manifest.detail["conditions"] == [1.0]


@pytest.mark.parametrize("rows", [1, 5, 47])
def test_a_record_shorter_than_a_window_has_no_verdict(
    motor: Trained, tmp_path: Path, rows: int
) -> None:
    made = score(motor.write(tmp_path / "m.fwm"), healthy(3000, 3).rows(slice(0, rows)))
    assert np.isnan(made.score).all()
    assert not made.anomalous.any()


def test_windows_of_few_values_raise_no_false_alarms(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    record = Record(np.round(rng.normal(size=(9000, 2)) / 4), ("a", "b"), time_s=np.arange(9000.0))
    bundle = train(record.rows(slice(0, 6000))).write(tmp_path / "m.fwm")
    assert score(bundle, record).anomalous[6000:].mean() < 0.01
