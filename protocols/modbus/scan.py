"""Finds out what a Modbus link holds, by reading alone, one slow question at a time."""

import json
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from gateway.core.clock import Clock, sleep_until
from gateway.core.source import SourceContext
from protocols.modbus.address import Table
from protocols.modbus.exceptions import (
    EXCEPTIONS,
    ILLEGAL_ADDRESS,
    ILLEGAL_FUNCTION,
    ILLEGAL_VALUE,
    UNREACHABLE,
)
from protocols.modbus.frame import TOO_FEW, Outcome
from protocols.modbus.link import Link, open_link, silence_ns
from protocols.modbus.plan import Span, make_request
from protocols.modbus.settings import Settings

UNANSWERED_IN_A_ROW_MAX = 3
"""A unit that was found and then so often says nothing about an address is left alone."""
SMALL = 8
"""A refused block of so few addresses is asked one by one rather than halved further."""
ABOUT_ADDRESSES = (ILLEGAL_ADDRESS, ILLEGAL_VALUE)
"""Exceptions that speak of the address or the count; any other speaks of the unit."""
WRITTEN_MAX = 500
"""Signals that a page of TOML to paste may hold."""


@dataclass(frozen=True, slots=True)
class Range:
    """Addresses in a row that can be read, and what they held."""

    table: Table
    start: int
    data: tuple[int, ...]

    @property
    def count(self) -> int:
        return len(self.data)


@dataclass(slots=True)
class Found:
    """One unit that answered."""

    unit: int
    identity: str = ""
    """Its maker, product and revision, where it says them."""
    ranges: list[Range] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """What could not be found out, in words."""


class Probe:
    """Asks one thing at a time, with a pause after each answer.

    Attributes:
        requests: Questions asked so far.
    """

    def __init__(
        self, link: Link, clock: Clock, silence_ns: int, *, timeout_s: float, pause_s: float
    ) -> None:
        self.requests = 0
        self._link = link
        self._clock = clock
        self._timeout_ns = round(timeout_s * 1e9)
        self._pause_ns = round(pause_s * 1e9)
        self._silence_ns = silence_ns
        self._next_ns = 0

    async def ask(self, unit: int, table: Table, start: int, count: int) -> Outcome:
        """What the unit says to one read.

        Raises:
            LinkError: The link is gone.
        """
        await sleep_until(self._clock, max(self._next_ns, self._link.free_at_ns(self._silence_ns)))
        self.requests += 1
        self._link.send(make_request([Span(0, unit, table, start, count)]), self._timeout_ns)
        while not (done := self._link.take()):
            await self._link.wait(self._clock.mono_ns() + self._timeout_ns)
        pause_ns = self._pause_ns
        if done[0].outcome.fault == "timeout" and not self._link.has_ids:
            # A late reply could be taken for the next one's; here there is time to wait for it.
            pause_ns += self._timeout_ns
        self._next_ns = self._clock.mono_ns() + pause_ns
        return done[0].outcome


@asynccontextmanager
async def open_probe(
    config: Settings, context: SourceContext, *, timeout_s: float, pause_s: float
) -> AsyncIterator[Probe]:
    """Open the link of `config` for probing; its signals are not read."""
    async with open_link(config, context) as link:
        silence = silence_ns(config, config.unit_id)
        yield Probe(link, context.clock, silence, timeout_s=timeout_s, pause_s=pause_s)


