"""Runs the channels: reads the log, asks the outbox, delivers, and keeps what was told."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Protocol

import structlog

from gateway.alarms.config import AlarmsConfig
from gateway.alarms.deliver import Receiver, receiver
from gateway.alarms.notify_config import ChannelConfig, MqttConfig, NotifyConfig
from gateway.alarms.outbox import Item, Message, Outbox, Tells
from gateway.core.alarm import Condition, Transition
from gateway.core.clock import Clock
from gateway.core.errors import ConfigError, DataError, LinkError
from gateway.core.refusal import Refused
from gateway.core.texts import Phrase, Texts, english

POLL_S = 1.0
"""How often time is looked at where the log is silent: escalations, quiet hours."""
BACKOFF_S_MIN = 1.0
BACKOFF_S_MAX = 300.0
FAILURES_TOLD = 3
MQTT_AT_ONCE = 100

_events = structlog.get_logger()


class Ledger(Protocol):
    """The durable log as one channel sees it."""

    def load(self) -> bytes | None:
        """What `save` kept last; None for a channel that is new."""
        ...

    def start(self) -> int:
        """For a new channel: begin after the newest transition, and give its number."""
        ...

    def read(self, after: int) -> Sequence[tuple[int, Transition]]:
        """Transitions after that number, oldest first, some of them; empty when there are none."""
        ...

    async def save(self, state: bytes, taken: int) -> None:
        """Keep this, and that everything up to `taken` is dealt with; durable on return."""
        ...

    async def wait(self) -> None:
        """Until there may be something new."""
        ...


@dataclass(frozen=True, slots=True)
class Terms:
    """All that a channel goes by; one whose terms stay the same is left alone.

    Attributes:
        config: Its `[[notify]]` table.
        alarms: What a flood is, and how alarms are suppressed.
        gateway: Who tells, by its id.
        link: Where the alarms are shown; "" where nowhere.
        texts: The language.
        areas: Asset -> the area of the plant that it belongs to.
    """

    config: NotifyConfig
    alarms: AlarmsConfig
    gateway: str
    link: str = ""
    texts: Texts = field(default_factory=english)
    areas: Mapping[str, str] = field(default_factory=dict)


class Channel:
    """One `[[notify]]` table at work."""

    def __init__(
        self,
        terms: Terms,
        ledger: Ledger,
        clock: Clock,
        random: Random,
        report: Callable[[Condition], None],
    ) -> None:
        self.terms = terms
        self.config = config = terms.config
        self.delivered = 0
        self.failures = 0
        """Failed tries since the last success."""
        self._ledger = ledger
        self._clock = clock
        self._random = random
        self._report = report
        self._receiver: Receiver = receiver(config, terms.gateway, terms.link, terms.texts)
        self.outbox = (
            StateBox(config, terms.areas)
            if isinstance(config, MqttConfig)
            else Outbox(config, terms.alarms, terms.areas)
        )
        self._retry_mono_ns = 0
        self._saved = b""
        self._stopping = asyncio.Event()
        self._message: Message | None = None
        """What could not be delivered is tried again as it was, so that its id stays the same."""

    async def run(self) -> None:
        """Tell what is to be told, until stopped or cancelled."""
        self._begin()
        try:
            while not self._stopping.is_set():
                moved = self._take()
                moved |= await self._send()
                state = self.outbox.dump()
                if state != self._saved:
                    await self._ledger.save(state, self.outbox.taken)
                    self._saved = state
                if not moved:
                    try:
                        async with asyncio.timeout(POLL_S):
                            await self._ledger.wait()
                    except TimeoutError:
                        continue
        finally:
            await self._receiver.close()

    def stop(self) -> None:
        """End `run` as soon as what is being delivered is delivered and kept, or has failed."""
        self._stopping.set()

    async def test(self, who: str) -> None:
        """Send a test message now. Raises `Refused` with what the receiver said."""
        message = Message(f"test:{who}:{self._clock.wall_ns()}", Tells.TEST, ())
        try:
            await self._receiver.deliver(message)
        except (LinkError, ConfigError) as error:
            why = Phrase("refused.undelivered", channel=self.config.id, fault=str(error))
            raise Refused(why) from error

    def _begin(self) -> None:
        state = self._ledger.load()
        if state:
            try:
                self.outbox.restore(
                    state, mono_ns=self._clock.mono_ns(), wall_ns=self._clock.wall_ns()
                )
            except DataError as error:
                _events.error("notify.state", channel=self.config.id, error=str(error))
            else:
                return
        self.outbox.taken = self._ledger.start()

    def _take(self) -> bool:
        rows = self._ledger.read(self.outbox.taken)
        mono_ns, wall_ns = self._clock.mono_ns(), self._clock.wall_ns()
        for number, transition in rows:
            # A channel that fails need not be told of its own failure.
            if transition.alarm == f"notify.{self.config.id}":
                self.outbox.taken = max(self.outbox.taken, number)
                continue
            self.outbox.take(number, transition, mono_ns=mono_ns, wall_ns=wall_ns)
        return bool(rows)

    async def _send(self) -> bool:
        mono_ns = self._clock.mono_ns()
        if mono_ns < self._retry_mono_ns:
            return False
        message = self._message
        if message is None or not self.outbox.wants(message):
            message = self.outbox.next(mono_ns=mono_ns, wall_ns=self._clock.wall_ns())
        self._message = message
        if message is None:
            return False
        try:
            await self._receiver.deliver(message)
        except (LinkError, ConfigError) as error:
            self._failed(str(error))
            return False
        self._message = None
        self.outbox.sent(message, mono_ns=self._clock.mono_ns())
        self.delivered += 1
        if self.failures >= FAILURES_TOLD:
            _events.info("notify.recovered", channel=self.config.id)
            self._report(self.condition(""))
        self.failures = 0
        return True

    def _failed(self, error: str) -> None:
        self.failures += 1
        wait_s = min(BACKOFF_S_MIN * 2.0 ** min(self.failures - 1, 16), BACKOFF_S_MAX)
        wait_s *= self._random.uniform(0.5, 1.0)
        self._retry_mono_ns = self._clock.mono_ns() + round(wait_s * 1e9)
        if self.failures == FAILURES_TOLD:
            _events.warning("notify.failing", channel=self.config.id, error=error)
            self._report(self.condition(error))

    def condition(self, error: str) -> Condition:
        """That messages do not arrive, and why; "" for that they do."""
        return Condition.of_gateway(
            f"notify.{self.config.id}",
            Phrase("system.notify", channel=self.config.id, fault=error),
            active=bool(error),
            t_ns=self._clock.wall_ns(),
        )


class StateBox(Outbox):
    """An outbox for a receiver that keeps states: the newest of each alarm, at once, no rules."""

    def __init__(self, config: ChannelConfig, areas: Mapping[str, str]) -> None:
        super().__init__(config, AlarmsConfig(), areas)

    def take(self, number: int, t: Transition, *, mono_ns: int, wall_ns: int) -> None:  # noqa: ARG002
        if number <= self.taken:
            return
        self.taken = number
        if self._concerns(t) and not t.event.startswith("feedback."):
            self._queue = type(self._queue)(i for i in self._queue if i.key != (t.asset, t.alarm))
            self._enqueue(Item(number, Tells.ALARM, t, mono_ns))

    def next(self, *, mono_ns: int, wall_ns: int) -> Message | None:  # noqa: ARG002
        items = list(self._queue)[:MQTT_AT_ONCE]
        return self._bundle(Tells.DIGEST, items, "") if items else None
