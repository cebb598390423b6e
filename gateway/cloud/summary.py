"""The summary: the only thing that may leave the plant, and the only way to write it down.

A summary is an aggregate of one asset over at least a minute. It holds names that the owner gave
(gateway, asset, exported signals), counts and rounded numbers; no raw value, no text from a machine
or an alarm. `encode` takes nothing else, and `schema.json` beside this file is what receivers may
rely on; it changes only with `VERSION`.
"""

import hashlib
import json
import math
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

VERSION = 1
WIDTH_S_MIN = 60
SIGNALS_MAX = 64
NAME_CHARS_MAX = 100
SAMPLES_MIN = 5
"""Fewer samples than this are no aggregate: their minimum would be a raw value. None is told."""
DIGITS = 5
"""Significant digits of every number that leaves."""
SUMMARY_BYTES_MAX = 20_000

_NAME = re.compile(r"[^/\x00-\x1f\x7f]+")


def _name(value: str, what: str) -> None:
    if type(value) is not str or len(value) > NAME_CHARS_MAX or not _NAME.fullmatch(value):
        raise ValueError(f"summary.{what}: must be a name of 1 to {NAME_CHARS_MAX} characters")


def _count(value: int, what: str) -> None:
    if type(value) is not int or value < 0:
        raise ValueError(f"summary.{what}: must be a count, was {value!r}")


def _number(value: float | None, what: str) -> None:
    if value is not None and (type(value) is not float or not math.isfinite(value)):
        raise ValueError(f"summary.{what}: must be a finite number or absent, was {value!r}")


@dataclass(frozen=True, slots=True)
class Spread:
    """How values were spread over the interval; all in the unit of the values.

    Attributes:
        count: How many there were, `SAMPLES_MIN` at least.
    """

    count: int
    low: float
    p05: float
    p50: float
    p95: float
    high: float
    mean: float

    def __post_init__(self) -> None:
        _count(self.count, "count")
        if self.count < SAMPLES_MIN:
            raise ValueError(f"summary.count: must be {SAMPLES_MIN} or more, was {self.count}")
        for what in ("low", "p05", "p50", "p95", "high", "mean"):
            _number(getattr(self, what), what)

    @classmethod
    def of(cls, values: NDArray[np.float64] | NDArray[np.float32]) -> "Spread | None":
        """The spread of finite values, any shape; None where there are too few to aggregate."""
        values = values[np.isfinite(values)].astype(np.float64)
        if values.size < SAMPLES_MIN:
            return None
        low, p05, p50, p95, high = np.quantile(values, (0, 0.05, 0.5, 0.95, 1)).tolist()
        return cls(int(values.size), low, p05, p50, p95, high, float(values.mean()))


@dataclass(frozen=True, slots=True)
class SignalSummary:
    """One signal that the owner named for export."""

    signal: str
    bad: int
    spread: Spread | None

    def __post_init__(self) -> None:
        _name(self.signal, "signal")
        _count(self.bad, "bad")


@dataclass(frozen=True, slots=True)
class Summary:
    """One asset over one interval.

    Attributes:
        gateway, asset: Who and what, as the owner named them.
        start_s: Start of the interval, UTC seconds; a multiple of `width_s`.
        width_s: Length of the interval, 60 or more.
        bundle: Identifier of the anomaly model in use; "" for none.
        samples, bad: How many samples came in, and how many of them were unusable.
        stayed_bytes: Size of those samples as columns: what did not leave.
        coverage: Mean coverage of the windows, 0 to 1.
        run_s: Seconds in which the machine ran; None where nobody said how to tell.
        energy_kwh: What its meter counted; None likewise.
        assessments, abstained: How many verdicts there were, and how many abstained.
        score, severity: Spread of score, and of score over limit.
        raised: Alarms that became active in the interval.
        active, unacknowledged: Alarms that are so at its end.
        signals: The exported signals.
    """

    gateway: str
    asset: str
    start_s: int
    width_s: int
    bundle: str
    samples: int
    bad: int
    stayed_bytes: int
    coverage: float | None
    run_s: float | None
    energy_kwh: float | None
    assessments: int
    abstained: int
    score: Spread | None
    severity: Spread | None
    raised: int
    active: int
    unacknowledged: int
    signals: tuple[SignalSummary, ...] = ()

    def __post_init__(self) -> None:
        _name(self.gateway, "gateway")
        _name(self.asset, "asset")
        if self.bundle:
            _name(self.bundle, "bundle")
        if self.width_s < WIDTH_S_MIN or self.start_s % self.width_s:
            raise ValueError(
                f"summary.width_s: must be {WIDTH_S_MIN} or more and divide start_s, "
                f"was {self.width_s}"
            )
        for what in ("start_s", "samples", "bad", "stayed_bytes", "assessments", "abstained"):
            _count(getattr(self, what), what)
        for what in ("raised", "active", "unacknowledged"):
            _count(getattr(self, what), what)
        for what in ("coverage", "run_s", "energy_kwh"):
            _number(getattr(self, what), what)
        if len(self.signals) > SIGNALS_MAX:
            raise ValueError(
                f"summary.signals: must be {SIGNALS_MAX} at most, was {len(self.signals)}"
            )

    @property
    def id(self) -> str:
        """Names this interval of this asset: the same however often it is made or sent."""
        text = f"{self.gateway}/{self.asset}/{self.start_s}/{self.width_s}"
        return hashlib.sha256(text.encode()).hexdigest()[:24]