async def scan(
    probe: Probe,
    units: Iterable[int],
    tables: Sequence[Table],
    addresses: range,
    progress: Callable[[str], object],
    found: list[Found],
    *,
    resolution: int = 1,
) -> None:
    """Fill `found` with each unit that answers and its readable ranges.

    However it ends, by cancellation or a lost link, `found` holds what was found by then, with a
    note of what was not asked.

    Args:
        addresses: First to last, step 1.
        progress: Told what is being asked, in words.
        resolution: A refused block of so few addresses is asked no further, unless what is beside
            it can be read; so smaller islands may be missed. 1 misses none.
    """
    for unit in units:
        progress(f"unit {unit}")
        first = await probe.ask(unit, tables[0], addresses.start, 1)
        if first.fault == "timeout" or first.exception in UNREACHABLE:
            continue
        found.append(Found(unit))
        for table in tables:
            await _Search(probe, found[-1], table, addresses, resolution, progress).run()
        if not found[-1].ranges:
            found[-1].notes.append("answers, but nothing of it can be read")


class _Search:
    """The readable ranges of one table: what is refused is halved, and at last asked singly."""

    def __init__(
        self,
        probe: Probe,
        found: Found,
        table: Table,
        addresses: range,
        resolution: int,
        progress: Callable[[str], object],
    ) -> None:
        size = 2000 if table.bits else 125
        self._probe = probe
        self._found = found
        self._table = table
        self._name = table.name.lower()
        self._resolution = resolution
        self._progress = progress
        self._total = len(addresses)
        self._todo = [
            (start, min(size, addresses.stop - start))
            for start in range(addresses.start, addresses.stop, size)
        ][::-1]
        self._small: list[tuple[int, int]] = []
        """Refused in blocks, and not asked singly so far."""
        self._singly = False
        self._pieces: list[Range] = []
        self._known: set[int] = set()
        self._unanswered = 0

    async def run(self) -> None:
        """Ask until nothing is left; whatever ends it, what was found is kept."""
        why = "ended before"
        try:
            while self._plan():
                start, count = self._todo[-1]
                outcome = None if start in self._known else await self._ask(start, count)
                self._todo.pop()
                if outcome is not None and not self._goes_on(start, count, outcome):
                    break
            else:
                why = "refused in blocks; --resolution 1 asks one by one"
        finally:
            self._found.ranges += _joined(self._pieces)
            if left := _spans([*self._todo, *self._small]):
                self._found.notes.append(f"{self._name}: not asked: {left} ({why})")

    def _plan(self) -> bool:
        """Whether there is something to ask: at last, singly, what was refused in small blocks."""
        if not self._todo and self._small:
            self._singly = True
            ends = {p.start for p in self._pieces} | {p.start + p.count for p in self._pieces}
            chosen = [
                (start, count)
                for start, count in self._small
                if self._resolution == 1 or {start, start + count} & ends
            ]
            self._small = [block for block in self._small if block not in chosen]
            self._todo = [(a, 1) for start, n in chosen for a in range(start, start + n)][::-1]
        return bool(self._todo)

    async def _ask(self, start: int, count: int) -> Outcome:
        done = self._total - sum(n for _, n in (*self._todo, *self._small))
        self._progress(f"unit {self._found.unit}: {self._name}, {done} of {self._total} addresses")
        return await self._probe.ask(self._found.unit, self._table, start, count)

    def _goes_on(self, start: int, count: int, outcome: Outcome) -> bool:
        """Take what came of one block. False where asking on is of no use."""
        if outcome.payload is not None:
            self._unanswered = 0
            values = _numbers(outcome.payload, self._table, count)
            self._pieces.append(Range(self._table, start, values))
            self._known.update(range(start, start + count))
            return True
        if outcome.exception in ABOUT_ADDRESSES or outcome.fault == TOO_FEW:
            self._unanswered = 0
            self._refused(start, count, outcome.exception)
            return True
        if outcome.exception == ILLEGAL_FUNCTION:
            self._todo, self._small = [], []
            self._found.notes.append(f"{self._name}: function not supported")
            return False
        self._small.append((start, count))
        self._unanswered += 1
        if self._unanswered < UNANSWERED_IN_A_ROW_MAX:
            return True
        why = outcome.fault or EXCEPTIONS.get(outcome.exception, f"exception {outcome.exception}")
        self._found.notes.append(f"{self._name}: given up at {start}: {why}")
        return False

    def _refused(self, start: int, count: int, exception: int) -> None:
        """Plan what to ask instead of a block that was refused."""
        small = self._resolution if self._resolution > 1 else SMALL
        if self._singly:
            # A register that is given only together with the next is refused for its count.
            if count == 1 and exception == ILLEGAL_VALUE and not self._table.bits:
                self._todo.append((start, 2))
        elif count > small:
            # Cut at an even place, so that pairs that can be read only together stay together.
            half = count // 2 if count < 4 else count // 4 * 2
            self._todo += [(start + half, count - half), (start, half)]
        else:
            self._small.append((start, count))


