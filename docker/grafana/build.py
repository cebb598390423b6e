"""Writes Grafana's dashboards, provisioning and alert rules; `--check` says whether they are fresh.

    python docker/grafana/build.py [--site NAME=ASSET,ASSET…] [--line NAME=ASSET,ASSET…]

Every query is InfluxQL, which InfluxDB 1, 2 (with a DBRP mapping) and 3 understand. Data carry no
site or line: those variables stand for sets of assets, which the options name.
"""

# ruff: noqa: S608 (queries are put together from our own constants only)
import argparse
import json
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
SOURCE_UID = "forewarn-influxdb"
SOURCE = {"type": "influxdb", "uid": SOURCE_UID}
SCHEMA_VERSION = 41
ALL = ".*"

IN_ASSET = 'WHERE "asset" =~ /^(${asset:regex})$/ AND $timeFilter'
RAISED = "\"state\" = 'active_unacked'"


@dataclass(frozen=True)
class Query:
    """One query of a panel; `alias` names its series."""

    text: str
    alias: str = ""
    table: bool = False


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
    calculate: tuple[str, str, str, str] | None = None
    """Left, operator, right, name: a column computed from two others by time."""


@dataclass(frozen=True)
class Variable:
    """A choice at the top: a query, or a fixed list of `name : value`."""

    name: str
    label: str
    query: str = ""
    choices: Sequence[tuple[str, str]] = ()
    text: str = ""
    multi: bool = True


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
SHARE = ((None, "green"), (0.8, "yellow"), (1.0, "red"))


def plant() -> Dashboard:
    """Every machine at a glance."""
    return Dashboard(
        "forewarn-plant",
        "Plant overview",
        "Which machine needs someone, and since when.",
        (
            Panel(
                "Severity now",
                "Score over limit of each asset: 1 is where an alarm is due.",
                (Query(f'SELECT last("severity") FROM "assessment" {IN_ASSET} GROUP BY "asset"',
                       "$tag_asset"),),
                kind="bargauge", width=12, thresholds=SHARE,
                options={"displayMode": "gradient", "orientation": "horizontal",
                         "reduceOptions": {"calcs": ["lastNotNull"]}},
            ),
            Panel(
                "Alarms that were raised",
                "Activations of each asset in the time shown.",
                (Query(f'SELECT count("severity") FROM "alarm" {IN_ASSET} AND {RAISED} '
                       'GROUP BY "asset"', "$tag_asset"),),
                kind="bargauge", width=12, thresholds=((None, "green"), (1, "orange")),
                options={"displayMode": "basic", "orientation": "horizontal",
                         "reduceOptions": {"calcs": ["sum"]}},
            ),
            Panel(
                "Severity",
                "Score over limit: how it came to be.",
                (Query(f'SELECT max("severity") FROM "assessment" {IN_ASSET} '
                       'GROUP BY time($__interval), "asset" fill(null)', "$tag_asset"),),
                width=24, thresholds=SHARE, custom={"thresholdsStyle": {"mode": "line"}},
            ),
            Panel(
                "Last events",
                "What happened to alarms, newest first, in the words of the operator's console.",
                (Query('SELECT "asset", "alarm", "priority", "state", "severity", "text" FROM '
                       f'"alarm" {IN_ASSET} ORDER BY time DESC LIMIT 50', table=True),),
                kind="table", width=24,
            ),
            Panel(
                "Coverage",
                "Share of usable samples in the windows judged; with too few the model abstains.",
                (Query(f'SELECT mean("coverage") FROM "assessment" {IN_ASSET} '
                       'GROUP BY time($__interval), "asset" fill(null)', "$tag_asset"),),
                unit="percentunit", width=24,
            ),
        ),
        (ASSET,),
        alarms=True,
    )  # fmt: skip


