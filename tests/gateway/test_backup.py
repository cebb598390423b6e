"""Backup, restore, support and health, of a gateway that really runs."""

import asyncio
import json
import os
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import jsonschema
import numpy as np
import pytest

from gateway.app import Gateway
from gateway.backup import back_up, put_back
from gateway.config import load
from gateway.console.vault import Vault
from gateway.core.alarm import AlarmView, Command, Verb
from gateway.core.batch import make_batch
from gateway.core.clock import SystemClock
from gateway.core.errors import DataError, StoreError
from gateway.core.signals import Signal
from gateway.demo.configuration import ARTIFACTS
from gateway.demo.serial_device import print_line, pty
from gateway.health import ask_health
from gateway.store.config import StoreConfig
from gateway.store.log import Log
from gateway.store.reader import LogReader
from gateway.support import redacted
from tests.eventually import eventually, eventually_blocking

SECRET = "hunter2-the-planted-secret"
RAW = 424242.125
CONFIG = """
# A comment may hold a secret as well: hunter2-the-planted-secret
[gateway]
id = "box"
data_dir = "data"

[console]
enabled = false

[[source]]
kind = "serial"
id = "press"
port = "{port}"
signals = [ {{ asset = "press", signal = "force", unit = "kN" }} ]
[source.text]
pattern = '(?P<force>\\S+)'

[influx]
api = "v2"
url = "http://127.0.0.1:{influx}"
org = "plant"
database = "forewarn"
token = "env:PLANTED"
"""


def forewarn(*words: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        [sys.executable, "-m", "gateway", *words],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, **more},
        timeout=60,
    )


@pytest.fixture(scope="module")
def running(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[Path, subprocess.Popen[str], list[int]]]:
    """A gateway that reads a press: its configuration, its process, the line of the press."""
    tmp_path = tmp_path_factory.mktemp("running")
    with pty() as (ours, theirs, path), socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        config = tmp_path / "forewarn.toml"
        config.write_text(CONFIG.format(port=path, influx=nobody.getsockname()[1]))
        log = (tmp_path / "gateway.log").open("w")
        process = subprocess.Popen(
            [sys.executable, "-m", "gateway", "run", str(config), "--headless"],
            env={**os.environ, "PLANTED": SECRET},
            stdout=log,
            stderr=log,
            text=True,
        )
        try:

            def reading() -> bool:
                assert process.poll() is None, (tmp_path / "gateway.log").read_text()
                print_line(ours, theirs, f"{RAW}\n".encode() * 5)
                try:
                    return int(ask_health(tmp_path / "data")["samples"]) > 20
                except OSError:
                    return False

            eventually_blocking(reading, timeout_s=30)
            yield config, process, [ours]
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                process.wait(30)
            log.close()


def test_a_running_gateway_is_backed_up_and_put_back(
    running: tuple[Path, subprocess.Popen[str], list[int]], tmp_path: Path
) -> None:
    config, process, _ = running
    archive = tmp_path / "monday.tar.gz"
    done = forewarn("backup", str(config), str(archive))
    assert done.returncode == 0, done.stderr
    assert archive.stat().st_mode & 0o777 == 0o600
    assert process.poll() is None
    back = tmp_path / "back"
    etc = tmp_path / "etc"
    done = forewarn("restore", str(archive), str(back), "--etc", str(etc))
    assert done.returncode == 0, done.stderr
    assert (etc / "forewarn.toml").read_text() == config.read_text()
    assert {path.name for path in back.iterdir()} >= {"log.db", "trends.db"}
    assert not list(back.glob("*.lock")) + list(back.glob("*.sock"))
    log = Log.open(back, StoreConfig(), SystemClock())
    _, _, value, _ = log.samples(0, 1 << 62)
    assert len(value) > 0
    assert set(value.tolist()) == {RAW}
    log.close()
    again = forewarn("restore", str(archive), str(back))
    assert again.returncode == 2
    assert "must be empty or missing" in again.stderr


DEAD_LINK = """
[gateway]
id = "box"
data_dir = "{data}"
[console]
enabled = false
[[source]]
kind = "modbus"
id = "plc"
url = "tcp://127.0.0.1:9"
signals = [ {{ asset = "press", signal = "force", address = "holding:1" }} ]
"""


