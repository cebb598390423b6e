"""Signing in, and everything that is not signing in: over real sockets."""

import re
import ssl
import time
from pathlib import Path

import pytest

from gateway.console.config import ConsoleConfig
from gateway.console.guard import FAILS_MAX, LOCK_S, Guard, LockedOut
from gateway.console.vault import PASSWORD_MIN, Role, Vault
from gateway.core.refusal import Refused
from tests.gateway.console.certificate import write
from tests.gateway.console.conftest import PASSWORD, Start


def test_first_run_makes_a_link_that_works_once(start: Start) -> None:
    console = start(staffed=False)
    client = console.client()
    assert client.get("/").headers["location"] == "/sign-in?next=%2F"
    assert client.get("/setup?key=guess").status_code == 404
    page = client.get(console.setup_url)
    assert page.status_code == 200
    secret = console.setup_url.split("key=")[1]
    form = {"name": "eva", "password": PASSWORD, "again": PASSWORD, "secret": secret}
    assert client.post("/setup", data=form | {"again": "different"}).status_code == 422
    short = {"password": "short", "again": "short"}
    assert client.post("/setup", data=form | short).status_code == 409
    assert client.post("/setup", data=form).status_code == 303
    assert client.get("/api/v1/me").json()["role"] == "engineer"
    assert console.client().post("/setup", data=form | {"name": "eve"}).status_code == 404


def test_a_stranger_sees_nothing(start: Start) -> None:
    client = start().client()
    for path in ("/", "/alarms", "/asset?id=pump-1", "/settings", "/sources", "/models"):
        assert client.get(path).headers["location"].startswith("/sign-in"), path
    for path in ("assets", "alarms", "health", "users", "audit", "settings", "outgoing"):
        assert client.get(f"/api/v1/{path}").status_code == 401, path
    assert client.get("/live?topic=plant").status_code == 401
    assert client.get("/openapi.json").status_code == 401
    assert client.get("/healthz").text == "ok"


@pytest.mark.parametrize(
    ("name", "may"),
    [("vera", (200, 403, 403)), ("otto", (200, 200, 403)), ("eva", (200, 200, 200))],
)
def test_roles(start: Start, name: str, may: tuple[int, int, int]) -> None:
    console = start()
    console.call(lambda: console.plant.fail("pump-1"))
    client = console.client(name)
    ack = {"verb": "ack", "targets": [{"asset": "pump-1", "alarm": "anomaly"}]}
    seen = (
        client.get("/api/v1/assets").status_code,
        client.post("/api/v1/alarms/command", json=ack).status_code,
        client.get("/api/v1/users").status_code,
    )
    assert seen == may


def test_a_cookie_alone_changes_nothing(start: Start) -> None:
    console = start()
    console.call(lambda: console.plant.fail("pump-1"))
    client = console.client("eva")
    other = console.client("otto")
    body = {"verb": "ack", "targets": [{"asset": "pump-1", "alarm": "anomaly"}]}
    for headers in (
        {"X-CSRF-Token": ""},
        {"X-CSRF-Token": "wrong"},
        {"X-CSRF-Token": other.headers["X-CSRF-Token"]},
        {"Origin": "http://evil.example"},
        {"Sec-Fetch-Site": "cross-site"},
    ):
        assert client.post("/api/v1/alarms/command", json=body, headers=headers).status_code == 403
    assert console.plant.alarms()[0].state == "active_unacked"
    token = client.headers["X-CSRF-Token"]
    assert client.post("/sign-out", data={"csrf": token}).status_code == 303
    assert client.post("/api/v1/alarms/command", json=body).status_code == 401, "replayed"


def test_cookie_is_out_of_reach_of_scripts_and_other_sites(start: Start) -> None:
    client = start().client()
    answer = client.post("/sign-in", data={"name": "eva", "password": PASSWORD})
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie


def test_sign_in_goes_nowhere_else(start: Start) -> None:
    for next_ in ("//evil.example", "https://evil.example", "/\\evil.example", "javascript:x"):
        client = start().client()
        form = {"name": "eva", "password": PASSWORD, "next": next_}
        assert client.post("/sign-in", data=form).headers["location"] == "/"


