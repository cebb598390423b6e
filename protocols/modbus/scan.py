"""Finds out what a Modbus link holds, by reading alone, one slow question at a time."""

import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from gateway.core.clock import Clock, sleep_until
from gateway.core.source import SourceContext
from protocols.modbus.address import Table
from protocols.modbus.exceptions import UNREACHABLE
from protocols.modbus.link import Link, open_link, silence_ns
from protocols.modbus.pdu import Outcome
from protocols.modbus.plan import Span, make_request
from protocols.modbus.search import Questions, Range, Search
from protocols.modbus.settings import Settings

WRITTEN_MAX = 500
"""Signals that a page of TOML to paste may hold."""


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
    """Asks one thing at a time, with a pause after each answer: as long as the answer took.

    So the device is asked for half of its time at most, whatever its speed.

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
        self._pause_ns_min = round(pause_s * 1e9)
        self._silence_ns = silence_ns
        self._next_ns = 0
        self._silent_unit = -1

    async def ask(self, unit: int, table: Table, start: int, count: int) -> Outcome:
        """What the unit says to one read.

        Raises:
            LinkError: The link is gone.
        """
        if unit == self._silent_unit and not self._link.has_ids:
            # Its late reply could be taken for the next one's; here there is time to wait for it.
            self._next_ns += self._timeout_ns
        await sleep_until(self._clock, max(self._next_ns, self._link.free_at_ns(self._silence_ns)))
        self.requests += 1
        asked_ns = self._clock.mono_ns()
        self._link.send(make_request([Span(0, unit, table, start, count)]), self._timeout_ns)
        while not (done := self._link.take()):
            await self._link.wait(self._clock.mono_ns() + self._timeout_ns)
        outcome = done[0].outcome
        now_ns = self._clock.mono_ns()
        silent = outcome.fault == "timeout"
        self._silent_unit = unit if silent else -1
        # Who said nothing did not work, as far as one can tell.
        worked_ns = 0 if silent else now_ns - asked_ns
        self._next_ns = now_ns + max(self._pause_ns_min, worked_ns)
        return outcome


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
    units: Sequence[int],
    tables: Sequence[Table],
    addresses: range,
    progress: Callable[[str, int], object],
    found: list[Found],
    *,
    resolution: int | None = None,
) -> None:
    """Fill `found` with each unit that answers and its readable ranges.

    What tells most is asked first: who is there, then each table in long steps, then what lies
    between in those tables that hold something. However it ends, by cancellation or a lost link,
    `found` holds what was found by then, with a note of what was not asked.

    Args:
        addresses: First to last, step 1.
        progress: Told what is being asked, in words, and about how many questions are to come.
        resolution: See `Search`.
    """
    searches: list[tuple[Found, Table, Search]] = []
    try:
        for i, unit in enumerate(units):
            progress(f"is there a unit {unit}?", len(units) - i)
            first = await probe.ask(unit, tables[0], addresses.start, 1)
            if first.fault != "timeout" and first.exception not in UNREACHABLE:
                found.append(Found(unit))
        searches += [(f, t, Search(t, addresses, resolution)) for f in found for t in tables]
        for questions_of in (Search.look, Search.look_closer):
            for unit_found, table, search in searches:
                questions = questions_of(search)
                outcome = None
                while (question := _next(questions, outcome)) is not None:
                    left = sum(each.left() for _, _, each in searches)
                    progress(f"unit {unit_found.unit}, {table.name.lower()}", left)
                    outcome = await probe.ask(unit_found.unit, table, *question)
    finally:
        for unit_found, _, search in searches:
            unit_found.ranges += search.ranges()
            unit_found.notes += search.notes()
        for unit_found in found:
            if searches and not unit_found.ranges:
                unit_found.notes.append("answers, but nothing of it can be read")


def _next(questions: Questions, outcome: Outcome | None) -> tuple[int, int] | None:
    """The question after this outcome; None where there is none."""
    try:
        return questions.send(outcome)  # type: ignore[arg-type]  # None starts it.
    except StopIteration:
        return None


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
