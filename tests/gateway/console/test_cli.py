"""`forewarn user` and `forewarn alarms`, as a shell would call them."""

import csv
import io
import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from gateway.cli import group
from gateway.cli.alarms import command as alarms
from gateway.cli.model import command as model
from gateway.cli.user import command as user
from gateway.console.vault import Vault
from gateway.console.views import LearningView
from gateway.core.alarm import Priority
from gateway.core.clock import SystemClock
from gateway.core.texts import as_said
from gateway.learning.progress import Progress, Stage
from gateway.store.config import StoreConfig
from gateway.store.log import Log
from tests.gateway.console.conftest import PASSWORD, Running, Start

CONFIG = """
[gateway]
data_dir = "."

[[source]]
kind = "modbus"
id = "plc"
url = "tcp://192.0.2.10:502"
signals = [{ asset = "press", signal = "speed", unit = "rpm", address = "holding:1" }]
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "forewarn.toml"
    path.write_text(CONFIG)
    return path


def run_user(config: Path, *args: str, password: str = PASSWORD) -> Result:
    verb, *rest = args
    return CliRunner().invoke(user, [verb, str(config), *rest], input=f"{password}\n")


def test_people_come_and_go(config: Path) -> None:
    assert run_user(config, "list").output.startswith("Nobody yet")
    assert run_user(config, "add", "eva", "--role", "engineer").exit_code == 0
    assert run_user(config, "add", "EVA").exit_code == 1, "the same name"
    weak = run_user(config, "add", "otto", password="short")
    assert (weak.exit_code, "10 to 200 characters" in weak.output) == (1, True)
    assert run_user(config, "add", "otto").exit_code == 0
    assert run_user(config, "role", "otto", "--role", "viewer").exit_code == 0
    assert run_user(config, "password", "otto", password="another long one").exit_code == 0
    listed = json.loads(run_user(config, "list", "--json").output)
    assert [(u["name"], u["role"]) for u in listed["users"]] == [
        ("eva", "engineer"),
        ("otto", "viewer"),
    ]
    assert run_user(config, "remove", "eva").exit_code == 1, "the last engineer"
    assert run_user(config, "remove", "otto").exit_code == 0
    vault = Vault(config.parent)
    assert vault.verify("eva", PASSWORD)
    assert {e.action for e in vault.trail.newest(20)} >= {"add engineer", "password", "remove user"}
    vault.close()


def test_a_token_is_printed_once(config: Path) -> None:
    secret = run_user(config, "token", "mes", "--days", "30").output.strip()
    vault = Vault(config.parent)
    found = vault.find_token(secret)
    vault.close()
    assert found is not None
    assert secret not in run_user(config, "list", "--json").output
    assert run_user(config, "revoke", "mes").exit_code == 0
    assert run_user(config, "revoke", "mes").exit_code == 1


@pytest.fixture
def console(start: Start) -> Running:
    running = start()
    running.call(lambda: running.plant.fail("pump-1", 2.0, Priority.MEDIUM))
    return running


def run_alarms(console: Running, *args: str, role: str = "operator") -> Result:
    client = console.client("eva")
    body = {"name": f"cli {len(console.plant.log)} {args}"[:60], "role": role}
    secret = client.post("/api/v1/tokens/add", json=body).json()["secret"]
    environment = {"FOREWARN_TOKEN": secret, "FOREWARN_URL": console.url}
    return CliRunner().invoke(alarms, list(args), env=environment)


def test_alarms_are_handled_from_the_shell(console: Running) -> None:
    listed = run_alarms(console, "list")
    assert listed.exit_code == 1, "something waits"
    assert "pump-1 anomaly: pump-1 does not run" in listed.output
    assert run_alarms(console, "ack", "pump-1", "anomaly", "--note", "on my way").exit_code == 0
    assert run_alarms(console, "list", "--json").exit_code == 0
    twice = run_alarms(console, "ack", "pump-1", "anomaly")
    assert (twice.exit_code, "acknowledged already" in twice.output) == (1, True)
    assert run_alarms(console, "shelve", "pump-1", "anomaly", "--for", "8h").exit_code == 0
    assert run_alarms(console, "unshelve", "pump-1", "anomaly").exit_code == 0
    assert run_alarms(console, "feedback", "pump-1", "anomaly", "false").exit_code == 0
    rows = list(csv.DictReader(io.StringIO(run_alarms(console, "export").output)))
    assert [r["event"] for r in rows] == ["active", "ack", "shelve", "unshelve", "feedback.false"]
    assert rows[1]["note"] == "on my way"
    assert rows[1]["who"].startswith("token:cli")


@pytest.mark.parametrize(
    ("table", "clear"),
    [
        ("", False),
        ('host = "0.0.0.0"', True),
        ('host = "0.0.0.0"\ntrusted_proxies = ["192.0.2.1"]', False),
    ],
)
def test_passwords_in_clear_are_warned_of(tmp_path: Path, table: str, clear: bool) -> None:
    file = tmp_path / "forewarn.toml"
    signal = '{ asset = "a", signal = "s", address = "holding:0" }'
    source = f'kind = "modbus"\nid = "m"\nurl = "tcp://192.0.2.1:502"\nsignals = [{signal}]'
    file.write_text(f"[[source]]\n{source}\n[console]\n{table}\n")
    done = CliRunner().invoke(group, ["check", str(file)])
    assert (done.exit_code, "in clear" in done.output) == (0, clear), done.output


def test_wrong_use_is_told(console: Running) -> None:
    viewer = run_alarms(console, "ack", "pump-1", "anomaly", role="viewer")
    assert (viewer.exit_code, "needs the role operator" in viewer.output) == (2, True)
    for args, words in (
        (["list"], "needs a token"),
        (["--url", "file:///etc/passwd", "list"], "must begin with http"),
        (["--token-file", "/nowhere", "list"], "cannot be read"),
    ):
        result = CliRunner().invoke(alarms, args, env={"FOREWARN_TOKEN": ""})
        assert (result.exit_code, words in result.output) == (2, True)
    help_ = CliRunner().invoke(alarms, ["ack", "--help"], env={"FOREWARN_TOKEN": ""})
    assert (help_.exit_code, "Acknowledge an alarm" in help_.output) == (0, True)
    bad = run_alarms(console, "shelve", "pump-1", "anomaly", "--for", "soon")
    assert (bad.exit_code, "number with s, m, h or d" in bad.output) == (2, True)
    nobody = CliRunner().invoke(
        alarms, ["--url", "http://127.0.0.1:9", "list"], env={"FOREWARN_TOKEN": "x"}
    )
    assert (nobody.exit_code, "is the gateway running?" in nobody.output) == (2, True)


def run_model(console: Running, config: Path, *args: str, role: str = "engineer") -> Result:
    client = console.client("eva")
    body = {"name": f"model {args} {role}"[:60], "role": role}
    secret = client.post("/api/v1/tokens/add", json=body).json()["secret"]
    environment = {"FOREWARN_TOKEN": secret, "FOREWARN_URL": console.url}
    return CliRunner().invoke(model, [args[0], str(config), *args[1:]], env=environment)


def test_a_model_is_rolled_back_by_one_command(console: Running, config: Path) -> None:
    lesson = LearningView("pump-1", "active", text="active, by hand", may=("roll_back",))
    console.plant.lessons["pump-1"] = lesson
    done = run_model(console, config, "rollback", "pump-1")
    assert (done.exit_code, done.output) == (0, "pump-1: rolled back; now active, by hand\n")
    assert console.plant.taught[0][:2] == ("pump-1", "roll_back")
    assert console.plant.taught[0][2].startswith("token:model")
    for verb, asset in (("promote", "pump-1"), ("baseline", "pump-1"), ("rollback", "press")):
        refused = run_model(console, config, verb, asset)
        assert (refused.exit_code, "makes no sense" in refused.output) == (1, True)
    operator = run_model(console, config, "baseline", "pump-1", role="operator")
    assert (operator.exit_code, "needs the role engineer" in operator.output) == (2, True)
    actions = [entry["action"] for entry in console.client("eva").get("/api/v1/audit").json()]
    assert {"roll back", "promote", "rebaseline"} <= set(actions)


def test_without_a_url_the_configuration_says_where(config: Path) -> None:
    config.write_text(CONFIG + "\n[console]\nport = 9\n")
    words = ["rollback", str(config), "press"]
    nobody = CliRunner().invoke(model, words, env={"FOREWARN_TOKEN": "x"})
    assert nobody.exit_code == 2
    assert "model roll-back: http://127.0.0.1:9 does not answer" in nobody.output


def test_every_stage_of_a_gateway_is_shown_from_its_log(config: Path) -> None:
    config.write_text(CONFIG + '\n[[asset]]\nid = "press"\nlearn = {}\n')
    shown = CliRunner().invoke(model, ["show", str(config)])
    assert (shown.exit_code, "collecting" in shown.output) == (0, True)
    log = Log.open(config.parent, StoreConfig(), SystemClock())
    progress = Progress(
        stage=Stage.SHADOW, candidate="0001.fwm", windows=7, missing=(as_said("7 of 60"),)
    )
    log.state_put("learn", "press", progress.dump())
    log.close()
    shown = CliRunner().invoke(model, ["show", str(config)], env={"COLUMNS": "160"})
    for words in ("shadow", "0001.fwm", "7 windows, 0 above the limit; 7 of 60"):
        assert words in shown.output
    (row,) = json.loads(CliRunner().invoke(model, ["show", str(config), "--json"]).output)
    assert (row["asset"], row["stage"]) == ("press", "shadow")
    assert row["may"] == ["promote", "rebaseline"]
