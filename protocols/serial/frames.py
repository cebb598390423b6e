"""Finds frames in a stream of bytes, and proves them. Does no I/O and knows no clock.

A frame is given from its start bytes up to, not including, its end bytes, its escapes undone.
After noise the search goes on at the byte behind the false start, so that no good frame that
begins inside a bad one is lost. Memory is bounded by twice the longest frame.
"""

import re
from collections import Counter
from typing import NamedTuple, Protocol

from protocols.serial.checks import find
from protocols.serial.formats import BinaryFormat, Check, to_bytes


class Record(NamedTuple):
    """One complete record, and how many bytes of the same feed came after its end."""

    data: bytes
    bytes_after: int


class Framer(Protocol):
    """Cuts a byte stream into records, however the bytes are cut."""

    def feed(self, data: bytes) -> list[Record]:
        """Take bytes; give the records that they complete. What is dropped is counted."""
        ...

    def flush(self) -> list[Record]:
        """The line has paused longer than it may within a frame: what began is noise.

        Gives good records that stood behind a false start which waited for more bytes.
        """
        ...

    def waits(self) -> bool:
        """Whether a record has begun and is not complete."""
        ...

    def discard(self) -> None:
        """Forget a half record, for a new question makes the rest of an old answer worthless."""
        ...


class Prover:
    """Whether a record passes its check."""

    def __init__(self, check: Check) -> None:
        width, self._function = find(check.name)
        self._hex = check.form == "hex"
        self._width = 2 * width if self._hex else width
        self.behind = self._width if check.after_end else 0
        """Bytes of the check that stand behind the frame's end."""
        self._order = check.order
        self._at = -self._width if check.at is None else check.at
        self._from = check.covers_from
        self._to = check.covers_to

    def holds(self, record: bytes) -> bool:
        """True where the check stands in the record and is right."""
        at = self._at if self._at >= 0 else len(record) + self._at
        sent = record[at : at + self._width] if at >= 0 else b""
        if len(sent) != self._width:
            return False
        if self._hex:
            try:
                sent = bytes.fromhex(sent.decode("ascii"))
            except ValueError:
                return False
        covered = record[self._from : at if self._to is None else self._to]
        return self._function(covered) == int.from_bytes(
            sent, "little" if self._order == "little" else "big"
        )


def framer(form: BinaryFormat, errors: Counter[str]) -> Framer:
    """The right way to find frames of this format."""
    return EscapedFramer(form, errors) if form.escape else SizedFramer(form, errors)


class SizedFramer:
    """Frames whose length is fixed or counted."""

    def __init__(self, form: BinaryFormat, errors: Counter[str]) -> None:
        self._start = to_bytes(form.start)
        self._end = to_bytes(form.end)
        self._prover = Prover(form.check) if form.check else None
        self._sizes = _Sizes(form)
        self._errors = errors
        self._rest = b""

    def feed(self, data: bytes) -> list[Record]:
        buffer = self._rest + data
        at = 0
        records = []
        while at < len(buffer):
            begin = buffer.find(self._start, at)
            if begin < 0:
                begin = _half(buffer, self._start, at)
                self._noise(begin - at)
                at = begin
                break
            self._noise(begin - at)
            at = begin
            size = self._sizes.of(buffer, at)
            if size is None or (size > 0 and len(buffer) - at < size):
                break
            frame = self._proved(buffer, at, size)
            if frame is None:
                self._noise(1)
                at += 1
                continue
            at += size
            records.append(Record(frame, len(buffer) - at))
        self._rest = buffer[at:]
        return records

    def flush(self) -> list[Record]:
        records = []
        while self._rest:
            self._noise(1)
            rest, self._rest = self._rest[1:], b""
            records += self.feed(rest)
        return records

    def waits(self) -> bool:
        return bool(self._rest)

    def discard(self) -> None:
        self._rest = b""

    def _proved(self, buffer: bytes, at: int, size: int) -> bytes | None:
        if size == 0:
            self._errors["length"] += 1
            return None
        frame = buffer[at : at + size]
        if self._end:
            if not frame.endswith(self._end):
                self._errors["end"] += 1
                return None
            frame = frame[: -len(self._end)]
        if self._prover is not None and not self._prover.holds(frame):
            self._errors["checksum"] += 1
            return None
        return frame

    def _noise(self, n: int) -> None:
        if n:
            self._errors["noise_bytes"] += n