def encode(summary: Summary) -> bytes:
    """One summary as JSON. Takes a `Summary` and nothing else, not even a subclass of it.

    Raises:
        TypeError: It is something else.
        ValueError: It is too large.
    """
    if type(summary) is not Summary:
        raise TypeError(f"only a Summary may be encoded, was {type(summary).__name__}")
    fields: dict[str, Any] = {
        "version": VERSION,
        "id": summary.id,
        "gateway": summary.gateway,
        "asset": summary.asset,
        "start_s": summary.start_s,
        "width_s": summary.width_s,
        "bundle": summary.bundle,
        "samples": summary.samples,
        "bad": summary.bad,
        "stayed_bytes": summary.stayed_bytes,
        "coverage": _rounded(summary.coverage),
        "run_s": _rounded(summary.run_s),
        "energy_kwh": _rounded(summary.energy_kwh),
        "assessments": summary.assessments,
        "abstained": summary.abstained,
        "score": _spread(summary.score),
        "severity": _spread(summary.severity),
        "raised": summary.raised,
        "active": summary.active,
        "unacknowledged": summary.unacknowledged,
        "signals": [
            {"signal": signal.signal, "bad": signal.bad, "spread": _spread(signal.spread)}
            for signal in summary.signals
        ],
    }
    text = json.dumps(
        {name: value for name, value in fields.items() if value is not None},
        separators=(",", ":"),
        ensure_ascii=False,
        allow_nan=False,
    ).encode()
    if len(text) > SUMMARY_BYTES_MAX:
        raise ValueError(f"summary: must be {SUMMARY_BYTES_MAX} bytes at most, was {len(text)}")
    return text


def decode(text: bytes) -> Summary:
    """Read back what `encode` wrote.

    Raises:
        ValueError: It is not a summary of this version.
    """
    try:
        fields = json.loads(text)
        if fields.pop("version") != VERSION:
            raise ValueError(f"summary.version: must be {VERSION}")
        said = fields.pop("id")
        for name in ("coverage", "run_s", "energy_kwh"):
            value = fields.get(name)
            fields[name] = None if value is None else float(value)
        for name in ("score", "severity"):
            fields[name] = _read_spread(fields.get(name))
        fields["signals"] = tuple(
            SignalSummary(row["signal"], row["bad"], _read_spread(row["spread"]))
            for row in fields["signals"]
        )
        summary = Summary(**fields)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"summary: cannot be read ({error})") from error
    if summary.id != said:
        raise ValueError("summary.id: does not fit what it names")
    return summary


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.{DIGITS}g}")


def _spread(spread: Spread | None) -> list[float | int | None] | None:
    """Count, then low, 5 %, 50 %, 95 %, high and mean: an array is half as long as an object."""
    if spread is None:
        return None
    values = (spread.low, spread.p05, spread.p50, spread.p95, spread.high, spread.mean)
    return [spread.count, *map(_rounded, values)]


def _read_spread(row: list[float] | None) -> Spread | None:
    return None if row is None else Spread(int(row[0]), *map(float, row[1:]))
