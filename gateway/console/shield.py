"""What holds for every answer and every request: headers, sizes, host names."""

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

BODY_BYTES_MAX = 65_536
HEADERS = {
    # plotly.js sets styles through the object model, which style-src does not restrict.
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
        "connect-src 'self'; font-src 'self'; manifest-src 'self'; form-action 'self'; "
        "base-uri 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=(), payment=()",
}
LOOPBACK = ("localhost", "127.0.0.1", "[::1]")


class TooLarge(HTTPException):
    """A body beyond `BODY_BYTES_MAX`, found while it was read."""

    def __init__(self) -> None:
        super().__init__(413, f"body: must be at most {BODY_BYTES_MAX} bytes")


class Shield:
    """ASGI middleware around the whole console."""

    def __init__(self, app: ASGIApp, *, hosts: tuple[str, ...], https: bool) -> None:
        self._app = app
        self._hosts = frozenset(host.lower() for host in hosts)
        self._https = https

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)

        async def dressed(message: Message) -> None:
            if message["type"] == "http.response.start":
                out = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    out.setdefault(name, value)
                out.setdefault("cache-control", "no-store")
                if self._https or scope.get("scheme") == "https":
                    out.setdefault("strict-transport-security", "max-age=31536000")
            await send(message)

        if not self._knows(headers.get("host", "")):
            await PlainTextResponse("unknown host name", 421)(scope, receive, dressed)
            return
        length = headers.get("content-length", "0")
        if not length.isdigit() or int(length) > BODY_BYTES_MAX:
            await _too_large()(scope, receive, dressed)
            return
        taken = 0

        async def measured() -> Message:
            nonlocal taken
            message = await receive()
            if message["type"] == "http.request":
                taken += len(message.get("body", b""))
                if taken > BODY_BYTES_MAX:
                    raise TooLarge
            return message

        await self._app(scope, measured, dressed)

    def _knows(self, host: str) -> bool:
        """Whether a browser may ask by this name; stops DNS rebinding."""
        if not self._hosts:
            return True
        name = host.lower()
        bare = name.rsplit(":", 1)[0] if name.rsplit(":", 1)[-1].isdigit() else name
        return bare in self._hosts


def _too_large() -> PlainTextResponse:
    return PlainTextResponse(
        f"body: must be at most {BODY_BYTES_MAX} bytes", 413, {"connection": "close"}
    )
