"""Keeps what the broker sent until it is read, and tells the broker what we have."""

import asyncio
import contextlib
from collections import Counter, deque
from collections.abc import Callable

from paho.mqtt.client import MQTTMessage

from gateway.core.source import Logged

UNTOLD_MAX = 10
"""Half of what mosquitto sends before it waits for an acknowledgement; all that RabbitMQ does."""
TELL_S_MAX = 0.2
"""Longest time for which messages gather before the log is asked to be quick about them."""
SLOW_S = 5.0
"""A log that takes longer is not waited for: mosquitto keeps 1,000 messages, and loses the next."""
CLOSE_S_MAX = 1.0


class Inbox:
    """Bounded; when full the oldest goes, counted.

    A broker that keeps messages for us learns that we have one when it is on the disk: what a
    killed gateway had in memory is sent again. It sends only so many before it waits, so the log
    is asked to commit as soon as `UNTOLD_MAX` wait.

    Another, and each while the log is slow, learns it once whoever reads has passed the message
    on. Few may wait for that, or the broker would send no more, and would lose uncounted what we
    can hold.

    Attributes:
        messages: Not yet taken.
        acknowledge: Tells the broker that we have a message.
    """

    def __init__(self, messages_max: int, errors: Counter[str], *, kept: bool) -> None:
        """With `kept` the broker keeps messages for us."""
        self.messages: deque[MQTTMessage] = deque()
        self.changed = asyncio.Event()
        self.acknowledge: Callable[[MQTTMessage], object] = lambda _message: None
        self._untold: deque[MQTTMessage] = deque()
        self._some, self._many = asyncio.Event(), asyncio.Event()
        self._messages_max = messages_max
        self._errors = errors
        self._kept = kept
        self._early = not kept

    def put(self, message: MQTTMessage) -> None:
        """Take what the broker sent."""
        if len(self.messages) >= self._messages_max:
            self.messages.popleft()
            self._errors["dropped"] += 1
        self.messages.append(message)
        self._untold.append(message)
        if self._early:
            self._tell(len(self._untold) - UNTOLD_MAX)
        self.changed.set()

    def passed_on(self) -> None:
        """Whatever was taken has been passed on."""
        n = self._passed()
        if self._early:
            self._tell(n)
        elif n > 0:
            self._some.set()
            if n >= UNTOLD_MAX:
                self._many.set()

    async def tell(self, logged: Logged) -> None:
        """Tell the broker, again and again, what is on the disk. Runs for ever."""
        while True:
            await self._some.wait()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TELL_S_MAX):
                    await self._many.wait()
            try:
                async with asyncio.timeout(SLOW_S):
                    await self._settle(logged)
            except TimeoutError:
                self._early = True
                self._tell(self._passed())
                await logged.settled()
                self._early = not self._kept

    async def close(self, logged: Logged) -> None:
        """Tell the broker what was passed on and no more, on a link that is up."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_S_MAX):
                await self._settle(logged)

    def shut(self) -> None:
        """Tell no more, and count what the broker believes that we have and nobody took."""
        self.acknowledge = lambda _message: None
        if (lost := len(self.messages) - len(self._untold)) > 0:
            self._errors["dropped"] += lost

    async def _settle(self, logged: Logged) -> None:
        self._some.clear()
        self._many.clear()
        if (n := self._passed()) > 0:
            await logged.settled()
            self._tell(n)

    def _passed(self) -> int:
        return len(self._untold) - len(self.messages)

    def _tell(self, n: int) -> None:
        for _ in range(n):
            self.acknowledge(self._untold.popleft())
