"""A cable that is pulled between us and a serial server or a broker: found, told, and outlived."""

import asyncio
import math
import socket
from pathlib import Path
from typing import Any

import pytest

from gateway.core.meter import LinkState
from protocols.serial import Config, port

from ..eventually import eventually
from ..protocols.mqtt_broker import broker
from ..protocols.test_serial_ser2net import Ser2net
from ..sim.black_hole import black_hole, needs_black_hole
from .test_mqtt_link import listening, say, soon
from .test_serial_link import floor

pytestmark = needs_black_hole
__all__ = ["soon"]


@pytest.mark.usefixtures("soon")
@pytest.mark.filterwarnings("ignore:set(Daemon|Name):DeprecationWarning")
@pytest.mark.parametrize("scheme", ["socket", "rfc2217"])
async def test_a_device_that_speaks_by_itself_behind_a_serial_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    """We send it nothing, and it may be silent for as long as it likes: only TCP can tell."""
    soon_s = ((socket.TCP_KEEPIDLE, 1), (socket.TCP_KEEPINTVL, 1), (socket.TCP_KEEPCNT, 2))
    monkeypatch.setattr(port, "KEEPALIVE", soon_s)
    server = Ser2net(tmp_path, "tcp" if scheme == "socket" else "telnet(rfc2217),tcp")
    config = Config.model_validate(
        {
            "kind": "serial",
            "id": "node",
            "port": f"{scheme}://127.0.0.1:{server.port}",
            "text": {"pattern": r"v=(?P<v>\d+)"},
            "signals": [{"asset": "fan", "signal": "v"}],
        }
    )

    async def say_until_heard(running: Any, value: int) -> None:
        async with asyncio.timeout(30):
            while value not in running.good():
                server.machine.say(b"v=%d\n" % value)
                await asyncio.sleep(0.05)

    try:
        async with floor(config, tmp_path) as running:
            meter = running.world.meter
            await say_until_heard(running, 1)
            with black_hole(server.port):
                await eventually(lambda: meter.state is LinkState.DOWN, timeout_s=20)
                assert "the other end answers no more" in meter.state_text
                await eventually(lambda: math.isnan(running.values[-1]))
            await say_until_heard(running, 2)
            assert meter.state is LinkState.UP
    finally:
        server.end()


@pytest.mark.usefixtures("soon")
async def test_what_a_broker_kept_for_us_meanwhile_is_read(tmp_path: Path) -> None:
    settings = {"keepalive_s": 5, "persistent": True, "client_id": "hall", "open_timeout_s": 1}
    with broker(tmp_path / "broker") as (running, publisher):
        async with listening(running.port, tmp_path, **settings) as (world, values):
            await eventually(lambda: "Received SUBSCRIBE from hall" in running.log())
            await say(publisher, "1")
            await eventually(lambda: values == [1])
            # A message whose acknowledgement the hole swallows is rightly sent twice.
            await eventually(lambda: "Received PUBACK from hall" in running.log())
            with black_hole(running.port):
                await eventually(lambda: world.meter.state is LinkState.DOWN, timeout_s=20)
            for value in (2, 3):
                await say(publisher, str(value))
            await eventually(
                lambda: [v for v in values if not math.isnan(v)] == [1, 2, 3], timeout_s=20
            )
            assert world.meter.state is LinkState.UP
            assert "is gone" in str(world.reported[0].text)
            assert world.meter.gaps_unfilled == 0
