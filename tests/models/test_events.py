"""Events on rows: when they count, what is never seen, and labels whose future is unknown."""

import numpy as np

from models.events import AGO_H_MAX, Facts, Failures, Log, Rows

HOUR = 3600.0


def _log(*events: tuple[float, str, str]) -> Log:
    hours, machines, codes = zip(*events, strict=True)
    return Log(
        "error",
        tuple(sorted(set(codes))),
        np.array(hours) * HOUR,
        np.array(machines, object),
        np.array(codes, object),
    )


def _rows(hours: int, machines: tuple[str, ...] = ("1",), step_h: float = 1.0) -> Rows:
    time_s = np.tile(np.arange(hours) * step_h * HOUR, len(machines))
    return Rows(time_s, np.repeat(np.arange(len(machines)), hours), machines)


def test_an_event_counts_from_its_own_time_on_and_only_for_its_machine() -> None:
    log = _log((2, "1", "e1"), (2.5, "1", "e1"), (2.6, "1", "e1"), (3, "2", "e1"))
    made = log.signals(_rows(5, ("1", "2")))
    assert log.names == ("error.e1", "error.e1.ago_h")
    assert made[:5, 0].tolist() == [0, 0, 1, 2, 0]
    assert made[5:, 0].tolist() == [0, 0, 0, 1, 0]
    np.testing.assert_allclose(made[:5, 1], [AGO_H_MAX, AGO_H_MAX, 0, 0.4, 1.4])


def test_what_came_before_the_first_row_is_ago_but_is_not_counted_there() -> None:
    made = _log((-10, "1", "e1"), (-9000, "1", "e2"), (0, "1", "e3")).signals(_rows(2))
    assert made[:, 0].tolist() == [0, 0]
    assert made[:, 1].tolist() == [10, 11]
    assert made[:, 3].tolist() == [AGO_H_MAX, AGO_H_MAX]
    assert made[:, 4].tolist() == [1, 0]


def test_later_events_change_no_earlier_row() -> None:
    random = np.random.default_rng(3)
    events = [
        (float(random.uniform(-5, 60)), str(random.integers(3)), f"e{random.integers(4)}")
        for _ in range(200)
    ]
    rows = _rows(50, ("0", "1", "2"))
    whole = _log(*events)
    early = _log(*(event for event in events if event[0] <= 20))
    before = rows.time_s <= 20 * HOUR
    assert whole.codes == early.codes
    np.testing.assert_array_equal(whole.signals(rows)[before], early.signals(rows)[before])
    assert (whole.signals(rows)[~before] != early.signals(rows)[~before]).any()


def test_a_row_without_a_time_has_no_signals_and_no_label() -> None:
    log = _log((1, "1", "e1"))
    rows = Rows(np.array([0, np.nan, 2 * HOUR]), np.zeros(3, np.int64), ("1",))
    assert np.isnan(log.signals(rows)[1]).all()
    assert log.signals(rows)[:, 0].tolist()[2] == 1
    assert np.isnan(log.coming(rows, HOUR)[1])


def test_labels_hold_before_a_failure_and_are_unknown_where_the_rows_end() -> None:
    log = _log((6, "1", "comp1"), (9, "1", "comp2"))
    rows = _rows(14)
    any_of_them = Failures(log, 3 * HOUR).labels(rows)
    assert list(any_of_them) == ["error"]
    expected = [0, 0, 0, 1, 1, 1, 1, 1, 1, 0, 0, np.nan, np.nan, np.nan]
    np.testing.assert_array_equal(any_of_them["error"], expected)
    modes = Failures(log, 3 * HOUR, ("comp1", "comp2")).labels(rows)
    np.testing.assert_array_equal(modes["comp1"][:7], [0, 0, 0, 1, 1, 1, 0])
    np.testing.assert_array_equal(modes["comp2"][5:10], [0, 1, 1, 1, 0])


def test_facts_are_the_same_in_every_row_of_a_machine_and_unknown_for_others() -> None:
    facts = Facts(("age",), ("",), {"1": np.array([7.0])})
    made = facts.signals(_rows(2, ("1", "9")))
    np.testing.assert_array_equal(made[:, 0], [7, 7, np.nan, np.nan])
