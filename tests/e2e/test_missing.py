"""A signal that falls silent on its broker, as all see it: command line, page and database."""

import re
from collections.abc import Callable
from itertools import cycle
from pathlib import Path

from click.testing import CliRunner
from playwright.sync_api import Browser, expect

from gateway.cli import group
from models.training.anomaly import train
from tests.e2e.processes import gateway
from tests.eventually import eventually_blocking
from tests.models.plants import NAMES, UNITS, healthy
from tests.protocols.mqtt_broker import Publisher, broker
from tests.servers import influxd

LOST = "temperature"
ROWS_A_TIME = 10
PERIOD_MS = 100
START_MS = 1_760_000_000_000
BUSY_S = 60.0


class Machine:
    """Says each value on a topic of its own; its time goes as fast as it speaks."""

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher
        self._rows = enumerate(cycle(healthy(3000, seed=1).values.tolist()))

    def speak(self, *without: str) -> None:
        """Its next rows, which lack some signals."""
        for _ in range(ROWS_A_TIME):
            number, row = next(self._rows)
            said = {name: v for name, v in zip(NAMES, row, strict=True) if name not in without}
            for name, value in said.items():
                payload = {"ts": START_MS + PERIOD_MS * number, "v": value}
                self._publisher.say(f"press-1/{name}", payload, wait=name == NAMES[-1])


def configure(folder: Path, broker_port: int, influx_url: str) -> Path:
    """The path of a configuration by which everybody is told at once; its model beside it."""
    record = healthy(3000, period_s=PERIOD_MS / 1000)
    train(record, window="10rows", false_alarms="1/1min").write(folder / "press.fwm")
    signals = ", ".join(
        f'{{ asset = "press-1", signal = "{name}", unit = "{unit}" }}'
        for name, unit in zip(NAMES, UNITS, strict=True)
    )
    config = folder / "forewarn.toml"
    config.write_text(
        f"""
        [gateway]
        id = "hall"
        data_dir = "{folder / "data"}"
        [console]
        port = 0
        anonymous_viewer = true
        [influx]
        url = "{influx_url}"
        api = "v1"
        [alarms.delays]
        data_quality = {{ on_s = 0, off_s = 0 }}
        [[source]]
        kind = "mqtt"
        id = "line"
        host = "127.0.0.1"
        port = {broker_port}
        topic = "{{asset}}/{{signal}}"
        path = "v"
        time_path = "ts"
        time_form = "unix_ms"
        signals = [{signals}]
        [[asset]]
        id = "press-1"
        bundle = "press.fwm"
        """
    )
    return config


def forewarn(*command: str, token: str = "") -> str:
    """What the command line says."""
    return CliRunner().invoke(group, command, env={"FOREWARN_TOKEN": token}).output


def test_all_are_told_what_does_not_come_and_that_it_is_back(
    tmp_path: Path, browser: Browser
) -> None:
    with (
        influxd(tmp_path / "influxd") as server,
        broker(tmp_path / "broker") as (running, publisher),
        gateway(configure(tmp_path, running.port, server.url)) as one,
    ):
        server.query("CREATE DATABASE forewarn")
        one.start()
        eventually_blocking(lambda: "SUBACK" in running.log(), timeout_s=BUSY_S)
        eventually_blocking(lambda: bool(one.told("console.up")), timeout_s=BUSY_S)
        machine, url = Machine(publisher), one.told("console.up")[0]["url"]
        token = forewarn("user", "token", str(one.config), "eva", "--role", "operator")

        def speak_until(told: Callable[[], bool], *without: str) -> None:
            def after_more() -> bool:
                machine.speak(*without)
                return told()

            eventually_blocking(after_more, timeout_s=BUSY_S)

        def alarms(*command: str) -> str:
            return forewarn("alarms", "--url", url, *command, token=token)

        def in_database() -> list[list[str]]:
            found = server.query(f"SELECT state, text FROM alarm WHERE alarm = '{LOST}.missing'")
            return [row[1:] for series in found for row in series["values"]]

        speak_until(lambda: server.count("score", "assessment") > 3)
        page = browser.new_page(locale="en-GB")
        page.set_default_timeout(BUSY_S * 1000)
        page.goto(f"{url}/alarms")
        alarm = page.locator(f'.alarm[data-asset="press-1"][data-alarm="{LOST}.missing"]')
        expect(alarm).to_have_count(0)
        assert alarms("list") == "No alarms.\n"

        speak_until(lambda: bool(in_database()), LOST)
        (told,) = in_database()
        assert told[0] == "active_unacked"
        assert re.fullmatch(
            f"{LOST} of press-1 has brought no usable sample since 2025-10-.* UTC, "
            "though its source line is up",
            told[1],
        )
        assert f"press-1 {LOST}.missing: {told[1]}\n" in alarms("list")
        expect(alarm).to_have_attribute("data-state", "active_unacked")
        expect(alarm).to_contain_text("no usable sample")

        assert alarms("ack", "press-1", f"{LOST}.missing") == "Done.\n"
        speak_until(lambda: in_database()[-1][0] == "normal")
        assert [state for state, _ in in_database()] == ["active_unacked", "active_acked", "normal"]
        expect(alarm).to_have_count(0)
        assert alarms("list") == "No alarms.\n"
        page.close()
        assert one.stop() == 0
