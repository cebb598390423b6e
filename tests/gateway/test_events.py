"""Events at the cells of windows: as `score` has them, known only from when somebody watched."""

import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from gateway.config import parse
from gateway.core.batch import Batch, Quality
from gateway.core.errors import ConfigError
from gateway.core.event import Event
from gateway.core.refusal import Refused
from gateway.core.signals import Signal, SignalTable
from gateway.pipeline import events as events_module
from gateway.pipeline.config import AssetConfig, EventLogConfig
from gateway.pipeline.event_columns import EventColumns
from gateway.pipeline.event_log import KEPT_MAX
from gateway.pipeline.events import Events
from gateway.pipeline.misfits import unknown_words
from gateway.pipeline.windows import Watch, Windows
from models.events import AGO_H_MAX, Log, Rows
from models.manifest import Manifest, Window
from models.manifest import Signal as Input

HOUR_NS = 3600 * 10**9
START = 480_000
"""Hours since 1970 at which these tests begin."""
CODES = ("e1", "e2")
TOLD_NS = (START + 100) * HOUR_NS
REGISTER = Signal("press-1", "code")
INPUTS = (
    Input(name="volt"),
    *(Input(name=f"error.{code}{kind}") for code in CODES for kind in ("", ".ago_h")),
    Input(name="age"),
    Input(name="model", categories=("m3", "m4")),
)


def make(table: SignalTable, *, signal: str | None = None, **facts: float | str) -> Events:
    codes = {code: float(i + 1) for i, code in enumerate(CODES)} if signal else CODES
    log = EventLogConfig(id="error", codes=codes, signal=signal)
    assets = [AssetConfig(id="press-1", facts=facts), AssetConfig(id="press-2")]
    if signal:
        log = log.model_copy(update={"assets": ("press-1",)})
    return Events([log], assets, {REGISTER: "plc"} if signal else {}, table)


def manifest() -> Manifest:
    return Manifest(
        id="m",
        kind="failure",
        created=datetime(2026, 1, 1, tzinfo=UTC),
        signals=INPUTS,
        window=Window(period_s=3600.0, cells=6, hop_cells=1),
        features=("volt:last",),
        outputs=("probability",),
    )


def look(events: Events, table: SignalTable, end_h: int, cells: int = 6) -> Windows:
    """The window of `press-1` that ends with an hour, as the flow fills it."""
    own = np.full((1, len(INPUTS)), -1, np.int32)
    own[0, 0] = table.intern(Signal("press-1", "volt"))
    watch = Watch(
        ("press-1",), own, (("plc",),), HOUR_NS, cells, 1, stale_ns=3 * HOUR_NS, lateness_ns=0
    )
    value = np.full((1, len(INPUTS), cells), np.nan)
    value[0, 0] = 170.0
    seen = Windows(
        rows=np.zeros(1, np.int64),
        end_ns=np.array([(START + end_h) * HOUR_NS]),
        value=value,
        coverage=np.isfinite(value).mean(axis=2),
        full=np.ones(1, bool),
    )
    columns = EventColumns.of(events, ("press-1",), manifest(), own, table)
    assert columns is not None
    columns.lay(watch, seen)
    return seen


def at(*hours: float) -> NDArray[np.int64]:
    return np.array([round((START + hour) * HOUR_NS) for hour in hours], np.int64)


def register(*samples: tuple[float, float], history: bool = False) -> Batch:
    value = np.array([value for _, value in samples], np.float64)
    return Batch(
        source="plc",
        signal=np.zeros(len(samples), np.int32),
        t_ns=at(*(hour for hour, _ in samples)),
        value=value,
        quality=np.where(np.isnan(value), Quality.BAD, Quality.GOOD).astype(np.uint8),
        received_ns=0,
        history=history,
    )