class EscapedFramer:
    """Frames between start and end bytes, within which an escape byte protects those."""

    def __init__(self, form: BinaryFormat, errors: Counter[str]) -> None:
        self._start = to_bytes(form.start)
        self._end = to_bytes(form.end)
        self._escape = to_bytes(form.escape)
        self._map = _unescapes(form)
        self._prover = Prover(form.check) if form.check else None
        self._behind = self._prover.behind if self._prover else 0
        self._sizes = _Sizes(form)
        self._raw_max = 2 * form.frame_bytes_max
        # At one place the end is tried first, then a new start, then an escape.
        self._marks = re.compile(
            b"(?P<end>%s)|(?P<start>%s)|%s(?P<byte>.)"
            % tuple(re.escape(part) for part in (self._end, self._start, self._escape)),
            re.DOTALL,
        )
        self._errors = errors
        self._rest = b""

    def feed(self, data: bytes) -> list[Record]:
        buffer = self._rest + data
        at = 0
        records = []
        while at < len(buffer):
            begin = buffer.find(self._start, at)
            if begin < 0:
                begin = _half(buffer, self._start, at)
                self._noise(begin - at)
                at = begin
                break
            self._noise(begin - at)
            body, at, whole = self._body(buffer, begin)
            if not whole:
                break
            if body is None:
                continue
            frame = self._start + body
            behind = buffer[at : at + self._behind]
            if self._proved(frame, self._end + behind if self._behind else b""):
                at += self._behind
                records.append(Record(frame, len(buffer) - at))
        self._rest = buffer[at:]
        return records

    def flush(self) -> list[Record]:
        # A new start or the end always shows by itself; one flag may stay for the next frame.
        return []

    def waits(self) -> bool:
        return False

    def discard(self) -> None:
        self._rest = b""

    def _body(self, buffer: bytes, begin: int) -> tuple[bytes | None, int, bool]:
        """What stands between start and end.

        Returns:
            The bytes, None for nothing or a broken frame; where to go on; whether it is decided.
        """
        body = bytearray()
        at = begin + len(self._start)
        for mark in self._marks.finditer(buffer, at):
            body += buffer[at : mark.start()]
            at = mark.end()
            if mark["end"] is not None:
                if len(buffer) - at < self._behind:
                    break  # Its check is not there yet.
                # A flag that both ends and starts may serve the next frame as well.
                go_on = mark.start() if self._end == self._start else at
                return bytes(body) or None, go_on, True
            if mark["start"] is not None:
                self._noise(mark.start() - begin)
                return None, mark.start(), True
            literal = self._map.get(mark["byte"][0])
            if literal is None:
                self._errors["escape"] += 1
                return None, at, True
            body.append(literal)
        if len(buffer) - begin > self._raw_max:
            self._errors["overlong"] += 1
            self._noise(1)
            return None, begin + 1, True
        return None, begin, False

    def _proved(self, frame: bytes, behind: bytes) -> bool:
        # The end was cut off, but lengths are counted with it, as manuals do.
        size = self._sizes.of(frame, 0)
        if self._sizes.given and size != len(frame) + len(self._end):
            self._errors["length"] += 1
            return False
        if self._prover is not None and not self._prover.holds(frame + behind):
            self._errors["checksum"] += 1
            return False
        return True

    def _noise(self, n: int) -> None:
        if n:
            self._errors["noise_bytes"] += n


class _Sizes:
    """How long the frame is that begins somewhere."""

    def __init__(self, form: BinaryFormat) -> None:
        self._fixed = form.length
        self._count = form.count
        self._max = form.frame_bytes_max
        self._min = len(to_bytes(form.start)) + len(to_bytes(form.end)) + 1
        self.given = bool(form.length or form.count)

    def of(self, buffer: bytes, at: int) -> int | None:
        """Bytes from start to end; 0 where the number is absurd; None where it is not there yet."""
        if self._count is None:
            return self._fixed
        width = int(self._count.type[1:]) // 8
        place = at + self._count.offset
        if len(buffer) < place + width:
            return None
        order = self._count.order
        counted = int.from_bytes(buffer[place : place + width], order)
        size = counted * self._count.unit + self._count.adds
        return size if self._min <= size <= self._max else 0


def _half(buffer: bytes, start: bytes, at: int) -> int:
    """Where the longest tail begins that could be the beginning of `start`."""
    for n in range(min(len(start) - 1, len(buffer) - at), 0, -1):
        if buffer.endswith(start[:n]):
            return len(buffer) - n
    return len(buffer)


def _unescapes(form: BinaryFormat) -> dict[int, int]:
    if form.escape_map:
        return {to_bytes(k)[0]: to_bytes(v)[0] for k, v in form.escape_map.items()}
    return {byte: byte ^ form.escape_xor for byte in range(256)}
