"""Text off a line: bytes into records, records into fields. Does no I/O and knows no clock."""

import re
from collections import Counter
from collections.abc import Mapping

from protocols.readings import parse_number
from protocols.serial.formats import TextFormat
from protocols.serial.frames import Prover, Record
from protocols.serial.settings import SerialSignal


class Splitter:
    """Cuts a byte stream at a delimiter, however the bytes are cut. Memory is bounded."""

    def __init__(self, form: TextFormat, errors: Counter[str]) -> None:
        self._delimiter = form.delimiter.encode(form.encoding)
        self._record_bytes_max = form.record_bytes_max
        self._prover = Prover(form.check) if form.check else None
        self._errors = errors
        self._rest = b""
        self._skipping = False

    def feed(self, data: bytes) -> list[Record]:
        """See `Framer.feed`."""
        *pieces, rest = (self._rest + data).split(self._delimiter)
        after = len(rest) + sum(len(piece) + len(self._delimiter) for piece in pieces)
        records = []
        for piece in pieces:
            after -= len(piece) + len(self._delimiter)
            if self._skipping:
                self._skipping = False
            elif self._good(piece):
                records.append(Record(piece, after))
        # The last bytes of `rest` may be the beginning of a delimiter that the cut went through:
        # they count for no record's length, and are kept.
        half = len(self._delimiter) - 1
        if len(rest) - half > self._record_bytes_max:
            if not self._skipping:
                self._errors["overlong"] += 1
                self._skipping = True
            rest = rest[len(rest) - half :]
        self._rest = rest
        return records

    def flush(self) -> list[Record]:
        """See `Framer.flush`. Somebody may be typing: only a delimiter ends a record."""
        return []

    def waits(self) -> bool:
        """See `Framer.waits`."""
        return False

    def discard(self) -> None:
        """See `Framer.discard`."""
        self._rest = b""
        self._skipping = False

    def _good(self, piece: bytes) -> bool:
        if len(piece) > self._record_bytes_max:
            self._errors["overlong"] += 1
            return False
        if self._prover is not None and not self._prover.holds(piece.strip(b"\r\n")):
            self._errors["checksum"] += 1
            return False
        return True


def to_value(text: str, signal: SerialSignal, *, decimal_comma: bool) -> float | None:
    """The value of `text` in the unit of `signal`.

    Returns:
        NaN where the device says that it has none; None where the text is no number.
    """
    if signal.invalid and text.strip() in signal.invalid:
        return float("nan")
    if signal.states:
        state = signal.states.get(text.strip())
        return state if state is not None else signal.states.get("*")
    number = parse_number(text, decimal_comma=decimal_comma)
    return None if number is None else number * signal.scale + signal.add


class TextFields:
    """Takes a record apart into its fields, as text."""

    def __init__(self, form: TextFormat, errors: Counter[str], *, pattern: str = "") -> None:
        self._encoding = form.encoding
        self._pattern = re.compile(pattern or form.pattern)
        self._separator = form.separator
        self._names = form.columns
        self._ends = form.ends()
        self._errors = errors

    def of(self, record: bytes) -> Mapping[str, str | None] | None:
        """The fields by name, None for one that is absent; None where the format does not fit."""
        text = record.decode(self._encoding, errors="replace")
        if self._separator:
            return self._separated(text)
        if self._ends:
            return self._fixed(text)
        match = self._pattern.search(text)
        if match is None:
            self._errors["pattern"] += 1
            return None
        return match.groupdict()

    def _separated(self, text: str) -> Mapping[str, str | None] | None:
        parts = [part.strip() for part in text.split(self._separator)]
        if not self._names:
            return {str(i + 1): part for i, part in enumerate(parts)}
        if len(parts) != len(self._names):
            # Half a record, or two run together: what stands where is not known any more.
            self._errors["columns"] += 1
            return None
        return dict(zip(self._names, parts, strict=True))

    def _fixed(self, text: str) -> Mapping[str, str | None] | None:
        text = text.rstrip()
        if len(text) > self._ends[-1] or len(text) <= (0, *self._ends)[-2]:
            self._errors["columns"] += 1
            return None
        begins = (0, *self._ends)
        parts = [text[a:b].strip() for a, b in zip(begins, self._ends, strict=False)]
        names = self._names or tuple(str(i + 1) for i in range(len(parts)))
        return dict(zip(names, parts, strict=True))