def told(events: Events, **codes: NDArray[np.int64]) -> Mapping[str, bytes]:
    _, kept = events.tell(listed(**codes), [("press-1", "error")], by="ana", at_ns=TOLD_NS)
    return dict(kept)


def listed(**codes: NDArray[np.int64]) -> list[Event]:
    return [Event("press-1", "error", code, t) for code, at in codes.items() for t in at.tolist()]


def heard(events: Events, code: str) -> list[int]:
    mine = [event.t_ns for event in events.newest("press-1", 10_000) if event.code == code]
    return mine[::-1]


_hours = st.lists(st.integers(-400, 4000).map(lambda tenths: tenths / 10), max_size=30)


@settings(max_examples=60, deadline=None)
@given(e1=_hours, e2=_hours, end_h=st.integers(6, 390))
def test_a_cell_says_what_score_says_of_a_row(e1: list[float], e2: list[float], end_h: int) -> None:
    """The golden rule: the same events, some of them later than the window, in both programs."""
    table = SignalTable()
    events = make(table)
    told(events, e1=at(*sorted(set(e1))), e2=at(*sorted(set(e2))))
    hours = [(hour, code) for code, mine in zip(CODES, (e1, e2), strict=True) for hour in set(mine)]
    log = Log(
        "error",
        CODES,
        np.array([at(hour)[0] / 1e9 for hour, _ in hours]),
        np.full(len(hours), "press-1", object),
        np.array([code for _, code in hours], object),
    )
    time_s = np.arange(START + end_h - 6.0, START + end_h + 1.0, dtype=np.float64) * 3600.0
    rows = log.signals(Rows(time_s, np.zeros(7, np.int64), ("press-1",)))
    np.testing.assert_array_equal(look(events, table, end_h).value[0, 1:5], rows[1:].T)


def test_an_event_is_each_time_that_a_signal_becomes_a_code() -> None:
    table = SignalTable([REGISTER])
    events = make(table, signal="code")
    list(events.take(register((0, 0), (1, 1), (1.5, 1), (2, 0), (3, 1))))
    list(events.take(register((3.5, 1), (4, np.nan), (5, 1), (6, 2))))
    assert heard(events, "e1") == at(1, 3).tolist()
    assert heard(events, "e2") == at(6).tolist()
    seen = look(events, table, 6)
    np.testing.assert_array_equal(seen.value[0, 1], [1, 0, 1, 0, 0, 0])
    np.testing.assert_array_equal(seen.value[0, 2], [0, 1, 0, 1, 2, 3])
    assert events.sources("press-1", ["error.e1"]) == {"plc"}


def test_a_log_may_be_said_by_a_bit_for_each_code() -> None:
    bits = [Signal("press-1", name) for name in ("bit_1", "bit_2")]
    logs = [
        EventLogConfig(id="error", codes={code: 1}, signal=bit.name, assets=("press-1",))
        for code, bit in zip(CODES, bits, strict=True)
    ]
    table, assets = SignalTable(bits), [AssetConfig(id="press-1")]
    one = Events(logs, assets, dict.fromkeys(bits, "plc"), table)
    first, second = register((0, 0), (1, 1)), register((0, 0), (1, 1), (2, 0), (3, 1))
    kept = dict(one.take(first))
    kept |= dict(one.take(replace(second, signal=np.ones(4, np.int32))))
    assert (heard(one, "e1"), heard(one, "e2")) == (at(1).tolist(), at(1, 3).tolist())
    two = Events(logs, assets, dict.fromkeys(bits, "plc"), table)
    assert not list(two.restore(kept.get))
    assert not list(two.take(register((4, 1)))), "each remembers its own last value"
    assert heard(two, "e2") == at(1, 3).tolist()


