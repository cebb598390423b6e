"""From messages to batches and waveforms; the whole of decoding, with no I/O."""

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gateway.core.batch import Batch, Quality, Waveform
from gateway.core.errors import DataError
from gateway.core.meter import SourceMeter
from gateway.core.signals import SignalTable
from protocols import stamps
from protocols.gather import Gathering
from protocols.mqtt.paths import Steps, parse_path
from protocols.mqtt.payload import MISSING, parse_json, to_array, to_value, walk
from protocols.mqtt.settings import MqttSignal, Settings
from protocols.mqtt.sparkplug import CERTIFICATES, NAMESPACE, Place, Reading, Sparkplug

UNREADABLE_MIN = 20
"""So many unreadable messages in a row are a state worth a log line."""
QUALITY_GOOD = 192
QUALITY_BAD_MAX = 63
"""Sparkplug's "Quality" follows OPC DA: 0 to 63 bad, 192 and more good, 500 stale."""
QUALITY_STALE = 500

SHOWN_MAX = 80
"""Characters that are shown of what came."""


@dataclass(frozen=True, slots=True)
class _Wanted:
    signal: MqttSignal
    index: int
    name: str
    steps: Steps
    is_json: bool


class Messages:
    """Understands one source's messages, and keeps what was read until it is taken."""

    def __init__(
        self,
        config: Settings,
        signals: SignalTable,
        meter: SourceMeter,
        watch: Callable[[str, bytes, bool], None],
    ) -> None:
        self._config = config
        self._meter = meter
        self._watch = watch
        self._live = Gathering()
        self._history = Gathering()
        self._bursts: deque[Waveform] = deque()
        self._received_ns = 0
        self._names = [str(signal.key()) for signal in config.signals]
        self._time_steps = parse_path(config.time_path)
        self._wanted = []
        self._found: set[tuple[int, Steps]] = set()
        """Signals of which some message held the path."""
        self._by_topic: dict[str, list[_Wanted]] = {}
        metrics: dict[tuple[Place, str], list[int]] = {}
        for number, signal in enumerate(config.signals):
            path = config.path_of(signal)
            index = signals.intern(signal.key())
            name = self._names[number]
            wanted = _Wanted(signal, index, name, parse_path(path), is_json=bool(path))
            self._wanted.append(wanted)
            if signal.metric:
                group, edge, *device = config.node_of(signal).split("/")
                place = (group, edge, device[0] if device else "")
                metrics.setdefault((place, signal.metric), []).append(number)
            else:
                self._by_topic.setdefault(config.topic_of(signal), []).append(wanted)
        self._sparkplug = Sparkplug(metrics, meter.errors, self._quarantine)

    def filters(self) -> list[str]:
        """What to subscribe to, each once."""
        plain = self._config.subscribe or tuple(self._by_topic)
        return list(dict.fromkeys([*plain, *self._sparkplug.filters()]))

    def take_over(self, before: "Messages") -> None:
        """Go on after `before`, whose nodes were born already."""
        mine = {str(signal.key()) for signal in self._config.signals}
        for name in set(self._meter.quarantined) - mine:
            del self._meter.quarantined[name]
        self._found = before._found  # noqa: SLF001 (the same class)
        self._sparkplug.take_over(before._sparkplug)  # noqa: SLF001 (the same class)

    def granted(self, topic: str) -> None:
        """The broker gives us this topic, which it may have refused before."""
        for wanted in self._carried_by(topic):
            self._meter.quarantined.pop(wanted.name, None)

    def refused(self, topic: str, why: str) -> None:
        """The broker does not give us this topic: its signals are BAD."""
        for wanted in self._carried_by(topic):
            self._meter.quarantined[wanted.name] = why
            self._live.add(wanted.index, self._received_ns, math.nan, Quality.BAD)

    def _carried_by(self, subscribed: str) -> list[_Wanted]:
        """The signals on plain topics that come by one subscription."""
        if subscribed not in self._config.subscribe:
            return self._by_topic.get(subscribed, [])
        parts = subscribed.split("/")
        return [
            wanted
            for topic, signals in self._by_topic.items()
            if _matches(parts, topic.split("/"))
            for wanted in signals
        ]

    def at(self, now_ns: int) -> None:
        """What comes next happens at this time."""
        self._received_ns = now_ns

    def feed(self, topic: str, payload: bytes, *, retained: bool) -> None:
        """Understand one message; what cannot be is counted and dropped."""
        if len(payload) > self._config.payload_bytes_max:
            self._meter.errors["overlong"] += 1
            return
        quality = Quality.GOOD
        if retained:
            if self._config.retained == "ignore":
                return
            if self._config.retained == "uncertain":
                quality = Quality.UNCERTAIN
        try:
            if topic.startswith((NAMESPACE + "/", CERTIFICATES)):
                for reading in self._sparkplug.take(topic, payload):
                    self._metric(reading, quality)
            else:
                self._plain(topic, payload, quality)
        except DataError:
            self._meter.errors["payload"] += 1
            self._watch(topic, payload, False)
        else:
            self._watch(topic, payload, True)

    def pop(self) -> Batch | Waveform | None:
        """What was read; None when all was taken."""
        if self._live:
            return self._live.batch(self._config.id, self._received_ns)
        if self._history:
            return self._history.batch(self._config.id, self._received_ns, history=True)
        return self._bursts.popleft() if self._bursts else None

    def _quarantine(self, number: int, why: str) -> None:
        quarantined = self._meter.quarantined
        if why:
            quarantined[self._names[number]] = why
        elif quarantined:
            quarantined.pop(self._names[number], None)

    def _plain(self, topic: str, payload: bytes, quality: Quality) -> None:
        signals = self._by_topic.get(topic, ())
        document = None
        own_ns = None
        if any(wanted.is_json for wanted in signals):
            document = parse_json(payload)
            own_ns = self._stamp(document)
        t_ns, quality = self._dated(own_ns, quality)
        for wanted in signals:
            if wanted.is_json:
                raw = walk(document, wanted.steps)
                if raw is MISSING:
                    # Senders report by exception: what a message leaves out has not changed.
                    if (wanted.index, wanted.steps) not in self._found:
                        self._never(wanted, topic, document)
                    continue
                self._found.add((wanted.index, wanted.steps))
            else:
                raw = _bare(payload, wanted.signal)
            self._put(wanted, raw, t_ns, quality, self._live)

    def _never(self, wanted: _Wanted, topic: str, document: object) -> None:
        """No message held this signal's path so far: perhaps it is misspelt."""
        held = (
            ", ".join(map(str, document)) if isinstance(document, dict) else type(document).__name__
        )
        self._meter.quarantined[wanted.name] = (
            f"{topic} holds nothing at {self._config.path_of(wanted.signal)} so far; "
            f"its message has {held[:SHOWN_MAX]}"
        )

    def _stamp(self, document: object) -> int | None:
        """The document's own time; None where it has none, or none that can be believed."""
        if not self._time_steps:
            return None
        written = walk(document, self._time_steps)
        config = self._config
        stamped = (
            stamps.parse_time(written, config.time_form, config.time_zone)
            if isinstance(written, str | int | float)
            else None
        )
        return self._believed(stamped)

    def _believed(self, stamped: int | None) -> int | None:
        if stamped is None or not stamps.believable(stamped, self._received_ns):
            self._meter.errors["clock"] += 1
            return None
        return stamped

    def _dated(self, own_ns: int | None, quality: Quality) -> tuple[int, Quality]:
        """Time and quality: what says when it was sent is not uncertain for being retained."""
        return (self._received_ns, quality) if own_ns is None else (own_ns, Quality.GOOD)

    def _metric(self, reading: Reading, quality: Quality) -> None:
        wanted = self._wanted[reading.number]
        metric = reading.metric
        if metric is None:
            # The death of a node is known when it is told, whatever its will was written.
            self._live.add(wanted.index, self._received_ns, math.nan, Quality.BAD)
            return
        sent_ms = reading.sent_ms
        own_ns = self._believed(sent_ms * 1_000_000) if sent_ms is not None else None
        t_ns, quality = self._dated(own_ns, quality)
        raw = metric.value(reading.datatype)
        if metric.quality is not None:
            if metric.quality <= QUALITY_BAD_MAX:
                raw = None
            elif metric.quality < QUALITY_GOOD or metric.quality == QUALITY_STALE:
                quality = Quality.UNCERTAIN
        into = self._history if metric.is_historical else self._live
        self._put(wanted, raw, t_ns, quality, into)

    def _put(
        self, wanted: _Wanted, raw: object, t_ns: int, quality: Quality, into: Gathering
    ) -> None:
        signal = wanted.signal
        if signal.rate_hz:
            self._burst(wanted, to_array(raw, signal), t_ns)
            return
        value = to_value(raw, signal)
        quarantined = self._meter.quarantined
        if value is None:
            self._meter.errors["value"] += 1
            value = math.nan
            quarantined[wanted.name] = _no_number(raw, signal)
        elif quarantined:
            quarantined.pop(wanted.name, None)
        into.add(wanted.index, t_ns, value, quality if value == value else Quality.BAD)  # noqa: PLR0124 (NaN)

    def _burst(self, wanted: _Wanted, values: NDArray[np.float32] | None, t_ns: int) -> None:
        if values is None:
            self._meter.errors["value"] += 1
            return
        span_ns = round((len(values) - 1) * 1e9 / wanted.signal.rate_hz)
        self._bursts.append(
            Waveform(
                source=self._config.id,
                signal=wanted.index,
                t0_ns=t_ns - span_ns,
                rate_hz=wanted.signal.rate_hz,
                value=values,
                received_ns=self._received_ns,
            )
        )


def _matches(pattern: list[str], topic: list[str]) -> bool:
    """Whether a subscription, level by level, brings a topic."""
    for i, level in enumerate(pattern):
        if level == "#":
            return True
        if i >= len(topic) or level not in ("+", topic[i]):
            return False
    return len(pattern) == len(topic)


def _no_number(raw: object, signal: MqttSignal) -> str:
    """Why what came is no value, and what to do about it."""
    if signal.states:
        return f"{str(raw)[:SHOWN_MAX]!r} is not in states; add it there"
    if isinstance(raw, dict | list):
        return f"{str(raw)[:SHOWN_MAX]} is no number; name one within it by path"
    return f"{str(raw)[:SHOWN_MAX]!r} is no number; give its texts numbers by states"


def _bare(payload: bytes, signal: MqttSignal) -> object:
    """A payload that is the value itself: a number, a text, or for a burst a JSON list."""
    text = payload.decode(errors="replace").strip()
    if signal.rate_hz:
        return parse_json(payload)
    if not signal.states and text in ("true", "false"):
        return text == "true"
    return text.strip('"')
