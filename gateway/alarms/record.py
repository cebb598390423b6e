"""One alarm's memory between two reports, and its form on disk."""

import json
import math
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from gateway.alarms.states import Delay, Life, Shelf, shown
from gateway.core.alarm import AlarmView, Cause, Condition, Driver, Priority, Transition, Verdict
from gateway.core.errors import DataError
from gateway.core.texts import Texts

SEVERITY_MAX = 1e6
TEXT_MAX = 2000
DRIVERS_MAX = 10
FORMAT = 1


@dataclass(slots=True)
class Record:
    """Mutable; owned by one engine. Times named `_mono_ns` never leave this process."""

    asset: str
    alarm: str
    cause: Cause
    priority: Priority = Priority.MEDIUM
    severity: float = 1.0
    text: str = ""
    drivers: tuple[Driver, ...] = ()
    unworded: tuple[Condition, Texts] | None = None
    latched: bool = False
    life: Life = Life.NORMAL
    delay: Delay = Delay.OFF
    shelf: Shelf = Shelf.UNSHELVED
    shelved_by: str = ""
    shelved_until_ns: int = 0
    suppressed_by: set[str] = field(default_factory=set)
    """Reasons; a person's name is written `user:NAME`."""
    out_of_service_by: str = ""
    occurrence: int = 0
    active_since_ns: int = 0
    changed_ns: int = 0
    acked_by: str = ""
    confirmed_by: str = ""
    verdict: Verdict | None = None
    note: str = ""
    known: bool = True
    reported: bool = False
    """Whether any reporter has spoken of it since the process started."""
    announced: bool = False
    announced_severity: float = 0.0
    announced_priority: Priority = Priority.LOW
    delay_due_mono_ns: int = 0
    shelf_due_mono_ns: int = 0
    realarm_due_mono_ns: int = 0
    active_mono_ns: int = 0
    activations_mono_ns: deque[int] = field(default_factory=deque)

    @property
    def key(self) -> tuple[str, str]:
        return self.asset, self.alarm

    @property
    def state(self) -> str:
        """The outermost cover, else the life. Suppression by design leaves normal normal."""
        by_person = any(reason.startswith("user:") for reason in self.suppressed_by)
        return shown(
            self.life,
            self.shelf,
            suppressed=by_person or (bool(self.suppressed_by) and self.life is not Life.NORMAL),
            out_of_service=bool(self.out_of_service_by),
        )

    @property
    def covered(self) -> bool:
        """Whether nobody is to be called."""
        return (
            bool(self.suppressed_by or self.out_of_service_by) or self.shelf is not Shelf.UNSHELVED
        )

    @property
    def idle(self) -> bool:
        """Whether forgetting it would lose nothing but its episode count."""
        return self.life is Life.NORMAL and self.delay is Delay.OFF and not self.covered

    def take(self, condition: Condition, texts: Texts) -> None:
        """Keep what the reporter says of a condition that holds."""
        self.cause = condition.cause
        self.severity = bounded_severity(condition.severity)
        self.priority = condition.priority
        self.unworded = condition, texts

    def word(self) -> None:
        """Put the last report into words: for what is told or shown, not for each report."""
        if self.unworded is None:
            return
        condition, texts = self.unworded
        self.unworded = None
        self.text = texts.say(condition.text)[:TEXT_MAX] if condition.text is not None else ""
        self.drivers = tuple(
            Driver(c.signal, c.share if math.isfinite(c.share) else 0.0, texts.say(c.text))
            for c in condition.drivers[:DRIVERS_MAX]
        )

    def transition(self, event: str, wall_ns: int, who: str, note: str) -> Transition:
        """What the log keeps of the step just made."""
        self.word()
        return Transition(
            asset=self.asset,
            alarm=self.alarm,
            cause=self.cause,
            state=self.state,
            event=event,
            occurrence=self.occurrence,
            t_ns=wall_ns,
            active_since_ns=self.active_since_ns,
            severity=self.severity,
            priority=self.priority,
            text=self.text,
            drivers=self.drivers,
            who=who,
            note=note[:TEXT_MAX],
        )

    def view(self, *, first_out: bool, chattering: bool, stale: bool) -> AlarmView:
        """The alarm for display."""
        self.word()
        covers = [self.out_of_service_by, *sorted(self.suppressed_by), self.shelved_by]
        return AlarmView(
            asset=self.asset,
            alarm=self.alarm,
            cause=self.cause,
            state=self.state,
            life=self.life,
            occurrence=self.occurrence,
            active_since_ns=self.active_since_ns,
            changed_ns=self.changed_ns,
            severity=self.severity,
            priority=self.priority,
            text=self.text,
            drivers=self.drivers,
            acked_by=self.acked_by,
            confirmed_by=self.confirmed_by,
            shelved_until_ns=self.shelved_until_ns,
            covered_by=", ".join(cover.removeprefix("user:") for cover in covers if cover),
            first_out=first_out,
            chattering=chattering,
            stale=stale,
            verdict=self.verdict,
            known=self.known,
            note=self.note,
        )


