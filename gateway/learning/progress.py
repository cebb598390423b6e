"""The life of a learned model: one table, and what is remembered of each asset between restarts."""

import json
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum

from gateway.core.errors import DataError
from gateway.core.texts import Phrase


class Stage(StrEnum):
    """Where the learning of one asset stands."""

    COLLECTING = "collecting"
    TRAINING = "training"
    SHADOW = "shadow"
    ACTIVE = "active"
    DRIFTING = "drifting"


class Event(StrEnum):
    """What moves it on."""

    ENOUGH = "enough"
    """The record shows enough of the machine."""
    TRAINED = "trained"
    FAILED = "failed"
    """No bundle came of the training; the reason is remembered."""
    CHECKED = "checked"
    """Fresh healthy data kept the false-alarm promise."""
    BROKEN = "broken"
    """Fresh healthy data broke it: more of the machine must be seen."""
    PROMOTE = "promote"
    """An operator promotes it."""
    DRIFTED = "drifted"
    """The healthy state has moved from the baseline."""
    SETTLED = "settled"
    REBASELINE = "rebaseline"
    """An operator says that the machine is healthy as it now runs: learn anew."""
    ROLL_BACK = "roll_back"
    CORRECTED = "corrected"
    """An engineer calls an alarm false: the same record is learned again, with what it showed."""
    DISCARDED = "discarded"
    """No better model came of a correction: the one that judges stays."""
    LOST = "lost"
    """The file of the bundle that judges is gone or damaged, and so is the one before."""


_GRID = """
           enough   trained failed     checked broken     promote drifted  settled rebaseline roll_back corrected discarded lost
collecting training -       -          -       -          -       -        -       collecting active    -         -         collecting
training   -        shadow  collecting -       -          -       -        -       collecting active    -         active    training
shadow     -        -       -          active  collecting active  -        -       collecting active    -         active    shadow
active     -        -       -          -       -          -       drifting -       collecting active    training  -         collecting
drifting   -        -       -          -       -          -       -        active  collecting active    training  -         collecting
"""  # noqa: E501
"""A dash is an event that makes no sense there: it is refused, and nothing changes."""


def _read(grid: str) -> dict[tuple[Stage, Event], Stage]:
    head, *rows = (line.split() for line in grid.strip().splitlines())
    return {
        (Stage(stage), Event(event)): Stage(cell)
        for stage, *cells in rows
        for event, cell in zip(head, cells, strict=True)
        if cell != "-"
    }


TABLE = _read(_GRID)
"""(stage, event) -> next stage."""


@dataclass(frozen=True, slots=True)
class Progress:
    """What is remembered of one asset's learning.

    Attributes:
        stage: Where it stands.
        since_ns: UTC ns when it came there.
        start_ns, end_ns: UTC ns from and to which data may be learned; `end_ns` 0 means until now.
        share: How far collecting has come, 0 to 1.
        missing: What is not there yet.
        bundle: File of the bundle that judges, relative to the models folder; "" for none.
        candidate: File of the one in shadow; "" for none.
        previous: File of the one before the present; "" for none.
        generation: Counts trainings, names files.
        windows: Windows that the candidate has judged in shadow.
        flagged: Of these, those above its limit, sustained.
        needed_factor: How many times the first time must be recorded before the next training.
        reason: Why it stands where it stands; None where that is plain.
        correcting: What is trained or in shadow comes of a correction, not of a new record.
    """

    stage: Stage = Stage.COLLECTING
    since_ns: int = 0
    start_ns: int = 0
    share: float = 0.0
    missing: tuple[Phrase, ...] = field(default=())
    bundle: str = ""
    candidate: str = ""
    previous: str = ""
    generation: int = 0
    windows: int = 0
    flagged: int = 0
    needed_factor: float = 1.0
    reason: Phrase | None = None
    end_ns: int = 0
    correcting: bool = False

    def step(self, event: Event, now_ns: int, reason: Phrase | None = None) -> "Progress":
        """The next state of the table; the same where the event makes no sense."""
        stage = TABLE.get((self.stage, event))
        if stage is None:
            return self
        moved = replace(self, stage=stage, since_ns=now_ns, reason=reason)
        match event:
            case Event.CHECKED | Event.PROMOTE:
                return replace(
                    moved,
                    bundle=self.candidate,
                    previous=self.bundle,
                    candidate="",
                    missing=(),
                    correcting=False,
                )
            case Event.ENOUGH:
                return replace(moved, end_ns=now_ns)
            case Event.BROKEN | Event.FAILED:
                # What it saw was not enough: it must see half as much again.
                factor = min(16.0, 1.5 * self.needed_factor)
                return replace(moved, candidate="", share=0.0, needed_factor=factor, end_ns=0)
            case Event.REBASELINE:
                return replace(
                    moved,
                    start_ns=now_ns,
                    end_ns=0,
                    share=0.0,
                    candidate="",
                    needed_factor=1.0,
                    missing=(),
                    correcting=False,
                )
            case Event.CORRECTED:
                # Only the record that was healthy before, and what was called false: what else has
                # run since may hold a fault that nobody has seen yet.
                return replace(moved, end_ns=self.end_ns or self.since_ns, correcting=True)
            case Event.DISCARDED:
                return replace(moved, candidate="", missing=(), correcting=False)
            case Event.ROLL_BACK:
                if not self.previous:
                    return self
                return replace(
                    moved,
                    bundle=self.previous,
                    previous=self.bundle,
                    candidate="",
                    correcting=False,
                )
            case Event.LOST:
                return replace(moved, bundle="", previous="", end_ns=0)
            case Event.TRAINED:
                return replace(moved, windows=0, flagged=0, missing=())
        return moved

    def said(self) -> Phrase:
        """One line for people: the stage, and what is missing or why."""
        why = Phrase("lesson.missing", missing=self.missing) if self.missing else self.reason
        detail: Phrase | str = Phrase("lesson.detail", detail=why) if why else ""
        match self.stage:
            case Stage.COLLECTING:
                too = self.reason if self.missing else None
                reason = Phrase("lesson.reason", reason=too) if too else ""
                return Phrase("lesson.collecting", share=self.share, detail=detail, reason=reason)
            case Stage.SHADOW if not detail:
                judged = Phrase("lesson.judged", windows=self.windows, flagged=self.flagged)
                detail = Phrase("lesson.detail", detail=judged)
        return Phrase(f"lesson.{self.stage}", detail=detail)

    def dump(self) -> bytes:
        """As the log keeps it."""
        table = asdict(self) | {
            "missing": [phrase.dump() for phrase in self.missing],
            "reason": self.reason.dump() if self.reason else None,
        }
        return json.dumps(table, ensure_ascii=False).encode()

    @classmethod
    def load(cls, data: bytes) -> "Progress":
        """Read what `dump` wrote.

        Raises:
            DataError: It is not that.
        """
        try:
            table = json.loads(data)
            table["stage"] = Stage(table["stage"])
            table["missing"] = tuple(map(Phrase.load, table["missing"]))
            table["reason"] = Phrase.load(table["reason"]) if table.get("reason") else None
            return cls(**table)
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"learning state: {error}") from error
