"""Answers "are you well?" on a socket beside the log: no port, no file written, no secret."""

import asyncio
import contextlib
import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import structlog

HEALTH_SOCKET = "health.sock"
ANSWER_BYTES_MAX = 65_536
ASK_S_MAX = 3.0
PATH_BYTES_MAX = 100
"""A socket's path may not be longer (108 on Linux)."""

_events = structlog.get_logger()


async def answer_health(path: Path, snapshot: Callable[[], dict[str, object]]) -> None:
    """Answer every connection with `snapshot()` as JSON, until cancelled."""
    if len(bytes(path)) > PATH_BYTES_MAX:
        _events.warning("health.off", path=str(path), reason="the path is too long for a socket")
        return

    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            writer.write(json.dumps(snapshot()).encode())
            await writer.drain()
        writer.close()

    # The log's lock says that no other gateway lives here: what lies there is a dead one's.
    _remove(path)
    server = await asyncio.start_unix_server(answer, path)
    try:
        await server.serve_forever()
    finally:
        server.close()
        _remove(path)


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)


def ask_health(data_dir: Path) -> dict[str, Any]:
    """Ask the gateway that runs in `data_dir`.

    Raises:
        OSError: None runs there, or it does not answer in time.
    """
    with socket.socket(socket.AF_UNIX) as link:
        link.settimeout(ASK_S_MAX)
        link.connect(str(data_dir / HEALTH_SOCKET))
        answer = b""
        while part := link.recv(ANSWER_BYTES_MAX - len(answer)):
            answer += part
    said: dict[str, Any] = json.loads(answer or b"{}")
    return said
