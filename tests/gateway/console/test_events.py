"""What happens to machines is told over REST and from the shell, by operators, and written down."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from gateway.cli.events import SENT_MAX
from gateway.cli.events import command as events
from tests.gateway.console.conftest import Running, Start

PATH = "/api/v1/events"
MADE = {"asset": "pump-1", "log": "repair", "code": "bearing", "at": "2026-03-01T12:00:00+01:00"}
MADE_NS = int(datetime(2026, 3, 1, 11, tzinfo=UTC).timestamp()) * 10**9


@pytest.fixture
def console(start: Start) -> Running:
    return start()


def shell(console: Running, *args: str, role: str = "operator") -> Result:
    tokens = console.client("eva")
    tokens.post("/api/v1/tokens/revoke", json={"name": "mes"})
    made = tokens.post("/api/v1/tokens/add", json={"name": "mes", "role": role})
    environment = {"FOREWARN_TOKEN": made.json()["secret"], "FOREWARN_URL": console.url}
    return CliRunner().invoke(events, list(args), env=environment)


def test_an_operator_tells_once_what_a_viewer_may_only_see(console: Running) -> None:
    otto, vera = console.client("otto"), console.client("vera")
    assert otto.post(PATH, json={"events": [MADE], "note": "outer ring"}).json() == {"new": 1}
    assert otto.post(PATH, json={"events": [MADE]}).json() == {"new": 0}
    assert vera.post(PATH, json={"events": [MADE]}).status_code == 403
    (seen,) = vera.get(PATH, params={"asset": "pump-1"}).json()
    assert (seen["code"], seen["t_ns"]) == ("bearing", MADE_NS)
    assert vera.get(PATH, params={"asset": "lathe-1"}).json() == []
    newest = console.client("eva").get("/api/v1/audit").json()
    target = "pump-1/repair bearing 2026-03-01 11:00:00+00:00"
    wanted = ("otto", "tell 1 events", target, "outer ring", "done")
    found = [tuple(e[k] for k in ("who", "action", "target", "note", "outcome")) for e in newest]
    assert wanted in found


def test_an_operator_takes_back_what_was_told_and_it_is_written_down(console: Running) -> None:
    otto, vera = console.client("otto"), console.client("vera")
    back, body = f"{PATH}/take-back", {"events": [MADE], "note": "wrong machine"}
    assert otto.post(PATH, json={"events": [MADE]}).json() == {"new": 1}
    assert vera.post(back, json=body).status_code == 403
    unknown = body | {"events": [MADE, MADE | {"code": "belt"}]}
    refused = otto.post(back, json=unknown)
    assert refused.status_code == 409
    assert "no belt is known at 2026-03-01 11:00:00" in refused.json()["detail"]
    assert len(otto.get(PATH).json()) == 1, "all of it, or nothing"
    assert otto.post(back, json=body).status_code == 204
    assert otto.get(PATH).json() == []
    (gone,) = vera.get(PATH, params={"taken_back": True}).json()
    assert (gone["t_ns"], gone["told_by"], gone["taken_back_by"]) == (MADE_NS, "otto", "otto")
    trail = console.client("eva").get("/api/v1/audit").json()
    newest, before = (e for e in trail if e["action"].startswith("take back"))
    target = "pump-1/repair bearing 2026-03-01 11:00:00+00:00"
    assert (newest["action"], newest["target"]) == ("take back 1 events", target)
    assert (newest["note"], newest["outcome"]) == ("wrong machine", "done")
    assert before["outcome"].startswith("refused: pump-1: repair: no belt is known")


def test_all_is_taken_or_nothing(console: Running) -> None:
    otto = console.client("otto")
    wrong = MADE | {"code": "gearbox"}
    refused = otto.post(PATH, json={"events": [MADE, wrong]})
    assert refused.status_code == 409
    told = "pump-1: repair: must be one of bearing, belt, was gearbox"
    assert refused.json()["detail"] == told
    assert otto.get(PATH).json() == []
    for at in ("2026-03-01T12:00:00", "9999-01-01T00:00:00Z", "soon"):
        assert otto.post(PATH, json={"events": [MADE | {"at": at}]}).status_code == 422


def test_a_history_that_is_whole_is_told_so(console: Running) -> None:
    otto = console.client("otto")
    before = {each["asset"]: each for each in otto.get(f"{PATH}/logs").json()}["pump-1"]
    assert before["codes"] == ["bearing", "belt"]
    assert (before["since_ns"], before["whole"]) == (None, False)
    whole = [{"asset": "pump-1", "log": "repair"}]
    assert otto.post(PATH, json={"whole": whole}).json() == {"new": 0}
    assert [each["asset"] for each in otto.get(f"{PATH}/logs").json() if each["whole"]] == [
        "pump-1"
    ]


def test_events_are_told_and_listed_from_the_shell(console: Running) -> None:
    told = ("add", "pump-1", "repair", "belt", "--at", "2026-03-01 11:00:00")
    assert shell(console, *told).output == "Done.\n"
    assert shell(console, *told).output == "It was known already.\n"
    refused = shell(console, "add", "pump-9", "repair", "belt")
    assert (refused.exit_code, "has no event log repair" in refused.output) == (1, True)
    viewer = shell(console, *told, role="viewer")
    assert (viewer.exit_code, "needs the role operator" in viewer.output) == (2, True)
    shown = shell(console, "list", "--asset", "pump-1").output.splitlines()
    assert shown == [
        "pump-1 repair: nobody has watched yet; bearing, belt",
        "2026-03-01 11:00:00Z  pump-1 repair belt, told by token:mes",
    ]
    soon = shell(console, "add", "pump-1", "repair", "belt", "--at", "soon")
    assert (soon.exit_code, "must be as 2026-03-01" in soon.output) == (2, True)


def test_an_event_is_taken_back_from_the_shell_as_it_is_listed(console: Running) -> None:
    assert shell(console, "add", "pump-1", "repair", "belt").output == "Done.\n"
    listed = shell(console, "list", "--asset", "pump-1").output.splitlines()[-1]
    at = listed.split("  ")[0]
    gone = ("take-back", "pump-1", "repair", "belt", "--at", at, "--note", "wrong machine")
    viewer = shell(console, *gone, role="viewer")
    assert (viewer.exit_code, "needs the role operator" in viewer.output) == (2, True)
    assert shell(console, *gone).output == "Taken back.\n"
    again = shell(console, *gone)
    assert (again.exit_code, "it may have been taken back" in again.output) == (1, True)
    assert len(shell(console, "list", "--asset", "pump-1").output.splitlines()) == 1
    every = shell(console, "list", "--asset", "pump-1", "--taken-back").output.splitlines()
    assert every[1:] == [f"{listed}, taken back by token:mes"]


def test_a_table_is_imported_in_parts_and_may_be_again(console: Running, tmp_path: Path) -> None:
    hours = SENT_MAX + 20
    rows = [f"2026-03-{1 + h // 24:02} {h % 24:02}:00:00,pump-1,bearing" for h in range(hours)]
    more = ["2026-01-01 00:00:00,pump-1,gearbox", "2026-01-01 00:00:00,pump-7,belt"]
    table = tmp_path / "repairs.csv"
    table.write_text("\n".join(["time,machine,repair", *rows, *more]))
    done = shell(console, "import", str(table), "--group", "machine", "--whole")
    assert done.exit_code == 0, done.output
    assert done.stdout == f"repair: {hours} new of {hours} events, of 1 machines.\n"
    for note in (
        "machines that have no such log here: pump-7",
        "codes that are not configured: gearbox",
        "not in the file, so unknown as before: compressor-1, conveyor-1, lathe-1",
    ):
        assert f"note: {note}\n" in done.stderr
    listed = json.loads(shell(console, "list", "--json").stdout)
    assert [log["asset"] for log in listed["logs"] if log["whole"]] == ["pump-1"]
    assert len(listed["events"]) == 100
    nowhere = shell(console, "import", str(table), "--group", "machine", "--log", "errors")
    assert (nowhere.exit_code, "no event log 'errors'" in nowhere.output) == (2, True)
    neither = shell(console, "import", str(table))
    assert (neither.exit_code, "needs --group" in neither.output) == (2, True)
