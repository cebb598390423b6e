"""A strict server that speaks the writing half of InfluxDB 2 and 3, with their error answers.

It parses every line by the grammar of line protocol, keeps points as the real ones do (same series
and time overwrite), and refuses as the manuals of 2 and 3 say. What it cannot show is how a real
server behaves under load.
"""

import asyncio
import gzip
import json
import re
import urllib.parse
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

_KEY = r"(?:[^,= \\]|\\[,= ]|\\(?![,= ]))+"
_FIELD = rf"(?:{_KEY})=(?:-?[0-9.]+(?:[eE][+-]?[0-9]+)?|-?[0-9]+i|true|false|\"(?:[^\"\\]|\\.)*\")"
_LINE = re.compile(
    rf"(?P<series>(?:[^, \\]|\\.)+(?:,{_KEY}={_KEY})*) "
    rf"(?P<fields>{_FIELD}(?:,{_FIELD})*) (?P<time>-?[0-9]+)"
)
_ONE_FIELD = re.compile(rf"({_KEY})=(-?[0-9]+i|[^\",]+|\"(?:[^\"\\]|\\.)*\")")


@dataclass
class Stub:
    """The server's state and its switches.

    Attributes:
        api: 2 or 3: whose answers it gives.
        token: The only token it takes.
        bucket: The only bucket (database) there is.
        next_answers: (status, headers, body) to give instead of doing anything, oldest first.
        lines_max: More lines than this are too large (413).
        poison: A line that contains this text can not be parsed.
        points: {(series, time): fields} of everything that it took.
        writes: How many times each point was written.
        requests: Statuses given, in order.
    """

    api: int = 2
    token: str = "secret"
    bucket: str = "forewarn"
    lines_max: int = 1_000_000
    poison: str = "\0"
    next_answers: deque[tuple[int, dict[str, str], str]] = field(default_factory=deque)
    points: dict[tuple[str, int], dict[str, str]] = field(default_factory=dict)
    types: dict[tuple[str, str], str] = field(default_factory=dict)
    writes: int = 0
    requests: list[int] = field(default_factory=list)
    arrived_s: list[float] = field(default_factory=list)
    made: list[str] = field(default_factory=list)
    rules: list[dict[str, object]] = field(default_factory=list)
    url: str = ""

    def write(self, target: str, token: str, body: bytes) -> tuple[int, dict[str, str], str]:
        query = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(target).query))
        if self.next_answers:
            return self.next_answers.popleft()
        if token != f"Token {self.token}":
            return 401, {}, '{"code":"unauthorized","message":"unauthorized access"}'
        if query.get("bucket") != self.bucket:
            return 404, {}, '{"code":"not found","message":"bucket not found"}'
        if query.get("precision") != "ns":
            return 400, {}, '{"code":"invalid","message":"precision must be given"}'
        lines = body.decode().split("\n")
        if len(lines) > self.lines_max:
            return 413, {}, '{"code":"request too large","message":"too large"}'
        return self._take(lines)

    def _take(self, lines: list[str]) -> tuple[int, dict[str, str], str]:
        parsed: list[tuple[str, int, dict[str, str]]] = []
        errors: list[tuple[int, str, str]] = []
        conflicts = 0
        for number, text in enumerate(lines, 1):
            found = _LINE.fullmatch(text)
            if found is None or self.poison in text:
                errors.append((number, text, "invalid line"))
                continue
            fields = dict(_ONE_FIELD.findall(found["fields"]))
            measurement = found["series"].partition(",")[0]
            kinds = {(measurement, name): _kind(value) for name, value in fields.items()}
            if any(self.types.get(key, kind) != kind for key, kind in kinds.items()):
                conflicts += 1
                errors.append((number, text, "field type conflict"))
                continue
            parsed.append((found["series"], int(found["time"]), fields))
        malformed = len(errors) - conflicts
        if self.api == 2 and malformed:
            return 400, {}, '{"code":"invalid","message":"unable to parse: invalid line"}'
        for series, time, fields in parsed:
            measurement = series.partition(",")[0]
            for name, value in fields.items():
                self.types[measurement, name] = _kind(value)
            self.points.setdefault((series, time), {}).update(fields)
            self.writes += 1
        if not errors:
            return 204, {}, ""
        if self.api == 2:
            body = f"failure writing points: partial write: field type conflict dropped={conflicts}"
            return 422, {}, json.dumps({"code": "unprocessable entity", "message": body})
        data = [
            {"original_line": text[:100], "line_number": number, "error_message": why}
            for number, text, why in errors[:100]
        ]
        return (
            400,
            {},
            json.dumps({"error": "partial write of line protocol occurred", "data": data}),
        )

    def configure(
        self, method: str, path: str, token: str, body: bytes
    ) -> tuple[int, dict[str, str], str]:
        """Organisations, buckets and mappings of 2; databases of 3."""
        if token.partition(" ")[2] != self.token:
            return 401, {}, '{"message":"unauthorized access"}'
        given = json.loads(body) if body else {}
        match method, path:
            case "GET", "/api/v2/orgs":
                found: object = {"orgs": [{"id": "0a", "name": "plant"}]}
            case "GET", "/api/v2/buckets":
                found = {"buckets": [{"id": "0b", "name": b} for b in self.made if "/" not in b]}
            case "POST", "/api/v2/buckets":
                self.made.append(given["name"])
                self.rules = given["retentionRules"]
                found = {"id": "0b"}
            case "GET", "/api/v2/dbrps":
                found = {"content": [m for m in self.made if "/" in m]}
            case "POST", "/api/v2/dbrps":
                self.made.append(f"{given['database']}/{given['retention_policy']}")
                found = {"id": "0c"}
            case "GET", "/api/v3/configure/database":
                found = [{"iox::database": name} for name in self.made]
            case "POST", "/api/v3/configure/database":
                self.made.append(given["db"])
                found = {}
            case _:
                return 404, {}, "no such path"
        return 200, {}, json.dumps(found)

    def values(self, name: str = "value") -> list[float]:
        """Every value of a field, in the order of time."""
        found = [(time, p[name]) for (_, time), p in self.points.items() if name in p]
        return [float(value.rstrip("i")) for _, value in sorted(found)]


def _kind(value: str) -> str:
    if value.startswith('"'):
        return "string"
    if value in ("true", "false"):
        return "boolean"
    return "integer" if value.endswith("i") else "float"


@asynccontextmanager
async def influx_stub(api: int = 2) -> AsyncIterator[Stub]:
    """A running stub."""
    stub = Stub(api=api)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while request := await reader.readline():
                method, target, _ = request.decode().split(" ")
                headers: dict[str, str] = {}
                while (raw := await reader.readline()) not in (b"\r\n", b""):
                    name, _, value = raw.decode().partition(":")
                    headers[name.strip().lower()] = value.strip()
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                if headers.get("content-encoding") == "gzip":
                    body = gzip.decompress(body)
                path = urllib.parse.urlsplit(target).path
                token = headers.get("authorization", "")
                if (method, path) == ("POST", "/api/v2/write"):
                    answer = stub.write(target, token, body)
                else:
                    answer = stub.configure(method, path, token, body)
                status, more, text = answer
                stub.requests.append(status)
                stub.arrived_s.append(asyncio.get_running_loop().time())
                extra = "".join(f"{name}: {value}\r\n" for name, value in more.items())
                writer.write(
                    f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\n"
                    f"Content-Length: {len(text.encode())}\r\n{extra}\r\n{text}".encode()
                )
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            return
        finally:
            writer.transport.abort()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        stub.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        yield stub
