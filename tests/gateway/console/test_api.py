"""The REST interface: what it does, and that nothing sent to it makes it fall over."""

import base64
import json
import math
import socket
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode

from gateway.console import live
from gateway.console.exposition import COUNTERS
from gateway.console.shield import BODY_BYTES_MAX
from gateway.console.views import AssetState, ContextView, EgressView, LearningView, UnseenView
from gateway.core.texts import english
from tests.eventually import eventually_blocking
from tests.gateway import brackets
from tests.gateway.console.conftest import PASSWORD, Running, Start
from tests.gateway.console.fake import FakePlant

ACK = {"verb": "ack", "targets": [{"asset": "pump-1", "alarm": "anomaly"}]}


@pytest.fixture
def console(start: Start) -> Running:
    running = start()
    running.call(lambda: running.plant.fail("pump-1"))
    return running


def test_not_a_number_is_null(console: Running) -> None:
    view = console.plant.views["lathe-1"]
    console.plant.views["lathe-1"] = replace(view, severity=math.nan, trend=(math.inf, math.nan))
    rows = console.client("vera").get("/api/v1/assets").json()
    assert rows[3]["severity"] is None
    assert rows[3]["trend"] == [None, None]


def test_a_life_that_may_be_longer_than_any_told_is_so_much_or_more(console: Running) -> None:
    client = console.client("vera")
    assert "between 7.9 d and 22 d" in client.get("/asset?id=pump-1").text
    console.plant.life = (310.0, 190.0, math.inf)
    assert "7.9 d or more" in client.get("/asset?id=pump-1").text
    assert client.get("/api/v1/asset?id=pump-1").json()["rul"] == [310.0, 190.0, None]


def test_commands_say_what_became_of_each(console: Running) -> None:
    client = console.client("otto")
    both = [*ACK["targets"], {"asset": "pump-1", "alarm": "no such"}]
    answer = client.post("/api/v1/alarms/command", json={"verb": "ack", "targets": both})
    assert answer.json() == {"refused": ["", "pump-1/no such: there is no such alarm"]}
    again = client.post("/api/v1/alarms/command", json=ACK)
    assert (again.status_code, again.json()["detail"]) == (
        409,
        "pump-1/anomaly: is acknowledged already",
    )
    late = {
        "verb": "confirm",
        "targets": [{"asset": "pump-1", "alarm": "anomaly", "occurrence": 9}],
    }
    assert client.post("/api/v1/alarms/command", json=late).status_code == 409


def test_only_an_engineer_takes_an_alarm_out_of_service(console: Running) -> None:
    body = ACK | {"verb": "out_of_service"}
    assert console.client("otto").post("/api/v1/alarms/command", json=body).status_code == 403
    assert console.client("eva").post("/api/v1/alarms/command", json=body).status_code == 200


@pytest.mark.parametrize(("coverage", "share"), [(0.998, ""), (0.967, "97 %"), (0.75, "75 %")])
def test_a_machine_that_is_judged_in_part_is_not_just_called_healthy(
    start: Start, coverage: float, share: str
) -> None:
    console = start()
    views = console.plant.views
    views["pump-1"] = replace(views["pump-1"], coverage=coverage)
    page = console.client("otto").get("/asset?id=pump-1").text.replace("\u202f", " ")
    said = f"Judged by what is there, {share} of its samples: what shows in the others alone is not"
    assert (said in page) == bool(share)
    assert ("Judged by what is there" in page) == bool(share)


def test_a_machine_of_which_a_part_is_not_seen_is_not_called_healthy(start: Start) -> None:
    console = start()
    views, since_ns = console.plant.views, 1_796_000_000 * 10**9
    gone = UnseenView("vibration", since_ns, "missing", english()("unseen.missing"))
    views["pump-1"] = replace(
        views["pump-1"], state=AssetState.PARTIAL, unseen=(gone,), since_ns=since_ns
    )
    client = console.client("otto")
    plant, page = client.get("/").text, client.get("/asset?id=pump-1").text
    tile = plant.split('data-key="tile:pump-1"')[1].split("</a>")[0]
    since = 'datetime="2026-11-30T'
    assert "Judged in part" in tile
    assert "Healthy" not in tile
    assert "Without vibration" in tile
    assert since in tile
    assert "1 machine is judged in part" in plant
    assert "All is well" not in plant
    assert "Judged without vibration: what shows there alone is not seen." in page
    row = page.split('<th scope="row">vibration')[1].split("</tr>")[0]
    assert "not judged: no usable samples" in row
    assert since in row
    (machine,) = (a for a in client.get("/api/v1/assets").json() if a["id"] == "pump-1")
    assert machine["state"] == "partial"
    assert machine["unseen"] == [asdict(gone)]
    said = 'forewarn_asset_signals_unseen{asset="pump-1"} 1.0'
    assert said in client.get("/metrics").text
    views["pump-1"] = replace(
        views["pump-1"], state=AssetState.LEARNING, learning_text="watching only", since_ns=0
    )
    tile = console.client("otto").get("/").text.split('data-key="tile:pump-1"')[1].split("</a>")[0]
    assert "watching only · Without vibration" in " ".join(tile.split())
    assert since in tile


