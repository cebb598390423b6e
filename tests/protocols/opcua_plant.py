"""A real OPC UA server with a small plant in it, under a test's control."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

from asyncua import Node, Server, ua

from gateway.core.batch import Batch, Quality
from gateway.core.source import Session, Source
from protocols.opcua import Config
from protocols.opcua.certificates import Identity

from ..conformance import Bench
from ..sim.proxy import Proxy, proxy

URI = "urn:test:plant"
_ROUNDS = count()


class Plant:
    """The server, its one object `Pump`, and the nodes that tests asked for."""

    def __init__(self) -> None:
        self.server = Server()
        self.port = 0
        self.index = 0
        self.pump: Node
        self.nodes: dict[str, Node] = {}
        self._kept: dict[str, Node] = {}

    @property
    def url(self) -> str:
        return f"opc.tcp://127.0.0.1:{self.port}/plant"

    async def start(
        self,
        port: int = 0,
        identity: Identity | None = None,
        types: Sequence[ua.SecurityPolicyType] = (ua.SecurityPolicyType.NoSecurity,),
        before: Sequence[str] = (),
    ) -> None:
        server = self.server
        await server.init()
        server.set_endpoint("opc.tcp://127.0.0.1:4840/plant")
        server.socket_address = ("127.0.0.1", port)
        server.set_security_policy(list(types))
        if identity is not None:
            await server.set_application_uri(identity.application_uri)
            await server.load_certificate(identity.certificate_der, "der")
            await server.load_private_key(identity.key_pem, format="pem")
        for uri in before:
            await server.register_namespace(uri)
        self.index = await server.register_namespace(URI)
        self.pump = await server.nodes.objects.add_object(self.index, "Pump")
        await server.start()
        assert server.bserver is not None
        assert isinstance(server.bserver._server, asyncio.Server)
        self.port = server.bserver._server.sockets[0].getsockname()[1]

    async def add(self, name: str, value: Any, kind: ua.VariantType | None = None) -> Node:
        """A variable `ns=<plant>;s=<name>` under the pump."""
        if name in self.nodes:
            await self.set(name, value)
            return self.nodes[name]
        node = await self.pump.add_variable(
            ua.NodeId(ua.String(name), ua.Int16(self.index)),
            ua.QualifiedName(name, ua.UInt16(self.index)),
            value,
            varianttype=kind,
        )
        self.nodes[name] = node
        return node

    async def clear(self) -> None:
        """Take away every variable that was added, but those whose past is kept."""
        gone = [node for name, node in self.nodes.items() if name not in self._kept]
        await self.server.delete_nodes(gone, recursive=True)
        self.nodes = dict(self._kept)

    async def historize(self, name: str) -> None:
        """Add a variable whose past the server keeps."""
        if name in self._kept:
            return
        self._kept[name] = node = await self.add(name, 0.0)
        # Kept by the server's own store, but written by `set`: the subscription by which the
        # library would record ends after 30 s, for nobody publishes for it.
        store = self.server.iserver.history_manager.storage
        await store.new_historized_node(node.nodeid, timedelta(days=1), count=100_000)

    async def set(
        self,
        name: str,
        value: Any,
        *,
        kind: ua.VariantType = ua.VariantType.Double,
        status: int = 0,
        at: datetime | None = None,
    ) -> None:
        """Give a variable a value, now unless told otherwise."""
        when = at or datetime.now(UTC)
        data = ua.DataValue(
            ua.Variant(value, kind),
            ua.StatusCode(ua.UInt32(status)),
            SourceTimestamp=ua.DateTime.fromtimestamp(when.timestamp(), UTC),
            ServerTimestamp=ua.DateTime.now(UTC),
        )
        await self.server.write_attribute_value(self.nodes[name].nodeid, data)
        if name in self._kept:
            store = self.server.iserver.history_manager.storage
            await store.save_node_value(self.nodes[name].nodeid, data)


@asynccontextmanager
async def plant(
    port: int = 0,
    identity: Identity | None = None,
    types: Sequence[ua.SecurityPolicyType] = (ua.SecurityPolicyType.NoSecurity,),
    before: Sequence[str] = (),
) -> AsyncIterator[Plant]:
    """A running server, on a free port and without security unless told otherwise.

    `before` are namespaces that it has ahead of its own, which moves its index.
    """
    made = Plant()
    await made.start(port, identity, types, before)
    try:
        yield made
    finally:
        await made.server.stop()


def signal(name: str, **settings: Any) -> dict[str, Any]:
    """One signal of the plant's pump, as it stands in a configuration file."""
    return {"asset": "pump", "signal": name, "address": f"nsu={URI};s={name}", **settings}


def source(url: str, *signals: dict[str, Any], **settings: Any) -> Config:
    """A source that reports every 50 ms over an open link."""
    table = {
        "kind": "opcua",
        "id": "p1",
        "url": url,
        "security_policy": "None",
        "publishing_interval_s": 0.05,
        "keep_alive_s": 0.5,
        "repeat_s": 0,
        "signals": signals,
        **settings,
    }
    return Config.model_validate(table)


@dataclass
class PlantPeer:
    """The plant, as the conformance suite wants it."""

    plant: Plant
    relay: Proxy
    source: Source
    wider: Source
    broken: Source
    resets: bool = True
    asked: bool = True
    polled: bool = False
    _next: float = 0.0

    def __post_init__(self) -> None:
        self._next = 1.0 + 1000 * next(_ROUNDS)

    def links(self) -> int:
        return self.relay.links

    async def emit(self, n: int) -> Sequence[float]:
        values = []
        for _ in range(n):
            await self.plant.set("speed", self._next)
            values.append(self._next)
            self._next += 1
        return values[-1:] if self.polled else values

    async def hang_up(self, *, reset: bool) -> None:
        self.relay.cut(reset=reset)


@asynccontextmanager
async def plant_peer(made: Plant, **settings: Any) -> AsyncIterator[PlantPeer]:
    """A running plant behind a relay of its own."""
    async with proxy(("127.0.0.1", made.port)) as relay:
        for name in ("speed", "load"):
            if name not in made.nodes:
                await made.add(name, 0.5)
        url = f"opc.tcp://127.0.0.1:{relay.port}/plant"
        speed = signal("speed", queue_size=100)
        yield PlantPeer(
            made,
            relay,
            source(url, speed, **settings),
            source(url, speed, signal("load"), **settings),
            source(url, speed, signal("load", address=f"nsu={URI};s=missing"), **settings),
            polled=settings.get("mode") == "poll",
        )


Samples = list[tuple[str, float, int]]
"""(signal, value, quality)."""


async def read_until(
    session: Session, world: Bench, done: Callable[[Samples], bool], *, timeout_s: float = 30.0
) -> Samples:
    """Every sample read up to the one that makes `done` true."""
    got: Samples = []
    async with asyncio.timeout(timeout_s):
        while not done(got):
            item = await session.read()
            if isinstance(item, Batch):
                got += samples_of(item, world)
    return got


def samples_of(batch: Batch, world: Bench) -> Samples:
    names = [world.context.signals[number].name for number in batch.signal]
    return list(zip(names, batch.value.tolist(), batch.quality.tolist(), strict=True))


def latest(samples: Samples) -> dict[str, float]:
    return {name: value for name, value, quality in samples if quality != Quality.BAD}
