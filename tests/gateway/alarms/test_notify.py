"""Channels against real receivers, through the real log: down for a while, nothing lost."""

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import aiomqtt
import pytest
from pydantic import TypeAdapter

from gateway.alarms import notify
from gateway.alarms.config import AlarmsConfig
from gateway.alarms.deliver import sign
from gateway.alarms.notify import Channel, Terms
from gateway.alarms.notify_config import NotifyConfig
from gateway.core.alarm import Condition
from gateway.core.clock import SystemClock
from gateway.core.refusal import Refused
from gateway.notices import LogLedger
from gateway.store.config import StoreConfig
from gateway.store.log import Log
from tests.eventually import eventually
from tests.gateway.alarms.receivers import Broker, MailServer, WebServer, web_server
from tests.gateway.alarms.test_outbox import transition

pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")
NEEDS_BROKER = pytest.mark.skipif(
    Broker.there() is None and not os.environ.get("CI"), reason="mosquitto is not installed"
)


@pytest.fixture(autouse=True)
def _no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notify, "BACKOFF_S_MIN", 0.05)
    monkeypatch.setattr(notify, "BACKOFF_S_MAX", 0.1)
    monkeypatch.setattr(notify, "POLL_S", 0.05)


@pytest.fixture
def web() -> Iterator[WebServer]:
    with web_server() as server:
        yield server


class Office:
    """A log, one channel, and what it reports."""

    def __init__(self, folder: Path, config: dict[str, Any]) -> None:
        self.log = Log.open(folder, StoreConfig(), SystemClock())
        self.reported: list[Condition] = []
        self.channel = Channel(
            Terms(
                TypeAdapter(NotifyConfig).validate_python(config),
                AlarmsConfig(flood_count=500),
                gateway="hall-3",
                link="http://gateway/alarms",
            ),
            LogLedger(self.log, config["id"]),
            SystemClock(),
            Random(1),
            self.reported.append,
        )

    async def happen(self, event: str, alarm: str, **more: Any) -> None:
        self.log.append(transition(event, 0.0, alarm, **{"t_ns": time.time_ns()} | more))
        await self.log.flush()


@asynccontextmanager
async def office(folder: Path, **config: Any) -> AsyncIterator[Office]:
    """Runs the channel for as long as the block lasts."""
    made = Office(folder, {"id": "c", "rate_max": 1000, "timeout_s": 5} | config)
    running = asyncio.create_task(made.channel.run())
    try:
        # A new channel begins at the present: wait until it has looked.
        await eventually(lambda: made.log.state_get("notify", "c") is not None)
        yield made
    finally:
        running.cancel()
        await asyncio.wait([running])
        made.log.close()
    if not running.cancelled() and (error := running.exception()):
        raise error


async def test_mail_through_apprise_while_the_server_is_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mail = MailServer()
    url = (
        f"mailto://127.0.0.1:{mail.port}/?from=gateway@plant.test&to=shift@plant.test&mode=insecure"
    )
    monkeypatch.setenv("MAIL_URL", url)
    try:
        mail.up()
        async with office(tmp_path, kind="apprise", url="env:MAIL_URL") as desk:
            await desk.happen("active", "a")
            await eventually(lambda: len(mail.mails) == 1)
            await asyncio.to_thread(mail.down)
            await desk.happen("active", "b", text="bearing worn")
            await eventually(lambda: desk.channel.failures >= 3)
            assert desk.reported[-1].active
            assert "do not arrive" in str(desk.reported[-1].text)
            await asyncio.to_thread(mail.up)
            await eventually(lambda: desk.channel.delivered == 2)
            assert [c.active for c in desk.reported[-1:]] == [False]
    finally:
        mail.down()
    assert [subject for subject, _ in mail.mails] == ["pump: too hot", "pump: bearing worn"]
    assert "t 90 °C, high" in mail.mails[0][1]


