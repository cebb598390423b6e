"""Structures that servers define themselves, by field path: asyncua's server and node-opcua."""

import asyncio
import json
import subprocess
import sys
import tomllib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest
import pytest_asyncio
from asyncua import ua
from asyncua.ua.ua_binary import struct_to_binary
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from gateway.cli import group
from gateway.core.batch import Batch, Quality
from gateway.core.errors import DataError
from protocols.opcua import Config
from protocols.opcua.structures import Description, Structures

from ..conformance import bench
from ..peers.node import node_peer
from ..servers import free_port
from .opcua_plant import URI, signal, source

HERE = Path(__file__).resolve().parents[2]

MOTOR = {
    "mode": "Mode",
    "speed": "Speed",
    "second": "Windings[1].Temperature",
    "current": "Windings[1].Current",
    "hottest": "Hottest.Temperature",
}
VALUES = {"mode": 2.0, "speed": 1480.5, "second": 62.0, "current": 4.75, "hottest": 63.0}


@asynccontextmanager
async def structure_server(*arguments: str) -> AsyncIterator[str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.peers.structure_server",
        *arguments,
        cwd=HERE,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(60):
            said = await process.stdout.readline()
        yield str(json.loads(said)["url"])
    finally:
        process.kill()
        await process.communicate()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def node_url(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    pki = tmp_path_factory.mktemp("pki")
    async with node_peer("opcua_server.js", str(free_port()), str(pki)) as running:
        yield str(running.said["url"])


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def own_url() -> AsyncIterator[str]:
    async with structure_server() as url:
        yield url


def config_of(url: str, node: str, fields: Mapping[str, str]) -> Config:
    rows = [
        signal(name, address=f"nsu={URI};s={node}", field=path) for name, path in fields.items()
    ]
    return source(url, *rows)


async def read(config: Config, folder: Path) -> tuple[dict[str, float], dict[str, str]]:
    """The first value of each signal that has one, and why the others have none."""
    world = bench("p1", "opcua", folder)
    got: dict[str, float] = {}
    seen: set[str] = set()
    async with config.open(world.context) as session, asyncio.timeout(30):
        while len(seen) < len(config.signals):
            item = await session.read()
            assert isinstance(item, Batch)
            for number, value, quality in zip(item.signal, item.value, item.quality, strict=True):
                name = world.context.signals[number].name
                seen.add(name)
                if quality != Quality.BAD:
                    got[name] = float(value)
    return got, dict(world.meter.quarantined)


@pytest.mark.parametrize("node", ["Motor", "Some"])
@pytest.mark.asyncio(loop_scope="module")
async def test_fields_of_an_asyncua_servers_own_structure(
    own_url: str, tmp_path: Path, node: str
) -> None:
    fields = {**MOTOR, "none": "Windings[7].Current"}
    got, why = await read(config_of(own_url, node, fields), tmp_path)
    assert got == VALUES
    assert "an array of 2" in why["pump/none"]


@pytest.mark.asyncio(loop_scope="module")
async def test_two_servers_whose_types_have_the_same_number(own_url: str, tmp_path: Path) -> None:
    async with structure_server("swapped") as other:
        for url in (own_url, other, own_url):
            got, why = await read(config_of(url, "Motor", MOTOR), tmp_path)
            assert (got, why) == (VALUES, {})


@pytest.mark.asyncio(loop_scope="module")
async def test_fields_of_node_opcuas_structures(node_url: str, tmp_path: Path) -> None:
    more = {"low": "Span.Low", "counted": "Counts[2]", "text": "Name", "no": "Speeed"}
    got, why = await read(config_of(node_url, "Motor", {**MOTOR, **more}), tmp_path)
    assert got == {**VALUES, "low": -5.0, "counted": 9.0}
    assert "'M1' is not in states" in why["pump/text"]
    assert "the value has Name, Mode, Speed, Windings" in why["pump/no"]
    # An optional field that is not there is no value: BAD, not 0.
    fields = {"ratio": "Ratio", "torque": "Torque", "oil": "Oil"}
    got, why = await read(config_of(node_url, "Gearbox", fields), tmp_path)
    assert (got, why) == ({"ratio": 12.5, "torque": 3.5}, {})


@pytest.mark.asyncio(loop_scope="module")
async def test_browse_shows_the_fields_and_gives_them_as_toml(node_url: str) -> None:
    result: Any = await asyncio.to_thread(
        CliRunner().invoke,
        group,
        ["browse", node_url, "--under", f"/Objects/{{{URI}}}Pump", "--json"],
    )
    answer = json.loads(result.output)
    motor = next(n for n in answer["nodes"] if n["name"] == "Motor")
    assert motor["type"] == "Motor"
    assert motor["fields"]["Windings[1].Temperature"] == 62.0
    signals = Config.model_validate(tomllib.loads(answer["toml"])["source"][0]).signals
    fields = {s.signal: s.field for s in signals if s.address.endswith("s=Motor")}
    assert fields["Motor.Hottest.Temperature"] == "Hottest.Temperature"
    assert fields["Motor.Speed"] == "Speed"


def structures() -> tuple[Structures, ua.NodeId]:
    """What a session would have learnt: a structure with options, an array, a text and itself."""
    made, kind, encoding = Structures(), number(1), number(2)
    fields = [
        ua.StructureField(Name="Name", DataType=builtin(12), ValueRank=ua.Int32(-1)),
        ua.StructureField(Name="Sizes", DataType=builtin(11), ValueRank=ua.Int32(1)),
        ua.StructureField(Name="Span", DataType=builtin(884), ValueRank=ua.Int32(-1)),
        ua.StructureField(Name="Inner", DataType=kind, ValueRank=ua.Int32(-1)),
    ]
    for i, field in enumerate(fields):
        field.IsOptional = cast("ua.Boolean", i == 3)
    definition = ua.StructureDefinition(
        StructureType=ua.StructureType.StructureWithOptionalFields, Fields=fields
    )
    made._described[kind] = Description("Self", definition, None)
    made._by_encoding[encoding] = kind
    return made, encoding


def number(i: int) -> ua.NodeId:
    return ua.NodeId(ua.Int32(i), ua.Int16(2))


def builtin(i: int) -> ua.NodeId:
    return ua.NodeId(ua.Int32(i))


def closed(encoding: ua.NodeId, body: bytes) -> ua.ExtensionObject:
    return ua.ExtensionObject(encoding, cast("ua.ByteString", body))


def encoded(name: str, sizes: list[float], low: float, *, inner: bytes = b"") -> bytes:
    pack = ua.ua_binary.Primitives
    return b"".join(
        [
            pack.UInt32.pack(1 if inner else 0),
            pack.String.pack(name),
            pack.Int32.pack(len(sizes)),
            *(pack.Double.pack(size) for size in sizes),
            struct_to_binary(ua.Range(low, 1.0)),
            inner,
        ]
    )


FLOATS = st.floats(allow_nan=False)


@given(st.text(max_size=20), st.lists(FLOATS, max_size=5), FLOATS)
def test_what_was_encoded_is_opened(name: str, sizes: list[float], low: float) -> None:
    made, encoding = structures()
    inner = encoded("inner", [], 0.0)
    opened = made.open(closed(encoding, encoded(name, sizes, low, inner=inner)))
    assert opened["Name"] == name
    assert opened["Sizes"] == sizes
    assert opened["Span"].Low == low
    assert opened["Inner"]["Name"] == "inner"
    assert opened["Inner"]["Inner"] is None


@given(st.binary(max_size=200))
def test_bytes_that_do_not_fit_are_refused(data: bytes) -> None:
    made, encoding = structures()
    try:
        made.open(closed(encoding, data))
    except DataError:
        pass


@given(st.integers(0, 60))
def test_a_structure_that_is_cut_is_refused(cut: int) -> None:
    made, encoding = structures()
    whole = encoded("motor", [1.0, 2.0], 0.0, inner=encoded("inner", [3.0], 0.0))
    with pytest.raises(DataError):
        made.open(closed(encoding, whole[: min(cut, len(whole) - 1)]))


def test_a_structure_that_nobody_described_says_so() -> None:
    with pytest.raises(DataError, match="does not describe"):
        Structures().open(closed(number(9), b"1234"))