def test_history_pages_and_export(console: Running) -> None:
    client = console.client("otto")
    client.post("/api/v1/alarms/command", json=ACK | {"note": "=cmd|' /C calc'!A0"})
    first = client.get("/api/v1/alarms/history?limit=1").json()
    assert first[0]["transition"]["event"] == "ack"
    older = client.get(f"/api/v1/alarms/history?limit=1&before={first[0]['number']}").json()
    assert older[0]["transition"]["event"] == "active"
    lines = client.get("/api/v1/alarms/export").text.splitlines()
    assert len(lines) == 3
    assert "'=cmd" in lines[2], "no spreadsheet takes a note for a formula"


def test_outgoing_is_shown_to_the_byte(console: Running) -> None:
    row = console.client("vera").get("/api/v1/outgoing").json()[0]
    assert base64.b64decode(row["base64"]) == row["body"].encode()
    assert row["bytes"] == len(row["body"])
    assert row["sent"] is False


def test_what_stayed_home_is_shown_beside_what_left(console: Running) -> None:
    client = console.client("vera")
    assert client.get("/api/v1/outgoing/balance").json() is None
    assert "no packet leaves" in client.get("/outgoing").text
    view = EgressView("https://cloud.example/", 12, 2_000, 3_000_000, 1500.0, 3, "no answer")
    console.plant.egress_view = view
    try:
        assert client.get("/api/v1/outgoing/balance").json() == asdict(view)
        page = client.get("/outgoing").text
        for text in ("12 summaries", "2 kB", "3 MB", "1\u202f500 bytes stayed", "3 summaries wait"):
            assert text in page, text
        assert "no answer" in page
    finally:
        console.plant.egress_view = None


def test_channels(console: Running) -> None:
    post = console.client("eva").post
    assert post("/api/v1/channels/test", json={"channel": "shift-mail"}).status_code == 204
    assert post("/api/v1/channels/test", json={"channel": "none"}).status_code == 409
    assert console.plant.tests == [("shift-mail", "eva")]


def test_the_wire_is_shown_to_engineers_for_a_while_and_audited(console: Running) -> None:
    client, url = console.client("eva"), "/api/v1/sources/pump-1-link/wire"
    closed = client.get(url).json()
    assert (closed["open_s"], closed["frames"]) == (0, [])
    opened = client.post(url, json={"seconds": 60}).json()
    assert 50 < opened["open_s"] <= 60
    sent, received = client.get(url).json()["frames"]
    assert (sent["sent"], sent["hex"]) == (True, "3f 0d")
    assert bytes.fromhex(received["hex"]).startswith(b"SPEED 1480")
    assert client.delete(url).status_code == 204
    assert client.get(url).json()["frames"] == []
    trail = [(row["action"], row["target"]) for row in client.get("/api/v1/audit").json()]
    assert trail[:2] == [("leave wire", "pump-1-link"), ("watch wire", "pump-1-link")]
    assert client.post(url, json={"seconds": 1e6}).status_code == 422
    assert client.get("/api/v1/sources/none/wire").status_code == 404
    otto = console.client("otto")
    assert otto.get(url).status_code == otto.post(url, json={}).status_code == 403


def test_health_readiness_and_metrics(console: Running) -> None:
    client = console.client()
    assert client.get("/readyz").text == "ready"
    console.plant.ready = False
    answer = client.get("/readyz")
    assert (answer.status_code, answer.text) == (503, "the log does not take writes")
    text = client.get("/metrics").text
    assert 'forewarn_source_up{source="pump-1-link"} 1.0' in text
    assert 'forewarn_unused_total{what="sample_too_late"} 3.0' in text
    assert 'forewarn_alarms{priority="high",state="active_unacked"} 1.0' in text
    far = client.get("/metrics", headers={"X-Forwarded-For": "10.0.0.1"})
    assert far.status_code == 401, "through a proxy it takes a token"


