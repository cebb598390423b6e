"""`[cloud]` changed in the file of a running gateway: on, wrong, elsewhere, off."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from gateway.app import Gateway
from gateway.config import load
from gateway.core.clock import SystemClock
from gateway.store.config import StoreConfig
from gateway.store.log import Log
from tests.eventually import eventually
from tests.gateway.test_cloud import fill, past
from tests.sim.sink import https_sink

PLANT = """
[gateway]
id = "box"
data_dir = "data"

[console]
enabled = false

[[source]]
kind = "modbus"
id = "nobody"
url = "tcp://127.0.0.1:9"
signals = [
  { asset = "press", signal = "speed", unit = "rpm", address = "holding:1" },
  { asset = "saw", signal = "speed", unit = "rpm", address = "holding:2" },
]
"""
ONE_MORE = '{ asset = "lathe", signal = "speed", unit = "rpm", address = "holding:3" }'
CLOUD = """
[cloud]
enabled = true
interval_s = 300
deliver_s = {deliver_s}

[cloud.https]
url = "{url}"
ca = "{ca}"
"""


@asynccontextmanager
async def running(config: Path) -> AsyncIterator[Gateway]:
    """A gateway in this process, on the real clock."""
    gateway, stop = Gateway(load(config)), asyncio.Event()
    task = asyncio.create_task(gateway.run(stop), name="gateway")
    try:
        yield gateway
    finally:
        stop.set()
        await task


async def test_the_way_out_follows_the_file(tmp_path: Path) -> None:
    log = Log.open(tmp_path / "data", StoreConfig(), SystemClock())
    fill(log, past(6), 30)
    log.close()
    config = tmp_path / "forewarn.toml"
    config.write_text(PLANT)

    def rewrite(url: str, ca: Path, deliver_s: int) -> None:
        config.write_text(PLANT + CLOUD.format(url=url, ca=ca, deliver_s=deliver_s))

    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    with https_sink(tmp_path / "a") as first, https_sink(tmp_path / "b") as second:
        async with running(config) as gateway:
            assert gateway.view.egress() is None

            # Switched on: what the log holds of the past is summed up, and waits for company.
            rewrite(first.url, tmp_path / "a" / "ca.pem", deliver_s=86_400)
            await eventually(
                lambda: (view := gateway.view.egress()) is not None and view.waiting == 12
            )

            # Wrong: told, and the good one stays.
            at_work = gateway.outlet.egress
            rewrite(second.url, tmp_path / "nobody.pem", deliver_s=0)
            await eventually(lambda: "config.refused" in {a.alarm for a in gateway.view.alarms()})
            assert gateway.outlet.egress is at_work

            # Elsewhere: what waited goes there, and nothing to the first.
            rewrite(second.url, tmp_path / "b" / "ca.pem", deliver_s=0)
            await eventually(
                lambda: (view := gateway.view.egress()) is not None and view.summaries == 12
            )
            view = gateway.view.egress()
            assert view
            assert view.waiting == 0
            assert view.to == second.url
            bodies = sum(len(request.packed) for request in second.requests)
            assert bodies < view.left_bytes < bodies + 500, "the head of a request leaves as well"
            assert view.stayed_bytes == sum(row["stayed_bytes"] for row in second.summaries())
            assert view.stayed_per_byte == round(view.stayed_bytes / view.left_bytes, 1)
            assert view.stayed_per_byte > 5

            # What is no business of the cloud leaves the way out alone.
            at_work = gateway.outlet.egress
            one_more = '\n[[asset]]\nid = "saw"\nclass = "saw"\n'
            config.write_text(config.read_text() + one_more)
            await eventually(lambda: "saw" in gateway.parts.assets)
            assert gateway.outlet.egress is at_work

            # One machine more: it has summaries, too, and what was counted stays counted.
            config.write_text(
                config.read_text().replace('"holding:2" }', f'"holding:2" }},\n{ONE_MORE}')
            )
            await eventually(lambda: gateway.outlet.egress is not at_work)
            assert gateway.view.egress() == view

            # Off.
            config.write_text(PLANT)
            await eventually(lambda: gateway.view.egress() is None)
            assert not [t for t in asyncio.all_tasks() if t.get_name().startswith("cloud")]
        assert first.requests == []
    assert {row["asset"] for row in second.summaries()} == {"press", "saw"}
