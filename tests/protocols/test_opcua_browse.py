"""`forewarn browse` against a real server: the tree, and TOML that is a valid source."""

import asyncio
import json
import tomllib
from typing import Any

import pytest
from asyncua import ua
from click.testing import CliRunner

from gateway.cli import group
from protocols.opcua import Config

from .opcua_plant import URI, Plant


async def browse(opcua: Plant, *arguments: str) -> Any:
    return await asyncio.to_thread(CliRunner().invoke, group, ["browse", opcua.url, *arguments])


@pytest.mark.asyncio(loop_scope="module")
async def test_the_tree_shows_types_units_ranges_and_values(opcua: Plant) -> None:
    speed = await opcua.add("speed", 1480.5)
    await speed.add_property(0, "EURange", ua.Range(0.0, 3000.0))
    unit = ua.EUInformation(DisplayName=ua.LocalizedText("rpm"))
    await speed.add_property(0, "EngineeringUnits", unit)
    await opcua.add("mode", "running")
    await opcua.add("burst", [1.0, 2.0])
    await opcua.add("on", True)  # A value, not a switch.
    tree = await browse(opcua)
    assert tree.exit_code == 0, tree.output
    assert f"speed = 1480.5 rpm (0 to 3000)  Double  [nsu={URI};s=speed]" in tree.output
    assert "mode = running  String" in tree.output
    assert "burst = [1.0, 2.0]  Double[]" in tree.output
    assert "ServerStatus" not in tree.output
    assert "EURange" not in tree.output

    toml = await browse(opcua, "--toml", "--under", f"/Objects/{{{URI}}}Pump")
    assert "# now 1480.5, 0 to 3000" in toml.output
    table = tomllib.loads(toml.output)["source"][0]
    config = Config.model_validate(table)
    assert config.security_policy == "None"
    assert (
        'security_policy = "None"  # as it was browsed; without this line encrypted' in toml.output
    )
    found = {(s.asset, s.signal): (s.unit, s.address) for s in config.signals}
    assert found == {
        ("Pump", "speed"): ("rpm", f"nsu={URI};s=speed"),
        ("Pump", "on"): ("", f"nsu={URI};s=on"),
    }

    assert f'"mode", address = "nsu={URI};s=mode", states = {{ "running" = 1 }} }},' in toml.output
    assert f'"burst", address = "nsu={URI};s=burst", rate_hz = … }},' in toml.output

    listed = await browse(opcua, "--json", "--limit", "3")
    assert json.loads(listed.output)["complete"] is False


@pytest.mark.asyncio(loop_scope="module")
async def test_a_start_that_is_not_there_says_so(opcua: Plant) -> None:
    result = await browse(opcua, "--under", "/Objects/Nothing")
    assert result.exit_code != 0
    assert "Nothing" in str(result.exception)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("http://192.0.2.1", "url: must be opc.tcp://host:4840/path, without a user or a password"),
        ("opc.tcp://me:secret@192.0.2.1", "url: must be opc.tcp://host:4840/path"),
        ("opc.tcp://127.0.0.1:1", "nothing listens there; see that it runs"),
        ("opc.tcp://no-such-host.invalid:4840", "no such host is known; see the name"),
    ],
)
def test_an_address_that_leads_nowhere_says_what_to_look_at(url: str, message: str) -> None:
    result = CliRunner().invoke(group, ["browse", url])
    assert result.exit_code != 0
    assert message in str(result.exception)