def test_lock_out(start: Start) -> None:
    client = start().client()
    for _ in range(FAILS_MAX):
        assert client.post("/sign-in", data={"name": "eva", "password": "no"}).status_code == 401
    locked = client.post("/sign-in", data={"name": "eva", "password": PASSWORD})
    assert locked.status_code == 429
    assert int(locked.headers["retry-after"]) > LOCK_S - 60
    assert client.post("/sign-in", data={"name": "otto", "password": PASSWORD}).status_code == 303


async def test_lock_out_ends_by_the_monotonic_clock(tmp_path: Path) -> None:
    now_s = [0.0]
    vault = Vault(tmp_path)
    vault.add_user("eva", PASSWORD, Role.ENGINEER, "test")
    guard = Guard(ConsoleConfig(), vault, now_s=lambda: now_s[0])
    for _ in range(FAILS_MAX):
        assert await guard.sign_in("eva", "wrong", "10.0.0.1") is None
    with pytest.raises(LockedOut):
        await guard.sign_in("EVA ", PASSWORD, "10.0.0.1")
    assert await guard.sign_in("eva", PASSWORD, "10.0.0.2"), "others are not kept out"
    now_s[0] = LOCK_S + 1
    assert await guard.sign_in("eva", PASSWORD, "10.0.0.1")
    vault.close()


def test_sessions_end_when_idle_and_in_any_case(tmp_path: Path) -> None:
    vault = Vault(tmp_path)
    user = vault.add_user("eva", PASSWORD, Role.ENGINEER, "test")
    secret, session = vault.sessions.begin(user.name)
    limits = {"idle_s": 60.0, "max_s": 600.0}
    assert vault.find_session(secret, **limits, touch=True)
    session.seen_ns -= 61 * 10**9
    assert vault.find_session(secret, **limits, touch=True) is None, "idle"
    session.seen_ns = time.time_ns()
    session.created_ns -= 601 * 10**9
    assert vault.find_session(secret, **limits, touch=True) is None, "too old"
    vault.close()


def test_sessions_survive_a_restart_and_end_with_the_person(tmp_path: Path) -> None:
    vault = Vault(tmp_path)
    user = vault.add_user("eva", PASSWORD, Role.ENGINEER, "test")
    vault.add_user("ada", PASSWORD, Role.ENGINEER, "test")
    secret, _ = vault.sessions.begin(user.name)
    vault.close()
    vault, other = Vault(tmp_path), Vault(tmp_path)
    limits = {"idle_s": 60.0, "max_s": 600.0}
    assert vault.find_session(secret, **limits, touch=True)
    other.remove_user("eva")
    assert vault.find_session(secret, **limits, touch=True) is None, "removed by another process"
    vault.close()
    other.close()


def test_tokens_are_scoped_hashed_and_revocable(start: Start) -> None:
    console = start()
    eva = console.client("eva")
    made = eva.post("/api/v1/tokens/add", json={"name": "mes", "role": "viewer"})
    secret = made.json()["secret"]
    assert secret.encode() not in (console.data_dir / "console.db").read_bytes()
    program = console.client(headers={"Authorization": f"Bearer {secret}"})
    assert program.get("/api/v1/alarms").status_code == 200
    body = {"verb": "ack", "targets": [{"asset": "pump-1", "alarm": "x"}]}
    assert program.post("/api/v1/alarms/command", json=body).status_code == 403
    assert eva.post("/api/v1/tokens/revoke", json={"name": "mes"}).status_code == 204
    assert program.get("/api/v1/alarms").status_code == 401
    bad = console.client(headers={"Authorization": "Bearer fw_guess"})
    assert bad.get("/api/v1/alarms").status_code == 401


def test_the_last_engineer_stays(start: Start) -> None:
    client = start().client("eva")
    answer = client.post("/api/v1/users/remove", json={"name": "eva"})
    assert (answer.status_code, "last engineer" in answer.text) == (409, True)


def test_passwords_are_not_stored_and_must_be_worth_it(tmp_path: Path) -> None:
    vault = Vault(tmp_path)
    for password in ("x" * (PASSWORD_MIN - 1), "aaaaaaaaaaaa", "evaevaevaeva"):
        with pytest.raises(Refused, match="password"):
            vault.add_user("evaevaevaeva", password, Role.VIEWER, "test")
    vault.add_user("eva", PASSWORD, Role.VIEWER, "test")
    vault.close()
    stored = b"".join(f.read_bytes() for f in tmp_path.iterdir())
    assert PASSWORD.encode() not in stored
    assert b"$argon2id$" in stored
    assert (tmp_path / "console.db").stat().st_mode & 0o077 == 0


