"""The words of alarms (OPC UA Part 9, ISA-18.2): a condition reported, a transition recorded."""

from dataclasses import dataclass
from enum import IntEnum, StrEnum

from gateway.core.texts import Phrase


class Priority(IntEnum):
    """How fast an operator must act. ISA-18.2 aims at 80 % low, 15 % medium, 5 % high."""

    LOW = 1
    MEDIUM = 2
    HIGH = 3


class Cause(StrEnum):
    """Which part of the gateway reports the condition."""

    ANOMALY = "anomaly"
    FAILURE = "failure"
    RUL = "rul"
    LIMIT = "limit"
    DATA_QUALITY = "data_quality"
    SYSTEM = "system"


@dataclass(frozen=True, slots=True)
class Contribution:
    """One signal that drives a condition, as its reporter sees it."""

    signal: str
    share: float
    """Part of the score that is due to it, 0 to 1; 1 for a plain limit."""
    text: Phrase
    """Direction, amount and unit: `vibration 7.9 mm/s, high (usually 1.8 to 2.6)`."""


@dataclass(frozen=True, slots=True)
class Driver:
    """The same in the words that an operator reads."""

    signal: str
    share: float
    text: str


@dataclass(frozen=True, slots=True)
class Condition:
    """The present truth of one alarm condition, as its reporter sees it. Not yet an alarm.

    Attributes:
        asset: The machine; "" for the gateway itself.
        alarm: Stable name of the condition within the asset: `anomaly`, `temperature.high_high`,
            `failure.HDF`, `link.press-1`, `log.full`. Asset and alarm together identify it.
        cause: Which part reports.
        active: Whether it holds; None when that cannot be known now (abstained, link down).
        severity: score / limit, or how far past the limit; 1.0 where there is no measure.
        priority: How fast someone must act while it is active.
        text: One sentence: what is wrong, in plain words; None where nothing is.
        drivers: What drives it, strongest first.
        t_ns: UTC ns of the data that says so.
        on_delay_s: Must hold so long before it alarms; None takes the default of its cause.
        off_delay_s: Must be gone so long before it returns; None likewise.
        latched: Stays until reset by a person even if the condition goes away.
    """

    asset: str
    alarm: str
    cause: Cause
    active: bool | None
    t_ns: int
    severity: float = 1.0
    priority: Priority = Priority.MEDIUM
    text: Phrase | None = None
    drivers: tuple[Contribution, ...] = ()
    on_delay_s: float | None = None
    off_delay_s: float | None = None
    latched: bool = False

    @classmethod
    def of_gateway(
        cls,
        alarm: str,
        text: Phrase | None,
        *,
        active: bool,
        t_ns: int,
        priority: Priority = Priority.MEDIUM,
        severity: float = 1.0,
        on_delay_s: float | None = None,
        off_delay_s: float | None = None,
        latched: bool = False,
    ) -> "Condition":
        """What the gateway says of itself, rather than of a machine."""
        return cls(
            asset="",
            alarm=alarm,
            cause=Cause.SYSTEM,
            active=active,
            t_ns=t_ns,
            severity=severity,
            priority=priority,
            text=text,
            on_delay_s=on_delay_s,
            off_delay_s=off_delay_s,
            latched=latched,
        )


@dataclass(frozen=True, slots=True)
class Transition:
    """One recorded change of one alarm: what the log keeps, notifications carry, people audit.

    Attributes:
        asset, alarm, cause, severity, priority: As in the `Condition` behind it.
        text, drivers: The same, in the words that people were told.
        state: Name of the state that it entered (`gateway/alarms/states.py`).
        event: Name of the event that led there.
        occurrence: Counts this alarm's activations; asset, alarm and occurrence name one episode.
        t_ns: UTC ns of the transition.
        active_since_ns: UTC ns when the present episode began; 0 when normal.
        who: The user, or "" for the gateway itself.
        note: What the user wrote.
    """

    asset: str
    alarm: str
    cause: Cause
    state: str
    event: str
    occurrence: int
    t_ns: int
    active_since_ns: int
    severity: float
    priority: Priority
    text: str
    drivers: tuple[Driver, ...] = ()
    who: str = ""
    note: str = ""


class Verb(StrEnum):
    """What a person may do to an alarm."""

    ACK = "ack"
    CONFIRM = "confirm"
    RESET = "reset"
    SHELVE = "shelve"
    SHELVE_ONCE = "shelve_once"
    UNSHELVE = "unshelve"
    SUPPRESS = "suppress"
    UNSUPPRESS = "unsuppress"
    OUT_OF_SERVICE = "out_of_service"
    IN_SERVICE = "in_service"
    FEEDBACK = "feedback"


class Verdict(StrEnum):
    """What an engineer says of an episode afterwards."""

    REAL = "real"
    FALSE = "false"
    KNOWN = "known"


