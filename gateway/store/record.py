"""What the log keeps: kinds of record, and how each becomes bytes and comes back. Pure."""

import json
import struct
import zlib
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, TypeAlias

import numpy as np

from gateway.core.alarm import Cause, Driver, Priority, Transition
from gateway.core.assessment import Abstained, Assessments, ModelKind
from gateway.core.batch import Batch, Waveform
from gateway.core.errors import DataError
from gateway.store.blocks import Columns, cut, decode, decode_waveform, encode_waveform

RECORD_BYTES_MAX = 256 * 1024 * 1024


class Kind(StrEnum):
    """Kinds of record; each has a table, a sequence and bounds of its own."""

    SAMPLES = "samples"
    WAVEFORM = "waveform"
    HEALTH = "health"
    ASSESSMENT = "assessment"
    SUMMARY = "summary"
    TRANSITION = "transition"


DROP_ORDER = (
    Kind.WAVEFORM,
    Kind.SAMPLES,
    Kind.HEALTH,
    Kind.ASSESSMENT,
    Kind.SUMMARY,
    Kind.TRANSITION,
)
"""Who goes first when there is no room: raw data, then what was made of it, alarms last."""


@dataclass(frozen=True, slots=True)
class Packed:
    """A record that another part of the gateway encodes: a summary, a health measurement."""

    kind: Kind
    t_ns: int
    payload: bytes


Item: TypeAlias = Batch | Waveform | Assessments | Transition | Packed
"""What may be appended."""


def kind_of(item: Item) -> Kind:
    """Which kind the item is kept as."""
    match item:
        case Batch():
            return Kind.SAMPLES
        case Waveform():
            return Kind.WAVEFORM
        case Assessments():
            return Kind.ASSESSMENT
        case Transition():
            return Kind.TRANSITION
        case Packed():
            return item.kind


def memory_bytes(item: Item) -> int:
    """About how much memory the item holds while it waits for the disk."""
    match item:
        case Batch():
            return 400 + 21 * len(item)
        case Waveform():
            return 400 + 4 * len(item)
        case Assessments():
            return 800 + 200 * len(item) + 5 * item.contribution.size
        case Transition():
            return 800 + 2 * len(item.text)
        case Packed():
            return 200 + len(item.payload)


@dataclass(frozen=True, slots=True)
class Record:
    """One row of the log.

    Attributes:
        kind: What it is.
        seq: Sequence number of its first sample, or of itself; each kind counts its own.
        n: How many samples it holds; 1 for everything else.
        t_min_ns: UTC ns of its oldest content.
        t_max_ns: UTC ns of its newest content.
        payload: The encoded content.
    """

    kind: Kind
    seq: int
    n: int
    t_min_ns: int
    t_max_ns: int
    payload: bytes
    skip: int = 0
    """Samples at the start that the reader has had already; `seq` and `n` are without them."""

    @property
    def end(self) -> int:
        """Sequence number after the last of it."""
        return self.seq + self.n

    def columns(self) -> Columns:
        """The samples of a `SAMPLES` record, in the order in which they arrived.

        Raises:
            DataError: The bytes were altered on the disk.
        """
        assert self.kind is Kind.SAMPLES
        return cut(decode(self.payload), self.skip, self.skip + self.n)

    def waveform(self) -> Waveform:
        """The waveform of a `WAVEFORM` record. Raises DataError."""
        assert self.kind is Kind.WAVEFORM
        return decode_waveform_record(self.payload)

    def assessments(self) -> Assessments:
        """The assessments of an `ASSESSMENT` record. Raises DataError."""
        assert self.kind is Kind.ASSESSMENT
        return decode_assessments(self.payload)

    def transition(self) -> Transition:
        """The transition of a `TRANSITION` record. Raises DataError."""
        assert self.kind is Kind.TRANSITION
        return decode_transition(self.payload)


def encode_item(item: Waveform | Assessments | Transition | Packed) -> tuple[int, int, bytes]:
    """(t_min_ns, t_max_ns, payload) of anything but samples."""
    match item:
        case Waveform():
            last_ns = item.t0_ns + round((len(item) - 1) / item.rate_hz * 1e9)
            return item.t0_ns, max(item.t0_ns, last_ns), _encode_waveform_record(item)
        case Assessments():
            t_min = int(item.t_ns.min(initial=2**62)) if len(item) else 0
            t_max = int(item.t_ns.max(initial=0)) if len(item) else 0
            return t_min, t_max, _encode_assessments(item)
        case Transition():
            return item.t_ns, item.t_ns, _seal(_json(asdict(item)), b"")
        case Packed():
            return item.t_ns, item.t_ns, item.payload


