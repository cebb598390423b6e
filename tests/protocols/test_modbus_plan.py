"""Plans, schedules and counters: functions of their arguments, tested by property."""

from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from protocols.modbus.address import Table
from protocols.modbus.counter import COUNTERS_FILE, CounterFile, Counters
from protocols.modbus.decode import Image
from protocols.modbus.pdu import data_bytes
from protocols.modbus.plan import Limits, Span, bisect, decoy, plan
from protocols.modbus.schedule import Patience, Slots
from protocols.modbus.signal import ModbusSignal
from tests.protocols.modbus_peers import make_context


@st.composite
def span_lists(draw: st.DrawFn) -> list[Span]:
    rows = draw(
        st.lists(
            st.tuples(
                st.integers(1, 3),
                st.sampled_from(list(Table)),
                st.integers(0, 400),
                st.integers(1, 8),
            ),
            min_size=1,
            max_size=60,
        )
    )
    return [
        Span(i, unit, table, start, 1 if table.bits else count)
        for i, (unit, table, start, count) in enumerate(rows)
    ]


limit_sets = st.builds(Limits, st.integers(8, 125), st.integers(8, 2000), st.integers(0, 40))
hole_sets = st.sets(st.integers(0, 408), max_size=20)


@given(span_lists(), limit_sets, hole_sets)
def test_a_plan_covers_all_and_keeps_the_limits(
    spans: list[Span], limits: Limits, holes: set[int]
) -> None:
    barred = {(unit, table, a) for unit in (1, 2, 3) for table in Table for a in holes}
    requests = plan(spans, lambda _: limits, barred)
    assert sorted(row for r in requests for row in r.rows.tolist()) == list(range(len(spans)))
    image = Image(spans, lambda _: limits)
    for request in requests:
        assert request.count <= limits.count_max(request.table)
        assert request.spans[0].start == request.start
        wanted = {a for s in request.spans for a in range(s.start, s.end)}
        assert {s.unit for s in request.spans} == {request.unit}
        unwanted = set(range(request.start, request.end)) - wanted
        assert not unwanted & holes
        # The image has room for it in one piece, whatever other plan it was made under.
        at = [image.at(request.unit, request.table, a) for a in range(request.start, request.end)]
        assert set(np.diff(at)) <= {1 if request.table.bits else 2}
        assert at[-1] < len(image.data)


def test_neighbours_are_one_request_and_a_gap_is_worth_reading() -> None:
    spans = [Span(i, 1, Table.HOLDING, a, 1) for i, a in enumerate([*range(60), *range(70, 125)])]
    assert [(r.start, r.count) for r in plan(spans, lambda _: Limits(125, 2000, 16))] == [(0, 125)]
    assert len(plan(spans, lambda _: Limits(125, 2000, 9))) == 2
    assert len(plan(spans, lambda _: Limits(32, 2000, 16))) == 4