def test_every_source_is_measured_alike(console: Running) -> None:
    for meter in console.plant.meters:
        meter.errors["timeout"] += 2
        meter.quarantined["pump-1/flow"] = "BadNodeIdUnknown"
    text = console.client().get("/metrics").text
    for meter in console.plant.meters:
        label = f'source="{meter.source}"'
        for name in (*(f"{name}_total" for name, _ in COUNTERS), "up", "latency_seconds"):
            assert f"forewarn_source_{name}{{{label}}}" in text
        assert f'forewarn_source_errors_total{{kind="timeout",{label}}} 2.0' in text
        assert f"forewarn_source_signals_quarantined{{{label}}} 1.0" in text
        assert f"forewarn_source_last_sample_time_seconds{{{label}}} 1." in text


def test_a_gap_that_nobody_can_fill_is_shown(console: Running) -> None:
    meter = console.plant.meters[0]
    meter.gaps_unfilled, meter.gaps_unfilled_s = 3, 12.0
    meter.gap_text = "gap of 12 s in 3 signals not filled: the server keeps no history"
    client = console.client("eva")
    assert meter.gap_text in client.get("/sources").text
    row = next(m for m in client.get("/api/v1/sources").json() if m["source"] == meter.source)
    assert (row["gaps_unfilled"], row["gap_text"]) == (3, meter.gap_text)
    text = client.get("/metrics").text
    assert f'forewarn_source_gaps_unfilled_total{{source="{meter.source}"}} 3.0' in text
    assert f'forewarn_source_gaps_unfilled_s_total{{source="{meter.source}"}} 12.0' in text


def test_every_refusal_is_said_in_the_language_of_the_console(start: Start, tmp_path: Path) -> None:
    console = start(language=str(brackets.write(tmp_path)))
    eva, vera, nobody = console.client("eva"), console.client("vera"), console.client()
    forged = console.client("eva")
    del forged.headers["X-CSRF-Token"]
    none = {"asset": "none", "alarm": "none"}
    ack = {"verb": "ack", "targets": [none]}
    kim = {"name": "kim", "password": PASSWORD, "role": "viewer"}
    asked = [
        (nobody.get("/api/v1/me"), 401),
        (vera.post("/api/v1/alarms/command", json=ack), 403),
        (forged.post("/api/v1/alarms/command", json=ack), 403),
        (eva.post("/api/v1/alarms/command", json=ack, headers={"Origin": "http://x"}), 403),
        (eva.post("/api/v1/alarms/command", json=ack), 409),
        (eva.post("/api/v1/learning/promote", json={"asset": "none"}), 409),
        (eva.post("/api/v1/channels/test", json={"channel": "none"}), 409),
        (eva.post("/api/v1/users/remove", json={"name": "none"}), 409),
        (eva.post("/api/v1/users/remove", json={"name": "eva"}), 409),
        (eva.post("/api/v1/users/add", json=kim | {"name": "eva"}), 409),
        (eva.post("/api/v1/users/add", json=kim | {"password": "x"}), 409),
        (eva.post("/api/v1/users/add", json=kim | {"password": "kimkimkimkim"}), 409),
        (eva.post("/api/v1/tokens/revoke", json={"name": "none"}), 409),
        (eva.get("/api/v1/asset?id=none"), 404),
        (eva.get("/api/v1/sources/none/wire"), 404),
        (eva.get("/api/v1/none"), 404),
        (eva.get("/api/v1/users/add"), 405),
        (eva.get("/live?topic=none"), 404),
        (eva.get("/static/none"), 404),
    ]
    for answer, status in asked:
        assert answer.status_code == status, answer.url
        detail = answer.json()["detail"]
        assert detail.startswith("⟦"), (answer.url, detail)
        assert brackets.outside(detail).strip() == ""


