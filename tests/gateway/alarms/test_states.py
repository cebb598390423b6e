"""Every pair of the three tables, against an independent reading of the standards."""

from itertools import product

import pytest

from gateway.alarms.states import (
    COMMANDS,
    DELAY,
    LIFE,
    SHELF,
    Delay,
    Event,
    Life,
    Output,
    Raw,
    Shelf,
    ShelfEvent,
    shown,
)

# OPC UA Part 9 as three booleans, which the table must agree with: (active, acked, latched).
BITS = {
    Life.NORMAL: (False, True, False),
    Life.ACTIVE_UNACKED: (True, False, False),
    Life.ACTIVE_ACKED: (True, True, False),
    Life.RETURNED_UNACKED: (False, False, False),
    Life.LATCHED_UNACKED: (False, False, True),
    Life.LATCHED_ACKED: (False, True, True),
}
STATE = {bits: state for state, bits in BITS.items()}


def part9(state: Life, event: Event) -> tuple[Life, bool, bool]:
    """(next state, is somebody called, is it refused), from the three booleans alone."""
    active, acked, latched = BITS[state]
    if event is Event.ACK:
        return (state, False, True) if acked else (STATE[active, True, latched], False, False)
    if event is Event.CONFIRM:
        return state, False, not acked or state is Life.NORMAL
    if event is Event.RESET:
        return (Life.NORMAL, False, False) if latched and acked else (state, False, True)
    if event is Event.ACTIVE:
        return (state, False, False) if active else (Life.ACTIVE_UNACKED, True, False)
    if event in (Event.WORSE, Event.REALARM):
        if not active or (event is Event.REALARM and not acked):
            return state, False, False
        return Life.ACTIVE_UNACKED, True, False
    if not active:
        return state, False, False
    if event is Event.GONE_LATCHED:
        return STATE[False, acked, True], False, False
    return STATE[False, acked or event is Event.GONE_QUIET, False], False, False


@pytest.mark.parametrize(("state", "event"), list(product(Life, Event)))
def test_every_pair_agrees_with_part_9(state: Life, event: Event) -> None:
    after, called, refused = part9(state, event)
    step = LIFE[state, event]
    assert step.state is after
    assert (Output.ANNOUNCE in step.output) == called
    assert (Output.REFUSE in step.output) == refused


@pytest.mark.parametrize(("state", "event"), list(product(Life, Event)))
def test_outputs_are_consistent(state: Life, event: Event) -> None:
    after, output = LIFE[state, event]
    if after is not state:
        assert Output.RECORD in output, "a change of state that the log never hears of"
    if Output.REFUSE in output:
        assert (after, output) == (state, Output.REFUSE)
        assert event in COMMANDS
    if Output.ANNOUNCE in output:
        assert after is Life.ACTIVE_UNACKED
    assert (Output.BEGIN in output) == (event is Event.ACTIVE and not BITS[state][0])
    ends = state is not Life.NORMAL and (after is Life.NORMAL or Output.BEGIN in output)
    assert (Output.END in output) == ends


def test_tables_are_complete() -> None:
    assert set(LIFE) == set(product(Life, Event))
    assert set(DELAY) == set(product(Delay, Raw))
    assert set(SHELF) == set(product(Shelf, ShelfEvent))


@pytest.mark.parametrize(("delay", "raw"), list(product(Delay, Raw)))
def test_delay_moves_one_way_at_a_time(delay: Delay, raw: Raw) -> None:
    after = DELAY[delay, raw]
    on = {Delay.ON, Delay.FALLING}
    if raw is not Raw.ELAPSED:
        assert (delay in on) == (after in on), "only time may raise or clear"
    if raw is Raw.UNKNOWN:
        assert after in (Delay.ON, Delay.OFF), "no delay runs on while nobody knows"


@pytest.mark.parametrize(("shelf", "event"), list(product(Shelf, ShelfEvent)))
def test_shelf(shelf: Shelf, event: ShelfEvent) -> None:
    after = SHELF[shelf, event]
    if event is ShelfEvent.SHELVE:
        assert after is Shelf.TIMED
    elif event is ShelfEvent.SHELVE_ONCE:
        assert after is Shelf.ONE_SHOT
    elif event is ShelfEvent.UNSHELVE:
        assert after is (None if shelf is Shelf.UNSHELVED else Shelf.UNSHELVED)
    elif event is ShelfEvent.EXPIRED:
        assert after is Shelf.UNSHELVED
    else:
        assert after is (Shelf.TIMED if shelf is Shelf.TIMED else Shelf.UNSHELVED)


def test_the_outermost_cover_gives_the_word() -> None:
    life = Life.ACTIVE_UNACKED
    assert shown(life, Shelf.UNSHELVED, suppressed=False, out_of_service=False) == life
    assert shown(life, Shelf.TIMED, suppressed=False, out_of_service=False) == "shelved"
    assert shown(life, Shelf.TIMED, suppressed=True, out_of_service=False) == "suppressed"
    assert shown(life, Shelf.TIMED, suppressed=True, out_of_service=True) == "out_of_service"