@given(span_lists(), limit_sets)
def test_halves_hold_the_same_rows(spans: list[Span], limits: Limits) -> None:
    for request in plan(spans, lambda _: limits):
        halves = bisect(request)
        if halves is None:
            assert len(request.rows) == 1
            continue
        assert [row for half in halves for row in half.rows.tolist()] == request.rows.tolist()
        assert all(len(half.rows) <= (len(request.rows) + 1) // 2 for half in halves)


@given(st.sampled_from(list(Table)), st.integers(0, 65535), st.integers(1, 124))
def test_decoys_are_legal_and_their_replies_unlike_the_last_ones(
    table: Table, start: int, count: int
) -> None:
    (request,) = plan([Span(0, 1, table, min(start, 65536 - count), count)],
                      lambda _: Limits(125, 2000, 0))  # fmt: skip
    shapes = {(request.table, data_bytes(request))}
    for n in range(4):
        other = decoy(request, n)
        assert other.table.bits == table.bits
        assert other.start >= 0
        assert other.end <= 65536
        assert 1 <= other.count <= 125
        shapes.add((other.table, data_bytes(other)))
    assert len(shapes) == 5


@given(st.integers(1, 10**10), st.lists(st.integers(0, 10**11), min_size=1, max_size=40))
def test_slots_neither_drift_nor_pile_up(period_ns: int, delays_ns: list[int]) -> None:
    slots = Slots(period_ns, next_ns=7)
    now_ns = 7
    for taken, delay_ns in enumerate(delays_ns, start=1):
        now_ns = max(now_ns, slots.next_ns) + delay_ns
        slot_ns = slots.take(now_ns)
        assert (slot_ns - 7) % period_ns == 0
        assert slot_ns <= now_ns < slots.next_ns
        # Every slot until now was either taken or counted as missed.
        assert taken + slots.missed == (slots.next_ns - 7) // period_ns


def test_a_silent_unit_is_probed_ever_more_rarely_and_forgiven_at_once() -> None:
    patience = Patience(first_ns=1_000, max_ns=10_000)
    pauses = []
    for _ in range(6):
        patience.failed(0)
        pauses.append(patience.retry_ns)
    assert pauses == [1_000, 2_000, 4_000, 8_000, 10_000, 10_000]
    assert patience.resting(9_999)
    assert not patience.resting(10_000)
    patience.answered()
    assert not patience.silent


def counters(kind: str = "uint16", rollover: int | None = None) -> Counters:
    fields = {"asset": "a", "signal": "s", "address": "holding:0", "counter": True, "type": kind}
    return Counters(
        [ModbusSignal.model_validate({**fields, "rollover": rollover})], lambda _: "a/s"
    )


def feed(of: Counters, count: float, *, fresh: bool = True) -> float:
    value = np.array([count])
    of.accumulate(value, np.array([fresh]))
    return float(value[0])


@given(st.lists(st.integers(0, 30_000), min_size=1, max_size=50), st.integers(0, 65535))
def test_a_counter_follows_the_truth_over_any_number_of_roll_overs(
    steps: list[int], start: int
) -> None:
    of = counters()
    feed(of, start)
    truth = start
    for step in steps:
        truth += step
        assert feed(of, truth % 65536) == truth


def test_a_device_that_starts_over_does_not_take_the_sum_back() -> None:
    of = counters("uint32")
    assert feed(of, 1_000) == 1_000
    assert feed(of, 3) == 1_003
    assert feed(of, 5) == 1_005


def test_a_counter_rolls_over_where_it_was_told() -> None:
    of = counters("uint32", rollover=10_000)
    feed(of, 9_990)
    assert feed(of, 5) == 10_005
    of = counters("bcd16")
    feed(of, 9_990)
    assert feed(of, 5) == 10_005


def test_a_sample_that_did_not_come_changes_nothing() -> None:
    of = counters()
    feed(of, 60_000)
    feed(of, 0, fresh=False)
    assert feed(of, 60_001) == 60_001


def test_counters_are_found_among_the_rows_that_came() -> None:
    names = ("holding:0", "holding:1", "holding:2")
    of = Counters(
        [
            ModbusSignal.model_validate(
                {"asset": "a", "signal": name[-1], "address": name, "counter": i != 1}
            )
            for i, name in enumerate(names)
        ],
        lambda signal: signal.signal,
    )
    of.accumulate(np.array([10.0, 11.0, 65_000.0]), np.ones(3, dtype=np.bool_))
    only_last = np.array([100.0])
    assert of.accumulate(only_last, np.array([True]), np.array([2])) == {"counter_rollover": 1}
    assert only_last.tolist() == [65_636]
    none_of_them = np.array([7.0])
    assert of.accumulate(none_of_them, np.array([True]), np.array([1])) == {}
    assert none_of_them.tolist() == [7]
    assert of.state()["0"].last == 10


async def test_the_sum_survives_a_restart_and_a_roll_over_during_it(tmp_path: Path) -> None:
    context = make_context(tmp_path)
    of, file = counters(), CounterFile(context)
    for count in (60_000, 10, 65_000):
        feed(of, count)
    file.keep(of)
    file.save()
    after = counters()
    CounterFile(context).restore(after)
    assert feed(after, 20) == 2 * 65_536 + 20


async def test_a_damaged_counter_file_is_counted_not_fatal(tmp_path: Path) -> None:
    context = make_context(tmp_path)
    for text in ("{", '{"a": 3}', "[]", '{"a": {"last": "x", "base": 0}}'):
        (context.data_dir / COUNTERS_FILE).write_text(text)
        after = counters()
        CounterFile(context).restore(after)
        assert after.state() == {}
    assert context.meter.errors["counter_file"] == 4
