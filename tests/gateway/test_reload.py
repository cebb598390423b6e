"""A running gateway takes a changed file: alarms, channels, console; of the rest it says so."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner

from gateway.app import Gateway
from gateway.changes import waiting
from gateway.cli import group
from gateway.config import Config, load
from gateway.core.alarm import Cause, Condition, Priority
from gateway.core.event import Event
from gateway.core.texts import as_said
from tests.eventually import eventually, eventually_blocking
from tests.gateway.alarms.receivers import WebServer, web_server
from tests.servers import free_port

BASE = """
[[source]]
kind = "modbus"
id = "hall"
url = "tcp://127.0.0.1:9"
signals = [{ asset = "press-1", signal = "speed", address = "holding:0" }]
"""
GONE_AT_ONCE = "[alarms.delays]\nsystem = { on_s = 0, off_s = 0 }\n"
QUIET = "[console]\nenabled = false\n"


class Plant:
    """A gateway in this loop, and its file."""

    def __init__(self, file: Path, gateway: Gateway) -> None:
        self.file = file
        self.gateway = gateway
        self.reloads = 0
        reload = gateway.reload

        async def counted(tasks: asyncio.TaskGroup, config: Config) -> None:
            await reload(tasks, config)
            self.reloads += 1

        gateway.reload = counted  # type: ignore[method-assign]

    async def change(self, text: str, base: str = BASE) -> None:
        """Write the file, and wait until it is taken."""
        before = self.reloads
        self.file.write_text(base + text)
        await eventually(lambda: self.reloads > before, timeout_s=20)

    def say(self, alarm: str, *, active: bool = True) -> None:
        self.gateway.annunciator.report(
            Condition(
                asset="press-1",
                alarm=alarm,
                cause=Cause.LIMIT,
                active=active,
                t_ns=self.gateway.clock.wall_ns(),
                priority=Priority.HIGH,
                text=as_said(f"{alarm} is too high"),
                on_delay_s=0.0,
                off_delay_s=0.0,
            )
        )

    def states(self) -> dict[str, str]:
        return {v.alarm: v.state for v in self.gateway.view.alarms() if v.asset == "press-1"}

    def own(self) -> dict[str, str]:
        return {v.alarm: v.text for v in self.gateway.view.alarms() if v.state == "active_unacked"}


@asynccontextmanager
async def running(folder: Path, text: str) -> AsyncIterator[Plant]:
    file = folder / "forewarn.toml"
    file.write_text(BASE + text)
    gateway, stop = Gateway(load(file)), asyncio.Event()
    task = asyncio.create_task(gateway.run(stop))
    try:
        yield Plant(file, gateway)
    finally:
        stop.set()
        await task


def hook(name: str, server: WebServer, **more: Any) -> str:
    lines = "".join(f"{key} = {json.dumps(value)}\n" for key, value in more.items())
    return (
        f'[[notify]]\nid = "{name}"\nkind = "webhook"\nurl = "http://127.0.0.1:{server.port}/"\n'
        f'secret = "env:FW_HOOK"\n{lines}'
    )


def told(server: WebServer) -> list[str]:
    return [a["alarm"] for body in server.bodies() for a in body["alarms"] if a["asset"]]


async def test_channels_come_change_and_go_and_nobody_is_told_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FW_HOOK", "s")
    with web_server() as mes, web_server() as foreman:
        async with running(tmp_path, QUIET + hook("mes", mes)) as plant:
            plant.say("a")
            await eventually(lambda: told(mes) == ["a"])
            kept = plant.gateway.notices.channels["mes"]
            await plant.change(QUIET + hook("mes", mes) + hook("foreman", foreman))
            assert plant.gateway.notices.channels["mes"] is kept, "what did not change is left"
            plant.say("b")
            await eventually(lambda: (told(mes), told(foreman)) == (["a", "b"], ["b"]))
            await plant.change(QUIET + hook("foreman", foreman) + hook("mes", mes, title="T"))
            assert list(plant.gateway.view.channels()) == ["foreman", "mes"]
            plant.say("c")
            await eventually(lambda: told(mes) == ["a", "b", "c"])
            await eventually(lambda: told(foreman) == ["b", "c"])
            await plant.change(QUIET + hook("foreman", foreman))
            plant.say("d")
            await eventually(lambda: told(foreman) == ["b", "c", "d"])
            # Put in again, it begins at the present.
            await plant.change(QUIET + hook("foreman", foreman) + hook("mes", mes))
            plant.say("e")
            await eventually(lambda: told(mes) == ["a", "b", "c", "e"])
            assert "notify.mes" in plant.gateway.log.cursors()


async def test_alarms_go_by_the_new_rules_and_stand_as_they_stood(tmp_path: Path) -> None:
    async with running(tmp_path, QUIET) as plant:
        plant.say("a")
        plant.say("b")
        await eventually(lambda: plant.states() == {"a": "active_unacked", "b": "active_unacked"})
        rule = '[[alarms.suppress]]\nwhile_active = "*/b"\nsuppress = ["{asset}/*"]\n'
        await plant.change(QUIET + '[alarms]\nlatched = ["*/a"]\n' + rule)
        assert plant.states() == {"a": "suppressed", "b": "active_unacked"}
        await plant.change(QUIET + '[alarms]\nlatched = ["*/a"]\n')
        assert plant.states() == {"a": "active_unacked", "b": "active_unacked"}
        plant.say("a", active=False)
        await eventually(lambda: plant.states()["a"] == "latched_unacked")


async def test_the_alarm_of_a_link_goes_with_its_source(tmp_path: Path) -> None:
    async with running(tmp_path, QUIET + GONE_AT_ONCE) as plant:
        await eventually(lambda: "link.hall" in plant.own())
        assert set(plant.gateway.links.meters) == {"hall"}
        await plant.change(QUIET + GONE_AT_ONCE, BASE.replace("hall", "yard"))
        assert set(plant.gateway.links.meters) == set(plant.gateway.links.taps) == {"yard"}
        await eventually(lambda: "link.yard" in plant.own())
        # Gone, and still to be acknowledged, as every alarm that came.
        await eventually(lambda: "link.hall" not in plant.own())


async def test_what_nobody_watches_any_more_does_not_stand_for_ever(tmp_path: Path) -> None:
    table = '[[asset]]\nid = "press-1"\nlimits = [{ signal = "speed", high = 9 }]\n'
    async with running(tmp_path, QUIET + table) as plant:
        plant.say("speed.high")
        plant.say("anomaly")
        await eventually(lambda: set(plant.states().values()) == {"active_unacked"})
        await plant.change(QUIET)
        # The limit is no more; whatever else is said of the machine stands.
        assert plant.states() == {"speed.high": "returned_unacked", "anomaly": "active_unacked"}
        await plant.change(QUIET, BASE.replace("press-1", "press-2"))
        assert set(plant.states().values()) == {"returned_unacked"}


async def test_the_console_moves_to_where_it_is_told(tmp_path: Path) -> None:
    ports = [free_port(), free_port()]

    def up(port: int) -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{port}/healthz").text == "ok"
        except httpx.TransportError:
            return False

    async def comes_up(port: int) -> None:
        await asyncio.to_thread(eventually_blocking, lambda: up(port), timeout_s=30)

    async with running(tmp_path, f"[console]\nport = {ports[0]}\n") as plant:
        await comes_up(ports[0])
        await plant.change(f"[console]\nport = {ports[1]}\n")
        await comes_up(ports[1])
        assert not await asyncio.to_thread(up, ports[0])


async def test_what_waits_for_a_restart_is_said_setting_by_setting(tmp_path: Path) -> None:
    async with running(tmp_path, QUIET + GONE_AT_ONCE) as plant:
        changed = QUIET + GONE_AT_ONCE + "[store]\nvitals_s = 33\n"
        await plant.change(changed)
        words = "store.vitals_s: 30 runs, 33 waits for a restart"
        assert list(map(str, plant.gateway.config_watch.waiting)) == [words]
        await eventually(lambda: words in plant.own().get("config.waiting", ""))
        said = await asyncio.to_thread(check, plant.file)
        assert said["waits_for_restart"] == [words]
        await plant.change(QUIET + GONE_AT_ONCE)
        assert not plant.gateway.config_watch.waiting
        await eventually(lambda: "config.waiting" not in plant.own())
        assert (await asyncio.to_thread(check, plant.file))["waits_for_restart"] == []
    # Where none runs, nothing waits.
    assert "waits_for_restart" not in check(tmp_path / "forewarn.toml")


def check(file: Path) -> dict[str, Any]:
    done = CliRunner().invoke(group, ["check", str(file), "--json"])
    assert done.exit_code == 0, done.output
    report: dict[str, Any] = json.loads(done.output)
    return report


def test_differences_are_told_by_their_paths() -> None:
    old = {"gateway": {"id": "a"}, "store": {"x": {"y": 1}}, "influx": None, "alarms": 1}
    new = {"gateway": {"id": "b"}, "store": {"x": {"y": 2}}, "influx": {"url": "u"}, "alarms": 2}
    assert list(map(str, waiting(old, new))) == [
        'gateway.id: "a" runs, "b" waits for a restart',
        "store.x.y: 1 runs, 2 waits for a restart",
        "influx: – runs, {…} waits for a restart",
    ]
    assert waiting(old, old) == []


async def test_what_happened_outlives_a_log_that_gets_another_machine(tmp_path: Path) -> None:
    machine = '[[asset]]\nid = "press-1"\n'
    log = '[[event_log]]\nid = "repair"\ncodes = ["belt"]\n'
    async with running(tmp_path, QUIET + machine) as plant:
        view = plant.gateway.view
        assert not view.event_logs()
        await plant.change(QUIET + machine + log)
        event = Event("press-1", "repair", "belt", 10**18)
        assert await view.tell([event], [("press-1", "repair")], "ana") == 1
        base = BASE + BASE.replace("hall", "yard").replace("press-1", "press-2")
        await plant.change(QUIET + machine + machine.replace("1", "2") + log, base)
        (entry,) = view.events("", 10)
        assert (entry.event, entry.told_by) == (event, "ana")
        assert {each.asset: each.whole for each in view.event_logs()} == {
            "press-1": True,
            "press-2": False,
        }