def test_a_status_word_says_a_code_by_each_bit() -> None:
    word = {"id": "error", "signal": "code", "bits": True, "assets": ["press-1"]}
    log = EventLogConfig.model_validate({**word, "codes": {"e1": 0, "e2": 15}})
    table, assets = SignalTable([REGISTER]), [AssetConfig(id="press-1")]
    one = Events([log], assets, {REGISTER: "plc"}, table)
    first = dict(one.take(register((0, 0b0110), (1, 0b0001), (2, 0x8001), (3, 0x8000))))
    # As an int16 the highest bit is the sign; in what is no word none is set.
    kept = first | dict(one.take(register((4, -32767), (5, np.inf), (6, -32768))))
    assert heard(one, "e1") == at(1, 4).tolist()
    assert heard(one, "e2") == at(2, 6).tolist()
    two = Events([log], assets, {REGISTER: "plc"}, table)
    assert not list(two.restore(kept.get))
    assert list(two.take(register((7, 0x8001)))), "a restart knows which bits stood"
    assert (heard(two, "e1"), heard(two, "e2")) == (at(1, 4, 7).tolist(), at(2, 6).tolist())
    for codes in ({"e1": 1.5}, {"e1": -1}, {"e1": 32}, {"e1": 3, "e2": 3}):
        with pytest.raises(ValueError, match="codes: must"):
            EventLogConfig.model_validate({**word, "codes": codes})


def test_what_a_server_remembers_of_a_gap_counts_but_not_what_stood_before() -> None:
    events = make(SignalTable([REGISTER]), signal="code")
    list(events.take(register((0, 0), (9, 0))))
    assert list(events.take(register((4, 1), (5, 2), (6, 0), history=True)))
    assert not heard(events, "e1")
    assert heard(events, "e2") == at(5).tolist()
    assert not list(events.take(register((10, 0)))), "it goes on where it was"


def test_what_nobody_watched_is_unknown_and_never_called_long_ago() -> None:
    table = SignalTable()
    events = make(table)
    first = look(events, table, 6)
    assert np.isnan(first.value[0, 1:5]).all()
    np.testing.assert_array_equal(first.coverage[0], [1, 0, 0, 0, 0, 0, 0])
    later = look(events, table, 8).value[0]
    np.testing.assert_array_equal(later[1], [np.nan] * 4 + [0, 0])
    assert np.isnan(later[2]).all()
    events.tell(listed(e1=at(7.5)), by="ana", at_ns=TOLD_NS)
    known = look(events, table, 8).value[0]
    np.testing.assert_array_equal(known[1], [np.nan] * 4 + [0, 1])
    np.testing.assert_array_equal(known[2], [np.nan] * 5 + [0.5])
    quarter = look(events, table, 6 + int(AGO_H_MAX) + 5).value[0]
    np.testing.assert_array_equal(quarter[4], [AGO_H_MAX] * 6)


def test_a_history_that_was_told_whole_knows_what_did_not_happen() -> None:
    table = SignalTable()
    events = make(table)
    told(events, e1=at(-100))
    value = look(events, table, 6).value[0]
    np.testing.assert_array_equal(value[2], 100.0 + np.arange(1, 7))
    np.testing.assert_array_equal(value[4], [AGO_H_MAX] * 6)
    assert not value[[1, 3]].any()


def test_facts_are_constants_and_an_unknown_word_is_refused() -> None:
    table = SignalTable()
    events = make(table, age=18, model="m4")
    seen = look(events, table, 6)
    np.testing.assert_array_equal(seen.value[0, 5:], [[18] * 6, [1] * 6])
    assert not unknown_words(manifest(), "press-1", events)
    wrong = unknown_words(manifest(), "press-1", make(table, age="old", model="m9"))
    assert wrong == [
        "facts.age: press-1: must be a number, was 'old'",
        "facts.model: press-1: must be one of m3, m4, was 'm9'",
    ]


