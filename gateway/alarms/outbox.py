"""What one channel still has to tell, and when: filters, escalation, quiet hours, floods, rates.

No clock, no I/O. Transitions go in with their number in the log, messages come out; what was taken
and what was told survives a restart, so that nobody is told twice of one transition.
"""

import json
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any
from zoneinfo import ZoneInfo

from gateway.alarms.config import AlarmsConfig
from gateway.alarms.metrics import calls_people
from gateway.alarms.notify_config import DAYS, ChannelConfig, HoursConfig
from gateway.alarms.states import Life
from gateway.core.alarm import Cause, Driver, Priority, Transition
from gateway.core.errors import DataError

QUEUE_MAX = 1_000
KEYS_MAX = 20_000
FORMAT = 1
UNCOVERED = frozenset({"unshelve", "shelf_expired", "unsuppress", "in_service", "shelf_returned"})
OVER = frozenset({"gone", "gone_quiet", "gone_latched"})
Key = tuple[str, str]


class Tells(StrEnum):
    """What a message says."""

    ALARM = "alarm"
    CLEAR = "clear"
    ESCALATION = "escalation"
    DIGEST = "digest"
    FLOOD = "flood"
    TEST = "test"


@dataclass(frozen=True, slots=True)
class Item:
    """One thing to tell: a transition and its number in the log."""

    number: int
    tells: Tells
    transition: Transition
    due_mono_ns: int

    @property
    def key(self) -> Key:
        return self.transition.asset, self.transition.alarm


@dataclass(frozen=True, slots=True)
class Message:
    """What is sent at once. `id` is the same however often the same is tried."""

    id: str
    tells: Tells
    items: tuple[Item, ...]
    area: str = ""
    dropped: int = 0