def test_where_learning_stands_is_on_every_surface(console: Running) -> None:
    plant = console.plant
    plant.lessons["pump-1"] = LearningView(
        "pump-1",
        "drifting",
        text="drifting, it has moved slowly",
        reason="it has moved slowly as far as may be followed; new baseline?",
        share=1.0,
        bundle="0002.fwm",
        previous="0001.fwm",
        trainings=2,
        may=("roll_back", "rebaseline"),
    )
    plant.context = ContextView(
        condition="1,450 rpm, 62 % load (so for 12 % of its healthy record)",
        similar="the alarm of 12 Nov 14:05 UTC, which was judged real: bearing",
        followed=("temperature +0.8 °C (0.4 of 2 spreads)",),
        held="its severity rises",
        fixed=("standby 1450 rpm (always 0 rpm)",),
    )
    client = console.client("eva")
    row = next(r for r in client.get("/api/v1/learning").json() if r["asset"] == "pump-1")
    assert (row["stage"], row["may"]) == ("drifting", ["roll_back", "rebaseline"])
    models = client.get("/models").text
    asset = client.get("/asset?id=pump-1").text
    assert "as far as may be followed; new baseline?" in models
    for page in (models, asset):
        assert 'data-post="/api/v1/learning/baseline"' in page
        assert 'data-post="/api/v1/learning/promote"' not in page
    for words in (*plant.context.followed, plant.context.similar, plant.context.held):
        assert words in asset
    assert "Not as it always was while the model learned: standby 1450 rpm (always 0 rpm)." in asset
    assert "At 1,450 rpm, 62 % load" in asset
    assert client.post("/api/v1/learning/baseline", json={"asset": "pump-1"}).status_code == 204
    assert client.post("/api/v1/learning/promote", json={"asset": "pump-1"}).status_code == 409
    assert plant.taught == [("pump-1", "rebaseline", "eva")]
    text = client.get("/metrics").text
    assert 'forewarn_learning_stage{asset="pump-1",stage="drifting"} 1.0' in text
    assert 'forewarn_trainings_total{asset="pump-1"} 2.0' in text
    otto = console.client("otto")
    assert otto.post("/api/v1/learning/baseline", json={"asset": "pump-1"}).status_code == 403


BAD_REQUESTS = [
    ("GET", "/api/v1/asset?id=nothing", 404),
    ("GET", "/api/v1/series?asset=../../etc/passwd&signal=x", 404),
    ("GET", "/api/v1/series?asset=pump-1&signal=x&span_s=nan", 422),
    ("GET", "/api/v1/series?asset=pump-1&signal=x&points=1e9", 422),
    ("GET", "/api/v1/alarms/history?limit=-1", 422),
    ("GET", "/api/v1/alarms/history?before=99999999999999999999999", 422),
    ("GET", "/asset?id=%00", 404),
    ("GET", "/live?topic=nothing", 404),
    ("GET", "/live", 422),
    ("DELETE", "/api/v1/alarms", 405),
    ("GET", "/api/v1/../../secrets", 404),
    ("GET", "/" + "a" * 20_000, 404),
]


def test_bad_requests_have_clear_answers(console: Running) -> None:
    client = console.client("eva")
    for method, path, status in BAD_REQUESTS:
        answer = client.request(method, path)
        assert answer.status_code == status, path
        assert len(answer.content) < 5000, path


BAD_BODIES = [
    b"",
    b"{",
    b"[]",
    b'"text"',
    b"null",
    b'{"verb":"ack"}',
    b'{"verb":"ack","targets":[]}',
    b'{"verb":"explode","targets":[{"asset":"a","alarm":"b"}]}',
    b'{"verb":"ack","targets":[{"asset":1,"alarm":null}]}',
    b'{"verb":"ack","targets":[{"asset":"a","alarm":"b","more":1}]}',
    b'{"verb":"ack","targets":[{"asset":"\\ud800","alarm":"b"}]}',
    b'{"verb":"shelve","targets":[{"asset":"a","alarm":"b"}],"duration_s":1e400}',
    b'{"verb":"shelve","targets":[{"asset":"a","alarm":"b"}],"duration_s":NaN}',
    b"[" * 20_000,
    b"\xff\xfe",
]


def test_bad_bodies_have_clear_answers(console: Running) -> None:
    client = console.client("eva")
    client.headers["content-type"] = "application/json"
    for body in BAD_BODIES:
        answer = client.post("/api/v1/alarms/command", content=body)
        assert answer.status_code in (400, 422), (body[:80], answer.text)
        assert len(answer.content) < 5000, body[:80]


def test_huge_bodies_are_refused_before_they_are_read(console: Running) -> None:
    client = console.client("eva")
    big = b"x" * (BODY_BYTES_MAX + 1)
    url = "/api/v1/alarms/command"
    assert client.post(url, content=big).status_code == 413
    assert client.post("/sign-in", content=big).status_code == 413
    chunked = client.post(url, content=(b"x" * 10_000 for _ in range(20)))
    assert chunked.status_code == 413
    assert client.get("/healthz").status_code == 200