def test_events_cover_nothing_that_the_signals_do_not() -> None:
    """Twenty columns that are always known must not outvote a machine that says nothing."""
    table = SignalTable()
    events = make(table, age=18, model="m3")
    told(events)
    own = np.full((1, len(INPUTS)), -1, np.int32)
    own[0, 0] = table.intern(Signal("press-1", "volt"))
    columns = EventColumns.of(events, ("press-1",), manifest(), own, table)
    assert columns is not None
    seen = Windows(
        rows=np.zeros(1, np.int64),
        end_ns=at(6),
        value=np.full((1, len(INPUTS), 6), np.nan),
        coverage=np.zeros((1, len(INPUTS))),
        full=np.ones(1, bool),
    )
    watch = Watch(("press-1",), own, (("plc",),), HOUR_NS, 6, 1, stale_ns=HOUR_NS, lateness_ns=0)
    columns.lay(watch, seen)
    assert not seen.coverage.any()


def test_what_was_heard_survives_a_restart() -> None:
    table = SignalTable([REGISTER])
    one = make(table, signal="code")
    kept = dict(one.take(register((0, 0), (2, 1), (3, 2))))
    two = make(table, signal="code")
    assert not list(two.restore(kept.get))
    np.testing.assert_array_equal(look(two, table, 6).value, look(one, table, 6).value)
    assert not list(two.take(register((7, 2)))), "a code that stood before is no new event"
    three = make(table, signal="code")
    ((name, why),) = three.restore({"press-1/error": b'[0, {}, {"e1": 3}]\n'}.get)
    assert name == "press-1/error"
    assert why


def test_a_code_that_is_new_in_the_file_was_not_watched_before() -> None:
    table = SignalTable()
    wide = make(table)
    kept = told(wide, e1=at(1))
    narrow = Events(
        [EventLogConfig(id="error", codes=("e1",))], [AssetConfig(id="press-1")], {}, table
    )
    assert not list(narrow.restore(kept.get))
    kept = told(narrow, e1=at(2))
    assert not list(wide.restore(kept.get))
    assert np.isnan(look(wide, table, 6).value[0, 4]).all()


@settings(max_examples=60, deadline=None)
@given(stays=_hours, goes=_hours, end_h=st.integers(6, 390))
def test_what_was_taken_back_has_never_been(
    stays: list[float], goes: list[float], end_h: int
) -> None:
    """In every cell, before and after a restart."""
    kept, mistaken = at(*sorted(set(stays))), at(*sorted(set(goes) - set(stays)))
    table = SignalTable()
    never, taken = make(table), make(table)
    told(never, e1=kept)
    state = dict(told(taken, e1=np.concatenate([kept, mistaken]), e2=mistaken))
    if len(mistaken):
        gone = listed(e1=mistaken, e2=mistaken)
        state |= dict(taken.take_back(gone, by="eva", at_ns=TOLD_NS + 1))
    again = make(table)
    assert not list(again.restore(state.get))
    for events in (taken, again):
        np.testing.assert_array_equal(
            look(events, table, end_h).value, look(never, table, end_h).value
        )
        assert [e.event for e in events.newest("", 99)] == [e.event for e in never.newest("", 99)]
        gone_by = [e.taken_back_by for e in events.newest("", 99, taken_back=True)]
        assert gone_by.count("eva") == 2 * len(mistaken)


def test_what_was_taken_back_stays_in_the_ledger_and_may_be_told_again() -> None:
    events = make(SignalTable([REGISTER]), signal="code")
    list(events.take(register((0, 0), (1, 1), (2, 0))))
    (heard_one,) = events.newest("press-1", 9)
    assert (heard_one.told_by, heard_one.told_ns) == ("", 0)
    events.tell(listed(e2=at(3)), by="ana", at_ns=TOLD_NS)
    events.take_back(listed(e1=at(1), e2=at(3)), by="eva", at_ns=TOLD_NS + 1)
    assert not events.newest("press-1", 9)
    assert not list(events.take(register((4, 0)))), "the register goes on where it was"
    events.tell(listed(e2=at(3)), by="otto", at_ns=TOLD_NS + 2)
    entries = events.newest("press-1", 9, taken_back=True)
    assert [(e.code, e.told_by, e.taken_back_by) for e in entries] == [
        ("e2", "otto", ""),
        ("e2", "ana", "eva"),
        ("e1", "", "eva"),
    ]


