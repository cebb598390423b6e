"""Proof on the wire: from a gateway that reads at 1 kHz, nothing but valid summaries comes out.

The gateway runs in a network namespace whose only way out is a link to a recording sink. Every
frame on that link is kept. What the machine says holds canaries: values, names and texts that must
not be found in anything that left, in any encoding. The same test run against an encoder that was
altered to add one raw field must fail.
"""

import asyncio
import base64
import contextlib
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path

import jsonschema
import numpy as np
import pytest

from gateway.core.batch import make_batch
from gateway.core.clock import SystemClock
from gateway.core.signals import Signal
from gateway.demo.serial_device import pty
from gateway.health import ask_health
from gateway.store.config import StoreConfig
from gateway.store.log import Log
from tests.eventually import eventually_blocking
from tests.sim.sink import Sink, https_sink

ROOT = Path(__file__).resolve().parents[2]
SCHEMA = json.loads(files("gateway.cloud").joinpath("schema.json").read_text(encoding="utf-8"))
NS = 1_000_000_000
CANARY_VALUE = 918273.6455
CANARY_NAME = "BISCUIT_RECIPE_PRESSURE"
CANARY_TEXT = "operator-jane-doe"
PAST_MINUTES = 20
ASSETS = ("oven", "mixer")
ETH_P_ALL = 0x0003
ETHER_ARP, ETHER_IPV4 = 0x0806, 0x0800
TCP = 6

CONFIG = """
[gateway]
id = "bakery"
data_dir = "data"

[[source]]
kind = "serial"
id = "{text}"
port = "{pty}"
baud_rate = 115200
signals = [
  {{ asset = "oven", signal = "speed", unit = "rpm" }},
  {{ asset = "oven", signal = "{name}", unit = "bar", field = "secret" }},
  {{ asset = "mixer", signal = "speed", unit = "rpm", field = "other" }},
]
[source.text]
pattern = 'S (?P<speed>\\S+) R (?P<secret>\\S+) M (?P<other>\\S+)'

[cloud]
enabled = {enabled}
interval_s = 300
deliver_s = 0
bytes_per_hour_max = 1000000
[[cloud.asset]]
id = "oven"
export = ["speed"]
run = "speed"
[cloud.https]
url = "{url}"
ca = "{ca}"
token = "env:CLOUD_TOKEN"
"""


def needles() -> dict[str, bytes]:
    """The canaries in every encoding that we can think of."""
    plain: dict[str, bytes] = {
        "name": CANARY_NAME.encode(),
        "text": CANARY_TEXT.encode(),
        "value as text": b"918273.6",
        "value as whole number": b"918273",
        "name, UTF-16": CANARY_NAME.encode("utf-16-le"),
        "name, hex": CANARY_NAME.encode().hex().encode(),
        "float64, little": struct.pack("<d", CANARY_VALUE),
        "float64, big": struct.pack(">d", CANARY_VALUE),
        "float32, little": struct.pack("<f", CANARY_VALUE),
        "float32, big": struct.pack(">f", CANARY_VALUE),
        "int32, little": struct.pack("<i", round(CANARY_VALUE)),
        "int32, big": struct.pack(">i", round(CANARY_VALUE)),
    }
    out = dict(plain)
    for what, needle in plain.items():
        out[f"{what}, hex"] = needle.hex().encode()
        for shift in range(3):
            # Base64 depends on where in a group of three the bytes begin; the ends are cut off.
            coded = base64.b64encode(b"\0" * shift + needle + b"\0\0")
            core = coded[4 if shift else 0 : (len(needle) + shift) // 3 * 4]
            if len(core) >= 6:
                out[f"{what}, base64 at {shift}"] = core
    return out


@dataclass
class Link:
    """The only way out of the namespace."""

    namespace: str
    inside: str
    outside: str
    frames: list[bytes] = field(default_factory=list)


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)