def bounded_severity(severity: float) -> float:
    """Severity as a finite number, 0 to `SEVERITY_MAX`; one that is not a number counts as 1."""
    return 1.0 if math.isnan(severity) else min(max(severity, 0.0), SEVERITY_MAX)


def dump(records: list[Record]) -> bytes:
    """The records as bytes that `load` takes. Running delays are left out: they start afresh."""
    for record in records:
        record.word()
    rows = [
        {
            "asset": r.asset,
            "alarm": r.alarm,
            "cause": r.cause,
            "priority": int(r.priority),
            "severity": r.severity,
            "text": r.text,
            "drivers": [[d.signal, d.share, d.text] for d in r.drivers],
            "latched": r.latched,
            "life": r.life,
            "shelf": r.shelf,
            "shelved_by": r.shelved_by,
            "shelved_until_ns": r.shelved_until_ns,
            "suppressed_by": sorted(s for s in r.suppressed_by if s.startswith("user:")),
            "out_of_service_by": r.out_of_service_by,
            "occurrence": r.occurrence,
            "active_since_ns": r.active_since_ns,
            "changed_ns": r.changed_ns,
            "acked_by": r.acked_by,
            "confirmed_by": r.confirmed_by,
            "verdict": r.verdict,
            "note": r.note,
            "announced": r.announced,
            "announced_severity": r.announced_severity,
            "announced_priority": int(r.announced_priority),
        }
        for r in records
        if r.occurrence or not r.idle
    ]
    return json.dumps({"format": FORMAT, "alarms": rows}, separators=(",", ":")).encode()


def load(data: bytes) -> list[Record]:
    """The records of a dump.

    Raises:
        DataError: The bytes are not a dump that this version reads.
    """
    try:
        body = json.loads(data)
        if body["format"] != FORMAT:
            raise DataError(f"alarm state: format must be {FORMAT}, was {body['format']!r}")
        return [_record(row) for row in body["alarms"]]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"alarm state: cannot be read ({error})") from error


def _record(row: dict[str, Any]) -> Record:
    life = Life(row["life"])
    active = life in (Life.ACTIVE_UNACKED, Life.ACTIVE_ACKED)
    return Record(
        asset=str(row["asset"]),
        alarm=str(row["alarm"]),
        cause=Cause(row["cause"]),
        priority=Priority(row["priority"]),
        severity=bounded_severity(float(row["severity"])),
        text=str(row["text"]),
        drivers=tuple(Driver(str(s), float(share), str(t)) for s, share, t in row["drivers"]),
        latched=bool(row["latched"]),
        life=life,
        delay=Delay.ON if active else Delay.OFF,
        shelf=Shelf(row["shelf"]),
        shelved_by=str(row["shelved_by"]),
        shelved_until_ns=int(row["shelved_until_ns"]),
        suppressed_by={str(s) for s in row["suppressed_by"]},
        out_of_service_by=str(row["out_of_service_by"]),
        occurrence=int(row["occurrence"]),
        active_since_ns=int(row["active_since_ns"]),
        changed_ns=int(row["changed_ns"]),
        acked_by=str(row["acked_by"]),
        confirmed_by=str(row["confirmed_by"]),
        verdict=Verdict(row["verdict"]) if row["verdict"] else None,
        note=str(row["note"]),
        known=False,
        announced=bool(row["announced"]),
        announced_severity=float(row["announced_severity"]),
        announced_priority=Priority(row["announced_priority"]),
    )
