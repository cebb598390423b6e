"""Finds out what a Modbus link holds, by reading alone, one slow question at a time."""

from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from gateway.core.clock import Clock, sleep_until
from gateway.core.source import SourceContext
from protocols.modbus.address import Table
from protocols.modbus.config import Config
from protocols.modbus.frame import Outcome
from protocols.modbus.link import Link, open_link
from protocols.modbus.plan import Span, make_request
from protocols.modbus.session import UNREACHABLE

TIMEOUTS_IN_A_ROW_MAX = 3
"""A unit that was found and then falls silent so often is left alone."""


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
    ranges: list[Range] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """What could not be found out, in words."""


class Probe:
    """Asks one thing at a time, with a pause after each answer.

    Attributes:
        requests: Questions asked so far.
    """

    def __init__(self, link: Link, clock: Clock, *, timeout_s: float, pause_s: float) -> None:
        self.requests = 0
        self._link = link
        self._clock = clock
        self._timeout_ns = round(timeout_s * 1e9)
        self._pause_ns = round(pause_s * 1e9)
        self._next_ns = 0

    async def ask(self, unit: int, table: Table, start: int, count: int) -> Outcome:
        """What the unit says to one read.

        Raises:
            LinkError: The link is gone.
        """
        await sleep_until(self._clock, max(self._next_ns, self._link.free_at_ns()))
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
    config: Config, context: SourceContext, *, timeout_s: float, pause_s: float
) -> AsyncIterator[Probe]:
    """Open the link of `config` for probing; its signals are not read."""
    async with open_link(config, context) as link:
        yield Probe(link, context.clock, timeout_s=timeout_s, pause_s=pause_s)


async def scan(
    probe: Probe,
    units: Iterable[int],
    tables: Sequence[Table],
    addresses: range,
    progress: Callable[[str], object],
    *,
    resolution: int = 4,
) -> AsyncIterator[Found]:
    """Give each unit that answers, with its readable ranges.

    Args:
        addresses: First to last, step 1.
        progress: Told what is being asked, in words.
        resolution: A refused block of so few addresses is not halved, unless what is beside it can
            be read; so smaller islands may be missed. 1 misses none, and asks twice as often.
    """
    for unit in units:
        progress(f"unit {unit}")
        first = await probe.ask(unit, tables[0], addresses.start, 1)
        if first.fault == "timeout" or first.exception in UNREACHABLE:
            continue
        found = Found(unit)
        for table in tables:
            progress(f"unit {unit}: {table.name.lower()}")
            found.ranges += await _ranges(probe, found, table, addresses, resolution)
        if not found.ranges:
            found.notes.append("answers, but nothing of it can be read")
        yield found


async def _ranges(
    probe: Probe, found: Found, table: Table, addresses: range, resolution: int
) -> list[Range]:
    """Readable ranges of one table, by halving every block that is refused."""
    size = 2000 if table.bits else 125
    name = table.name.lower()
    todo = [
        (start, min(size, addresses.stop - start))
        for start in range(addresses.start, addresses.stop, size)
    ][::-1]
    pieces: list[Range] = []
    small: list[tuple[int, int]] = []
    silent = 0
    while todo or small:
        if not todo:
            # Last, the edges of what can be read, one by one.
            ends = {p.start for p in pieces} | {p.start + p.count for p in pieces}
            todo = [(a, 1) for s, n in small if {s, s + n} & ends for a in range(s, s + n)][::-1]
            small = []
            continue
        start, count = todo.pop()
        outcome = await probe.ask(found.unit, table, start, count)
        if outcome.payload is not None:
            silent = 0
            pieces.append(Range(table, start, _numbers(outcome.payload, table, count)))
            continue
        if outcome.exception == 1:
            found.notes.append(f"{name}: function not supported")
            break
        if outcome.fault:
            silent += 1
            if silent >= TIMEOUTS_IN_A_ROW_MAX:
                found.notes.append(f"{name}: given up at {start} ({outcome.fault})")
                break
        if 1 < count <= resolution:
            small.append((start, count))
        elif count > 1:
            # Cut at an even place, so that pairs that can be read only together stay together.
            half = count // 2 if count < 4 else count // 4 * 2
            todo += [(start + half, count - half), (start, half)]
    return _joined(pieces)


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


def as_toml(config: Config, units: Sequence[Found], *, signals_max: int = 500) -> str:
    """A `[[source]]` to paste: one signal a register or bit, to be named and thinned out."""
    lines = ["[[source]]", 'kind = "modbus"', 'id = "scanned"', f'url = "{config.url}"']
    if config.target().serial:
        lines += [
            f"baudrate = {config.baudrate}",
            f'parity = "{config.parity}"',
            f"stop_bits = {config.stop_bits}",
        ]
    lines.append("signals = [")
    left = signals_max
    for found in units:
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
        lines.insert(0, f"# Only the first {signals_max} addresses are written out as signals.")
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
