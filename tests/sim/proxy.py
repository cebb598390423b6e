"""A TCP relay that can stall, reset, close or spoil: a bad cable, without a bad cable."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager


class Proxy:
    """Relays every connection to `target` until told otherwise."""

    def __init__(self, target: tuple[str, int]) -> None:
        self.target = target
        self.port = 0
        self.links = 0
        self.spoil: Callable[[bytes], bytes] | None = None
        """What becomes of bytes on their way from the target."""
        self._open = asyncio.Event()
        self._open.set()
        self._writers: set[asyncio.StreamWriter] = set()

    def stall(self) -> None:
        """Swallow every byte from now on, both ways; connections stay open and new ones open."""
        self._open.clear()

    def resume(self) -> None:
        """Relay again what comes from now on; the bytes held back are passed on first."""
        self._open.set()

    def cut(self, *, reset: bool) -> None:
        """End all connections: by TCP RST if `reset`, else by FIN."""
        for writer in self._writers:
            if reset:
                linger = struct.pack("ii", 1, 0)
                writer.get_extra_info("socket").setsockopt(
                    socket.SOL_SOCKET, socket.SO_LINGER, linger
                )
            writer.transport.abort()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Relay one connection."""
        self.links += 1
        try:
            peer_reader, peer_writer = await asyncio.open_connection(*self.target)
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, peer_writer}
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._relay(reader, peer_writer))
                tasks.create_task(self._relay(peer_reader, writer, answers=True))
        finally:
            self._writers -= {writer, peer_writer}
            # A link that came while the test ended is cancelled, and would be left open.
            writer.transport.abort()
            peer_writer.transport.abort()

    async def _relay(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, answers: bool = False
    ) -> None:
        try:
            while data := await reader.read(65536):
                await self._open.wait()
                writer.write(self.spoil(data) if answers and self.spoil else data)
                await writer.drain()
        except OSError:
            pass  # The other end is gone, which ends this one too.
        writer.transport.abort()


@asynccontextmanager
async def proxy(target: tuple[str, int]) -> AsyncIterator[Proxy]:
    """A relay on a free port of the loopback."""
    relay = Proxy(target)
    async with await asyncio.start_server(relay.serve, "127.0.0.1", 0) as server:
        relay.port = server.sockets[0].getsockname()[1]
        try:
            yield relay
        finally:
            relay.resume()
            relay.cut(reset=False)