@contextmanager
def link() -> Iterator[Link]:
    """A namespace joined to us by one pair of interfaces, with every frame recorded."""
    # Addresses that no network here uses (TEST-NET-2); they and the name are ours by our number.
    tag = f"fw{os.getpid() % 100_000}"
    first = os.getpid() % 64 * 4
    made = Link(tag, f"198.51.100.{first + 2}", f"198.51.100.{first + 1}")
    _run("ip", "netns", "add", tag)
    try:
        _run("ip", "link", "add", f"{tag}a", "type", "veth", "peer", "name", f"{tag}b")
        _run("ip", "link", "set", f"{tag}b", "netns", tag)
        for name in (f"{tag}a", None):
            inside = ("ip", "netns", "exec", tag) if name is None else ()
            device = name or f"{tag}b"
            # Else the kernel announces itself by IPv6 of its own accord.
            setting = f"net.ipv6.conf.{device}.disable_ipv6=1"
            with contextlib.suppress(subprocess.CalledProcessError):
                _run(*inside, "sysctl", "-qw", setting)
        _run("ip", "addr", "add", f"{made.outside}/30", "dev", f"{tag}a")
        _run("ip", "-n", tag, "addr", "add", f"{made.inside}/30", "dev", f"{tag}b")
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL)) as tap:
            tap.bind((f"{tag}a", 0))
            tap.settimeout(0.1)
            _run("ip", "link", "set", f"{tag}a", "up")
            _run("ip", "-n", tag, "link", "set", "lo", "up")
            _run("ip", "-n", tag, "link", "set", f"{tag}b", "up")
            ended = threading.Event()

            def record() -> None:
                while not ended.is_set():
                    with contextlib.suppress(OSError):  # A time-out; or not up yet.
                        made.frames.append(tap.recv(65_535))

            thread = threading.Thread(target=record, name="tap")
            thread.start()
            try:
                yield made
            finally:
                ended.set()
                thread.join()
    finally:
        subprocess.run(("ip", "link", "del", f"{tag}a"), check=False, capture_output=True)
        subprocess.run(("ip", "netns", "del", tag), check=False, capture_output=True)