@dataclass(frozen=True, slots=True)
class Command:
    """One action of one person on one alarm. Refused, with a reason, where it makes no sense.

    Attributes:
        verb: What to do.
        asset, alarm: Which alarm.
        who: The user; never "".
        note: Why, in the user's words.
        duration_s: For `SHELVE`, how long.
        verdict: For `FEEDBACK`.
        occurrence: The episode that the person was looking at; 0 means the present one.
    """

    verb: Verb
    asset: str
    alarm: str
    who: str
    note: str = ""
    duration_s: float = 0.0
    verdict: Verdict | None = None
    occurrence: int = 0


@dataclass(frozen=True, slots=True)
class AlarmView:
    """One alarm as it is now, for display.

    Attributes:
        asset, alarm, cause, severity, priority, text, drivers: As last reported.
        state: As in `Transition`: the outermost cover, else the state of its life.
        life: The state below any cover.
        occurrence: Number of the present or last episode.
        active_since_ns: UTC ns when the present episode began; 0 when normal.
        changed_ns: UTC ns of the last transition.
        acked_by: Who acknowledged the present episode; "" while nobody has.
        confirmed_by: Who confirmed that it was dealt with; "" while nobody has.
        shelved_until_ns: UTC ns; 0 when not shelved.
        covered_by: Why nobody is called: a user's name, or the alarm that suppresses it.
        first_out: True for the alarm that came first in its group.
        chattering: True when it came and went too often of late.
        stale: True when it has been active for longer than the configuration calls normal.
        verdict: What an engineer said of the present or last episode.
        known: False when what it rests on cannot be known at present.
        note: The last note that a person wrote.
    """

    asset: str
    alarm: str
    cause: Cause
    state: str
    life: str
    occurrence: int
    active_since_ns: int
    changed_ns: int
    severity: float
    priority: Priority
    text: str
    drivers: tuple[Driver, ...] = ()
    acked_by: str = ""
    confirmed_by: str = ""
    shelved_until_ns: int = 0
    covered_by: str = ""
    first_out: bool = False
    chattering: bool = False
    stale: bool = False
    verdict: Verdict | None = None
    known: bool = True
    note: str = ""


@dataclass(frozen=True, slots=True)
class AlarmGroup:
    """Several alarms, shown as one with a list behind it.

    Attributes:
        flood: More new alarms in one area than anybody can read; else one machine and one cause.
        area: Of the flood; "" where the machines have none, or it is the gateway's own.
        asset, cause: Of the machine and the cause; "" and None for a flood.
        alarms: Those behind it: of a flood in the order in which they came, else by urgency.
    """

    flood: bool
    area: str
    asset: str
    cause: Cause | None
    alarms: tuple[AlarmView, ...]

    @property
    def top(self) -> AlarmView:
        """The most urgent of them."""
        return max(self.alarms, key=lambda v: (v.state == "active_unacked", v.priority))

    @property
    def first(self) -> AlarmView:
        """The one that came first: where to look for the cause."""
        return min(self.alarms, key=lambda v: v.active_since_ns or v.changed_ns)


Shown = AlarmView | AlarmGroup


@dataclass(frozen=True, slots=True)
class AlarmKpis:
    """How well the alarms serve the people who must act on them (ISA-18.2, EEMUA 191).

    Attributes:
        span_s: The time that the figures speak of, s.
        annunciated: Alarms that people were called for.
        per_hour: Mean of those an hour; the target is 6 per operator.
        peak_10min: Most in any 10 minutes; more than 10 is a flood.
        flood_share: Share of the time spent in floods, 0 to 1; the target is below 0.01.
        priorities: Share of low, medium and high; the shape to aim at is 0.80, 0.15, 0.05.
        standing: Active now.
        stale: Of these, active for longer than the configuration calls normal.
        chattering: Alarms that came and went too often in that time, whether or not they stand.
        shelved: Put aside now, by people.
        suppressed: Put aside now, by design or out of service.
        acked_s_median: Median time to acknowledgement, s; NaN where none was acknowledged.
        judged_real, judged_false, judged_known: Episodes that an engineer judged.
        top: The ten that came most often: (asset, alarm, times).
        top_share: Their share of all that people were called for, 0 to 1; above 0.05 a few bad
            actors make the load (the more alarms there are, the better this says so).
        chatterers: Which alarms chattered: (asset, alarm, times).
        stalest: Which have stood for too long, the longest first: (asset, alarm, since UTC ns).
    """

    span_s: float
    annunciated: int
    per_hour: float
    peak_10min: int
    flood_share: float
    priorities: tuple[float, float, float]
    standing: int
    stale: int
    chattering: int
    shelved: int
    suppressed: int
    acked_s_median: float
    judged_real: int
    judged_false: int
    judged_known: int
    top: tuple[tuple[str, str, int], ...]
    top_share: float
    chatterers: tuple[tuple[str, str, int], ...]
    stalest: tuple[tuple[str, str, int], ...]