async def link_alarm(config: Path, *, ack: bool) -> AlarmView:
    """Run a gateway until the alarm of its dead link is there; acknowledge it if wanted."""
    gateway, stop = Gateway(load(config)), asyncio.Event()
    task = asyncio.create_task(gateway.run(stop), name="gateway")

    def found() -> list[AlarmView]:
        return [alarm for alarm in gateway.view.alarms() if alarm.alarm == "link.plc"]

    try:
        await eventually(lambda: bool(found()))
        if ack:
            await gateway.view.command(Command(Verb.ACK, "", "link.plc", "eva", "known"))
        return found()[0]
    finally:
        stop.set()
        await task


async def test_users_alarms_and_models_come_back(tmp_path: Path) -> None:
    etc, data, back = tmp_path / "etc", tmp_path / "data", tmp_path / "back"
    etc.mkdir()
    config = etc / "forewarn.toml"
    config.write_text(DEAD_LINK.format(data=data))
    before = await link_alarm(config, ack=True)
    vault = Vault(data)
    vault.add_first_user("eva", "correct horse battery")
    vault.close()
    model = (ARTIFACTS / "pump.fwm").read_bytes()
    (etc / "pump.fwm").write_bytes(model)
    config.write_text(config.read_text() + '[[asset]]\nid = "press"\nbundle = "pump.fwm"\n')

    back_up(config, data, tmp_path / "all.tar.gz")
    shutil.rmtree(data)
    shutil.rmtree(etc)
    put_back(tmp_path / "all.tar.gz", back, etc)

    assert (etc / "pump.fwm").read_bytes() == model
    vault = Vault(back)
    assert vault.verify("eva", "correct horse battery") is not None
    assert vault.verify("eva", "another") is None
    vault.close()
    # A gateway goes on where the other was: the alarm is the same one, and still acknowledged.
    config.write_text(DEAD_LINK.format(data=back))
    after = await link_alarm(config, ack=False)
    assert "acked" in str(after.state)
    assert (after.state, after.active_since_ns) == (before.state, before.active_since_ns)


def test_support_sees_state_and_neither_secrets_nor_raw_data(
    running: tuple[Path, subprocess.Popen[str], list[int]], tmp_path: Path
) -> None:
    config, process, _ = running
    bundle = tmp_path / "support.zip"
    done = forewarn("support", str(config), str(bundle), PLANTED=SECRET)
    assert done.returncode == 0, done.stderr
    assert process.poll() is None
    folder = config.parent
    with zipfile.ZipFile(bundle) as opened:
        parts = {name: opened.read(name).decode() for name in opened.namelist()}
    assert json.loads(parts["health.json"])["ok"] is True
    assert json.loads(parts["configuration.json"])["influx"]["token"] == "env:PLANTED"
    assert json.loads(parts["log.json"])["heads"]["samples"] > 0
    everything = {**parts, "the gateway's own log": (folder / "gateway.log").read_text()}
    everything["what was said"] = done.stdout + done.stderr
    for name, text in everything.items():
        assert SECRET not in text, name
        assert str(RAW) not in text, name
    # Nor in any file that the gateway wrote.
    for path in (folder / "data").rglob("*"):
        if path.is_file():
            assert SECRET.encode() not in path.read_bytes(), path


def test_a_secret_is_not_in_the_arguments_or_errors(
    running: tuple[Path, subprocess.Popen[str], list[int]],
) -> None:
    _, process, _ = running
    assert SECRET.encode() not in Path(f"/proc/{process.pid}/cmdline").read_bytes()


def small_archive(tmp_path: Path) -> Path:
    """A backup of a log with three samples."""
    data = tmp_path / "small"
    log = Log.open(data, StoreConfig(), SystemClock())
    number = log.signals.intern(Signal("a", "b", ""))
    t_ns = np.arange(3, dtype=np.int64) + 10**18
    log.append(
        make_batch("s", np.full(3, number, np.int32), t_ns, np.ones(3), np.zeros(3, np.uint8), 1)
    )
    asyncio.run(log.flush())
    config = tmp_path / "small.toml"
    config.write_text('[gateway]\nid = "x"\n')
    archive = tmp_path / "small.tar.gz"
    back_up(config, data, archive)
    log.close()
    return archive