def asset() -> Dashboard:
    """One machine in depth."""
    return Dashboard(
        "forewarn-asset",
        "Asset",
        "Why a machine is judged as it is.",
        (
            Panel(
                "Score against limit",
                "The model's score and the limit that it may not pass.",
                (Query(f'SELECT max("score") FROM "assessment" {IN_ASSET} '
                       'GROUP BY time($__interval), "asset" fill(null)', "$tag_asset score"),
                 Query(f'SELECT min("limit") FROM "assessment" {IN_ASSET} '
                       'GROUP BY time($__interval), "asset" fill(null)', "$tag_asset limit")),
            ),
            Panel(
                "What drives the score",
                "Share of each signal in the score: look at the largest first.",
                (Query(f'SELECT mean("share") FROM "contribution" {IN_ASSET} '
                       'GROUP BY time($__interval), "asset", "signal" fill(null)',
                       "$tag_asset $tag_signal"),),
                unit="percentunit", custom={"stacking": {"mode": "normal", "group": "A"},
                                            "fillOpacity": 40},
            ),
            Panel(
                "Signals",
                "What was measured, each in its own unit, which its name ends with.",
                (Query(f'SELECT mean("value") FROM "signal" {IN_ASSET} AND '
                       '"signal" =~ /^(${signal:regex})$/ '
                       'GROUP BY time($__interval), "asset", "signal", "unit" fill(null)',
                       "$tag_asset $tag_signal $tag_unit"),),
                width=24, height=11,
            ),
            Panel(
                "Probability of failure",
                "By failure mode, within the horizon that the model was trained for.",
                (Query(f'SELECT max("probability") FROM "failure" {IN_ASSET} '
                       'GROUP BY time($__interval), "asset", "mode" fill(null)',
                       "$tag_asset $tag_mode"),),
                unit="percentunit", thresholds=((None, "green"), (0.5, "yellow"), (0.8, "red")),
            ),
            Panel(
                "Remaining life",
                "Estimate with its interval.",
                tuple(Query(f'SELECT min("{name}") FROM "rul" {IN_ASSET} '
                            'GROUP BY time($__interval), "asset" fill(null)',
                            f"$tag_asset {name}") for name in ("low", "hours", "high")),
                unit="h",
            ),
            Panel(
                "Unusable samples",
                "Samples of quality BAD: a sensor or a link to look at.",
                (Query(f'SELECT count("quality") FROM "signal" {IN_ASSET} AND "quality" >= 2 '
                       'GROUP BY time($__interval), "asset", "signal" fill(0)',
                       "$tag_asset $tag_signal"),),
                custom={"drawStyle": "bars"},
            ),
            Panel(
                "Verdicts withheld",
                "Windows in which the model abstained.",
                (Query(f'SELECT count("coverage") FROM "assessment" {IN_ASSET} AND '
                       '"abstained" = true GROUP BY time($__interval), "asset" fill(0)',
                       "$tag_asset"),),
                custom={"drawStyle": "bars"},
            ),
        ),
        (
            ASSET,
            Variable("signal", "Signal",
                     'SHOW TAG VALUES FROM "signal" WITH KEY = "signal" WHERE '
                     '"asset" =~ /^(${asset:regex})$/'),
        ),
        alarms=True,
        since="now-1h",
    )  # fmt: skip


