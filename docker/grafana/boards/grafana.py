"""A dashboard as Grafana stores it."""

from collections.abc import Sequence
from typing import Any

from boards.words import ALL, RAISED, Dashboard, Panel, Variable

SOURCE_UID = "forewarn-influxdb"
SOURCE = {"type": "influxdb", "uid": SOURCE_UID}
SCHEMA_VERSION = 41
EVERYTHING = {"text": ["All"], "value": ["$__all"]}
GAP_MS_MAX = 300_000
"""Lines go on over a gap of less: the time between two verdicts is no outage."""
REPEATED = {"repeatDirection": "h", "maxPerRow": 3}


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
    lines = {"spanNulls": GAP_MS_MAX} if panel.kind == "timeseries" else {}
    repeated = {"repeat": panel.repeat, **REPEATED} if panel.repeat else {}
    return repeated | {
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
                "custom": lines | dict(panel.custom),
                "mappings": mappings,
                "thresholds": {
                    "mode": "absolute",
                    "steps": [{"value": v, "color": c} for v, c in panel.thresholds],
                },
            },
            "overrides": [],
        },
    }


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
    return (
        base
        | {
            "type": "query",
            "datasource": SOURCE,
            "query": variable.query,
            "refresh": 2,
            "sort": 1,
            "multi": not variable.single,
            "includeAll": not variable.single,
        }
        | ({} if variable.single else {"allValue": ALL, "current": EVERYTHING})
    )


def as_json(dashboard: Dashboard, groups: Sequence[Variable]) -> dict[str, Any]:
    """The dashboard as Grafana stores it."""
    panels, x, y, row = [], 0, 0, 0
    for number, panel in enumerate(dashboard.panels, start=1):
        # A panel that is repeated has its rows for itself.
        width = 24 if panel.repeat else panel.width
        if x + width > 24:
            x, y, row = 0, y + row, 0
        panels.append(_panel(panel, number, x, y))
        x, row = x + width, max(row, panel.height)
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
