"""Makes the database or bucket that the writer needs, where the token may; and checks that it is.

v1 and v3 are asked in InfluxQL and by their own paths, v2 by its API. Nothing is ever deleted, and
what is there already is left as it is.
"""

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

import urllib3

from gateway.core.errors import ConfigError
from gateway.core.secret import masked
from gateway.store.config import InfluxConfig
from gateway.store.influx_answer import Verdict, judge
from gateway.store.influx_delivery import health_line
from gateway.store.influx_link import PlainLink, body_of, open_link


def check(config: InfluxConfig, gateway: str, t_ns: int) -> None:
    """Write one point, as the gateway would. A ping says yes where a write is refused.

    Raises:
        ConfigError: The point was not taken; the server's words and the next step are in it.
    """
    link = open_link(config)
    try:
        answer = link.write(body_of([health_line(gateway, t_ns)]))
    finally:
        link.close()
    if judge(answer) is Verdict.DONE:
        return
    steps = {
        0: "is it running, and is influx.url right?",
        401: "correct influx.token (or user and password)",
        403: f"the token may not write to {config.database!r}: give it that right",
        404: f"{config.database!r} is not there: run forewarn influx setup",
    }
    raise ConfigError(
        f"influx: a point was not taken by {config.url} ({answer.status or 'no answer'}: "
        f"{answer.text}); {steps.get(answer.status, 'see its log')}"
    )


def setup(config: InfluxConfig, *, days: float) -> Iterator[str]:
    """Make what is missing; yields one line for each thing done or found.

    Args:
        config: Where.
        days: How long the server keeps data; 0 for ever.

    Raises:
        ConfigError: The server refuses; its words are in it.
        OSError: It cannot be reached.
    """
    match config.api:
        case "v1":
            yield from _setup_v1(config, days)
        case "v2":
            yield from _setup_v2(config, days)
        case "v3":
            yield from _setup_v3(config, days)


def _setup_v1(config: InfluxConfig, days: float) -> Iterator[str]:
    link = PlainLink(config)
    try:
        name = _identifier(config.database)
        found = link.query("SHOW DATABASES")["results"][0].get("series", [{}])[0].get("values", [])
        if [config.database] in found:
            yield f"database {config.database}: is there, left as it is"
        else:
            link.query(f"CREATE DATABASE {name}", write=True)
            yield f"database {config.database}: made"
        if not config.retention and not days:
            return
        policy = config.retention or "forewarn"
        rows = link.query(f"SHOW RETENTION POLICIES ON {name}")["results"][0]["series"][0]["values"]
        if policy in [row[0] for row in rows]:
            yield f"retention policy {policy}: is there, left as it is"
            return
        length = f"{round(days * 24)}h" if days else "INF"
        default = "" if config.retention else " DEFAULT"
        link.query(
            f"CREATE RETENTION POLICY {_identifier(policy)} ON {name} "
            f"DURATION {length} REPLICATION 1{default}",
            write=True,
        )
        yield f"retention policy {policy}: made, keeps {length}"
    finally:
        link.close()


def _setup_v2(config: InfluxConfig, days: float) -> Iterator[str]:
    api = _Api(config)
    orgs = api.get("/api/v2/orgs")["orgs"]
    org = next((o["id"] for o in orgs if config.org in (o["id"], o["name"])), None)
    if org is None:
        raise ConfigError(f"influx.org: the token sees no organisation {config.org!r}")
    query = urlencode({"orgID": org, "name": config.database})
    buckets = api.get(f"/api/v2/buckets?{query}").get("buckets", [])
    if buckets:
        bucket = buckets[0]["id"]
        yield f"bucket {config.database}: is there, left as it is"
    else:
        rules = [{"type": "expire", "everySeconds": round(days * 86_400)}] if days else []
        made = api.post(
            "/api/v2/buckets", {"orgID": org, "name": config.database, "retentionRules": rules}
        )
        bucket = made["id"]
        yield f"bucket {config.database}: made, keeps {f'{days:g} days' if days else 'for ever'}"
    query = urlencode({"orgID": org, "db": config.database})
    if api.get(f"/api/v2/dbrps?{query}").get("content"):
        yield f"DBRP mapping of {config.database}: is there, left as it is"
        return
    api.post(
        "/api/v2/dbrps",
        {
            "orgID": org,
            "bucketID": bucket,
            "database": config.database,
            "retention_policy": "autogen",
            "default": True,
        },
    )
    yield f"DBRP mapping of {config.database}: made, so InfluxQL (Grafana, training) works"


def _setup_v3(config: InfluxConfig, days: float) -> Iterator[str]:
    api = _Api(config)
    listed = api.get("/api/v3/configure/database?format=json")
    if config.database in [row.get("iox::database") for row in listed]:
        yield f"database {config.database}: is there, left as it is"
        return
    body: dict[str, Any] = {"db": config.database}
    if days:
        body["retention_period"] = f"{round(days * 24)}h"
    api.post("/api/v3/configure/database", body)
    yield f"database {config.database}: made"


class _Api:
    """JSON in, JSON out."""

    def __init__(self, config: InfluxConfig) -> None:
        scheme = "Bearer" if config.api == "v3" else "Token"
        token = config.token.reveal() if config.token is not None else ""
        self._headers = {"Authorization": f"{scheme} {token}"}
        self._url = config.url.rstrip("/")
        self._pool = urllib3.PoolManager(
            timeout=urllib3.Timeout(config.timeout_s),
            retries=False,
            ca_certs=config.ca_file or None,
        )

    def get(self, path: str) -> Any:
        return self._request("GET", path, None)

    def post(self, path: str, body: dict[str, Any]) -> Any:
        return self._request("POST", path, body)

    def _request(self, method: str, path: str, body: dict[str, Any] | None) -> Any:
        try:
            reply = self._pool.request(
                method, self._url + path, json=body, headers=self._headers, redirect=False
            )
        except urllib3.exceptions.HTTPError as error:
            raise OSError(f"{self._url}: {error}") from error
        if reply.status >= 300:
            raise ConfigError(
                f"influx: {self._url}{path.partition('?')[0]} answered {reply.status}: "
                f"{masked(reply.data.decode(errors='replace'))[:300]}"
            )
        return reply.json() if reply.data else {}


def _identifier(name: str) -> str:
    escaped = name.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