def energy() -> Dashboard:
    """What it costs to run, and to idle."""
    meter = f'FROM "signal" {IN_ASSET} AND "unit" = \'kWh\''
    power = f'FROM "signal" {IN_ASSET} AND "signal" = \'power\''
    return Dashboard(
        "forewarn-energy",
        "Energy",
        "Consumption by shift and by product, peaks, and what idling costs.",
        (
            Panel(
                "Energy per shift",
                "What each meter counted in shifts of eight hours.",
                (Query(f'SELECT spread("value") {meter} GROUP BY time(8h), "asset" fill(none)',
                       "$tag_asset"),),
                unit="kwatth", custom={"drawStyle": "bars", "fillOpacity": 60},
            ),
            Panel(
                "Power",
                "Mean electrical power.",
                (Query(f'SELECT mean("value") {power} GROUP BY time($__interval), "asset" '
                       "fill(null)", "$tag_asset"),),
                unit="kwatt",
            ),
            Panel(
                "Energy per unit of product",
                "Energy by the hour over what went through in it: a signal of throughput, its unit "
                "ending in /h, such as t/h or m³/h.",
                (Query(f'SELECT spread("value") AS "energy" {meter} GROUP BY time(1h) fill(none)'),
                 Query(f'SELECT mean("value") AS "product" FROM "signal" {IN_ASSET} AND '
                       '"unit" =~ /\\/h$/ GROUP BY time(1h) fill(none)')),
                unit="kwatth", kind="table",
                calculate=("signal.energy", "/", "signal.product", "kWh per unit"),
            ),
            Panel(
                "Peak power",
                "Highest mean of a quarter of an hour: what the tariff looks at.",
                (Query('SELECT max("quarter") FROM (SELECT mean("value") AS "quarter" '
                       f'{power} GROUP BY time(15m), "asset") GROUP BY "asset"',
                       "$tag_asset"),),
                unit="kwatt", kind="stat", options={"reduceOptions": {"calcs": ["max"]}},
            ),
            Panel(
                "Idle share",
                "Share of samples below the idle power: switch it off, or ask why it waits.",
                (Query(f'SELECT count("value") AS "idle" {power} AND "value" < ${{idle_kw}} '
                       "GROUP BY time(1h) fill(0)"),
                 Query(f'SELECT count("value") AS "all" {power} GROUP BY time(1h) fill(0)')),
                unit="percentunit", kind="table",
                calculate=("signal.idle", "/", "signal.all", "idle share"),
            ),
            Panel(
                "Energy in the time shown",
                "What each meter counted.",
                (Query(f'SELECT spread("value") {meter} GROUP BY "asset"', "$tag_asset"),),
                unit="kwatth", kind="stat", options={"reduceOptions": {"calcs": ["sum"]}},
            ),
        ),
        (ASSET, Variable("idle_kw", "Idle below (kW)", text="2.0")),
        since="now-24h",
    )  # fmt: skip


def alarms() -> Dashboard:
    """How good the alarms are, by ISA-18.2 and EEMUA 191."""
    of = f'FROM "alarm" {IN_ASSET}'
    return Dashboard(
        "forewarn-alarms",
        "Alarm KPIs",
        "Whether operators can act on what they are told: 6 an hour at most, no floods.",
        (
            Panel(
                "Alarms per hour",
                "The target is six for one operator.",
                (Query(f'SELECT count("severity") {of} AND {RAISED} GROUP BY time(1h) fill(0)',
                       "alarms"),),
                thresholds=((None, "green"), (6, "yellow"), (12, "red")),
                custom={"drawStyle": "bars", "thresholdsStyle": {"mode": "line"}},
            ),
            Panel(
                "Alarms per 10 minutes",
                "More than ten are a flood: nobody can follow it.",
                (Query(f'SELECT count("severity") {of} AND {RAISED} GROUP BY time(10m) fill(0)',
                       "alarms"),),
                thresholds=((None, "green"), (10, "red")),
                custom={"drawStyle": "bars", "thresholdsStyle": {"mode": "line"}},
            ),
            Panel(
                "Most frequent",
                "Which condition speaks most: ten of them usually make most of the load.",
                (Query(f'SELECT count("severity") {of} AND {RAISED} GROUP BY "asset", "alarm"',
                       "$tag_asset $tag_alarm"),),
                kind="bargauge", options={"displayMode": "basic", "orientation": "horizontal",
                                          "reduceOptions": {"calcs": ["sum"]}},
            ),
            Panel(
                "By priority",
                "ISA-18.2 aims at 80 % low, 15 % medium, 5 % high.",
                (Query(f'SELECT count("severity") {of} AND {RAISED} GROUP BY "priority"',
                       "$tag_priority"),),
                kind="piechart", options={"reduceOptions": {"calcs": ["sum"]},
                                          "legend": {"displayMode": "table", "placement": "right",
                                                     "values": ["value", "percent"]}},
            ),
            Panel(
                "Where each stands",
                "The last known state of each alarm.",
                (Query(f'SELECT last("state") AS "state", "text" {of} '
                       'GROUP BY "asset", "alarm", "priority"', table=True),),
                kind="table", width=24,
            ),
        ),
        (ASSET,),
        since="now-7d",
    )  # fmt: skip


