"""Text off a line: bytes into records, records into numbers. Does no I/O and knows no clock."""

import re
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from protocols.serial.config import SerialSignal, TextFormat

NUMBER = re.compile(r"\s*([+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?)\s*", re.ASCII)
"""A number as instruments print it: no underscore, no "nan", no "inf", no foreign digit."""


class Record(NamedTuple):
    """One complete record, and how many bytes of the same feed came after its end."""

    data: bytes
    bytes_after: int


class Splitter:
    """Cuts a byte stream at a delimiter, however the bytes are cut. Memory is bounded."""

    def __init__(self, delimiter: bytes, *, record_bytes_max: int, errors: Counter[str]) -> None:
        self._delimiter = delimiter
        self._record_bytes_max = record_bytes_max
        self._errors = errors
        self._rest = b""
        self._skipping = False

    def feed(self, data: bytes) -> list[Record]:
        """Take bytes; give the records that they complete. Overlong ones are counted instead."""
        *pieces, rest = (self._rest + data).split(self._delimiter)
        after = len(rest) + sum(len(piece) + len(self._delimiter) for piece in pieces)
        records = []
        for piece in pieces:
            after -= len(piece) + len(self._delimiter)
            if self._skipping:
                self._skipping = False
            elif len(piece) > self._record_bytes_max:
                self._errors["overlong"] += 1
            else:
                records.append(Record(piece, after))
        if len(rest) > self._record_bytes_max:
            if not self._skipping:
                self._errors["overlong"] += 1
                self._skipping = True
            # Kept: what may be the beginning of a delimiter that the cut went through.
            rest = rest[len(rest) - (len(self._delimiter) - 1) :]
        self._rest = rest
        return records

    def discard(self) -> None:
        """Forget a half record, for a new question makes the rest of an old answer worthless."""
        self._rest = b""
        self._skipping = False


def to_number(text: str, signal: SerialSignal, *, decimal_comma: bool) -> float | None:
    """The value of `text` in the unit of `signal`.

    Returns:
        NaN where the device says that it has none; None where the text is no number.
    """
    if signal.states:
        state = signal.states.get(text.strip())
        return state if state is not None else signal.states.get("*")
    if signal.invalid and text.strip() in signal.invalid:
        return float("nan")
    match = NUMBER.fullmatch(text.replace(",", ".") if decimal_comma else text)
    if match is None:
        return None
    return float(match[1]) * signal.scale + signal.add


class TextReader:
    """Reads the signals of one format out of records."""

    def __init__(
        self, form: TextFormat, signals: Sequence[SerialSignal], errors: Counter[str]
    ) -> None:
        self._form = form
        self._pattern = re.compile(form.pattern)
        self._errors = errors
        self._wanted = [(i, signal, signal.field_name) for i, signal in enumerate(signals)]

    def read(self, data: bytes) -> list[tuple[int, float]] | None:
        """The values in one record.

        Returns:
            Pairs of index into `signals` and value, NaN where the field holds no number; fields
            that the record lacks are left out. None where the record does not fit the format.
        """
        text = data.decode(self._form.encoding, errors="replace")
        match = self._pattern.search(text)
        if match is None:
            self._errors["pattern"] += 1
            return None
        values = []
        for i, signal, name in self._wanted:
            field = match[name]
            if field is None:
                continue
            value = to_number(field, signal, decimal_comma=self._form.decimal_comma)
            if value is None:
                self._errors["value"] += 1
                value = float("nan")
            values.append((i, value))
        return values
