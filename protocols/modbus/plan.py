"""Which requests read a set of signals with the fewest round trips; planned once, no I/O."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from protocols.modbus.address import Table


@dataclass(frozen=True, slots=True)
class Span:
    """Where one signal (one row of a group) lies."""

    row: int
    unit: int
    table: Table
    start: int
    count: int

    @property
    def end(self) -> int:
        return self.start + self.count


@dataclass(frozen=True, slots=True, eq=False)
class Request:
    """One read of a run of registers or bits.

    Attributes:
        rows: int32[k], the rows that it brings, ordered by address.
        spans: The same rows as spans.
    """

    unit: int
    table: Table
    start: int
    count: int
    rows: NDArray[np.int32]
    spans: tuple[Span, ...]

    @property
    def end(self) -> int:
        return self.start + self.count


@dataclass(frozen=True, slots=True)
class Limits:
    """What one unit allows in one request."""

    registers_max: int
    bits_max: int
    max_gap: int

    def count_max(self, table: Table) -> int:
        return self.bits_max if table.bits else self.registers_max

    def gap_max(self, table: Table) -> int:
        """Unwanted addresses worth reading; sixteen bits weigh as much as one register."""
        return 16 * self.max_gap if table.bits else self.max_gap


def plan(
    spans: Sequence[Span],
    limits: Callable[[int], Limits],
    holes: Collection[tuple[int, Table, int]] = (),
) -> list[Request]:
    """Cover every span with as few requests as the limits allow, by unit, table and address.

    A span longer than a request may be is asked for alone all the same; the unit will say no, and
    that signal only is lost.

    Args:
        spans: What to read; may overlap.
        limits: Of a unit.
        holes: (unit, table, address) that no request may touch except for a span that needs it.
    """
    barred: dict[tuple[int, Table], set[int]] = {}
    for unit, table, address in holes:
        barred.setdefault((unit, table), set()).add(address)
    requests: list[Request] = []
    block: list[Span] = []
    end = 0
    for span in sorted(spans, key=lambda s: (s.unit, s.table.value, s.start, s.end, s.row)):
        if block and not _joins(block[0], end, span, limits(span.unit), barred):
            requests.append(make_request(block))
            block = []
        end = max(end, span.end) if block else span.end
        block.append(span)
    if block:
        requests.append(make_request(block))
    return requests


def _joins(
    first: Span, end: int, span: Span, limits: Limits, barred: dict[tuple[int, Table], set[int]]
) -> bool:
    if (first.unit, first.table) != (span.unit, span.table):
        return False
    if span.start - end > limits.gap_max(span.table):
        return False
    if max(end, span.end) - first.start > limits.count_max(span.table):
        return False
    holes = barred.get((span.unit, span.table))
    return not holes or holes.isdisjoint(range(end, span.start))


def make_request(spans: Sequence[Span]) -> Request:
    """The one request that covers `spans`, which are of one unit and table, ordered by address."""
    first = spans[0]
    return Request(
        unit=first.unit,
        table=first.table,
        start=first.start,
        count=max(span.end for span in spans) - first.start,
        rows=np.array([span.row for span in spans], dtype=np.int32),
        spans=tuple(spans),
    )


def bisect(request: Request, at: int | None = None) -> tuple[Request, Request] | None:
    """Two requests for the parts of one that was refused, or None where it reads one signal.

    The cut is before row `at`, or at the middle one, so that a search takes as many steps as the
    logarithm of the rows.
    """
    n = len(request.spans)
    if n < 2:
        return None
    cut = n // 2 if at is None else at
    return make_request(request.spans[:cut]), make_request(request.spans[cut:])


def decoy(request: Request, n: int) -> Request:
    """A read whose reply cannot be taken for that of `request`, nor for that of the last decoys.

    Its data are not used. It reads less of the same block, so that it is refused no more than the
    block itself, each time (`n`) another length; where the block is too short for that, the sister
    table, whose replies bear another function code. Bits come in bytes, so they differ by eight.
    """
    step = 8 if request.table.bits else 1
    shorter = [request.count - k * step for k in range(1, 8) if request.count > k * step]
    if len(shorter) >= 4:
        return replace(request, count=shorter[n % len(shorter)])
    sister = {
        Table.COIL: Table.DISCRETE,
        Table.DISCRETE: Table.COIL,
        Table.HOLDING: Table.INPUT,
        Table.INPUT: Table.HOLDING,
    }[request.table]
    count = request.count + n % 4 * step
    return replace(request, table=sister, start=min(request.start, 65536 - count), count=count)