def gateway() -> Dashboard:
    """The watcher itself."""
    own = 'FROM "gateway" WHERE "gateway" =~ /^(${gateway:regex})$/ AND "source" = \'\' AND '
    own += "$timeFilter"
    each = 'FROM "gateway" WHERE "gateway" =~ /^(${gateway:regex})$/ AND "source" != \'\' AND '
    each += "$timeFilter"
    rate = 'GROUP BY time($__interval), "gateway", "source" fill(null)'

    def per_second(name: str) -> tuple[Query, ...]:
        text = f'SELECT non_negative_derivative(last("{name}"), 1s) {each} {rate}'
        return (Query(text, "$tag_source"),)

    return Dashboard(
        "forewarn-gateway",
        "Gateway health",
        "Whether what is shown elsewhere can be trusted.",
        (
            Panel("Links", "Whether each source is connected.",
                  (Query(f'SELECT last("up") {each} GROUP BY "gateway", "source"',
                         "$tag_gateway $tag_source"),),
                  kind="stat", mappings=(("true", "up", "green"), ("false", "down", "red")),
                  options={"reduceOptions": {"calcs": ["lastNotNull"]}}),
            Panel("Samples", "Samples a second, by source.", per_second("samples"), unit="cps"),
            Panel("Unusable samples", "Samples a second that were BAD, by source.",
                  per_second("samples_bad"), unit="cps"),
            Panel("Errors of links", "Breaks of each link, counted since the start.",
                  (Query(f'SELECT last("link_errors") {each} {rate}', "$tag_source"),)),
            Panel("Behind", "Records that each reader of the log still has to deal with.",
                  (Query(f'SELECT last(/^lag_/) {own} GROUP BY time($__interval), "gateway" '
                         "fill(null)"),)),
            Panel("Answer time", "Smoothed time from request to answer.",
                  (Query(f'SELECT mean("latency_s") {each} {rate}', "$tag_source"),), unit="s"),
            Panel("Lost", "Samples lost by peers, counted since the start.",
                  (Query(f'SELECT last("samples_lost") {each} {rate}', "$tag_source"),)),
            Panel("Dropped by the log", "Records dropped by policy, counted since the start.",
                  (Query(f'SELECT last(/_dropped$/) {own} GROUP BY time($__interval), "gateway" '
                         "fill(null)"),)),
            Panel("Memory", "Highest memory in use since the start.",
                  (Query(f'SELECT last("rss_peak_mb") {own} GROUP BY time($__interval), "gateway" '
                         "fill(null)", "$tag_gateway"),), unit="decmbytes"),
            Panel("Processor", "Share of one core.",
                  (Query(f'SELECT non_negative_derivative(last("cpu_s"), 1s) {own} '
                         'GROUP BY time($__interval), "gateway" fill(null)', "$tag_gateway"),),
                  unit="percentunit"),
        ),
        (Variable("gateway", "Gateway", 'SHOW TAG VALUES FROM "gateway" WITH KEY = "gateway"'),),
        since="now-1h",
    )  # fmt: skip


def _targets(panel: Panel) -> list[dict[str, Any]]:
    return [
        {
            "datasource": SOURCE,
            "refId": chr(ord("A") + i),
            "rawQuery": True,
            "query": query.text,
            "resultFormat": "table" if query.table or panel.kind == "table" else "time_series",
            **({"alias": query.alias} if query.alias else {}),
        }
        for i, query in enumerate(panel.queries)
    ]


def _panel(panel: Panel, number: int, x: int, y: int) -> dict[str, Any]:
    mappings = [
        {"type": "value", "options": {value: {"text": text, "color": color, "index": i}}}
        for i, (value, text, color) in enumerate(panel.mappings)
    ]
    out: dict[str, Any] = {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.description,
        "datasource": SOURCE,
        "gridPos": {"h": panel.height, "w": panel.width, "x": x, "y": y},
        "targets": _targets(panel),
        "options": panel.options,
        "fieldConfig": {
            "defaults": {
                "unit": panel.unit,
                "custom": panel.custom,
                "mappings": mappings,
                "thresholds": {
                    "mode": "absolute",
                    "steps": [{"value": v, "color": c} for v, c in panel.thresholds],
                },
            },
            "overrides": [],
        },
    }
    if panel.calculate is not None:
        left, operator, right, name = panel.calculate
        out["transformations"] = [
            {"id": "joinByField", "options": {"byField": "Time", "mode": "outer"}},
            {
                "id": "calculateField",
                "options": {
                    "alias": name,
                    "mode": "binary",
                    "binary": {
                        "left": {"matcher": {"id": "byName", "options": left.split(".")[1]}},
                        "operator": operator,
                        "right": {"matcher": {"id": "byName", "options": right.split(".")[1]}},
                    },
                },
            },
        ]
    return out


