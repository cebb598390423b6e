"""From the bytes of a link to batches and waveforms; the whole of decoding, with no I/O."""

import re
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from gateway.core.batch import Batch, Waveform, bad_batch
from gateway.core.signals import SignalTable
from protocols import stamps
from protocols.gather import Gathering
from protocols.readings import parse_number
from protocols.serial.binary import FieldReader, Raw
from protocols.serial.formats import BinaryFormat, TextFormat
from protocols.serial.frames import Framer, Record, framer
from protocols.serial.settings import ReadRequest, SerialSignal, Settings
from protocols.serial.text import Splitter, TextFields, to_value

Fields: TypeAlias = Mapping[str, Raw]
ARRAY_SPACES = re.compile(r"[;,\s]+")
ARRAY_SPACES_DECIMAL_COMMA = re.compile(r"[;\s]+")


@dataclass(frozen=True, slots=True)
class _Wanted:
    signal: SerialSignal
    index: int
    invalid: frozenset[float]


class Records:
    """Understands one source's records, and keeps what was read until it is taken."""

    def __init__(
        self,
        config: Settings,
        signals: SignalTable,
        errors: Counter[str],
        watch: Callable[[bytes, bool], None],
        *,
        since_ns: int = 0,
    ) -> None:
        """Understand `config`'s records; none of them is stamped before `since_ns`."""
        self._config = config
        self._errors = errors
        self._watch = watch
        self._gathering = Gathering()
        self._bursts: deque[Waveform] = deque()
        self._last_ns = since_ns
        self._received_ns = 0
        self._wanted = [
            _Wanted(signal, signals.intern(signal.key()), _numbers(signal.invalid))
            for signal in config.signals
        ]
        self._decimal_comma = config.text is not None and config.text.decimal_comma
        self._framer: Framer
        if config.binary is not None:
            self._framer = framer(config.binary, errors)
        else:
            assert config.text is not None
            self._framer = Splitter(config.text, errors)
        self._takes = [self._take_apart(request) for request in (config.read_request or (None,))]
        bits = 1 + config.data_bits + (config.parity != "none") + config.stop_bits
        self._byte_ns = bits * 1e9 / config.baud_rate

    def feed(self, data: bytes, received_ns: int, request: int = 0) -> int:
        """Understand more bytes, which hold answers to a request where there is one.

        Returns:
            How many records fitted the format.
        """
        self._received_ns = received_ns
        return self._take(self._framer.feed(data), received_ns, request)

    def flush(self, now_ns: int) -> None:
        """The line has paused longer than it may within a frame."""
        self._received_ns = now_ns
        self._take(self._framer.flush(), now_ns, 0)

    def waits(self) -> bool:
        """Whether a record has begun and is not complete."""
        return self._framer.waits()

    def _take(self, records: Sequence[Record], received_ns: int, request: int) -> int:
        floor_ns = self._last_ns if self._last_ns <= received_ns else 0
        understood = 0
        take = self._takes[request]
        for record in records:
            fields = take(record.data)
            self._watch(record.data, fields is not None)
            if fields is None:
                continue
            understood += 1
            # What followed a record on the line took its time: so much older is the record.
            t_ns = max(received_ns - round(record.bytes_after * self._byte_ns), floor_ns + 1)
            floor_ns = self._last_ns = t_ns
            self._read(fields, self._device_ns(fields, t_ns, received_ns))
        return understood

    def pop(self) -> Batch | Waveform | None:
        """What was read, oldest burst first; None when all was taken."""
        if self._gathering:
            return self._gathering.batch(self._config.id, self._received_ns)
        return self._bursts.popleft() if self._bursts else None

    def unanswered(self, request: int, t_ns: int) -> Batch | None:
        """BAD samples of every signal that only this request's answer could have brought."""
        asked = self._config.read_request[request]
        names = set(self._answered_fields(asked))
        numbers = [w.index for w in self._wanted if w.signal.field_name in names]
        if not numbers:
            return None
        return bad_batch(self._config.id, np.array(numbers, dtype=np.int32), t_ns)

    def discard(self) -> None:
        """Forget half a record."""
        self._framer.discard()

    def take_over(self, before: "Records") -> None:
        """Go on after `before`, in the middle of a record where the format stayed as it was."""
        self._last_ns = before._last_ns  # noqa: SLF001 (the same class)
        old, new = before._config, self._config  # noqa: SLF001
        if (old.text, old.binary) == (new.text, new.binary):
            self._framer = before._framer  # noqa: SLF001

    def _answered_fields(self, request: ReadRequest) -> Sequence[str]:
        if request.fields:
            return request.fields
        if self._config.binary is not None:
            return [field.name for field in self._config.binary.fields]
        assert self._config.text is not None
        if self._config.text.separator or self._config.text.widths:
            return [wanted.signal.field_name for wanted in self._wanted]
        return list(re.compile(request.pattern or self._config.text.pattern).groupindex)

    def _take_apart(self, request: ReadRequest | None) -> Callable[[bytes], Fields | None]:
        """How the records that answer this request become fields."""
        only = frozenset(request.fields) if request and request.fields else None
        if self._config.binary is not None:
            return _binary_taker(self._config.binary, only)
        assert self._config.text is not None
        return _text_taker(
            self._config.text, self._errors, request.pattern if request else "", only
        )

    def _device_ns(self, fields: Fields, t_ns: int, now_ns: int) -> int:
        """The record's own time where it has one that can be believed, else the gateway's."""
        own = self._config.time
        if own is None:
            return t_ns
        written = fields.get(own.field)
        stamped = (
            stamps.parse_time(written, own.form, own.zone)
            if isinstance(written, str | float)
            else None
        )
        if stamped is None or not stamps.believable(stamped, now_ns):
            self._errors["clock"] += 1
            return t_ns
        return stamped

    def _read(self, fields: Fields, t_ns: int) -> None:
        for wanted in self._wanted:
            name = wanted.signal.field_name
            if name not in fields:
                continue
            raw = fields[name]
            if wanted.signal.rate_hz:
                self._burst(wanted, raw, t_ns)
                continue
            value = self._value(wanted, raw)
            if value is None:
                self._errors["value"] += 1
                value = float("nan")
            self._gathering.add(wanted.index, t_ns, value)

    def _value(self, wanted: _Wanted, raw: Raw) -> float | None:
        signal = wanted.signal
        if isinstance(raw, str):
            return to_value(raw, signal, decimal_comma=self._decimal_comma)
        if not isinstance(raw, float):
            return None
        if raw in wanted.invalid:
            return float("nan")
        if signal.states:
            state = signal.states.get(f"{raw:g}")
            return state if state is not None else signal.states.get("*")
        value = raw * signal.scale + signal.add
        return value if np.isfinite(value) else None

    def _burst(self, wanted: _Wanted, raw: Raw, t_ns: int) -> None:
        signal = wanted.signal
        values = self._parse_array(raw) if isinstance(raw, str) else raw
        if not isinstance(values, np.ndarray) or not np.isfinite(values).all():
            self._errors["value"] += 1
            return
        # The record came when its last sample was taken, so the first is so much older.
        span_ns = round((len(values) - 1) * 1e9 / signal.rate_hz)
        self._bursts.append(
            Waveform(
                source=self._config.id,
                signal=wanted.index,
                t0_ns=t_ns - span_ns,
                rate_hz=signal.rate_hz,
                value=(values * signal.scale + signal.add).astype(np.float32),
                received_ns=self._received_ns,
            )
        )

    def _parse_array(self, text: str) -> NDArray[np.float64] | None:
        spaces = ARRAY_SPACES_DECIMAL_COMMA if self._decimal_comma else ARRAY_SPACES
        numbers = [
            parse_number(part, decimal_comma=self._decimal_comma)
            for part in spaces.split(text.strip())
        ]
        if any(number is None for number in numbers):
            return None
        return np.array(numbers, dtype=np.float64)


def _text_taker(
    form: TextFormat, errors: Counter[str], pattern: str, only: frozenset[str] | None
) -> Callable[[bytes], Fields | None]:
    fields = TextFields(form, errors, pattern=pattern)

    def take(record: bytes) -> Fields | None:
        found = fields.of(record)
        if found is None:
            return None
        return {
            name: text
            for name, text in found.items()
            if text is not None and (only is None or name in only)
        }

    return take


def _binary_taker(
    form: BinaryFormat, only: frozenset[str] | None
) -> Callable[[bytes], Fields | None]:
    readers = [
        FieldReader(field, form.order)
        for field in form.fields
        if only is None or field.name in only
    ]

    def take(frame: bytes) -> Fields | None:
        found = {}
        for reader in readers:
            present, raw = reader.read(frame)
            if present:
                found[reader.name] = raw
        return found

    return take


def _numbers(texts: Sequence[str]) -> frozenset[float]:
    """The marks that are numbers, as a binary field would hold them."""
    found = set()
    for text in texts:
        try:
            found.add(float(int(text, 0)))
        except ValueError:
            number = parse_number(text, decimal_comma=False)
            if number is not None:
                found.add(number)
    return frozenset(found)
