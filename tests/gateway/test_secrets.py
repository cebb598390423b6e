"""One secret is planted wherever a configuration may refer to one; then everything is searched.

Each stands before a receiver that turns the gateway away: it is in errors that secrets leak.
"""

import base64
import json
import os
import signal
import subprocess
import sys
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from gateway.health import ask_health
from tests.eventually import eventually_blocking
from tests.servers import free_port
from tests.sim.sink import https_sink

SECRET = "hunter2-planted-7f3a"
CONFIG = """
[gateway]
id = "box"
data_dir = "data"

[console]
port = {console}
anonymous_viewer = true

[[source]]
kind = "mqtt"
id = "hall"
host = "127.0.0.1"
port = {nobody}
username = "gateway"
password = "env:PLANTED"
signals = [ {{ asset = "saw", signal = "speed", topic = "saw" }} ]

[influx]
api = "v2"
url = "{refusing}"
org = "plant"
database = "forewarn"
token = "env:PLANTED"

[[notify]]
kind = "webhook"
id = "hook"
url = "{refusing}/hook"
secret = "file:{file}"
priority_min = 1

[[notify]]
kind = "apprise"
id = "mail"
url = "env:PLANTED_URL"
priority_min = 1

[cloud]
enabled = true
interval_s = 60
deliver_s = 0
[cloud.https]
url = "{cloud}"
ca = "{ca}"
token = "file:{file}"
"""


@contextmanager
def refusing() -> Iterator[tuple[str, list[str]]]:
    """A server that answers 401 to all, and repeats what it was sent; gives its address."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            asked.append(self.headers.get("Authorization", ""))
            # As bad as it gets: the receiver puts the secret into its own error text.
            text = json.dumps({"code": "unauthorized", "message": f"no: {asked[-1]}"}).encode()
            self.send_response(401)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        do_GET = do_POST  # noqa: N815 (the library's name)

        def log_message(self, *arguments: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, name="refusing")
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def needles() -> list[bytes]:
    """The secret as it is, and as base64 and hex would hold it."""
    plain = SECRET.encode()
    coded = [base64.b64encode(b"x" * shift + plain)[4:-4] for shift in range(3)]
    return [plain, plain.hex().encode(), *coded]


def search(what: dict[str, bytes]) -> list[str]:
    """Where a needle is."""
    return [name for name, data in what.items() if any(needle in data for needle in needles())]


def test_a_planted_secret_is_nowhere(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text(SECRET)
    (tmp_path / "sink").mkdir()
    console = free_port()
    environment = os.environ | {
        "PLANTED": SECRET,
        "PLANTED_URL": f"json://user:{SECRET}@127.0.0.1:9/{SECRET}",
    }
    config, said = tmp_path / "forewarn.toml", tmp_path / "said"
    with refusing() as (url, asked), https_sink(tmp_path / "sink") as sink:
        sink.answers = [401] * 1000
        config.write_text(
            CONFIG.format(
                console=console, nobody=free_port(), refusing=url, file=file, cloud=sink.url,
                ca=tmp_path / "sink" / "ca.pem",
            )
        )  # fmt: skip

        def forewarn(*words: str) -> bytes:
            done = subprocess.run(
                [sys.executable, "-m", "gateway", *words],
                check=False, capture_output=True, timeout=60, env=environment,
            )  # fmt: skip
            return done.stdout + done.stderr

        with said.open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "gateway", "run", str(config), "--headless"],
                env=environment, stdout=log, stderr=log,
            )  # fmt: skip
            try:
                # Turned away by everybody.
                eventually_blocking(lambda: b"influx.shut" in said.read_bytes(), timeout_s=30)
                eventually_blocking(lambda: b"source.down" in said.read_bytes(), timeout_s=30)
                eventually_blocking(lambda: asked.count("") >= 1, timeout_s=60)
                assert any(SECRET in header for header in asked), "the secret was not used at all"
                found = {
                    "arguments": Path(f"/proc/{process.pid}/cmdline").read_bytes(),
                    "health": json.dumps(ask_health(tmp_path / "data")).encode(),
                    "check": forewarn("check", str(config), "--connect"),
                    "doctor": forewarn("doctor", str(config), "--timeout-s", "2"),
                    "alarms": forewarn("alarms", "list", str(config)),
                    "influx check": forewarn("influx", "check", str(config)),
                    "influx setup": forewarn("influx", "setup", str(config)),
                    "preview": forewarn("cloud", "preview", str(config)),
                    "support": forewarn("support", str(config), str(tmp_path / "support.zip")),
                    "backup": forewarn("backup", str(config), str(tmp_path / "backup.tar.gz")),
                    **pages(console),
                }
            finally:
                process.send_signal(signal.SIGTERM)
                process.wait(30)
    found["log of events"] = said.read_bytes()
    for path in (tmp_path / "data").rglob("*"):
        if path.is_file():
            found[f"data/{path.name}"] = path.read_bytes()
    with zipfile.ZipFile(tmp_path / "support.zip") as bundle:
        found |= {f"support/{name}": bundle.read(name) for name in bundle.namelist()}
    with tarfile.open(tmp_path / "backup.tar.gz") as archive:
        for member in archive:
            if (part := archive.extractfile(member)) is not None:
                found[f"backup/{member.name}"] = part.read()
    assert len(found) > 20
    assert search(found) == []


def pages(port: int) -> dict[str, bytes]:
    """What the console shows to anybody, and its figures."""
    import urllib.error
    import urllib.request

    url = f"http://127.0.0.1:{port}"

    def there() -> bool:
        try:
            urllib.request.urlopen(f"{url}/healthz", timeout=5).close()
        except (urllib.error.URLError, OSError):
            return False
        return True

    eventually_blocking(there, timeout_s=30)
    out = {}
    for path in ("/", "/alarms", "/sources", "/outgoing", "/metrics", "/openapi.json"):
        with closing(urllib.request.urlopen(url + path, timeout=10)) as answer:
            out[f"console {path}"] = answer.read()
    return out


@pytest.mark.parametrize("shift", range(3))
def test_the_search_would_find_it(shift: int) -> None:
    coded = base64.b64encode(b"y" * shift + SECRET.encode() + b"tail")
    assert search({"a": coded}) == ["a"]
    assert search({"a": SECRET.encode().hex().encode()}) == ["a"]
    assert search({"a": b"nothing"}) == []