def events(client: httpx.Client, topic: str) -> Any:
    """The live messages of a topic, one by one."""
    with client.stream("GET", "/live", params={"topic": topic}) as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        for line in stream.iter_lines():
            if line.startswith("data: "):
                yield json.loads(line.removeprefix("data: "))


def test_live_updates_carry_only_what_changed(console: Running) -> None:
    messages = events(console.client("vera"), "plant")
    first = next(messages)
    assert first["order"][:4] == ["banner", "summary", "pulse", "tile:pump-1"]
    assert len(first["put"]) == 7
    console.call(lambda: console.plant.fail("lathe-1"))
    second = next(messages)
    assert set(second["put"]) == {"banner", "summary", "tile:lathe-1"}
    assert "order" not in second
    messages.close()


def test_alarms_that_end_leave_the_page(console: Running) -> None:
    messages = events(console.client("otto"), "alarms")
    assert "alarm:pump-1/anomaly" in next(messages)["put"]
    engine = console.plant.engine
    console.call(engine._records.clear)
    console.call(lambda: engine.tick(mono_ns=0, wall_ns=0))
    assert next(messages)["del"] == ["alarm:pump-1/anomaly"]
    messages.close()


def test_a_live_page_ends_with_its_session(console: Running) -> None:
    client = console.client("otto")
    messages = events(client, "plant")
    next(messages)
    other = console.client()
    other.cookies = client.cookies
    token = client.headers["X-CSRF-Token"]
    assert other.post("/sign-out", data={"csrf": token}).status_code == 303
    console.call(lambda: console.plant.fail("lathe-1"))
    rest = list(messages)
    assert rest[-1] == {}, "the page is told that it is signed out"


def test_a_stuck_browser_is_dropped(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "SEND_TIMEOUT_S", 0.3)
    machines = [(f"m{i}", "press " * 40, "hall " * 20) for i in range(300)]
    console = start(plant=FakePlant(machines), anonymous_viewer=True)
    port = console.console.port
    with socket.socket() as stuck:
        stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        stuck.connect(("127.0.0.1", port))
        stuck.sendall(f"GET /live?topic=plant HTTP/1.1\r\nHost: localhost:{port}\r\n\r\n".encode())
        hub = console.console._hub
        eventually_blocking(lambda: hub.browsers == 1)

        def drop() -> bool:
            """Draw every tile anew, until the browser's buffers are full."""
            views = console.plant.views
            stamp = str(time.monotonic_ns())
            console.call(
                lambda: views.update({k: replace(v, cause=stamp) for k, v in views.items()})
            )
            return hub.browsers_dropped == 1

        eventually_blocking(drop, timeout_s=30)
        assert console.client().get("/healthz").status_code == 200
        assert hub.browsers == 0


def test_more_live_pages_than_allowed_are_refused(start: Start) -> None:
    console = start(browsers_max=1, anonymous_viewer=True)
    messages = events(console.client(), "plant")
    next(messages)
    assert console.client().get("/live?topic=plant").status_code == 503
    messages.close()


def test_schemathesis_finds_no_server_error(console: Running) -> None:
    """Every operation, with what the schema allows and what it does not, as an engineer."""
    secret = console.client("eva").post(
        "/api/v1/tokens/add", json={"name": "schemathesis", "role": "engineer"}
    )
    headers = {"Authorization": f"Bearer {secret.json()['secret']}"}
    document = console.client(headers=headers).get("/openapi.json").json()
    schema = schemathesis.openapi.from_dict(document)
    tried = 0
    for result in schema.get_all_operations():
        operation = result.ok()  # type: ignore[union-attr]
        modes = [GenerationMode.POSITIVE]
        if operation.body or operation.query:
            modes.append(GenerationMode.NEGATIVE)
        for mode in modes:

            @given(case=operation.as_strategy(mode))
            @settings(
                max_examples=10,
                deadline=None,
                database=None,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            )
            def run(case: Any) -> None:
                nonlocal tried
                tried += 1
                answer = case.call(base_url=console.url, headers=headers)
                assert answer.status_code < 500, (case.method, case.path, case.query, case.body)

            run()
    assert tried > 200
    assert len(console.client("eva").get("/api/v1/audit").json()) > 10
