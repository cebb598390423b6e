"""`forewarn doctor` and InfluxDB: a real one that has no database, knows nobody, is not there."""

import json
import subprocess
import sys
import urllib.parse
import urllib.request
from pathlib import Path

import pytest

from tests.servers import free_port, influxd

CONFIG = """
[gateway]
id = "box"
data_dir = "data"
[[source]]
kind = "replay"
id = "record"
files = ["{record}"]
time_column = "t"
signals = [ {{ asset = "press", signal = "force" }} ]
[influx]
api = "v1"
url = "{url}"
database = "forewarn"
{more}
"""


def finding(folder: Path, url: str, more: str = "") -> dict[str, str]:
    """What doctor says of InfluxDB."""
    record = folder / "record.csv"
    record.write_text("t,force\n2026-01-01T00:00:00Z,1\n")
    config = folder / "forewarn.toml"
    config.write_text(CONFIG.format(record=record, url=url, more=more))
    done = subprocess.run(
        [sys.executable, "-m", "gateway", "doctor", str(config), "--json"],
        check=False, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    rows: dict[str, dict[str, str]] = {row["check"]: row for row in json.loads(done.stdout)}
    assert done.returncode == any(row["state"] == "bad" for row in rows.values())
    return rows["influx"]


def test_it_says_what_to_do_until_nothing_is_wrong(tmp_path: Path) -> None:
    away = finding(tmp_path, f"http://127.0.0.1:{free_port()}")
    assert (away["state"], away["todo"]) == ("bad", "is it running, and is influx.url right?")
    with influxd(tmp_path / "server") as server:
        missing = finding(tmp_path, server.url)
        assert missing["state"] == "bad"
        assert "forewarn influx setup" in missing["todo"]
        server.query("CREATE DATABASE forewarn", "")
        assert finding(tmp_path, server.url)["state"] == "ok"
        # It asked, and wrote nothing.
        assert server.query("SHOW MEASUREMENTS") == []


def test_it_names_a_password_that_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WRONG", "no-such-word")
    with influxd(tmp_path / "server", auth=True) as server:
        create = "CREATE USER admin WITH PASSWORD 'right' WITH ALL PRIVILEGES"
        asked = urllib.parse.urlencode({"q": create}).encode()
        urllib.request.urlopen(f"{server.url}/query", data=asked).close()
        wrong = finding(tmp_path, server.url, 'user = "admin"\npassword = "env:WRONG"')
    assert wrong["state"] == "bad"
    assert "correct influx.token" in wrong["todo"]
    assert "no-such-word" not in json.dumps(wrong)
