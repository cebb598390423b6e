"""What Sparkplug B nodes say of themselves: births, data, deaths. Does no I/O, knows no clock.

Source: Eclipse Sparkplug specification 3.0.0, chapters 4 to 6. We listen as a host application
would, and publish nothing: where a host would ask a node to be born again (NCMD), we wait for its
next birth, or read the one that a Sparkplug-aware broker keeps under $sparkplug/certificates.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from protocols.mqtt.tahu import Metric, Payload, decode

Place: TypeAlias = tuple[str, str, str]
"""Group, edge node, device; the device is "" for the node itself."""
NAMESPACE = "spBv1.0"
CERTIFICATES = "$sparkplug/certificates/"
BD_SEQ = "bdSeq"
NOT_READ = {
    16: "DataSet",
    17: "Bytes",
    18: "File",
    19: "Template",
    20: "PropertySet",
    21: "PropertySetList",
    32: "BooleanArray",
    33: "StringArray",
    34: "DateTimeArray",
}
"""Data types of the specification that are neither a number, a text nor an array of numbers."""
WAITING = "its Sparkplug node was not born since we listen; rebirth it, or wait"


@dataclass(frozen=True, slots=True)
class Reading:
    """One metric's news, for one of the metrics that somebody wants.

    Attributes:
        number: Of the signal, as the caller gave it.
        metric: None where there is no value: a death says so, or the type is none of a number.
        datatype: As the birth said.
        sent_ms: UTC ms of the metric, else of its payload; None where neither says.
    """

    number: int
    metric: Metric | None
    datatype: int
    sent_ms: int | None


@dataclass(slots=True)
class _Edge:
    """What is known of one edge node since its birth."""

    seq: int | None = None
    bd_seq: int | None = None
    aliases: dict[int, tuple[str, str]] = field(default_factory=dict)
    datatypes: dict[tuple[str, str], int] = field(default_factory=dict)


class Sparkplug:
    """Follows the nodes that carry wanted metrics."""

    def __init__(
        self,
        wanted: Mapping[tuple[Place, str], Sequence[int]],
        errors: Counter[str],
        quarantine: Callable[[int, str], None],
    ) -> None:
        """Follow.

        Args:
            wanted: (place, metric name) -> numbers of the signals that want it.
            errors: Counted into.
            quarantine: Called with a number and why it is not read; "" when it is again.
        """
        self._wanted = wanted
        self._errors = errors
        self._quarantine = quarantine
        self._edges: dict[tuple[str, str], _Edge] = {
            (group, edge): _Edge() for (group, edge, _), _ in wanted
        }
        for numbers in wanted.values():
            for number in numbers:
                quarantine(number, WAITING)

    def filters(self) -> list[str]:
        """What to subscribe to."""
        found = []
        for group, edge in self._edges:
            for root in (NAMESPACE, CERTIFICATES + NAMESPACE):
                found += [f"{root}/{group}/+/{edge}", f"{root}/{group}/+/{edge}/+"]
        return found

    def take_over(self, before: "Sparkplug") -> None:
        """Keep what the nodes said at their births, since they will not say it again soon."""
        for node, edge in before._edges.items():  # noqa: SLF001 (the same class)
            if node in self._edges:
                self._edges[node] = edge
        for ((group, edge_node, device), name), numbers in self._wanted.items():
            edge = self._edges[group, edge_node]
            if (device, name) in edge.datatypes:
                for number in numbers:
                    self._quarantine(number, _why_not(edge, device, name))

    def take(self, topic: str, data: bytes) -> list[Reading]:
        """Understand one message.

        Raises:
            DataError: Its payload is none of Sparkplug's.
        """
        parts = topic.removeprefix(CERTIFICATES).split("/")
        if len(parts) not in (4, 5) or parts[0] != NAMESPACE:
            return []
        _, group, kind, node, *rest = parts
        edge = self._edges.get((group, node))
        if edge is None:
            return []
        place = (group, node, rest[0] if rest else "")
        # Commands are for the nodes; their payloads are nothing to us.
        match kind:
            case "NBIRTH" | "DBIRTH":
                payload = decode(data)
                return self._birth(edge, place, payload)
            case "NDATA" | "DDATA":
                payload = decode(data)
                self._count(edge, payload)
                return self._data(edge, place, payload)
            case "NDEATH" | "DDEATH":
                return self._death(edge, place, decode(data))
            case _:
                return []

    def _birth(self, edge: _Edge, place: Place, payload: Payload) -> list[Reading]:
        device = place[2]
        if not device:
            edge.aliases.clear()
            edge.datatypes.clear()
            edge.seq = payload.seq
            edge.bd_seq = _bd_seq(payload)
        else:
            self._count(edge, payload)
            edge.aliases = {a: at for a, at in edge.aliases.items() if at[0] != device}
            edge.datatypes = {at: d for at, d in edge.datatypes.items() if at[0] != device}
        for metric in payload.metrics:
            if not metric.name:
                continue
            if metric.alias is not None:
                edge.aliases[metric.alias] = (device, metric.name)
            edge.datatypes[device, metric.name] = metric.datatype
        for (at, name), numbers in self._wanted.items():
            if at == place:
                for number in numbers:
                    self._quarantine(number, _why_not(edge, device, name))
        return self._data(edge, place, payload)

    def _data(self, edge: _Edge, place: Place, payload: Payload) -> list[Reading]:
        readings = []
        for metric in payload.metrics:
            device, name = place[2], metric.name
            if not name:
                born = edge.aliases.get(metric.alias) if metric.alias is not None else None
                if born is None:
                    self._errors["unborn"] += 1
                    continue
                device, name = born
            numbers = self._wanted.get(((place[0], place[1], device), name), ())
            if not numbers:
                continue
            datatype = metric.datatype or edge.datatypes.get((device, name), 0)
            if not datatype:
                # How to read a number is not known: a small negative one looks like a huge one.
                self._errors["unborn"] += 1
                continue
            sent_ms = metric.t_ms if metric.t_ms is not None else payload.t_ms
            readable = datatype not in NOT_READ
            if not readable:
                self._errors["datatype"] += 1
            for number in numbers:
                if readable:
                    self._quarantine(number, "")
                readings.append(Reading(number, metric if readable else None, datatype, sent_ms))
        return readings

    def _death(self, edge: _Edge, place: Place, payload: Payload) -> list[Reading]:
        device = place[2]
        if not device:
            died = _bd_seq(payload)
            if died is not None and edge.bd_seq is not None and died != edge.bd_seq:
                # The will of an older session, delivered after the node was born again.
                self._errors["stale_death"] += 1
                return []
            edge.seq = None
        else:
            self._count(edge, payload)
        return [
            Reading(number, None, 0, payload.t_ms)
            for (at, _), numbers in self._wanted.items()
            if at == place or (not device and at[:2] == place[:2])
            for number in numbers
        ]

    def _count(self, edge: _Edge, payload: Payload) -> None:
        """Messages of a node are numbered around 256: a gap is a message that we never got."""
        if payload.seq is None:
            return
        if edge.seq is not None and payload.seq != (edge.seq + 1) % 256:
            self._errors["sequence"] += 1
        edge.seq = payload.seq


def _why_not(edge: _Edge, device: str, name: str) -> str:
    """Why a metric of a node that was born cannot be read; "" where it can."""
    datatype = edge.datatypes.get((device, name))
    if datatype is None:
        return f"the birth has no metric {name!r}"
    if datatype in NOT_READ:
        return (
            f"metric {name!r} is a {NOT_READ[datatype]}, which is no number; let the node "
            "publish the number in it as a metric of its own"
        )
    return ""


def _bd_seq(payload: Payload) -> int | None:
    for metric in payload.metrics:
        if metric.name == BD_SEQ and isinstance(metric.raw, int):
            return metric.raw
    return None