def _encode_waveform_record(waveform: Waveform) -> bytes:
    head = {
        "source": waveform.source,
        "signal": waveform.signal,
        "t0_ns": waveform.t0_ns,
        "rate_hz": waveform.rate_hz,
        "received_ns": waveform.received_ns,
    }
    return _seal(_json(head), encode_waveform(waveform.value))


def decode_waveform_record(payload: bytes) -> Waveform:
    """Unpack a waveform record. Raises DataError."""
    head, body = _open(payload)
    try:
        return Waveform(value=decode_waveform(body), **head)
    except (TypeError, AssertionError) as error:
        raise DataError(f"waveform record: {error}") from error


def _encode_assessments(a: Assessments) -> bytes:
    head = {
        "kind": a.kind.value,
        "bundle": a.bundle,
        "shadow": a.shadow,
        "assets": a.assets,
        "abstained": [reason.value for reason in a.abstained] if any(a.abstained) else [],
        "signals": a.signals,
        "outputs": a.outputs,
        "output": a.output is not None,
    }
    columns: list[bytes] = [
        np.asarray(a.t_ns, dtype="<i8").tobytes(),
        np.asarray(a.score, dtype="<f4").tobytes(),
        np.asarray(a.limit, dtype="<f4").tobytes(),
        np.asarray(a.coverage, dtype="<f4").tobytes(),
        np.asarray(a.contribution, dtype="<f4").tobytes(),
        np.asarray(a.direction, dtype="i1").tobytes(),
    ]
    if a.output is not None:
        columns.append(np.asarray(a.output, dtype="<f4").tobytes())
    return _seal(_json(head), b"".join(columns))


def decode_assessments(payload: bytes) -> Assessments:
    """Unpack an assessment record. Raises DataError."""
    head, body = _open(payload)
    at = 0

    def column(dtype: str, count: int) -> Any:
        nonlocal at
        array = np.frombuffer(body, dtype=dtype, count=count, offset=at)
        at += array.nbytes
        return array

    try:
        n, k, m = len(head["assets"]), len(head["signals"]), len(head["outputs"])
        return Assessments(
            kind=ModelKind(head["kind"]),
            bundle=head["bundle"],
            shadow=head["shadow"],
            assets=tuple(head["assets"]),
            t_ns=column("<i8", n),
            score=column("<f4", n),
            limit=column("<f4", n),
            coverage=column("<f4", n),
            abstained=tuple(Abstained(word) for word in head["abstained"] or [""] * n),
            signals=tuple(head["signals"]),
            contribution=column("<f4", n * k).reshape(n, k),
            direction=column("i1", n * k).reshape(n, k),
            outputs=tuple(head["outputs"]),
            output=column("<f4", n * m).reshape(n, m) if head["output"] else None,
        )
    except (KeyError, TypeError, ValueError, AssertionError) as error:
        raise DataError(f"assessment record: {error}") from error


def decode_transition(payload: bytes) -> Transition:
    """Unpack a transition record. Raises DataError."""
    head, _ = _open(payload)
    try:
        drivers = tuple(Driver(**driver) for driver in head.pop("drivers"))
        cause, priority = Cause(head.pop("cause")), Priority(head.pop("priority"))
        return Transition(cause=cause, priority=priority, drivers=drivers, **head)
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"transition record: {error}") from error


def _json(head: dict[str, Any]) -> bytes:
    return json.dumps(head, separators=(",", ":"), ensure_ascii=False).encode()


def _seal(head: bytes, body: bytes) -> bytes:
    """crc32, then the deflated length, head and body."""
    packed = zlib.compress(struct.pack("<I", len(head)) + head + body, 1)
    return struct.pack("<I", zlib.crc32(packed)) + packed


def _open(payload: bytes) -> tuple[dict[str, Any], bytes]:
    try:
        (crc,) = struct.unpack_from("<I", payload)
        if zlib.crc32(memoryview(payload)[4:]) != crc:
            raise DataError("record: its checksum does not fit; the bytes were altered")
        raw = zlib.decompressobj().decompress(payload[4:], RECORD_BYTES_MAX)
        (length,) = struct.unpack_from("<I", raw)
        head = json.loads(raw[4 : 4 + length])
    except (struct.error, zlib.error, ValueError) as error:
        raise DataError(f"record: {error}") from error
    return head, raw[4 + length :]