class Outbox:
    """One channel's. `taken` is the number of the last transition that it has seen."""

    def __init__(
        self,
        config: ChannelConfig,
        alarms: AlarmsConfig,
        areas: Mapping[str, str],
    ) -> None:
        self._config = config
        self._alarms = alarms
        self._areas = areas
        self._queue: deque[Item] = deque()
        self._told: dict[Key, int] = {}
        """Alarm -> the episode that this channel told of."""
        self._sent_mono_ns: deque[int] = deque(maxlen=config.rate_max)
        self._new_mono_ns: dict[str, deque[int]] = {}
        self._flood_until_mono_ns: dict[str, int] = {}
        self.taken = 0
        self.dropped = 0
        """Messages that found the queue full."""

    def __len__(self) -> int:
        return len(self._queue)

    def take(self, number: int, t: Transition, *, mono_ns: int, wall_ns: int) -> None:
        """Take the next transition of the log; one that was taken before is passed over."""
        if number <= self.taken:
            return
        self.taken = number
        if not self._concerns(t):
            return
        key = (t.asset, t.alarm)
        told = self._told.get(key) == t.occurrence
        calls = calls_people(t)
        uncovered = t.event in UNCOVERED and t.state == Life.ACTIVE_UNACKED and not told
        if calls or uncovered:
            self._forget(key, {Tells.ESCALATION})
            self._put(number, t, mono_ns, wall_ns)
            area = self._areas.get(t.asset, "")
            times = self._new_mono_ns.setdefault(area, deque(maxlen=self._alarms.flood_count + 1))
            times.append(mono_ns)
        elif t.event in OVER:
            self._over(number, t, mono_ns)
        elif t.event == "ack" or t.state in ("shelved", "suppressed", "out_of_service"):
            # Somebody deals with it: nobody else need be called.
            self._forget(key, {Tells.ESCALATION})
            self._queue = deque(
                i for i in self._queue if i.key != key or not self._held(i, wall_ns)
            )

    def next(self, *, mono_ns: int, wall_ns: int) -> Message | None:
        """What to send now; None when there is nothing. The same until `sent` is called."""
        if self._places(mono_ns) < 1:
            return None
        if self._config.roster and not within(self._config.roster, self._config.timezone, wall_ns):
            # Others are on duty. What is due now is theirs, and is not told later.
            self._queue = deque(i for i in self._queue if i.due_mono_ns > mono_ns)
            return None
        due = [i for i in self._queue if i.due_mono_ns <= mono_ns and not self._held(i, wall_ns)]
        if not due:
            return None
        first = due[0]
        area = self._areas.get(first.transition.asset, "")
        if self._flooded(area, mono_ns):
            if self._flood_until_mono_ns.get(area, 0) > mono_ns:
                due = [i for i in due if self._areas.get(i.transition.asset, "") != area]
                return self._message(due, mono_ns) if due else None
            same = [i for i in due if self._areas.get(i.transition.asset, "") == area]
            return self._bundle(Tells.FLOOD, same, area)
        return self._message(due, mono_ns)

    def wants(self, message: Message) -> bool:
        """Whether all of a message that could not be delivered is still to be told."""
        waiting = {(i.number, i.tells) for i in self._queue}
        return all((i.number, i.tells) in waiting for i in message.items)

    def sent(self, message: Message, *, mono_ns: int) -> None:
        """A message was delivered."""
        numbers = {(i.number, i.tells) for i in message.items}
        self._queue = deque(i for i in self._queue if (i.number, i.tells) not in numbers)
        self._sent_mono_ns.append(mono_ns)
        if message.tells is Tells.FLOOD:
            self._flood_until_mono_ns[message.area] = mono_ns + round(self._alarms.flood_s * 1e9)
        for item in message.items:
            if item.tells is Tells.CLEAR:
                self._told.pop(item.key, None)
            else:
                self._told[item.key] = item.transition.occurrence
        while len(self._told) > KEYS_MAX:
            self._told.pop(next(iter(self._told)))
        self.dropped = 0 if message.dropped else self.dropped

    # What comes in

    def _concerns(self, t: Transition) -> bool:
        config = self._config
        return (
            (not config.areas or self._areas.get(t.asset, "") in config.areas)
            and (not config.assets or t.asset in config.assets)
            and (not config.causes or t.cause in config.causes)
            and t.priority >= config.priority_min
        )

    def _put(self, number: int, t: Transition, mono_ns: int, wall_ns: int) -> None:
        tells = Tells.ESCALATION if self._config.after_s else Tells.ALARM
        wait_ns = round(self._config.after_s * 1e9)
        # What came before a restart has waited already; a stepped clock makes it neither more
        # than the whole wait nor less than none.
        left_ns = min(max(t.t_ns + wait_ns - wall_ns, 0), wait_ns)
        self._enqueue(Item(number, tells, t, mono_ns + left_ns))

    def _over(self, number: int, t: Transition, mono_ns: int) -> None:
        key = (t.asset, t.alarm)
        self._forget(key, {Tells.ESCALATION})
        waiting = any(i.key == key and i.tells is Tells.ALARM for i in self._queue)
        if self._config.all_clear and (waiting or self._told.get(key) == t.occurrence):
            self._enqueue(Item(number, Tells.CLEAR, t, mono_ns))

    def _enqueue(self, item: Item) -> None:
        if len(self._queue) >= QUEUE_MAX:
            self._queue.popleft()
            self.dropped += 1
        self._queue.append(item)

    def _forget(self, key: Key, tells: set[Tells]) -> None:
        self._queue = deque(i for i in self._queue if i.key != key or i.tells not in tells)

    # What goes out

    def _held(self, item: Item, wall_ns: int) -> bool:
        """Whether it must wait for the end of quiet hours."""
        return (
            item.transition.priority < Priority.HIGH
            and bool(self._config.quiet)
            and within(self._config.quiet, self._config.timezone, wall_ns)
        )

    def _places(self, mono_ns: int) -> int:
        """How many messages may be sent now."""
        since_ns = mono_ns - self._config.rate_s * 1e9
        return self._config.rate_max - sum(t > since_ns for t in self._sent_mono_ns)

    def _flooded(self, area: str, mono_ns: int) -> bool:
        times = self._new_mono_ns.get(area, deque[int]())
        span_ns = self._alarms.flood_s * 1e9
        return (
            len(times) > self._alarms.flood_count and mono_ns - times[0] <= span_ns
        ) or self._flood_until_mono_ns.get(area, 0) > mono_ns

    def _message(self, due: Sequence[Item], mono_ns: int) -> Message:
        # The last place before the limit: all that waits goes out together.
        first = due[0]
        together = [i for i in due if i.tells is first.tells and _cause(i) == _cause(first)]
        if self._places(mono_ns) == 1 and len(due) > len(together):
            return self._bundle(Tells.DIGEST, due, "")
        together.sort(key=lambda i: -i.transition.priority)
        return self._bundle(first.tells, together, "")

    def _bundle(self, tells: Tells, items: Sequence[Item], area: str) -> Message:
        numbers = ",".join(f"{i.number}{i.tells[0]}" for i in items[:50])
        name = f"{self._config.id}:{tells}:{numbers}:{len(items)}"
        return Message(name, tells, tuple(items), area, self.dropped)

    # Over a restart

    def dump(self) -> bytes:
        """All that must outlive the process."""
        body = {
            "format": FORMAT,
            "taken": self.taken,
            "dropped": self.dropped,
            "told": [[*key, n] for key, n in self._told.items()],
            "queue": [[i.number, i.tells, _to_row(i.transition)] for i in self._queue],
        }
        return json.dumps(body, separators=(",", ":")).encode()

    def restore(self, data: bytes, *, mono_ns: int, wall_ns: int) -> None:
        """Take up where `dump` left off. Raises DataError where the bytes are not of a dump."""
        try:
            body = json.loads(data)
            if body["format"] != FORMAT:
                raise DataError(f"outbox: format must be {FORMAT}, was {body['format']!r}")
            queue: deque[Item] = deque()
            for number, tells, row in body["queue"]:
                t = _from_row(row)
                wait_ns = round(self._config.after_s * 1e9) if tells == Tells.ESCALATION else 0
                left_ns = min(max(t.t_ns + wait_ns - wall_ns, 0), wait_ns)
                queue.append(Item(int(number), Tells(tells), t, mono_ns + left_ns))
            told = {(str(a), str(b)): int(n) for a, b, n in body["told"]}
            taken, dropped = int(body["taken"]), int(body["dropped"])
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"outbox: cannot be read ({error})") from error
        self._queue, self._told, self.taken, self.dropped = queue, told, taken, dropped


def _cause(item: Item) -> tuple[str, Cause]:
    """What one cause raises in one machine is told at once."""
    return item.transition.asset, item.transition.cause


def within(hours: Sequence[HoursConfig], timezone: str, wall_ns: int) -> bool:
    """Whether a moment lies in any of the spans; one over midnight belongs to the day it began."""
    local = datetime.fromtimestamp(wall_ns / 1e9, UTC).astimezone(ZoneInfo(timezone))
    now, today = local.time(), DAYS[local.weekday()]
    yesterday = DAYS[(local - timedelta(days=1)).weekday()]
    for span in hours:
        if span.start <= span.end:
            if today in span.days and span.start <= now < span.end:
                return True
        elif (today in span.days and now >= span.start) or (
            yesterday in span.days and now < span.end
        ):
            return True
    return False


def _to_row(t: Transition) -> dict[str, Any]:
    return asdict(t)


def _from_row(row: dict[str, Any]) -> Transition:
    t = Transition(**row)
    return replace(
        t,
        cause=Cause(t.cause),
        priority=Priority(t.priority),
        drivers=tuple(Driver(**d) for d in row["drivers"]),
    )