def _variable(variable: Variable) -> dict[str, Any]:
    base: dict[str, Any] = {"name": variable.name, "label": variable.label, "hide": 0}
    if variable.text:
        now = {"text": variable.text, "value": variable.text}
        return base | {"type": "textbox", "query": variable.text, "current": now}
    if variable.choices:
        options = [{"text": n, "value": v, "selected": v == ALL} for n, v in variable.choices]
        return base | {
            "type": "custom",
            "query": ", ".join(f"{n} : {v}" for n, v in variable.choices),
            "options": options,
            "current": {"text": "All", "value": ALL},
        }
    return base | {
        "type": "query",
        "datasource": SOURCE,
        "query": variable.query,
        "refresh": 2,
        "sort": 1,
        "multi": variable.multi,
        "includeAll": True,
        "allValue": ALL,
        "current": {"text": ["All"], "value": ["$__all"]},
    }


def as_json(dashboard: Dashboard, groups: Sequence[Variable]) -> dict[str, Any]:
    """The dashboard as Grafana stores it."""
    panels, x, y, row = [], 0, 0, 0
    for number, panel in enumerate(dashboard.panels, start=1):
        if x + panel.width > 24:
            x, y, row = 0, y + row, 0
        panels.append(_panel(panel, number, x, y))
        x, row = x + panel.width, max(row, panel.height)
    uses_assets = any(v.name == "asset" for v in dashboard.variables)
    annotations = [
        {
            "name": "Alarms",
            "enable": True,
            "iconColor": "red",
            "datasource": SOURCE,
            "target": {
                "refId": "Anno",
                "fromAnnotations": True,
                "rawQuery": True,
                "query": 'SELECT "text", "asset", "alarm" FROM "alarm" WHERE '
                '"asset" =~ /^(${asset:regex})$/ AND ' + RAISED + " AND $timeFilter",
                "textEditor": True,
                "textColumn": "text",
                "tagsColumn": "asset,alarm",
            },
        }
    ]
    return {
        "uid": dashboard.uid,
        "title": dashboard.title,
        "description": dashboard.description,
        "tags": ["forewarn"],
        "schemaVersion": SCHEMA_VERSION,
        "version": 1,
        "editable": False,
        "graphTooltip": 1,
        "refresh": "10s",
        "time": {"from": dashboard.since, "to": "now"},
        "timezone": "browser",
        "annotations": {"list": annotations if dashboard.alarms else []},
        "templating": {
            "list": [_variable(v) for v in (*(groups if uses_assets else ()), *dashboard.variables)]
        },
        "links": [
            {
                "type": "dashboards",
                "title": "Forewarn",
                "tags": ["forewarn"],
                "asDropdown": True,
                "includeVars": True,
                "keepTime": True,
                "icon": "external link",
                "tooltip": "",
                "url": "",
                "targetBlank": False,
            }
        ],
        "panels": panels,
    }


RULES = (
    ("forewarn-no-data", "No samples arrive", "5m",
     'SELECT count("value") FROM "signal" WHERE time > now() - 5m',
     "No sample of any machine reached InfluxDB for five minutes."),
    ("forewarn-gateway-down", "The gateway is silent", "5m",
     'SELECT count("rss_peak_mb") FROM "gateway" WHERE time > now() - 5m',
     "The gateway has not written its own counters for five minutes."),
    ("forewarn-held", "The writer is held", "10m",
     'SELECT count("influx_open") FROM "gateway" WHERE "influx_open" = true AND time > now() - 10m',
     "The way to InfluxDB has not been open for ten minutes: look at [influx] and its token."),
)  # fmt: skip
"""(uid, title, for, query, words): each fires when its query counts nothing. They only watch the
watcher; the machines' alarms are the gateway's."""


