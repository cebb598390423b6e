"""OPC UA against node-opcua, a server by other hands."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from asyncua import Client
from click.testing import CliRunner

from gateway.cli import group
from gateway.core.batch import Batch, Quality, Waveform
from gateway.core.channel import Channel, WhenFull
from gateway.core.errors import LinkError, LinkRefused
from gateway.core.source import Session, Source
from gateway.pipeline.supervise import Supervisor
from protocols.opcua import Config, opening
from protocols.opcua.certificates import first_certificate, pin
from protocols.opcua.discover import endpoints_of
from protocols.opcua.items import Item, Limits
from protocols.opcua.subscription import Subscription

from ..conformance import Bench, bench, check_source
from ..eventually import eventually
from ..peers.node import NodePeer, node_peer
from ..servers import free_port
from ..sim.proxy import Proxy, proxy
from .opcua_plant import signal, source

pytestmark = pytest.mark.asyncio(loop_scope="module")
NUMBERS = count(100)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def peer(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[NodePeer]:
    pki = tmp_path_factory.mktemp("pki")
    async with node_peer("opcua_server.js", str(free_port()), str(pki)) as running:
        yield running


def url_of(peer: NodePeer) -> str:
    return str(peer.said["url"])


@dataclass
class NodePlantPeer:
    """The node-opcua plant behind a relay, as the conformance suite wants it."""

    peer: NodePeer
    relay: Proxy
    source: Source
    wider: Source
    broken: Source
    resets: bool = True
    asked: bool = True

    def links(self) -> int:
        return self.relay.links

    async def emit(self, n: int) -> Sequence[float]:
        value = 0.0
        for _ in range(n):
            value = float(next(NUMBERS))
            await self.peer.send(name="flow", value=value)
        return [value]  # It samples on a timer of its own: only the last is sure to be seen.

    async def hang_up(self, *, reset: bool) -> None:
        self.relay.cut(reset=reset)


async def read_until(session: Session, world: Bench, wanted: set[str]) -> dict[str, float]:
    """Read until each of the wanted signals had a good value; give the last of each."""
    got: dict[str, float] = {}
    async with asyncio.timeout(30):
        while not wanted <= got.keys():
            item = await session.read()
            if isinstance(item, Batch):
                for number, value, quality in zip(
                    item.signal, item.value, item.quality, strict=True
                ):
                    if quality == Quality.GOOD:
                        got[world.context.signals[number].name] = float(value)
    return got


async def test_conforms(peer: NodePeer, tmp_path: Path) -> None:
    port = int(url_of(peer).split(":")[2].split("/")[0])

    @asynccontextmanager
    async def make() -> AsyncIterator[NodePlantPeer]:
        async with proxy(("127.0.0.1", port)) as relay:
            url = f"opc.tcp://127.0.0.1:{relay.port}/plant"
            flow = signal("flow")
            missing = signal("load", address="nsu=urn:test:plant;s=missing")
            yield NodePlantPeer(
                peer,
                relay,
                source(url, flow),
                source(url, flow, signal("n7")),
                source(url, flow, missing),
            )

    await check_source(make, tmp_path)


@pytest.mark.parametrize(
    ("mode", "interval_s", "requests"),
    [
        ("subscribe", 0.05, {"CreateMonitoredItemsRequest": 6}),
        ("poll", 60.0, {"ReadRequest": 3}),  # The first asks for the limits.
    ],
)
async def test_its_operation_limits_are_kept(
    peer: NodePeer, tmp_path: Path, mode: str, interval_s: float, requests: dict[str, int]
) -> None:
    names = [f"n{i}" for i in range(40)]
    paths = [f"/Objects/{{urn:test:plant}}Pump/{name}" for name in names]
    config = source(
        url_of(peer),
        *(signal(name, address=path) for name, path in zip(names, paths, strict=True)),
        mode=mode,
        publishing_interval_s=interval_s,
        keep_alive_s=60.0,
    )
    world = bench("p1", "opcua", tmp_path)
    world.context.tap.start(world.context.clock, 60)
    async with config.open(world.context) as session:
        got = await read_until(session, world, set(names))
    assert got == {f"n{i}": float(i) for i in range(40)}
    assert +world.meter.errors == {}
    # 7 paths of 6, 6 items of 7, or 2 reads of 20: nothing was refused first and then halved.
    notes = Counter(frame.note for frame in world.context.tap.frames())
    requests = {"TranslateBrowsePathsToNodeIdsRequest": 7, **requests}
    assert {note: notes[note] for note in requests} == requests


async def test_its_limits_are_kept_where_it_refuses_a_deadband(
    peer: NodePeer, tmp_path: Path
) -> None:
    """A node without EURange has no percent deadband there, so we look for that range ourselves."""
    signals = [signal(f"n{i}", deadband_percent=5.0) for i in range(40)]
    config = source(url_of(peer), *signals, signal("flow", deadband_percent=5.0))
    world = bench("p1", "opcua", tmp_path)
    async with config.open(world.context) as session:
        await read_until(session, world, {"flow"})
    assert len(world.meter.quarantined) == 40
    assert "needs a node with an EURange" in world.meter.quarantined["pump/n7"]


@pytest.mark.parametrize(
    ("policy", "mode"),
    [
        ("Basic256Sha256", "Sign"),
        ("Aes128_Sha256_RsaOaep", "SignAndEncrypt"),
        ("Aes256_Sha256_RsaPss", "SignAndEncrypt"),
    ],
)
async def test_security_and_password(
    peer: NodePeer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, policy: str, mode: str
) -> None:
    def config(reference: str) -> Config:
        return source(
            url_of(peer),
            signal("n7"),
            security_policy=policy,
            security_mode=mode,
            username="press",
            password=reference,
        )

    monkeypatch.setenv("FW_GOOD", "s3cret")
    monkeypatch.setenv("FW_BAD", "guess")
    world = bench("p1", "opcua", tmp_path)
    with pytest.raises(LinkRefused, match="not trusted"):
        async with config("env:FW_GOOD").open(world.context):
            pass
    endpoints = await endpoints_of(url_of(peer), timeout_s=5)
    pin(first_certificate(bytes(endpoints[0].ServerCertificate)), tmp_path / "trusted")
    async with config("env:FW_GOOD").open(world.context) as session:
        assert await read_until(session, world, {"n7"}) == {"n7": 7.0}
    with pytest.raises(LinkRefused, match="password"):
        async with config("env:FW_BAD").open(world.context):
            pass


async def test_the_keys_of_a_link_that_lives_on_are_renewed(
    peer: NodePeer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server ends a channel whose keys have grown too old; here within two seconds."""
    monkeypatch.setattr(opening, "CHANNEL_LIFETIME_S", 2.0)
    renewed: list[bool] = []
    open_channel = Client.open_secure_channel

    async def watch(client: Client, renew: bool = False) -> None:
        await open_channel(client, renew)
        renewed.append(renew)

    monkeypatch.setattr(Client, "open_secure_channel", watch)
    endpoints = await endpoints_of(url_of(peer), timeout_s=5)
    pin(first_certificate(bytes(endpoints[0].ServerCertificate)), tmp_path / "trusted")
    config = source(
        url_of(peer), signal("flow"), security_policy="Basic256Sha256", sampling_interval_s=0.01
    )
    world = bench("p1", "opcua", tmp_path)
    seen: list[float] = []
    async with config.open(world.context) as session, asyncio.timeout(30):
        while sum(renewed) < 4:
            value = float(next(NUMBERS))
            await peer.send(name="flow", value=value)
            while value not in seen:
                item = await session.read()
                assert isinstance(item, Batch)
                seen += item.value.tolist()
    assert not +world.meter.errors


