"""Owns one open wire: sends requests, hands out what came of them, keeps time.

Knows nothing of signals. No task runs here: bytes arrive by callback, and whoever waits, waits in
`wait`, which may be cancelled at any moment without losing anything.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from gateway.core.clock import Clock
from gateway.core.errors import DataError, LinkError, LinkLost
from gateway.core.source import SourceContext
from gateway.core.tap import Tap
from protocols.modbus.frame import Ascii, Framing, Mbap, Rtu
from protocols.modbus.pdu import Outcome
from protocols.modbus.plan import Request
from protocols.modbus.settings import Settings
from protocols.modbus.wire import Wire, open_wire

RESYNC_S_MAX = 1.0
"""Longest wait for a noisy serial line to fall silent before the next request is sent anyway."""


@dataclass(slots=True)
class Pending:
    """A request under way."""

    request: Request
    sent_ns: int
    deadline_ns: int


@dataclass(frozen=True, slots=True)
class Done:
    """A request that is settled, and how long it took."""

    request: Request
    outcome: Outcome
    took_ns: int


class Link:
    """One open link. `send` while `ready`, then `wait`, then `take`.

    Attributes:
        has_ids: A reply says which request it answers.
    """

    def __init__(self, framing: Framing, clock: Clock, name: str, tap: Tap) -> None:
        self.has_ids = isinstance(framing, Mbap)
        self._framing = framing
        self._clock = clock
        self._name = name
        self._tap = tap
        self._wire: Wire | None = None
        self._pending: dict[int, Pending] = {}
        self._done: list[Done] = []
        self._n = 0
        self._wake: asyncio.Future[None] | None = None
        self._lost: LinkError | None = None
        self._heard_ns = 0
        self._noisy_since_ns = 0

    def __len__(self) -> int:
        return len(self._pending)

    def attach(self, wire: Wire) -> None:
        """The wire is open."""
        self._wire = wire

    def close(self) -> None:
        """Close the wire; whoever waits is told."""
        if self._wire is not None:
            self._wire.close()
            self._wire = None

    def free_at_ns(self, silence_ns: int) -> int:
        """When the line has been silent for so long (monotonic); 0 for no silence at all."""
        if not silence_ns:
            return 0
        free_ns = self._heard_ns + silence_ns
        if self._noisy_since_ns:
            # Garbage for ever must not keep us silent for ever.
            free_ns = min(free_ns, self._noisy_since_ns + round(RESYNC_S_MAX * 1e9))
        return free_ns

    def send(self, request: Request, timeout_ns: int) -> None:
        """Put a request on the wire.

        Raises:
            LinkLost: The wire is gone.
        """
        if self._lost is not None or self._wire is None:
            raise self._lost or LinkLost(f"{self._name}: closed")
        self._n += 1
        now_ns = self._clock.mono_ns()
        self._pending[self._n] = Pending(request, now_ns, now_ns + timeout_ns)
        self._noisy_since_ns = 0
        data = self._framing.ask(self._n, request)
        if self._tap.open:
            self._tap.sent(data)
        try:
            self._wire.send(data)
        except OSError as error:
            self._lost = LinkLost(f"{self._name}: {error}")
            raise self._lost from error

    async def wait(self, until_ns: int) -> None:
        """Return when a request is settled or overdue, or at `until_ns` (monotonic).

        Raises:
            LinkLost: The wire is gone.
        """
        for pending in self._pending.values():
            until_ns = min(until_ns, pending.deadline_ns)
        if not self._done and self._lost is None:
            now_ns = self._clock.mono_ns()
            if now_ns < until_ns:
                loop = asyncio.get_running_loop()
                self._wake = loop.create_future()
                timer = loop.call_later((until_ns - now_ns) / 1e9, self._notify)
                try:
                    await self._wake
                finally:
                    timer.cancel()
                    self._wake = None
        if self._lost is not None and not self._done:
            raise self._lost

    def take(self) -> list[Done]:
        """What was settled since the last call; an overdue request is settled as `timeout`."""
        now_ns = self._clock.mono_ns()
        for n, pending in list(self._pending.items()):
            if now_ns >= pending.deadline_ns:
                self._framing.forget(n)
                del self._pending[n]
                self._done.append(
                    Done(pending.request, Outcome(fault="timeout"), now_ns - pending.sent_ns)
                )
        done, self._done = self._done, []
        return done

    def received(self, data: bytes) -> None:
        """Bytes came off the wire."""
        now_ns = self._clock.mono_ns()
        self._heard_ns = now_ns
        if self._tap.open:
            self._tap.received(data)
        if not self._pending and not self._noisy_since_ns:
            self._noisy_since_ns = now_ns
        try:
            settled = self._framing.feed(data)
        except DataError as error:
            self.lost(LinkLost(f"{self._name}: framing is lost: {error}"))
            return
        for n, outcome in settled:
            pending = self._pending.pop(n, None)
            if pending is not None:
                self._done.append(Done(pending.request, outcome, now_ns - pending.sent_ns))
        if settled:
            self._notify()

    def lost(self, error: LinkError) -> None:
        """The wire ended."""
        if self._lost is None:
            self._lost = error
        self._notify()

    def _notify(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)


def silence_ns(config: Settings, unit_id: int) -> int:
    """Silence that a unit wants before a request; 0 where the framing needs none."""
    own_s = config.tuning(unit_id).interframe_s
    return round((_silence_s(config) if own_s is None else own_s) * 1e9)


def _silence_s(config: Settings) -> float:
    """3.5 characters, 1.75 ms from 19,200 baud on; 0 on a network."""
    if config.target().scheme in ("tcp", "tls", "udp", "ascii", "ascii-over-tcp"):
        return 0.0
    if config.target().scheme == "rtu-over-tcp" or config.baudrate > 19_200:
        return 0.00175
    bits = 1 + config.data_bits + config.stop_bits + (config.parity != "none")
    return 3.5 * bits / config.baudrate


@asynccontextmanager
async def open_link(config: Settings, context: SourceContext) -> AsyncIterator[Link]:
    """Open the link that the configuration names.

    Raises:
        LinkTimeout, LinkLost: It cannot be had now.
        LinkRefused: A certificate, ours or theirs, is not accepted.
        ConfigError: A TLS file cannot be used.
    """
    target = config.target()
    errors = context.meter.errors
    link = Link(
        _framing(target.scheme, errors, context.random.randrange(65536)),
        context.clock,
        config.url,
        context.tap,
    )
    try:
        link.attach(await open_wire(config, link))
        yield link
    finally:
        link.close()


def _framing(scheme: str, errors: Counter[str], first: int) -> Framing:
    if scheme in ("rtu", "rtu-over-tcp"):
        return Rtu(errors)
    if scheme in ("ascii", "ascii-over-tcp"):
        return Ascii(errors)
    return Mbap(errors, datagrams=scheme == "udp", first=first)