def _spans(blocks: Iterable[tuple[int, int]]) -> str:
    """Blocks of addresses as people write them: `0-9, 12`."""
    spans: list[list[int]] = []
    for start, count in sorted(blocks):
        if spans and start <= spans[-1][1] + 1:
            spans[-1][1] = max(spans[-1][1], start + count - 1)
        else:
            spans.append([start, start + count - 1])
    return ", ".join(f"{low}-{high}" if high > low else f"{low}" for low, high in spans)


def _numbers(payload: bytes, table: Table, count: int) -> tuple[int, ...]:
    if table.bits:
        return tuple(payload[i // 8] >> i % 8 & 1 for i in range(count))
    return tuple(int.from_bytes(payload[2 * i : 2 * i + 2], "big") for i in range(count))


def _joined(pieces: Sequence[Range]) -> list[Range]:
    joined: list[Range] = []
    for piece in sorted(pieces, key=lambda p: p.start):
        last = joined[-1] if joined else None
        if last is not None and last.start + last.count == piece.start:
            joined[-1] = Range(last.table, last.start, last.data + piece.data)
        else:
            joined.append(piece)
    return joined


def as_toml(config: Settings, units: Sequence[Found]) -> str:
    """A `[[source]]` to paste: one signal a register or bit, to be named and thinned out."""
    lines = ["[[source]]", 'kind = "modbus"', 'id = "scanned"', f'url = "{config.url}"']
    if config.target().serial:
        lines += [
            f"baudrate = {config.baudrate}",
            f'parity = "{config.parity}"',
            f"stop_bits = {config.stop_bits}",
        ]
    for name in ("tls_ca", "tls_cert", "tls_key"):
        if (path := getattr(config, name)) is not None:
            lines.append(f"{name} = {json.dumps(str(path))}")
    lines.append("signals = [")
    left = WRITTEN_MAX
    for found in units:
        if found.identity:
            lines.append(f"  # unit {found.unit} is: {found.identity}")
        for run in found.ranges:
            name = run.table.name.lower()
            lines.append(
                f"  # unit {found.unit}: {name}:{run.start} to {name}:{run.start + run.count - 1}"
            )
            for i, value in enumerate(run.data[:left]):
                lines.append(
                    f'  {{ asset = "unit-{found.unit}", signal = "{name}_{run.start + i}",'
                    f' unit_id = {found.unit}, address = "{name}:{run.start + i}" }}, # was {value}'
                )
            left -= min(left, run.count)
    lines.append("]")
    if left <= 0:
        lines.insert(0, f"# Only the first {WRITTEN_MAX} addresses are written out as signals.")
    return "\n".join(lines) + "\n"


async def read_registers(probe: Probe, unit: int, table: Table, start: int) -> tuple[bytes, str]:
    """Up to four registers from `start`, as many as the unit gives.

    Returns:
        Their bytes as they came, and "" or why there are none.
    """
    why = ""
    for count in (4, 2, 1):
        if start + count > 65536:
            continue
        outcome = await probe.ask(unit, table, start, count)
        if outcome.payload is not None:
            return outcome.payload, ""
        why = outcome.fault or f"exception {outcome.exception}"
        if outcome.fault == "timeout":
            break
    return b"", why
