"""What a dashboard is made of, and the shapes of query that its panels share.

Every query is InfluxQL, which InfluxDB 1, 2 (with a DBRP mapping) and 3 understand.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

ALL = ".*"
IN_ASSET = 'WHERE "asset" =~ /^(${asset:regex})$/ AND $timeFilter'
RAISED = "\"state\" = 'active_unacked'"
SHARE = ((None, "green"), (0.8, "yellow"), (1.0, "red"))
"""Colours of a severity: yellow near the limit, red beyond."""
LIMIT_LINE = {"thresholdsStyle": {"mode": "line"}}


@dataclass(frozen=True)
class Query:
    """One query of a panel; `alias` names its series."""

    text: str
    alias: str = ""
    table: bool = False

    def without_alias(self) -> "Query":
        """The same where a query gives many fields: each series is named by its own."""
        return replace(self, alias="")


@dataclass(frozen=True)
class Panel:
    """One panel: what it shows, in what unit (Grafana's name of it), and why one looks at it."""

    title: str
    description: str
    queries: Sequence[Query]
    unit: str = "short"
    kind: str = "timeseries"
    width: int = 12
    height: int = 8
    thresholds: Sequence[tuple[float | None, str]] = ((None, "green"),)
    options: dict[str, Any] = field(default_factory=dict)
    custom: dict[str, Any] = field(default_factory=dict)
    mappings: Sequence[tuple[str, str, str]] = ()
    repeat: str = ""
    """The variable of which each value has this panel for itself."""


@dataclass(frozen=True)
class Variable:
    """A choice at the top: a query, or a fixed list of `name : value`."""

    name: str
    label: str
    query: str = ""
    choices: Sequence[tuple[str, str]] = ()
    text: str = ""
    single: bool = False
    """One value at a time, and never all of them."""


@dataclass(frozen=True)
class Dashboard:
    """One page."""

    uid: str
    title: str
    description: str
    panels: Sequence[Panel]
    variables: Sequence[Variable] = ()
    alarms: bool = False
    since: str = "now-6h"


ASSET = Variable(
    "asset",
    "Asset",
    'SHOW TAG VALUES FROM "signal" WITH KEY = "asset" WHERE "asset" =~ /^(${line:raw})$/ '
    'AND "asset" =~ /^(${site:raw})$/',
)


ONE_ASSET = replace(ASSET, single=True)


def grouped(
    select: str, source: str, *tags: str, every: str = "", fill: str = "null", alias: str = ""
) -> Query:
    """A query by tags, and over time where `every` says how finely; its series bear the tags."""
    names = [f'"{tag}"' for tag in tags]
    by = ", ".join([f"time({every})", *names] if every else names)
    told = " ".join([*(f"$tag_{tag}" for tag in tags), *([alias] if alias else [])])
    ending = f" fill({fill})" if every else ""
    return Query(f"SELECT {select} FROM {source} GROUP BY {by}{ending}", told)


def trend(
    select: str, source: str, *tags: str, fill: str = "null", alias: str = ""
) -> tuple[Query, ...]:
    """How something came to be, as finely as the screen shows it."""
    return (grouped(select, source, *tags, every="$__interval", fill=fill, alias=alias),)


def bars(calculation: str, mode: str = "basic") -> dict[str, Any]:
    """Options of horizontal bars, one a series."""
    reduce = {"calcs": [calculation]}
    return {"displayMode": mode, "orientation": "horizontal", "reduceOptions": reduce}


def single(calculation: str) -> dict[str, Any]:
    """Options of a panel that shows one number a series."""
    return {"reduceOptions": {"calcs": [calculation]}}