def alert_rules() -> dict[str, Any]:
    """Grafana's alert provisioning; JSON is YAML."""
    rules = []
    for uid, title, span, query, words in RULES:
        rules.append(
            {
                "uid": uid,
                "title": title,
                "condition": "C",
                "for": span,
                "noDataState": "Alerting",
                "execErrState": "Alerting",
                "annotations": {"summary": words},
                "labels": {"watches": "forewarn"},
                "data": [
                    {
                        "refId": "A",
                        "datasourceUid": SOURCE_UID,
                        "relativeTimeRange": {"from": 900, "to": 0},
                        "model": {
                            "refId": "A",
                            "rawQuery": True,
                            "query": query,
                            "resultFormat": "time_series",
                        },
                    },
                    {
                        "refId": "B",
                        "datasourceUid": "__expr__",
                        "model": {
                            "refId": "B",
                            "type": "reduce",
                            "expression": "A",
                            "reducer": "last",
                        },
                    },
                    {
                        "refId": "C",
                        "datasourceUid": "__expr__",
                        "model": {
                            "refId": "C",
                            "type": "threshold",
                            "expression": "B",
                            "conditions": [{"evaluator": {"type": "lt", "params": [1]}}],
                        },
                    },
                ],
            }
        )
    group = {
        "orgId": 1,
        "name": "forewarn",
        "folder": "Forewarn",
        "interval": "1m",
        "rules": rules,
    }
    return {"apiVersion": 1, "groups": [group]}


def data_source() -> dict[str, Any]:
    """InfluxQL against InfluxDB 2 by its v1 interface; the token comes from a file."""
    return {
        "apiVersion": 1,
        "datasources": [
            {
                "name": "Forewarn",
                "uid": SOURCE_UID,
                "type": "influxdb",
                "access": "proxy",
                "url": "http://influxdb:8086",
                "isDefault": True,
                "editable": False,
                "jsonData": {
                    "version": "InfluxQL",
                    "dbName": "forewarn",
                    "httpMode": "POST",
                    "httpHeaderName1": "Authorization",
                },
                "secureJsonData": {
                    "httpHeaderValue1": "Token $__file{/run/secrets/influxdb_token}"
                },
            }
        ],
    }


def provider() -> dict[str, Any]:
    """Where Grafana finds the dashboards."""
    return {
        "apiVersion": 1,
        "providers": [
            {
                "name": "Forewarn",
                "folder": "Forewarn",
                "type": "file",
                "allowUiUpdates": False,
                "options": {"path": "/etc/forewarn-dashboards"},
            }
        ],
    }


def groups_of(options: argparse.Namespace) -> tuple[Variable, ...]:
    """The variables site and line, as the options name their assets."""
    found = []
    for name, label in (("site", "Site"), ("line", "Line")):
        choices = [("All", ALL)]
        for text in getattr(options, name):
            title, _, assets = text.partition("=")
            # A comma would end the choice: an alternative of patterns needs none.
            choices.append((title, "|".join(re.escape(a) for a in assets.split(","))))
        found.append(Variable(name, label, choices=choices, multi=False))
    return tuple(found)


def build(groups: Sequence[Variable]) -> dict[str, str]:
    """Path below this folder -> content, of everything that is generated."""
    pages = {
        f"dashboards/{page.uid.removeprefix('forewarn-')}.json": as_json(page, groups)
        for page in (plant(), asset(), energy(), alarms(), gateway())
    }
    pages["provisioning/datasources/forewarn.yaml"] = data_source()
    pages["provisioning/dashboards/forewarn.yaml"] = provider()
    pages["provisioning/alerting/forewarn.yaml"] = alert_rules()
    return {
        path: json.dumps(content, indent=2, ensure_ascii=False) + "\n"
        for path, content in pages.items()
    }


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--site", action="append", default=[], metavar="NAME=ASSET,ASSET")
    parser.add_argument("--line", action="append", default=[], metavar="NAME=ASSET,ASSET")
    parser.add_argument("--check", action="store_true", help="write nothing")
    return parser.parse_args(arguments)


def main() -> None:
    """Write the files, or check them."""
    options = parse(sys.argv[1:])
    stale = []
    for name, text in build(groups_of(options)).items():
        path = HERE / name
        if options.check:
            if not path.exists() or path.read_text(encoding="utf-8") != text:
                stale.append(name)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    if stale:
        sys.exit(f"docker/grafana: out of date: {', '.join(stale)}; run build.py")


if __name__ == "__main__":
    main()