async def test_both_ends_are_trusted_by_a_person(tmp_path: Path) -> None:
    pki, folder = tmp_path / "pki", tmp_path / "source"
    async with node_peer("opcua_server.js", str(free_port()), str(pki), "strict") as strict:
        config = source(url_of(strict), signal("n7"), security_policy="Basic256Sha256")
        world = bench("p1", "opcua", folder)
        with pytest.raises(
            LinkRefused, match=r"not trusted; compare its SHA-256 .* forewarn trust"
        ):
            async with config.open(world.context):
                pass
        endpoints = await endpoints_of(url_of(strict), timeout_s=5)
        pin(first_certificate(bytes(endpoints[0].ServerCertificate)), folder / "trusted")
        with pytest.raises(LinkError, match="accept it on the server"):
            async with config.open(world.context):
                pass
        # What an engineer does at the server: our certificate lies among the rejected ones.
        await strict.send(trust=True)
        async with config.open(world.context) as session:
            assert await read_until(session, world, {"n7"}) == {"n7": 7.0}


async def keep_none(subscription: Subscription, items: Sequence[Item], limits: Limits) -> None:
    pass


async def test_it_keeps_a_percent_deadband_itself(
    peer: NodePeer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await peer.send(name="flow", value=10.0)
    settings = {"queue_size": 100, "sampling_interval_s": 0.01}
    config = source(
        url_of(peer),
        signal("flow", deadband_percent=10.0, **settings),
        signal("all", address="nsu=urn:test:plant;s=flow", **settings),
    )
    world = bench("p1", "opcua", tmp_path)
    monkeypatch.setattr(Subscription, "_keep_deadbands", keep_none)  # The server alone must.
    seen: dict[str, list[float]] = {"flow": [], "all": []}
    async with config.open(world.context) as session, asyncio.timeout(30):
        # Steps of 2 are 4 % of a span of 50; 16, 22 and 28 leave the band of 5 around the last one.
        for value in (10.0, 12.0, 14.0, 16.0, 18.0, 20.0, 22.0, 24.0, 26.0, 28.0):
            await peer.send(name="flow", value=value)
            while not seen["all"] or seen["all"][-1] != value:
                item = await session.read()
                assert isinstance(item, Batch)
                for number, shown in zip(item.signal.tolist(), item.value.tolist(), strict=True):
                    seen[world.context.signals[number].name].append(shown)
    assert seen["flow"] == [10.0, 16.0, 22.0, 28.0]


async def test_text_waveform_and_browsing(peer: NodePeer, tmp_path: Path) -> None:
    config = source(
        url_of(peer),
        signal("mode", states={"running": 1}),
        signal("burst", rate_hz=100.0),
        signal("last", address="/Objects/{urn:test:plant}Pump/burst", field="[3]"),
    )
    world = bench("p1", "opcua", tmp_path)
    waveform: Waveform | None = None
    got: dict[str, float] = {}
    async with config.open(world.context) as session, asyncio.timeout(30):
        while waveform is None or len(got) < 2:
            item = await session.read()
            if isinstance(item, Waveform):
                waveform = item
            else:
                names = [world.context.signals[number].name for number in item.signal]
                got |= dict(zip(names, item.value.tolist(), strict=True))
    assert got == {"mode": 1.0, "last": -1.0}
    assert waveform.value.tolist() == [0.0, 1.0, 0.0, -1.0]
    result: Any = await asyncio.to_thread(
        CliRunner().invoke,
        group,
        ["browse", url_of(peer), "--under", "/Objects/{urn:test:plant}Pump", "--json"],
    )
    nodes = {node["name"]: node for node in json.loads(result.output)["nodes"]}
    assert nodes["flow"]["unit"] == "m³/h"
    assert (nodes["flow"]["low"], nodes["flow"]["high"]) == (0.0, 50.0)
    assert nodes["mode"]["type"] == "String"
    # What a server says of itself, and of its history, is no machine's.
    assert not {"HA Configuration", "Stepped", "Aliases"} & nodes.keys()
    whole: Any = await asyncio.to_thread(CliRunner().invoke, group, ["browse", url_of(peer)])
    assert not {"Aliases", "Locations", "Server"} & {
        line.split()[0] for line in whole.output.split("\n") if line
    }


async def test_the_gap_of_an_outage_is_filled(peer: NodePeer, tmp_path: Path) -> None:
    config = source(url_of(peer), signal("speed", queue_size=100, sampling_interval_s=0.01))
    past: list[float] = []
    live: list[float] = []

    async def watch(last: float, past_wanted: int) -> None:
        world = bench("p1", "opcua", tmp_path)
        async with config.open(world.context) as session, asyncio.timeout(30):
            while last not in live or len(past) < past_wanted:
                item = await session.read()
                assert isinstance(item, Batch)
                (past if item.history else live).extend(item.value.tolist())

    await peer.send(name="speed", value=1.0)
    await watch(1.0, 0)
    for value in (2.0, 3.0, 4.0, 5.0):
        await peer.send(name="speed", value=value)
    await watch(5.0, 3)
    assert past == [2.0, 3.0, 4.0]
    assert live[-1] == 5.0


async def test_a_short_outage_of_a_server_without_history_costs_nothing(
    peer: NodePeer, tmp_path: Path
) -> None:
    target = ("127.0.0.1", int(url_of(peer).split(":")[2].split("/")[0]))
    async with proxy(target) as relay:
        url = f"opc.tcp://127.0.0.1:{relay.port}/plant"
        flow = signal("flow", queue_size=100, sampling_interval_s=0.01)
        world = bench("p1", "opcua", tmp_path)
        channel = Channel(samples_max=10_000, when_full=WhenFull.BLOCK)
        supervisor = Supervisor(source(url, flow, timeout_s=1.0), world.context, channel)
        seen: list[float] = []

        async def collect() -> None:
            while True:
                for item in await channel.receive():
                    assert isinstance(item, Batch)
                    seen.extend(item.value[item.quality == Quality.GOOD].tolist())

        tasks = [asyncio.create_task(supervisor.run()), asyncio.create_task(collect())]
        told = []
        try:
            for outage in range(2):
                told.append(float(next(NUMBERS)))
                await peer.send(name="flow", value=told[-1])
                await eventually(lambda: told[-1] in seen)
                relay.target = ("127.0.0.1", 1)
                relay.cut(reset=outage == 0)
                for _ in range(5):
                    told.append(float(next(NUMBERS)))
                    await peer.send(name="flow", value=told[-1])
                    await asyncio.sleep(0.1)  # Let the server sample it.
                relay.target = target
                await eventually(lambda: told[-1] in seen, timeout_s=20)
                await eventually(lambda: set(told) <= set(seen))
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        assert [seen.count(value) for value in told] == [1] * len(told)
        assert world.meter.gaps_unfilled == 0
        assert world.meter.samples_lost == 0


async def test_a_queue_that_overflows_is_counted(peer: NodePeer, tmp_path: Path) -> None:
    config = source(
        url_of(peer),
        signal("flow", queue_size=2, sampling_interval_s=0.01),
        publishing_interval_s=1.0,
        keep_alive_s=2.0,
    )
    world = bench("p1", "opcua", tmp_path)
    async with config.open(world.context) as session, asyncio.timeout(30):
        await session.read()
        while not world.meter.samples_lost:
            await peer.send(name="flow", value=float(next(NUMBERS)))
            await asyncio.sleep(0.02)  # Let the server sample it; its queue holds two.
    assert world.meter.errors["overflow"] >= 1