def test_every_action_is_in_the_audit_trail(start: Start) -> None:
    console = start()
    console.call(lambda: console.plant.fail("pump-1"))
    console.client().post("/sign-in", data={"name": "eva", "password": "wrong"})
    console.client("vera").post("/api/v1/users/add", json={})
    otto = console.client("otto")
    body = {"verb": "ack", "targets": [{"asset": "pump-1", "alarm": "anomaly"}], "note": "coming"}
    assert otto.post("/api/v1/alarms/command", json=body).status_code == 200
    rows = console.client("eva").get("/api/v1/audit").json()
    told = {(r["who"], r["action"], r["outcome"]) for r in rows}
    assert ("eva", "sign-in", "wrong name or password") in told
    assert ("vera", "POST /api/v1/users/add", "refused: needs engineer") in told
    assert ("otto", "ack", "done") in told
    assert any(r["note"] == "coming" and r["target"] == "pump-1/anomaly" for r in rows)


def test_strange_hosts_are_refused_and_own_names_can_be_listed(start: Start) -> None:
    client = start().client()
    assert client.get("/healthz", headers={"Host": "evil.example"}).status_code == 421
    named = start(hosts=["gateway.plant"]).client()
    assert named.get("/healthz", headers={"Host": "Gateway.plant:8080"}).status_code == 200
    assert named.get("/healthz").status_code == 421


def test_forwarded_headers_are_believed_from_trusted_proxies_only(start: Start) -> None:
    headers = {"X-Forwarded-For": "10.9.8.7"}
    form = {"name": "eva", "password": "wrong"}
    for trusted, address in (([], "127.0.0.1"), (["127.0.0.1"], "10.9.8.7")):
        console = start(trusted_proxies=trusted)
        console.client().post("/sign-in", data=form, headers=headers)
        rows = console.client("eva").get("/api/v1/audit").json()
        assert next(r for r in rows if r["outcome"].startswith("wrong"))["address"] == address


def test_anonymous_viewers_see_but_never_act(start: Start) -> None:
    console = start(anonymous_viewer=True)
    client = console.client()
    assert client.get("/").status_code == 200
    assert client.get("/api/v1/assets").status_code == 200
    body = {"verb": "ack", "targets": [{"asset": "pump-1", "alarm": "x"}]}
    assert client.post("/api/v1/alarms/command", json=body).status_code == 403
    assert client.get("/settings").status_code == 403


def test_every_answer_carries_the_policy_and_pages_hold_no_inline_script(start: Start) -> None:
    client = start().client("eva")
    paths = ("/", "/asset?id=pump-1", "/alarms", "/alarms/history", "/alarms/figures")
    for path in (*paths, "/sources", "/models", "/outgoing", "/settings", "/nothing", "/sign-in"):
        answer = client.get(path, headers={"accept": "text/html"})
        policy = answer.headers["content-security-policy"]
        assert "script-src 'self'" in policy
        assert "unsafe" not in policy
        assert not re.search(r"<script(?![^>]*(src=|application/json))", answer.text), path
        assert not re.search(r"\son\w+=|\sstyle=", answer.text), path
        assert "http://" not in answer.text.replace("http://www.w3.org", ""), path


@pytest.mark.parametrize("file", ["../vault.py", "..%2fvault.py", "%2e%2e/vault.py", "console.db"])
def test_static_files_lead_nowhere_else(start: Start, file: str) -> None:
    client = start().client()
    assert client.get(f"/static/{file}").status_code == 404


def test_tls(start: Start, tmp_path: Path) -> None:
    certificate, key = write(tmp_path)
    console = start(tls_certificate=certificate, tls_key=key)
    client = console.client(verify=ssl.create_default_context(cafile=certificate))
    answer = client.post("/sign-in", data={"name": "eva", "password": PASSWORD})
    assert "Secure" in answer.headers["set-cookie"]
    assert "strict-transport-security" in answer.headers