async def test_webhook_is_signed_and_outlives_refusals(
    tmp_path: Path, web: WebServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOOK_KEY", "s3cret")
    url = f"http://127.0.0.1:{web.port}/hook"
    async with office(tmp_path, kind="webhook", url=url, secret="env:HOOK_KEY") as desk:
        web.status = 503
        await desk.happen("active", "a")
        await eventually(lambda: desk.channel.failures >= 2)
        web.status = 200
        await eventually(lambda: desk.channel.delivered == 1)
        await desk.happen("gone", "a")
        await eventually(lambda: desk.channel.delivered == 2)
    ids = [headers["x-forewarn-id"] for headers, _ in web.requests]
    assert len(set(ids)) == 2, "a retry carries the id of the first try"
    headers, body = web.requests[-1]
    assert headers["x-forewarn-signature"] == sign(b"s3cret", headers["x-forewarn-timestamp"], body)
    assert [b["kind"] for b in web.bodies()][-2:] == ["alarm", "clear"]
    assert web.bodies()[-1]["alarms"][0]["text"] == "too hot"


async def test_a_receiver_that_hangs_blocks_nothing_and_is_not_told_twice(
    tmp_path: Path, web: WebServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HANG_URL", f"json://127.0.0.1:{web.port}/?rto=20&cto=20")
    web.release.clear()
    async with office(tmp_path, kind="apprise", url="env:HANG_URL", timeout_s=0.1) as desk:
        await desk.happen("active", "a")
        await eventually(lambda: desk.channel.failures >= 3)
        web.release.set()
        await eventually(lambda: desk.channel.delivered == 1)
    assert len(web.requests) == 1


async def test_a_restart_neither_loses_nor_doubles(
    tmp_path: Path, web: WebServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOOK_KEY", "s3cret")
    config = {
        "kind": "webhook",
        "url": f"http://127.0.0.1:{web.port}/",
        "secret": "env:HOOK_KEY",
    }
    async with office(tmp_path, **config) as desk:
        await desk.happen("active", "a")
        await eventually(lambda: desk.channel.delivered == 1)
        web.status = 500
        await desk.happen("active", "b")
        await eventually(lambda: desk.channel.failures >= 1)
    web.status = 200
    web.requests.clear()
    async with office(tmp_path, **config) as desk:
        await eventually(lambda: desk.channel.delivered == 1)
        await desk.happen("active", "c")
        await eventually(lambda: desk.channel.delivered == 2)
    assert [b["alarms"][0]["alarm"] for b in web.bodies()] == ["b", "c"]


async def test_a_new_channel_does_not_tell_the_past(
    tmp_path: Path, web: WebServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOOK_KEY", "s3cret")
    log = Log.open(tmp_path, StoreConfig(), SystemClock())
    log.append(transition("active", 0.0, "old"))
    await log.flush()
    log.close()
    url = f"http://127.0.0.1:{web.port}/"
    async with office(tmp_path, kind="webhook", url=url, secret="env:HOOK_KEY") as desk:
        await desk.happen("active", "new")
        await eventually(lambda: desk.channel.delivered == 1)
    assert [b["alarms"][0]["alarm"] for b in web.bodies()] == ["new"]


async def test_the_test_button_says_what_went_wrong(
    tmp_path: Path, web: WebServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOOK_KEY", "s3cret")
    url = f"http://127.0.0.1:{web.port}/"
    async with office(tmp_path, kind="webhook", url=url, secret="env:HOOK_KEY") as desk:
        await desk.channel.test("eva")
        assert web.bodies()[-1]["kind"] == "test"
        web.status = 404
        with pytest.raises(Refused, match="c: HTTP 404"):
            await desk.channel.test("eva")
        monkeypatch.delenv("HOOK_KEY")
        with pytest.raises(Refused, match="HOOK_KEY"):
            await desk.channel.test("eva")


@NEEDS_BROKER
async def test_mqtt_keeps_the_state_of_each_alarm(tmp_path: Path) -> None:
    (tmp_path / "broker").mkdir()
    broker = Broker(tmp_path / "broker")
    await broker.up()
    try:
        config = {"kind": "mqtt", "host": "127.0.0.1", "port": broker.port, "home_assistant": True}
        async with office(tmp_path / "log", **config) as desk:
            await desk.happen("active", "too/hot+#")
            await eventually(lambda: desk.channel.delivered == 1)
            await broker.down()
            await desk.happen("active", "b")
            await desk.happen("gone", "b")
            await eventually(lambda: desk.channel.failures >= 2, timeout_s=20)
            await broker.up()
            await eventually(lambda: len(desk.channel.outbox) == 0, timeout_s=20)
            seen = await retained(broker.port)
        after = await retained(broker.port)
    finally:
        await broker.down()
    states = {t: json.loads(p) for t, p in seen.items() if "/alarm/" in t}
    assert {t: s["active"] for t, s in states.items()} == {
        "forewarn/hall-3/alarm/pump/too%2Fhot%2B%23": "ON",
        "forewarn/hall-3/alarm/pump/b": "OFF",
    }
    assert seen["forewarn/hall-3/status"] == b"online"
    assert after["forewarn/hall-3/status"] == b"offline", "who leaves in order says so as well"
    found = [json.loads(p) for t, p in seen.items() if t.startswith("homeassistant/binary_sensor")]
    assert {f["state_topic"] for f in found} == set(states)


async def retained(port: int) -> dict[str, bytes]:
    """Everything that a reader who comes late is told."""
    seen: dict[str, bytes] = {}
    async with aiomqtt.Client("127.0.0.1", port) as client:
        await client.subscribe("#", qos=1)
        await client.publish("end", b"x", qos=1)
        async for message in client.messages:
            if message.topic.value == "end":
                break
            assert isinstance(message.payload, bytes)
            seen[message.topic.value] = message.payload
    return seen