PADDING_BYTES = 128


def test_an_archive_that_is_cut_or_altered_leaves_nothing_behind(tmp_path: Path) -> None:
    archive = small_archive(tmp_path)
    whole = archive.read_bytes()
    target = tmp_path / "target"
    # The last bytes are tar's padding behind the last file: without them nothing is missing.
    for n in range(0, len(whole) - PADDING_BYTES, max(1, len(whole) // 25)):
        archive.write_bytes(whole[:n])
        with pytest.raises(DataError, match="is no whole backup"):
            put_back(archive, target)
        assert not target.exists()
    archive.write_bytes(whole)
    put_back(archive, target)
    reader = LogReader(target / "log.db")
    assert len(reader.samples(0, 1 << 62)[0]) == 3
    reader.close()


def test_an_archive_may_not_write_elsewhere(tmp_path: Path) -> None:
    archive = tmp_path / "evil.tar.gz"
    manifest = json.dumps({"format": 1, "files": {"../evil": {"sha256": "0", "bytes": 0}}}).encode()
    with tarfile.open(archive, "w:gz") as tar:
        (tmp_path / "m").write_bytes(manifest)
        tar.add(tmp_path / "m", "manifest.json")
        tar.add(tmp_path / "m", "../evil")
    with pytest.raises(DataError, match="not in the manifest, or no plain file"):
        put_back(archive, tmp_path / "target")
    assert not (tmp_path.parent / "evil").exists()


def test_nothing_to_back_up_is_said(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="nothing to back up"):
        back_up(tmp_path / "c.toml", tmp_path / "none", tmp_path / "a.tar.gz")


def test_a_copy_is_of_one_moment_while_another_writes(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    database = sqlite3.connect(data / "busy.db")
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("CREATE TABLE pair (a INTEGER, b INTEGER)")
    for i in range(200):
        database.execute("INSERT INTO pair VALUES (?, ?)", (i, i))
    database.commit()
    database.execute("INSERT INTO pair VALUES (-1, -2)")  # Not committed: must not be in it.
    config = tmp_path / "c.toml"
    config.write_text("")
    back_up(config, data, tmp_path / "a.tar.gz")
    database.close()
    put_back(tmp_path / "a.tar.gz", tmp_path / "back")
    copy = sqlite3.connect(tmp_path / "back" / "busy.db")
    assert copy.execute("SELECT count(*), sum(a = b) FROM pair").fetchone() == (200, 200)
    copy.close()


def test_what_may_be_secret_is_left_out_of_a_configuration() -> None:
    table = {
        "url": "opc.tcp://user:word@10.0.0.1:4840",
        "password": "word",
        "token": "env:NAME",
        "headers": {"X-Api": "word", "list": ["word"]},
        "source": [{"user_key": 7, "address": "holding:1"}],
    }
    text = json.dumps(redacted(table))
    assert "word" not in re.sub('"password"', "", text)
    assert "env:NAME" in text
    assert "holding:1" in text


def test_the_preview_is_what_would_leave_and_nothing_is_sent(
    running: tuple[Path, subprocess.Popen[str], list[int]],
) -> None:
    config, _, _ = running
    # The cloud is off: the preview works all the same, beside the running gateway.
    seen = forewarn("cloud", "preview", str(config))
    assert seen.returncode == 0, seen.stderr
    schema = json.loads(forewarn("cloud", "schema").stdout)
    rows = json.loads(seen.stdout)
    for row in rows:
        jsonschema.validate(row, schema)
    assert [row["asset"] for row in rows] == ["press"]
    assert rows[0]["signals"] == []
    assert str(RAW) not in seen.stdout


def test_health_says_well_only_while_it_is(
    running: tuple[Path, subprocess.Popen[str], list[int]],
) -> None:
    # Kills the gateway that the tests above share: it stays the last.
    config, process, _ = running
    well = forewarn("health", str(config))
    assert (well.returncode, well.stdout) == (0, "well: 1 of 1 sources up\n")
    process.kill()
    process.wait()
    dead = forewarn("health", str(config), "--json")
    assert dead.returncode == 1
    assert json.loads(dead.stdout)["ok"] is False
    assert forewarn("health", str(config.parent / "none.toml")).returncode == 2
