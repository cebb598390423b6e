"""A machine that wears, as its operator sees it: alarms, the asset's page, and the database."""

import re
import urllib.request
from pathlib import Path

from tests.e2e.processes import CONSOLE, gateway, plant
from tests.eventually import eventually_blocking
from tests.servers import free_port, influxd

FAULT = "conveyor-1:bearing_wear:5:20"


def test_which_failure_and_how_long_reach_everyone(tmp_path: Path) -> None:
    port = free_port()
    with (
        influxd(tmp_path / "influxd") as server,
        plant(tmp_path, ["--fault", FAULT]),
        gateway(tmp_path / "forewarn.toml") as one,
    ):
        server.query("CREATE DATABASE forewarn")
        text = one.config.read_text().replace(CONSOLE, "")
        one.config.write_text(
            f'{text}\n[influx]\nurl = "{server.url}"\napi = "v1"\n'
            f"[console]\nport = {port}\nanonymous_viewer = true\n"
            "[alarms.delays]\nrul = { on_s = 2, off_s = 60 }\n"
        )
        one.start()

        def alarms() -> dict[str, str]:
            rows = one.told("alarm") if one.events.exists() else []
            return {r["alarm"]: r["text"] for r in rows if r["asset"] == "conveyor-1"}

        wanted = {"anomaly", "failure.bearing_wear", "rul"}
        eventually_blocking(lambda: wanted <= alarms().keys(), timeout_s=120)
        assert alarms().keys() == wanted, "no other failure mode is announced"
        said = alarms()["failure.bearing_wear"]
        assert re.search(
            r"heading for bearing wear within [\d.]+ (s|min), probability \d+%: vib", said
        )
        assert re.search(r"about .* left \(.* to .*\): vibration", alarms()["rul"])

        page = f"http://127.0.0.1:{port}/asset?id=conveyor-1"
        with urllib.request.urlopen(page, timeout=10) as answer:
            html = answer.read().decode()
        assert "bearing_wear" in html
        assert re.search(r"Remaining life.*between .+ and ", html, re.DOTALL)

        def newest(query: str) -> dict[str, float]:
            (found,) = server.query(query) or [{"columns": [], "values": [[]]}]
            return dict(zip(found["columns"], found["values"][0], strict=True))

        probability = "SELECT last(probability) AS p FROM failure WHERE mode='bearing_wear'"
        eventually_blocking(lambda: newest(probability).get("p", 0) > 0.5, timeout_s=30)
        life = newest("SELECT last(hours) AS hours, low, high FROM rul WHERE asset='conveyor-1'")
        assert 0 <= life["low"] <= life["hours"] <= life["high"] < 0.4
        assert one.stop() == 0
