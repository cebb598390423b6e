"""What to ask next to find what one table of a unit gives: the search alone, with no I/O.

Long blocks come first: one answer settles 125 registers. Of a block that is refused no more is
known than that not all of it exists. So single addresses follow, far apart at first, and what
answers is grown to its edges.
"""

from collections.abc import Generator, Iterable
from dataclasses import dataclass
from typing import TypeAlias

from protocols.modbus.address import Table
from protocols.modbus.exceptions import EXCEPTIONS, ILLEGAL_ADDRESS, ILLEGAL_FUNCTION, ILLEGAL_VALUE
from protocols.modbus.pdu import TOO_FEW, Outcome

STRIDE = 4
"""Of single questions in any table: no island of so many addresses lies between two of them."""
STRIDE_CLOSER = 2
"""In a table that holds anything; most machines have values of two registers."""
NEAR = 125
"""So many addresses are looked at together; where they hold anything, each one is asked."""
UNANSWERED_IN_A_ROW_MAX = 3
"""A unit that was found and then so often says nothing about an address is left alone."""
ABOUT_ADDRESSES = (ILLEGAL_ADDRESS, ILLEGAL_VALUE)
"""Exceptions that speak of the address or the count; any other speaks of the unit."""
SPANS_MAX = 6
"""Spans that a note names; of more it says how many addresses they hold."""

Questions: TypeAlias = Generator[tuple[int, int], Outcome, None]
"""Gives first address and count of each question, and is sent what came of it."""
Answer: TypeAlias = Generator[tuple[int, int], Outcome, bool]


@dataclass(frozen=True, slots=True)
class Range:
    """Addresses in a row that can be read, and what they held."""

    table: Table
    start: int
    data: tuple[int, ...]

    @property
    def count(self) -> int:
        return len(self.data)