def fill_past(data_dir: Path) -> None:
    """A while of what the machine said before, canaries and all, at 1 kHz."""
    log = Log.open(data_dir, StoreConfig(), SystemClock())
    rows = [
        (log.signals.intern(Signal("oven", "speed", "rpm")), 1500.0),
        (log.signals.intern(Signal("oven", CANARY_NAME, "bar")), CANARY_VALUE),
        (log.signals.intern(Signal("mixer", "speed", "rpm")), 60.0),
    ]
    now_ns = time.time_ns()
    n = 60_000
    for minute in range(PAST_MINUTES, 0, -1):
        t_ns = now_ns - minute * 60 * NS + np.arange(n, dtype=np.int64) * (NS // 1000)
        for index, value in rows:
            signal_ = np.full(n, index, np.int32)
            values = value + np.arange(n, dtype=np.float64) % 7
            log.append(make_batch("plc", signal_, t_ns, values, np.zeros(n, np.uint8), now_ns))
        # What waits in memory is bounded.
        asyncio.run(log.flush())
    log.close()


@contextmanager
def machine() -> Iterator[str]:
    """A device that prints a thousand lines a second; gives its port."""
    with pty() as (ours, _, path):
        ended = threading.Event()

        def speak() -> None:
            number = 0
            while not ended.wait(0.02):
                for _ in range(20):
                    number += 1
                    line = f"S {1500 + number % 7} R {CANARY_VALUE + number % 7} M 60\r\n"
                    with contextlib.suppress(BlockingIOError):
                        os.write(ours, line.encode())

        thread = threading.Thread(target=speak, name="machine")
        thread.start()
        try:
            yield path
        finally:
            ended.set()
            thread.join()


def run_gateway(link_: Link, folder: Path, root: Path, sink: Sink, *, enabled: bool) -> int:
    """Run the gateway until all of the past has left, or, switched off, has had the time to.

    Returns:
        How many samples it read from the machine meanwhile.
    """
    with machine() as port:
        config = folder / "forewarn.toml"
        config.write_text(
            CONFIG.format(
                text=CANARY_TEXT, name=CANARY_NAME, pty=port, url=sink.url,
                ca=folder / "ca.pem", enabled=str(enabled).lower(),
            ),
            encoding="utf-8",
        )  # fmt: skip
        errors = (folder / "gateway.log").open("wb")
        gateway = subprocess.Popen(
            ["ip", "netns", "exec", link_.namespace, sys.executable, "-m", "gateway", "run",
             str(config), "--headless"],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(root), "CLOUD_TOKEN": "a-token-for-the-sink"},
            stdout=errors,
            stderr=errors,
        )  # fmt: skip
        try:

            def seen() -> int:
                assert gateway.poll() is None, (folder / "gateway.log").read_text()
                try:
                    return int(ask_health(folder / "data")["samples"])
                except OSError:
                    return 0

            eventually_blocking(lambda: seen() > 2000, timeout_s=30)
            if enabled:
                whole = (PAST_MINUTES // 5 - 1) * len(ASSETS)
                eventually_blocking(lambda: len(sink.summaries()) >= whole, timeout_s=15)
            samples = seen()
            gateway.send_signal(signal.SIGTERM)
            assert gateway.wait(30) == 0
        finally:
            if gateway.poll() is None:
                gateway.kill()
                gateway.wait()
            errors.close()
            print((folder / "gateway.log").read_text())  # Shown when the test fails.
    return samples


def prove(link_: Link, sink: Sink) -> None:
    """Fail unless everything that left was a valid summary to the sink, without a canary."""
    for request in sink.requests:
        assert request.path == "/summaries"
        for row in request.summaries:
            jsonschema.validate(row, SCHEMA)
            assert row["asset"] in ASSETS
            assert row["width_s"] >= 60
        left = [request.packed, request.body, json.dumps(request.headers).encode()]
        for what, needle in needles().items():
            assert not any(needle in part for part in left), f"canary left: {what}"
    sink_address = socket.inet_aton(link_.outside)
    own_address = socket.inet_aton(link_.inside)
    port = int(sink.url.rsplit(":", 1)[1].split("/")[0])
    for frame in link_.frames:
        kind = int.from_bytes(frame[12:14], "big")
        if kind == ETHER_ARP:
            assert {frame[28:32], frame[38:42]} == {sink_address, own_address}
            continue
        assert kind == ETHER_IPV4, f"a frame of type {kind:#06x} left"
        header = 14 + (frame[14] & 0x0F) * 4
        assert frame[23] == TCP, f"protocol {frame[23]} left"
        ports = struct.unpack(">HH", frame[header : header + 4])
        ends = {(frame[26:30], ports[0]), (frame[30:34], ports[1])}
        assert (sink_address, port) in ends, f"another destination: {ends}"
        for what, needle in needles().items():
            # Four bytes may turn up in a cipher stream by chance.
            assert len(needle) < 8 or needle not in frame, f"canary on the wire: {what}"


@pytest.fixture
def wire(tmp_path: Path) -> Iterator[tuple[Link, Path]]:
    """A namespace and a folder whose log holds the past."""
    if os.geteuid() != 0 or not shutil.which("ip"):
        assert not os.environ.get("CI"), "the wire test needs root and iproute2"
        pytest.skip("needs root and iproute2 to make a network namespace")
    fill_past(tmp_path / "data")
    with link() as made:
        yield made, tmp_path


def test_only_summaries_leave(wire: tuple[Link, Path]) -> None:
    made, folder = wire
    with https_sink(folder, made.outside) as sink:
        samples = run_gateway(made, folder, ROOT, sink, enabled=True)
        prove(made, sink)
        assert samples > 2000
        rows = sink.summaries()
        payload = sum(len(r.packed) for r in sink.requests)
        link_bytes = (sum(map(len, made.frames)) - payload) / len(sink.requests)
        # By default: four intervals an hour, in one delivery, over one connection.
        hour = (link_bytes + 4 * len(ASSETS) * payload / len(rows)) / len(ASSETS)
        print(f"{payload / len(rows):.0f} B a summary, {link_bytes:.0f} B a connection")
        print(f"{hour:.0f} B an asset and hour on the wire, with {len(ASSETS)} assets")
        assert hour < 4000
        assert sum(row["stayed_bytes"] for row in rows) > 1000 * sum(map(len, made.frames))
        assert "a-token-for-the-sink" not in (folder / "gateway.log").read_text()


def test_nothing_leaves_while_it_is_off(wire: tuple[Link, Path]) -> None:
    made, folder = wire
    with https_sink(folder, made.outside) as sink:
        run_gateway(made, folder, ROOT, sink, enabled=False)
        assert made.frames == []
        assert sink.requests == []


def test_an_encoder_that_adds_a_raw_field_is_found_out(wire: tuple[Link, Path]) -> None:
    made, folder = wire
    altered = folder / "altered"
    for name in ("gateway", "protocols", "models"):
        shutil.copytree(ROOT / name, altered / name)
    encoder = altered / "gateway" / "cloud" / "summary.py"
    text = encoder.read_text(encoding="utf-8")
    mutant = text.replace(
        '        "version": VERSION,\n',
        f'        "version": VERSION,\n        "last_raw": {CANARY_VALUE},\n',
    )
    assert mutant != text
    encoder.write_text(mutant, encoding="utf-8")
    # It must still read back what it wrote, or it would send nothing at all.
    reads = '        said = fields.pop("id")\n'
    mutant = mutant.replace(reads, reads + '        fields.pop("last_raw")\n')
    encoder.write_text(mutant, encoding="utf-8")
    with https_sink(folder, made.outside) as sink:
        run_gateway(made, folder, altered, sink, enabled=True)
        assert sink.requests
        with pytest.raises((AssertionError, jsonschema.ValidationError)):
            prove(made, sink)


def test_every_canary_is_found_where_it_is() -> None:
    """The search itself: base64 of a text that holds a needle holds the core we look for."""
    for shift in range(3):
        text = b"x" * shift + CANARY_NAME.encode() + b"tail"
        coded = base64.b64encode(text)
        assert any(
            needle in coded for what, needle in needles().items() if what.startswith("name, base64")
        )
