"""Turns columns into InfluxDB line protocol: one f-string a row, no object per point. Pure.

Measurements, tags and types are fixed here (see `influx.md`), so no field changes its type. Tags
come in alphabetical order, and a line depends on its record alone: a resend overwrites itself.
"""

import json
import re
from collections.abc import Mapping
from typing import TypeAlias

import numpy as np

from gateway.core.alarm import Transition
from gateway.core.assessment import Assessments, ModelKind
from gateway.core.batch import Quality, Waveform
from gateway.core.errors import DataError
from gateway.core.signals import SignalTable
from gateway.store.blocks import Columns
from gateway.store.record import Kind, Record

Fields: TypeAlias = Mapping[str, int | float | str | bool]

TEXT_CHARS_MAX = 10_000
TRANSITION_NS_APART = 1000
"""Two transitions of one alarm at one time would overwrite each other; their number parts them."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_TAG_SPECIAL = re.compile(r"([,= ])")


def tag(text: str) -> str:
    """Escape a tag's value or key, or a measurement.

    The protocol has no way to write a backslash before a comma, an equals sign, a space or the end
    of a tag. It becomes a slash, which no identifier of ours contains.
    """
    clean = _CONTROL.sub(" ", text).replace("\\", "/")
    return _TAG_SPECIAL.sub(r"\\\1", clean)


def string(text: str) -> str:
    """Quote a string field."""
    clean = _CONTROL.sub(" ", text[:TEXT_CHARS_MAX]).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{clean}"'


def series(measurement: str, tags: Mapping[str, str]) -> str:
    """Measurement and tags; an empty tag is left out, since the protocol knows none."""
    parts = [f"{tag(key)}={tag(value)}" for key, value in sorted(tags.items()) if value]
    return ",".join((tag(measurement), *parts))


class Encoder:
    """Encodes records; remembers the series text of each signal."""

    def __init__(self, signals: SignalTable, gateway: str) -> None:
        self._signals = signals
        self._gateway = gateway
        self._prefix: list[str] = []

    def record(self, record: Record) -> list[str]:
        """The lines of one record.

        Raises:
            DataError: The record was altered on the disk.
        """
        match record.kind:
            case Kind.SAMPLES:
                return self.samples(record.columns())
            case Kind.ASSESSMENT:
                return assessment_lines(record.assessments())
            case Kind.TRANSITION:
                return [transition_line(record.transition(), record.seq)]
            case Kind.HEALTH:
                return self.health(record.payload, record.t_max_ns)
            case Kind.WAVEFORM:
                return self.waveform(record.waveform())
            case Kind.SUMMARY:
                return []

    def samples(self, columns: Columns) -> list[str]:
        """One line a sample; a BAD one has a quality and no value."""
        signal, t_ns, value, quality = columns
        prefix = self._prefixes()
        numbers, times = signal.tolist(), t_ns.tolist()
        if int(signal.max(initial=-1)) >= len(prefix) or int(signal.min(initial=0)) < 0:
            raise DataError(f"samples: signal {signal.max()} is not in the signal table")
        if not quality.any():
            return [
                f"{prefix[s]} value={v},quality=0i {t}"
                for s, v, t in zip(numbers, value.tolist(), times, strict=True)
            ]
        bad = int(Quality.BAD)
        return [
            f"{prefix[s]} quality={q}i {t}"
            if q == bad
            else f"{prefix[s]} value={v},quality={q}i {t}"
            for s, v, q, t in zip(numbers, value.tolist(), quality.tolist(), times, strict=True)
        ]

    def waveform(self, waveform: Waveform) -> list[str]:
        """One line a point, as samples of its signal."""
        n = len(waveform)
        t_ns = waveform.t0_ns + np.rint(np.arange(n) * (1e9 / waveform.rate_hz)).astype(np.int64)
        value = waveform.value.astype(np.float64)
        quality = np.where(np.isfinite(value), Quality.GOOD, Quality.BAD).astype(np.uint8)
        return self.samples((np.full(n, waveform.signal, np.int32), t_ns, value, quality))

    def health(self, payload: bytes, t_ns: int) -> list[str]:
        """The lines of one health record: `{source: {field: number}}` as JSON."""
        try:
            sources: dict[str, dict[str, int | float | str | bool]] = json.loads(payload)
        except ValueError as error:
            raise DataError(f"health record: {error}") from error
        return [
            line(series("gateway", {"gateway": self._gateway, "source": source}), fields, t_ns)
            for source, fields in sources.items()
            if fields
        ]

    def _prefixes(self) -> list[str]:
        for index in range(len(self._prefix), len(self._signals)):
            s = self._signals[index]
            self._prefix.append(
                series("signal", {"asset": s.asset, "signal": s.name, "unit": s.unit})
            )
        return self._prefix


def line(prefix: str, fields: Fields, t_ns: int) -> str:
    """One line; a float that is no number is left out."""
    parts = []
    for name, value in fields.items():
        match value:
            case bool():
                parts.append(f"{tag(name)}={'true' if value else 'false'}")
            case int():
                parts.append(f"{tag(name)}={value}i")
            case float():
                if np.isfinite(value):
                    parts.append(f"{tag(name)}={value}")
            case str():
                parts.append(f"{tag(name)}={string(value)}")
    return f"{prefix} {','.join(parts)} {t_ns}"


def assessment_lines(a: Assessments) -> list[str]:
    """`assessment`, and `contribution`, `failure` or `rul` where there is a verdict."""
    lines = []
    severity = a.severity.tolist()
    for i, asset in enumerate(a.assets):
        t_ns = int(a.t_ns[i])
        fields: Fields = {
            "score": float(a.score[i]),
            "limit": float(a.limit[i]),
            "severity": severity[i],
            "coverage": float(a.coverage[i]),
            "abstained": bool(a.abstained[i]),
        }
        tags = {"asset": asset, "bundle": a.bundle}
        lines.append(line(series("assessment", tags), fields, t_ns))
        if a.abstained[i]:
            continue
        for name, share in zip(a.signals, a.contribution[i].tolist(), strict=True):
            if np.isfinite(share):
                prefix = series("contribution", {"asset": asset, "signal": name})
                lines.append(line(prefix, {"share": share}, t_ns))
        lines += _head_lines(a, i, asset, t_ns)
    return lines


def _head_lines(a: Assessments, i: int, asset: str, t_ns: int) -> list[str]:
    if a.output is None:
        return []
    outputs = {
        name: value
        for name, value in zip(a.outputs, a.output[i].tolist(), strict=True)
        if np.isfinite(value)
    }
    if a.kind is ModelKind.RUL:
        return [line(series("rul", {"asset": asset}), outputs, t_ns)] if outputs else []
    return [
        line(series("failure", {"asset": asset, "mode": mode}), {"probability": value}, t_ns)
        for mode, value in outputs.items()
    ]


def transition_line(transition: Transition, seq: int) -> str:
    """`alarm`, at the time of the transition and the nanosecond of its number."""
    tags = {
        "asset": transition.asset,
        "alarm": transition.alarm,
        "priority": transition.priority.name.lower(),
    }
    fields: Fields = {
        "state": transition.state,
        "text": transition.text,
        "severity": float(transition.severity),
    }
    t_ns = transition.t_ns // TRANSITION_NS_APART * TRANSITION_NS_APART
    return line(series("alarm", tags), fields, t_ns + seq % TRANSITION_NS_APART)