def test_what_nobody_told_cannot_be_taken_back_and_nothing_is() -> None:
    events = make(SignalTable())
    told(events, e1=at(1))
    with pytest.raises(Refused, match="press-1: error: no e2 is known at 2024-10-04 01:00:00"):
        events.take_back(listed(e1=at(1), e2=at(1)), by="eva", at_ns=TOLD_NS)
    assert heard(events, "e1") == at(1).tolist()


def test_a_code_that_chatters_keeps_its_newest_events() -> None:
    events = make(SignalTable())
    times = at(*(hour / 60 for hour in range(KEPT_MAX + 9)))
    new, _ = events.tell(listed(e1=times), by="ana", at_ns=TOLD_NS)
    assert new == KEPT_MAX + 9
    assert heard(events, "e1") == times[9:].tolist()


@pytest.mark.parametrize(
    "wrong",
    [
        {"codes": ["e1"], "signal": "code"},
        {"codes": {"e1": 1}},
        {"codes": []},
        {"codes": ["e1"], "bits": True},
        {"codes": {"e1": 1, "e2": 1}, "signal": "code"},
    ],
)
def test_values_stand_where_a_signal_says_them(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"codes"):
        EventLogConfig.model_validate({"id": "error", **wrong})


@pytest.mark.parametrize(
    ("event", "why"),
    [
        (Event("press-9", "error", "e1", 0), "press-9: has no event log error"),
        (Event("press-1", "repair", "e1", 0), "press-1: has no event log repair"),
        (Event("press-1", "error", "e9", 0), "press-1: error: must be one of e1, e2, was e9"),
    ],
)
def test_what_does_not_fit_is_refused_and_nothing_is_taken(event: Event, why: str) -> None:
    events = make(SignalTable())
    with pytest.raises(Refused, match=why):
        events.tell([*listed(e1=at(1)), event], [("press-1", "error")], by="ana", at_ns=TOLD_NS)
    assert not events.newest("", 10)
    assert not any(log.whole for log in events.logs())


PAGE = Path(events_module.__file__).with_name("events.md").read_text(encoding="utf-8")


def example(tmp_path: Path) -> str:
    """What stands on the page; its bundle is there to be opened."""
    (tmp_path / "fails.fwm").touch()
    (text,) = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    return str(text)


def test_the_example_on_the_page_is_valid_and_every_setting_is_on_it(tmp_path: Path) -> None:
    made = parse(example(tmp_path), tmp_path / "forewarn.toml").settings
    assert [log.id for log in made.event_log] == ["errorID", "fault", "comp"]
    assert made.asset[0].facts == {"age": 18, "model": "model3"}
    assert not {name for name in EventLogConfig.model_fields if f"`{name}`" not in PAGE}


@pytest.mark.parametrize(
    ("right", "wrong", "why"),
    [
        ('["press-1"]', '["press-9"]', "must name an [[asset]], was 'press-9'"),
        ('signal = "error_code"      ', 'signal = "fault"', "no source has press-1/fault"),
        (
            'id = "comp"',
            'id = "errorID"\ncodes = ["error1"]\n[[event_log]]\nid = "comp"',
            "errorID.error1",
        ),
        ("age = 18", "vibration = 18", "press-1/vibration is a signal of a source already"),
    ],
)
def test_a_wrong_event_log_is_told(right: str, wrong: str, why: str, tmp_path: Path) -> None:
    text = example(tmp_path)
    assert right in text
    with pytest.raises(ConfigError) as refused:
        parse(text.replace(right, wrong, 1), tmp_path / "forewarn.toml")
    assert why in str(refused.value)
