"""What people do to an alarm: acknowledge, shelve, suppress, take out of service, judge."""

from dataclasses import replace

from gateway.alarms.record import Record
from gateway.alarms.states import LIFE, Delay, Event, Life, Output, ShelfEvent
from gateway.alarms.steps import ACTIVE, Steps
from gateway.core.alarm import Command, Verb
from gateway.core.refusal import Refused
from gateway.core.texts import Phrase


def obey(steps: Steps, record: Record, command: Command) -> None:
    """Do what a person asks.

    Raises:
        Refused: It makes no sense now; nothing has changed. The text says why.
    """
    check_episode(record, command)
    match command.verb:
        case Verb.ACK | Verb.CONFIRM | Verb.RESET:
            _act(steps, record, command)
        case Verb.SHELVE | Verb.SHELVE_ONCE | Verb.UNSHELVE:
            _shelve(steps, record, command)
        case Verb.SUPPRESS | Verb.UNSUPPRESS:
            _suppress(steps, record, command)
        case Verb.OUT_OF_SERVICE | Verb.IN_SERVICE:
            _serve(steps, record, command)
        case Verb.FEEDBACK:
            _judge(steps, record, command)
    if command.note:
        record.note = command.note


def check_episode(record: Record, command: Command) -> None:
    """Refuse to act on an episode that is not the one that the person saw."""
    name = f"{command.asset}/{command.alarm}"
    if command.occurrence < 0 or command.occurrence > record.occurrence:
        raise Refused(Phrase("refused.no_episode", alarm=name, n=command.occurrence))
    past = command.occurrence not in (0, record.occurrence)
    if past and command.verb is not Verb.FEEDBACK:
        raise Refused(
            Phrase("refused.over", alarm=name, n=command.occurrence, now=record.occurrence)
        )


def _act(steps: Steps, record: Record, command: Command) -> None:
    event = Event(command.verb)
    if event is Event.RESET and record.life in ACTIVE and not record.reported:
        # Its reporter has not spoken since the start (removed from the configuration): a
        # person may end it, for nobody else will.
        record.delay = Delay.OFF
        steps.step(record, Event.GONE_QUIET, command.who, command.note)
        return
    if Output.REFUSE in LIFE[record.life, event].output:
        name = f"{command.asset}/{command.alarm}"
        raise Refused(Phrase(f"refused.{_WHY_NOT[event, record.life]}", alarm=name))
    if event is Event.ACK:
        record.acked_by = command.who
    elif event is Event.CONFIRM:
        record.confirmed_by = command.who
    steps.step(record, event, command.who, command.note)


def _shelve(steps: Steps, record: Record, command: Command) -> None:
    name = f"{command.asset}/{command.alarm}"
    event = ShelfEvent(command.verb)
    if event is ShelfEvent.SHELVE and not 0 < command.duration_s <= steps.config.shelve_s_max:
        raise Refused(
            Phrase(
                "refused.duration",
                alarm=name,
                most=f"{steps.config.shelve_s_max:g}",
                was=f"{command.duration_s:g}",
            )
        )
    if event is ShelfEvent.SHELVE_ONCE and record.delay is Delay.OFF:
        raise Refused(Phrase("refused.not_active", alarm=name))
    wait_s = command.duration_s if event is ShelfEvent.SHELVE else steps.config.shelve_s_max
    steps.shelve(record, event, command.who, command.note, wait_s)


def _suppress(steps: Steps, record: Record, command: Command) -> None:
    reason = f"user:{command.who}"
    if command.verb is Verb.SUPPRESS:
        record.suppressed_by.add(reason)
    else:
        by_people = {r for r in record.suppressed_by if r.startswith("user:")}
        if not by_people:
            name = f"{command.asset}/{command.alarm}"
            raise Refused(Phrase("refused.not_suppressed", alarm=name))
        record.suppressed_by -= by_people
    steps.note(record, command.verb, command.who, command.note)
    steps.uncovered(record)


def _serve(steps: Steps, record: Record, command: Command) -> None:
    name = f"{command.asset}/{command.alarm}"
    out = command.verb is Verb.OUT_OF_SERVICE
    if out == bool(record.out_of_service_by):
        raise Refused(Phrase("refused.out_of_service" if out else "refused.in_service", alarm=name))
    record.out_of_service_by = command.who if out else ""
    steps.note(record, command.verb, command.who, command.note)
    steps.uncovered(record)


def _judge(steps: Steps, record: Record, command: Command) -> None:
    name = f"{command.asset}/{command.alarm}"
    if command.verdict is None:
        raise Refused(Phrase("refused.no_verdict", alarm=name))
    if record.occurrence == 0:
        raise Refused(Phrase("refused.never_alarmed", alarm=name))
    if command.occurrence in (0, record.occurrence):
        record.verdict = command.verdict
    transition = record.transition(
        f"feedback.{command.verdict}", steps.wall_ns, command.who, command.note
    )
    record.changed_ns = steps.wall_ns
    if command.occurrence:
        transition = replace(transition, occurrence=command.occurrence)
    steps.out.append(transition)


_WHY_NOT = {
    **{(Event.ACK, life): "acked" for life in Life},
    (Event.ACK, Life.NORMAL): "nothing_to_ack",
    **{(Event.CONFIRM, life): "ack_to_confirm" for life in Life},
    (Event.CONFIRM, Life.NORMAL): "nothing_to_confirm",
    **{(Event.RESET, life): "nothing_to_reset" for life in Life},
    (Event.RESET, Life.LATCHED_UNACKED): "ack_to_reset",
}
