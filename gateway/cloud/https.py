"""Summaries by HTTPS: to a receiver of JSON arrays, or to another InfluxDB. Follows nothing."""

import asyncio
import gzip
import hashlib
import http.client
import json
import ssl
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import quote, urlencode, urlsplit

from gateway.cloud.config import Https, RemoteInflux
from gateway.cloud.summary import Summary, encode
from gateway.cloud.target import DELIVERY_S_MAX, Delivery, judge
from gateway.core.errors import ConfigError, LinkError
from gateway.core.secret import SecretRef, masked

ANSWER_BYTES_MAX = 65_536


def trust(ca: Path | None, certificate: Path | None, key: Path | None) -> ssl.SSLContext:
    """TLS 1.2 or newer, the peer's certificate and name always checked.

    Raises:
        ConfigError: A file cannot be read or is no certificate.
    """
    try:
        context = ssl.create_default_context(cafile=str(ca) if ca else None)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if certificate is not None:
            context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        named = ", ".join(str(path) for path in (ca, certificate, key) if path)
        raise ConfigError(
            f"cloud: {named or 'the system trust'}: cannot be used ({error}); "
            "name PEM files that the gateway may read"
        ) from error
    return context


def as_json(summaries: Sequence[Summary]) -> bytes:
    """A JSON array of what `encode` wrote of each."""
    return b"[" + b",".join(map(encode, summaries)) + b"]"


def as_lines(summaries: Sequence[Summary]) -> bytes:
    """Line protocol of what `encode` wrote of each: measurement `summary`, by gateway and asset."""
    lines = []
    for summary in summaries:
        fields = json.loads(encode(summary))
        tags = ",".join(f"{name}={_tag(fields.pop(name))}" for name in ("gateway", "asset"))
        start_s = fields.pop("start_s")
        words = [f"{name}={_field(value)}" for name, value in flat(fields).items()]
        lines.append(f"summary,{tags} {','.join(words)} {start_s}")
    return "\n".join(lines).encode()


def flat(fields: Mapping[str, object]) -> dict[str, int | float | str]:
    """One level of names: `severity_p95`, `vibration_mean`. Absent values are left out."""
    out: dict[str, int | float | str] = {}
    for name, value in fields.items():
        if isinstance(value, list) and name != "signals":
            out |= _spread(name, value)
        elif isinstance(value, int | float | str):
            out[name] = value
    signals = fields.get("signals")
    for row in signals if isinstance(signals, list) else ():
        out[f"signal_{row['signal']}_bad"] = row["bad"]
        if row["spread"] is not None:
            out |= _spread(f"signal_{row['signal']}", row["spread"])
    return out


def _spread(name: str, row: Sequence[float]) -> dict[str, int | float | str]:
    parts = ("count", "low", "p05", "p50", "p95", "high", "mean")
    return {f"{name}_{part}": value for part, value in zip(parts, row, strict=True)}


def _tag(text: str) -> str:
    return text.replace("\\", "\\\\").translate({ord(c): f"\\{c}" for c in ", ="})


def _field(value: float | str) -> str:
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return f"{value}i" if isinstance(value, int) else repr(value)


class HttpsTarget:
    """POSTs gzip bodies to one address, a connection for each."""

    def __init__(
        self,
        *,
        kind: str,
        url: str,
        tls: ssl.SSLContext,
        token: SecretRef | None,
        scheme: str,
        content_type: str,
        body: Callable[[Sequence[Summary]], bytes],
    ) -> None:
        parts = urlsplit(url)
        assert parts.scheme == "https"
        assert parts.hostname
        self.kind = kind
        self._host, self._port = parts.hostname, parts.port or 443
        self._path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._tls, self._token, self._scheme = tls, token, scheme
        self._content_type, self._body = content_type, body

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Delivery]:
        """Nothing to open: each delivery stands alone."""
        yield self

    async def deliver(self, summaries: Sequence[Summary], *, late: bool) -> int:
        """See `Delivery.deliver`."""
        del late
        body = gzip.compress(self._body(summaries), mtime=0)
        ids = "".join(summary.id for summary in summaries)
        headers = {
            "Content-Type": self._content_type,
            "Content-Encoding": "gzip",
            "Idempotency-Key": hashlib.sha256(ids.encode()).hexdigest()[:32],
        }
        if self._token is not None:
            headers["Authorization"] = f"{self._scheme} {self._token.reveal()}"
        status, reason, retry_after = await asyncio.to_thread(self._post, body, headers)
        judge(status, masked(reason), retry_after)
        return len(body) + sum(len(name) + len(value) + 4 for name, value in headers.items())

    def _post(self, body: bytes, headers: dict[str, str]) -> tuple[int, str, str | None]:
        connection = http.client.HTTPSConnection(
            self._host, self._port, timeout=DELIVERY_S_MAX, context=self._tls
        )
        try:
            connection.request("POST", self._path, body, headers)
            answer = connection.getresponse()
            answer.read(ANSWER_BYTES_MAX)
            return answer.status, answer.reason, answer.getheader("Retry-After")
        except (OSError, http.client.HTTPException) as error:
            name = f"https://{self._host}:{self._port}"
            raise LinkError(f"{name}: {type(error).__name__}: {error}") from error
        finally:
            connection.close()


def https_target(config: Https) -> HttpsTarget:
    """A receiver of JSON arrays. Raises ConfigError."""
    return HttpsTarget(
        kind="https",
        url=config.url,
        tls=trust(config.ca, config.certificate, config.key),
        token=config.token,
        scheme="Bearer",
        content_type="application/json",
        body=as_json,
    )


def influx_target(config: RemoteInflux) -> HttpsTarget:
    """Another InfluxDB. Raises ConfigError."""
    query = urlencode({"org": config.org, "bucket": config.bucket, "precision": "s"})
    return HttpsTarget(
        kind="influx",
        url=f"{config.url.rstrip('/')}/api/v2/write?{quote(query, safe='=&%')}",
        tls=trust(config.ca, None, None),
        token=config.token,
        scheme="Token",
        content_type="text/plain; charset=utf-8",
        body=as_lines,
    )
