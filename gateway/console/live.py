"""Live updates: fragments rendered once for all browsers, sent to each when it can take them."""

import asyncio
import json
import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import anyio.to_thread
from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from typing_extensions import override

HEARTBEAT_S = 15.0
SEND_TIMEOUT_S = 10.0
"""A browser that takes nothing for so long is dropped."""


class Fragment(NamedTuple):
    """A piece of a page that changes on its own.

    `print` is what it shows, to be compared; `render` makes its HTML and runs in a worker thread.
    """

    key: str
    print: Hashable
    render: Callable[[], str]


Snapshot = Callable[[], Sequence[Fragment] | None]
"""Takes what a topic shows from memory, in microseconds; None where it is no more."""


@dataclass(slots=True)
class _Piece:
    print: Hashable
    html: str
    version: int


@dataclass(slots=True)
class Board:
    """The present fragments of one topic, each with the version at which it last changed."""

    snapshot: Snapshot
    watchers: int = 0
    version: int = 0
    pieces: dict[str, _Piece] = field(default_factory=dict)
    gone: dict[str, int] = field(default_factory=dict)
    order: tuple[str, ...] = ()
    order_version: int = 0
    _cache: dict[int, bytes] = field(default_factory=dict)

    def take(self, fragments: Sequence[Fragment], html: dict[str, str]) -> None:
        """Take a new picture; `html` holds those that changed, rendered."""
        version = self.version + 1
        order = tuple(f.key for f in fragments)
        for fragment in fragments:
            if fragment.key in html:
                self.pieces[fragment.key] = _Piece(fragment.print, html[fragment.key], version)
                self.gone.pop(fragment.key, None)
        removed = self.pieces.keys() - set(order)
        for key in removed:
            del self.pieces[key]
            self.gone[key] = version
        if order != self.order:
            self.order, self.order_version = order, version
        if html or removed or self.order_version == version:
            self.version = version
            self._cache.clear()
        while len(self.gone) > 10_000:
            self.gone.pop(next(iter(self.gone)))

    def changed(self, fragments: Sequence[Fragment]) -> list[Fragment]:
        """Those whose print differs from what is shown."""
        pieces = self.pieces
        return [f for f in fragments if (p := pieces.get(f.key)) is None or p.print != f.print]

    def since(self, version: int) -> bytes:
        """One event that brings a browser from that version to the present; shared among them."""
        event = self._cache.get(version)
        if event is None:
            body: dict[str, object] = {
                "v": self.version,
                "now": time.time_ns() // 1_000_000,
                "put": {k: p.html for k, p in self.pieces.items() if p.version > version},
                "del": [k for k, v in self.gone.items() if v > version],
            }
            if self.order_version > version:
                body["order"] = self.order
            event = b"data: " + json.dumps(body, separators=(",", ":")).encode() + b"\n\n"
            self._cache[version] = event
        return event


class Hub:
    """Refreshes the boards that somebody looks at, at most once every `interval_s`."""

    def __init__(self, interval_s: float, browsers_max: int) -> None:
        self._interval_s = interval_s
        self._browsers_max = browsers_max
        self._boards: dict[str, Board] = {}
        self._tick = asyncio.Event()
        self._watched = asyncio.Event()
        self.browsers = 0
        self.browsers_dropped = 0
        self.stopping = False

    @property
    def full(self) -> bool:
        """Whether no more browsers are taken."""
        return self.browsers >= self._browsers_max

    async def run(self) -> None:
        """Refresh for ever; sleeps while nobody looks."""
        while True:
            if not self._boards:
                self._watched.clear()
                await self._watched.wait()
            for board in list(self._boards.values()):
                await self._refresh(board)
            self._wake()
            await asyncio.sleep(self._interval_s)

    def stop(self) -> None:
        """Let every browser go, so that the server can end."""
        self.stopping = True
        self._wake()

    def watch(self, topic: str, snapshot: Snapshot) -> Board:
        """Begin to watch a topic; ended by `leave`."""
        board = self._boards.get(topic)
        if board is None:
            board = self._boards[topic] = Board(snapshot)
        board.watchers += 1
        self.browsers += 1
        self._watched.set()
        return board

    def leave(self, topic: str) -> None:
        """End a `watch`; a board that nobody watches is forgotten."""
        self.browsers -= 1
        board = self._boards[topic]
        board.watchers -= 1
        if not board.watchers:
            del self._boards[topic]

    async def wait(self) -> None:
        """Until the next refresh."""
        await self._tick.wait()

    def _wake(self) -> None:
        self._tick.set()
        self._tick = asyncio.Event()

    async def _refresh(self, board: Board) -> None:
        fragments = board.snapshot()
        if fragments is None:
            fragments = ()
        changed = board.changed(fragments)
        html: dict[str, str] = {}
        if changed:
            html = await anyio.to_thread.run_sync(lambda: {f.key: f.render() for f in changed})
        board.take(fragments, html)


class LiveStream(Response):
    """One browser's stream of server-sent events."""

    def __init__(
        self, hub: Hub, topic: str, snapshot: Snapshot, allowed: Callable[[], bool]
    ) -> None:
        super().__init__(media_type="text/event-stream")
        self._hub = hub
        self._topic = topic
        self._snapshot = snapshot
        self._allowed = allowed

    @override
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        board = self._hub.watch(self._topic, self._snapshot)
        try:
            async with asyncio.TaskGroup() as tasks:
                name = f"console:live:{self._topic}"
                stream = tasks.create_task(self._stream(board, send), name=name)
                await _gone(receive, stream)
                stream.cancel()
        except* TimeoutError:
            self._hub.browsers_dropped += 1
        finally:
            self._hub.leave(self._topic)

    async def _stream(self, board: Board, send: Send) -> None:
        await send(
            {
                "type": "http.response.start",
                "status": 200,
                "headers": [
                    (b"content-type", b"text/event-stream; charset=utf-8"),
                    (b"cache-control", b"no-store"),
                    (b"x-accel-buffering", b"no"),
                ],
            }
        )
        version = 0
        # The browser comes back by itself, after this many milliseconds.
        await self._send(send, b"retry: 2000\n\n")
        quiet_s = 0.0
        while not self._hub.stopping:
            if not self._allowed():
                await self._send(send, b"event: signed-out\ndata: {}\n\n")
                break
            if board.version > version:
                event, version = board.since(version), board.version
                await self._send(send, event)
                quiet_s = 0.0
            elif quiet_s >= HEARTBEAT_S:
                await self._send(send, b": still here\n\n")
                quiet_s = 0.0
            began_s = asyncio.get_running_loop().time()
            try:
                async with asyncio.timeout(HEARTBEAT_S):
                    await self._hub.wait()
            except TimeoutError:
                pass
            quiet_s += asyncio.get_running_loop().time() - began_s
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _send(self, send: Send, body: bytes) -> None:
        async with asyncio.timeout(SEND_TIMEOUT_S):
            await send({"type": "http.response.body", "body": body, "more_body": True})


async def _gone(receive: Receive, stream: asyncio.Task[None]) -> None:
    """Return when the browser has gone or the stream has ended."""
    waiting = asyncio.ensure_future(receive())
    try:
        while True:
            await asyncio.wait({waiting, stream}, return_when=asyncio.FIRST_COMPLETED)
            if stream.done() or waiting.result()["type"] == "http.disconnect":
                return
            waiting = asyncio.ensure_future(receive())
    finally:
        waiting.cancel()
