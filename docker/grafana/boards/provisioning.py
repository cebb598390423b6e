"""What Grafana finds when it starts: the data source, the dashboards' folder, the alert rules."""

from typing import Any

from boards.grafana import SOURCE_UID

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
