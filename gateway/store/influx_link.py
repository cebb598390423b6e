"""One write request to an InfluxDB, one answer; nothing is retried and nothing raised here."""

import gzip
import json
from collections.abc import Sequence
from typing import Any, Protocol
from urllib.parse import urlencode

import urllib3

from gateway.core.errors import ConfigError
from gateway.core.secret import masked
from gateway.store.config import InfluxConfig
from gateway.store.influx_answer import TEXT_CHARS_MAX, Answer, retry_after_s

GZIP_LEVEL = 1
GZIP_BYTES_MIN = 1000


class Link(Protocol):
    """The way to one server; any thread may use it."""

    def write(self, body: bytes) -> Answer:
        """Write lines, at nanosecond precision."""
        ...

    def close(self) -> None: ...


def open_link(config: InfluxConfig, *, connections: int = 1) -> Link:
    """The way that the configured version of InfluxDB speaks.

    Raises:
        ConfigError: A secret cannot be read.
    """
    if config.api == "v1":
        return PlainLink(config, connections)
    return ClientLink(config, connections)


class PlainLink:
    """InfluxDB 1: `POST /write`, and InfluxQL by `/query`."""

    def __init__(self, config: InfluxConfig, connections: int = 1) -> None:
        self._config = config
        headers = urllib3.make_headers(keep_alive=True)
        if config.user:
            password = config.password.reveal() if config.password else ""
            headers |= urllib3.make_headers(basic_auth=f"{config.user}:{password}")
        if config.token is not None:
            headers["Authorization"] = f"Token {config.token.reveal()}"
        self._pool = urllib3.PoolManager(
            maxsize=connections,
            headers=headers,
            timeout=urllib3.Timeout(config.timeout_s),
            retries=False,
            ca_certs=config.ca_file or None,
        )
        self._url = config.url.rstrip("/")

    def write(self, body: bytes) -> Answer:
        fields = {"db": self._config.database, "precision": "ns"}
        if self._config.retention:
            fields["rp"] = self._config.retention
        headers = dict(self._pool.headers)
        if len(body) >= GZIP_BYTES_MIN:
            body = gzip.compress(body, GZIP_LEVEL)
            headers["Content-Encoding"] = "gzip"
        return self._answer("/write", fields, headers, body)

    def query(self, statement: str, *, write: bool = False) -> dict[str, Any]:
        """Run InfluxQL; `write` for statements that change something.

        Raises:
            ConfigError: The server refuses; its words are in the message.
            OSError: It cannot be reached.
        """
        fields = {"q": statement, "db": self._config.database, "epoch": "ns"}
        try:
            reply = self._pool.request(
                "POST" if write else "GET",
                f"{self._url}/query?{urlencode(fields)}",
                redirect=False,
            )
        except urllib3.exceptions.HTTPError as error:
            raise OSError(f"{self._url}: {error}") from error
        try:
            body: dict[str, Any] = json.loads(reply.data)
        except ValueError:
            body = {"error": reply.data[:TEXT_CHARS_MAX].decode(errors="replace")}
        errors = [body.get("error"), *(part.get("error") for part in body.get("results", ()))]
        told = next((str(error) for error in errors if error), "")
        if reply.status >= 300 or told:
            raise ConfigError(f"influx: {self._url} answered {reply.status}: {masked(told)}")
        return body

    def close(self) -> None:
        self._pool.clear()

    def _answer(self, path: str, fields: dict[str, str], headers: Any, body: bytes) -> Answer:
        try:
            reply = self._pool.request(
                "POST",
                f"{self._url}{path}?{urlencode(fields)}",
                body=body,
                headers=headers,
                redirect=False,
            )
        except urllib3.exceptions.HTTPError as error:
            return Answer(0, f"{type(error).__name__}: {error}"[:TEXT_CHARS_MAX])
        text = reply.data[: 100 * TEXT_CHARS_MAX].decode(errors="replace")
        return Answer(reply.status, masked(text), retry_after_s(reply.headers.get("Retry-After")))


class ClientLink:
    """InfluxDB 2 and 3 by the `influxdb-client` library, one request at a time.

    Its batching mode loses points when the server is away, and tells only a callback; so it is a
    transport here, and durability and retries are ours.
    """

    def __init__(self, config: InfluxConfig, connections: int = 1) -> None:
        from influxdb_client.client.influxdb_client import InfluxDBClient  # noqa: PLC0415
        from influxdb_client.client.write_api import SYNCHRONOUS  # noqa: PLC0415

        self._config = config
        self._org = config.org or "-"
        self._client = InfluxDBClient(
            url=config.url.rstrip("/"),
            token=config.token.reveal() if config.token is not None else "",
            org=self._org,
            timeout=round(config.timeout_s * 1000),
            enable_gzip=True,
            retries=False,
            connection_pool_maxsize=connections,
            ssl_ca_cert=config.ca_file or None,
        )
        self._write = self._client.write_api(write_options=SYNCHRONOUS)

    def write(self, body: bytes) -> Answer:
        from influxdb_client.domain.write_precision import WritePrecision  # noqa: PLC0415
        from influxdb_client.rest import ApiException  # noqa: PLC0415

        try:
            self._write.write(
                bucket=self._config.database,
                org=self._org,
                record=body,
                write_precision=WritePrecision.NS,  # type: ignore[arg-type]  # Typed as str there.
            )
        except ApiException as error:
            body_text = error.body or b""
            text = body_text if isinstance(body_text, str) else body_text.decode(errors="replace")
            header = error.headers.get("Retry-After") if error.headers else None
            status = error.status or 0
            return Answer(status, masked(text[: 100 * TEXT_CHARS_MAX]), retry_after_s(header))
        except (urllib3.exceptions.HTTPError, OSError) as error:
            return Answer(0, f"{type(error).__name__}: {error}"[:TEXT_CHARS_MAX])
        return Answer(204)

    def close(self) -> None:
        self._write.close()  # type: ignore[no-untyped-call]
        self._client.close()  # type: ignore[no-untyped-call]


def body_of(lines: Sequence[str]) -> bytes:
    """The lines as one request's body."""
    return "\n".join(lines).encode()