class Search:
    """The readable ranges of one table.

    Args:
        addresses: First to last, step 1.
        resolution: Islands of fewer addresses may be missed; 1 misses none. None: `STRIDE`, but
            `STRIDE_CLOSER` in a table that holds anything, and 1 near what it holds.
    """

    def __init__(self, table: Table, addresses: range, resolution: int | None) -> None:
        self._table = table
        self._name = table.name.lower()
        self._addresses = addresses
        self._block = 2000 if table.bits else 125
        self._grain = 1
        """2 where registers are given in pairs only."""
        self._strides = [resolution or STRIDE]
        while 2 * self._strides[0] <= STRIDE:
            self._strides.insert(0, 2 * self._strides[0])
        self._closes_in = resolution is None
        self._closer = [STRIDE_CLOSER, 1] if self._closes_in else []
        self._stride = 0
        """How far apart single questions were at last."""
        self._value: dict[int, int] = {}
        self._near: set[int] = set()
        """Which `NEAR` addresses hold anything, counted from the first."""
        self._refused: set[int] = set()
        """Asked singly, in vain: not to be asked again."""
        self._unclear: set[int] = set()
        """Asked, but what came says nothing of the address."""
        self._exception = 0
        self._unanswered = 0
        self._unsupported = False
        self._over = False
        self._notes: list[str] = []

    def look(self) -> Questions:
        """All blocks, then single addresses as close as they are wanted in any table."""
        for start in range(self._addresses.start, self._addresses.stop, self._block):
            yield from self._read(start, min(self._block, self._addresses.stop - start))
            if self._over:
                return
        yield from self._step(self._strides)

    def look_closer(self) -> Questions:
        """What is wanted only of a table that holds anything."""
        if self._value and not self._over:
            yield from self._step(self._closer)

    def left(self) -> int:
        """About how many questions are to come, if what is not known yet is refused."""
        closer = self._closes_in and bool(self._value)
        if self._over or not (self._strides or (closer and self._closer)):
            return 0
        missing = len(self._addresses) - len(self._value)
        if not closer:
            return max(0, missing // self._strides[-1] - len(self._refused))
        near = min(NEAR * len(self._near), len(self._addresses)) - len(self._value)
        return max(0, missing // STRIDE_CLOSER + near // STRIDE_CLOSER - len(self._refused))

    def ranges(self) -> list[Range]:
        """What can be read, as far as it is known."""
        found = []
        for low, high in _runs(self._value):
            data = tuple(self._value[address] for address in range(low, high + 1))
            found.append(Range(self._table, low, data))
        return found

    def notes(self) -> list[str]:
        """What could not be found out, in words."""
        sure = self._value.keys() | (self._refused - self._unclear)
        left = set(self._addresses) - sure
        if self._unsupported or not left:
            return self._notes
        if self._strides or (self._value and self._closer):
            why = "ended before"
        elif left <= self._unclear:
            why = "no answer"
        else:
            island = "a lone one" if self._stride == 2 else f"fewer than {self._stride} in a row"
            why = f"{island} may be there; --resolution 1 asks each"
        runs = [f"{low}-{high}" if high > low else f"{low}" for low, high in _runs(left)]
        if len(runs) > SPANS_MAX:
            runs = [f"{len(left)} of {len(self._addresses)} addresses"]
        return [*self._notes, f"{self._name}: not asked: {', '.join(runs)} ({why})"]

    def _step(self, strides: list[int]) -> Questions:
        """Ask singly what is not known, at each of these distances; each is taken out once done."""
        while strides:
            near = strides is self._closer and strides[0] == 1
            for address in self._addresses[:: strides[0]]:
                if address in self._value or address in self._refused:
                    continue
                if near and self._place(address) not in self._near:
                    continue
                yield from self._single(address)
                if self._over:
                    return
            stride = strides.pop(0)
            if not near:
                self._stride = stride

    def _place(self, address: int) -> int:
        return (address - self._addresses.start) // NEAR

    def _single(self, address: int) -> Questions:
        """Ask for one address, and grow what it is part of."""
        found = yield from self._read(address, self._grain)
        if not found and self._exception == ILLEGAL_VALUE and not self._table.bits:
            # It may be a register that is given only together with the next, or the one before.
            for start in (address, address + 1):
                if not found and start + 2 <= self._addresses.stop:
                    address = start
                    found = yield from self._read(address, 2)
            if found:
                self._grain = 2
        if found:
            yield from self._grow(address + self._grain, 1)
            yield from self._grow(address - 1, -1)

    def _grow(self, at: int, step: int) -> Questions:
        """Read on from what can be read, in blocks that double, and then halve up to the edge."""
        count, doubles = self._grain, True
        while (room := self._room(at, step, count)) and not self._over:
            start = at if step > 0 else at - room + 1
            if (yield from self._read(start, room)):
                at += step * room
                doubles = doubles or room == self._grain
                count = min(2 * count, self._block) if doubles else max(count // 2, self._grain)
            elif room > self._grain:
                count, doubles = max(room // 2 // self._grain * self._grain, self._grain), False
            else:
                return

    def _room(self, at: int, step: int, most: int) -> int:
        """How many addresses from `at` on may be asked for together; a multiple of the grain."""
        room = 0
        while room < most and at in self._addresses and at not in self._value:
            if self._grain == 1 and at in self._refused:
                break
            room, at = room + 1, at + step
        return room // self._grain * self._grain

    def _read(self, start: int, count: int) -> Answer:
        """Ask, and take in what came of it. Whether these can be read."""
        outcome = yield start, count
        self._exception = outcome.exception
        if outcome.payload is not None:
            self._unanswered = 0
            values = _numbers(outcome.payload, self._table, count)
            self._value.update(zip(range(start, start + count), values, strict=True))
            self._near.update(map(self._place, range(start, start + count)))
            return True
        if count <= self._grain:
            self._refused.add(start)
        if outcome.exception == ILLEGAL_FUNCTION:
            self._unsupported = self._over = True
            self._notes.append(f"{self._name}: function not supported")
        elif outcome.exception in ABOUT_ADDRESSES or outcome.fault == TOO_FEW:
            self._unanswered = 0
        else:
            self._unclear.update(range(start, start + count))
            self._unanswered += 1
            if self._unanswered == UNANSWERED_IN_A_ROW_MAX:
                self._over = True
                code = outcome.exception
                why = outcome.fault or EXCEPTIONS.get(code, f"exception {code}")
                self._notes.append(f"{self._name}: given up at {start}: {why}")
        return False


def _runs(addresses: Iterable[int]) -> list[tuple[int, int]]:
    """First and last of each run of addresses in a row."""
    runs: list[tuple[int, int]] = []
    for address in sorted(addresses):
        if runs and address == runs[-1][1] + 1:
            runs[-1] = (runs[-1][0], address)
        else:
            runs.append((address, address))
    return runs


def _numbers(payload: bytes, table: Table, count: int) -> tuple[int, ...]:
    if table.bits:
        return tuple(payload[i // 8] >> i % 8 & 1 for i in range(count))
    return tuple(int.from_bytes(payload[2 * i : 2 * i + 2], "big") for i in range(count))
