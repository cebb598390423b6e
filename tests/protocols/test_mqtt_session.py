"""The MQTT source against a real mosquitto: plain topics, JSON, rights, TLS, retained, reload."""

import asyncio
import gc
import json
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from gateway.cli import group
from gateway.core.batch import Batch, Quality, Waveform
from gateway.core.errors import LinkError, LinkLost, LinkRefused, LinkTimeout
from gateway.core.source import Session, Source
from protocols import as_source
from protocols.mqtt import Config
from protocols.mqtt.messages import Messages

from ..conformance import bench, check_module, check_source
from ..eventually import eventually
from ..servers import free_port, require
from .mqtt_broker import Broker, Publisher, broker


def source(port: int, signals: Sequence[dict[str, Any]], **settings: Any) -> Source:
    table: dict[str, Any] = {"kind": "mqtt", "id": "hall", "host": "127.0.0.1", "port": port}
    return as_source(Config.model_validate(table | {"signals": signals} | settings))


X = {"asset": "m", "signal": "x", "topic": "m/x"}
Y = {"asset": "m", "signal": "y", "topic": "m/y"}


@pytest.fixture
def hall(tmp_path: Path) -> Iterator[tuple[Broker, Publisher]]:
    with broker(tmp_path / "broker") as pair:
        yield pair


async def take(session: Session, n: int) -> list[Batch | Waveform]:
    """Items until they hold `n` samples and waveforms together."""
    items: list[Batch | Waveform] = []
    async with asyncio.timeout(30):
        while sum(len(i) if isinstance(i, Batch) else 1 for i in items) < n:
            items.append(await session.read())
    return items


async def samples(session: Session, n: int) -> list[tuple[int, float, int]]:
    """`n` samples or more as (signal, value, quality), NaN as -999."""
    found = []
    for item in await take(session, n):
        assert isinstance(item, Batch)
        found += [
            (s, -999.0 if q == Quality.BAD else v, q)
            for s, v, q in zip(
                item.signal.tolist(), item.value.tolist(), item.quality.tolist(), strict=True
            )
        ]
    return found


async def say(publisher: Publisher, topic: str, payload: object, *, retain: bool = False) -> None:
    await asyncio.to_thread(publisher.say, topic, payload, retain=retain)


DENYING = """{"defaultACLAccess": {"publishClientSend": true, "publishClientReceive": true,
"subscribe": false, "unsubscribe": true}, "clients": [], "anonymousGroup": "all",
"groups": [{"groupname": "all", "roles": [{"rolename": "reader"}]}],
"roles": [{"rolename": "reader", "acls": [
{"acltype": "subscribePattern", "topic": "m/#", "priority": 0, "allow": true}]}]}"""


class HallPeer:
    """A broker that lets one subscribe to m/# only; each topic holds one retained value."""

    resets = False
    asked = False

    def __init__(self, running: Broker, publisher: Publisher) -> None:
        self._broker = running
        self._publisher = publisher
        self.source = source(running.port, [X])
        self.wider = source(running.port, [X, Y])
        self.broken = source(running.port, [X, Y | {"topic": "forbidden/y"}])
        self._value = 0

    def links(self) -> int:
        return self._broker.log().count("as forewarn-hall")

    async def emit(self, n: int) -> Sequence[float]:
        values = []
        for _ in range(n):
            self._value += 1
            values.append(float(self._value))
            await say(self._publisher, "m/x", str(self._value))
            await say(self._publisher, "m/y", str(-self._value))
        return values

    async def hang_up(self, *, reset: bool) -> None:
        await asyncio.to_thread(self._broker.stop)


@pytest.fixture
def security_plugin() -> Path:
    found = sorted(Path("/usr/lib").glob("*/mosquitto_dynamic_security.so"))
    if not found:
        require("mosquitto_dynamic_security.so")
    return found[0]


async def test_conforms(tmp_path: Path, security_plugin: Path) -> None:
    made = 0

    @asynccontextmanager
    async def make() -> AsyncIterator[HallPeer]:
        nonlocal made
        made += 1
        folder = tmp_path / str(made)
        folder.mkdir()
        (folder / "security.json").write_text(DENYING)
        settings = f"plugin {security_plugin}\nplugin_opt_config_file {folder}/security.json"
        with broker(folder, settings) as (running, publisher):
            await say(publisher, "m/x", "0", retain=True)
            await say(publisher, "m/y", "0", retain=True)
            yield HallPeer(running, publisher)

    await check_source(make, tmp_path)


@pytest.mark.parametrize(
    ("subscribed", "refused"),
    [("plant/#", {"a/x", "a/y"}), ("plant/+/x", {"a/x"}), ("plant/a/x", {"a/x"}), ("plant", set())],
)
def test_a_refused_subscription_is_that_of_its_signals(
    tmp_path: Path, subscribed: str, refused: set[str]
) -> None:
    config = Config.model_validate(
        {
            "kind": "mqtt",
            "id": "s",
            "host": "h",
            "topic": "plant/{asset}/{signal}",
            "subscribe": [subscribed, "other/#"],
            "signals": [{"asset": "a", "signal": "x"}, {"asset": "a", "signal": "y"}],
        }
    )
    world = bench("s", "mqtt", tmp_path)
    context = world.context
    messages = Messages(config, context.signals, context.meter, lambda *_: None)
    messages.refused(subscribed, "no")
    assert set(world.meter.quarantined) == refused
    bad = messages.pop()
    assert (len(bad) if bad is not None else 0) == len(refused)
    messages.granted(subscribed)
    assert not world.meter.quarantined


def test_a_signal_that_no_message_serves_says_why_until_one_does(tmp_path: Path) -> None:
    config = Config.model_validate(
        {
            "kind": "mqtt",
            "id": "s",
            "host": "h",
            "topic": "plant/a",
            "signals": [
                {"asset": "a", "signal": "mode", "path": "mode"},
                {"asset": "a", "signal": "oil", "path": "sensors.oill"},
                {"asset": "a", "signal": "all", "path": "sensors"},
                {"asset": "a", "signal": "rare", "path": "rare"},
            ],
        }
    )
    world = bench("s", "mqtt", tmp_path)
    messages = Messages(config, world.context.signals, world.meter, lambda *_: None)
    messages.at(1)
    messages.feed("plant/a", b'{"mode": "RUN", "sensors": {"oil": 4}, "rare": 1}', retained=False)
    messages.feed("plant/a", b'{"mode": "RUN", "sensors": {"oil": 4}}', retained=False)
    assert world.meter.quarantined == {
        "a/mode": "'RUN' is no number; give its texts numbers by states",
        "a/oil": "plant/a holds nothing at sensors.oill so far; its message has mode, sensors",
        "a/all": "{'oil': 4} is no number; name one within it by path",
    }
    messages.feed("plant/a", b'{"mode": 2, "sensors": {"oill": 4}}', retained=False)
    assert world.meter.quarantined.keys() == {"a/all"}
    messages.feed("plant/a", b'{"sensors": 3}', retained=False)
    assert not world.meter.quarantined


def test_check_says_what_no_message_came_for(
    hall: tuple[Broker, Publisher], tmp_path: Path
) -> None:
    config = tmp_path / "forewarn.toml"
    config.write_text(
        f'[gateway]\n[[source]]\nkind = "mqtt"\nid = "b"\nhost = "127.0.0.1"\n'
        f"port = {hall[0].port}\n"
        'signals = [{ asset = "m", signal = "x", topic = "m/x" },'
        ' { asset = "m", signal = "y", topic = "m/y" }]\n'
    )
    hall[1].say("m/x", 1, retain=True)
    order = ["check", str(config), "--connect", "--timeout-s", "5", "--json"]
    result = CliRunner().invoke(group, order)
    assert json.loads(result.stdout)["read"][0]["bad"] == {
        "m/y": "nothing came for it within 5 s; see its address, and that the machine sends it"
    }


def test_module_conforms() -> None:
    check_module("mqtt", libraries=["aiomqtt", "paho"], writes="publish|Publish|will_set")


async def test_json_by_path_and_by_template(hall: tuple[Broker, Publisher], tmp_path: Path) -> None:
    running, publisher = hall
    signals: list[dict[str, Any]] = [
        {"asset": "press", "signal": "temp", "path": "sensors.temp.value", "scale": 10},
        {"asset": "press", "signal": "speed", "path": "speeds[1]"},
        {"asset": "press", "signal": "state", "path": "state", "states": {"RUN": 1, "*": 0}},
        {"asset": "press", "signal": "wave", "path": "wave", "rate_hz": 100},
        {"asset": "press", "signal": "odd", "path": '["a.b"]'},
    ]
    config = source(
        running.port, signals, topic="plant/{asset}/json", time_path="ts", time_form="unix_ms"
    )
    world = bench("hall", "mqtt", tmp_path)
    now_ms = world.context.clock.wall_ns() // 1_000_000
    document = {
        "ts": now_ms - 5000,
        "sensors": {"temp": {"value": 21.5}},
        "speeds": [1, "1500"],
        "state": "RUN",
        "wave": [1, 2, 3],
        "a.b": None,
    }
    async with config.open(world.context) as session:
        await say(publisher, "plant/press/json", document)
        batch, wave = await take(session, 5)
        assert isinstance(batch, Batch)
        assert isinstance(wave, Waveform)
        assert batch.value.tolist()[:3] == [215, 1500, 1]
        assert batch.quality.tolist() == [0, 0, 0, 2]
        assert set(batch.t_ns.tolist()) == {(now_ms - 5000) * 1_000_000}
        assert (wave.value.tolist(), wave.rate_hz) == ([1, 2, 3], 100)
        assert wave.t0_ns == (now_ms - 5020) * 1_000_000
        # What a message leaves out has not changed; what cannot be read is counted.
        await say(publisher, "plant/press/json", b"\xff{")
        await say(publisher, "plant/press/json", {"ts": 0, "state": "OFF"})
        await say(publisher, "plant/press/json", {"ts": now_ms, "speeds": [0, {}]})
        assert await samples(session, 2) == [(2, 0, 0), (1, -999, 2)]
    assert world.meter.errors == {"payload": 1, "clock": 1, "value": 1}


async def test_bare_values(hall: tuple[Broker, Publisher], tmp_path: Path) -> None:
    running, publisher = hall
    signals: list[dict[str, Any]] = [
        {"asset": "press", "signal": "temp"},
        {"asset": "press", "signal": "on"},
        {"asset": "press", "signal": "mode", "states": {"auto": 2}},
    ]
    world = bench("hall", "mqtt", tmp_path)
    config = source(running.port, signals, topic="plant/{asset}/{signal}", subscribe=["plant/#"])
    async with config.open(world.context) as session:
        said = [("temp", " 21.5 "), ("on", "true"), ("mode", '"auto"'), ("other", "7")]
        for name, text in [*said, ("temp", "warm"), ("mode", "manual")]:
            await say(publisher, f"plant/press/{name}", text)
        assert await samples(session, 5) == [
            (0, 21.5, 0),
            (1, 1, 0),
            (2, 2, 0),
            (0, -999, 2),
            (2, -999, 2),
        ]


async def test_a_retained_message_with_a_time_of_its_own_is_as_old_as_it_says(
    hall: tuple[Broker, Publisher], tmp_path: Path
) -> None:
    running, publisher = hall
    await say(publisher, "m/x", {"t": "2024-07-01T10:00:00Z", "v": 1}, retain=True)
    world = bench("hall", "mqtt", tmp_path)
    config = source(running.port, [X], path="v", time_path="t")
    async with config.open(world.context) as session:
        (batch,) = await take(session, 1)
        assert isinstance(batch, Batch)
        assert batch.quality.tolist() == [Quality.GOOD]
        assert batch.t_ns.tolist() == [1_719_828_000 * 10**9]


@pytest.mark.parametrize(
    ("retained", "quality"), [("uncertain", Quality.UNCERTAIN), ("good", Quality.GOOD)]
)
async def test_retained_messages_are_of_any_age(
    hall: tuple[Broker, Publisher], tmp_path: Path, retained: str, quality: Quality
) -> None:
    running, publisher = hall
    await say(publisher, "m/x", "1", retain=True)
    world = bench("hall", "mqtt", tmp_path)
    async with source(running.port, [X], retained=retained).open(world.context) as session:
        assert await samples(session, 1) == [(0, 1, quality)]
        await say(publisher, "m/x", "2", retain=True)
        assert await samples(session, 1) == [(0, 2, Quality.GOOD)]
    async with source(running.port, [X], retained="ignore").open(world.context) as session:
        await say(publisher, "m/x", "3")
        assert await samples(session, 1) == [(0, 3, Quality.GOOD)]


async def test_a_persistent_session_fills_the_gap(
    hall: tuple[Broker, Publisher], tmp_path: Path
) -> None:
    running, publisher = hall
    for version in ("3.1.1", "5"):
        world = bench("hall", "mqtt", tmp_path)
        config = source(
            running.port, [X], persistent=True, client_id=f"gw-{version}", version=version
        )
        async with config.open(world.context) as session:
            await say(publisher, "m/x", "1")
            assert await samples(session, 1) == [(0, 1, 0)]
            reading = asyncio.create_task(session.read())
            # What was read before is acknowledged by now, and stays so.
            acknowledged = f"Received PUBACK from gw-{version}"
            await eventually(lambda wanted=acknowledged: wanted in running.log())  # type: ignore[misc]
            reading.cancel()
            await asyncio.wait([reading])
            # This one comes when nobody reads any more.
            sent = f"Sending PUBLISH to gw-{version}"
            await say(publisher, "m/x", "2")
            await eventually(lambda wanted=sent: running.log().count(wanted) == 2)  # type: ignore[misc]
        await say(publisher, "m/x", "3")
        async with config.open(world.context) as session:
            assert await samples(session, 2) == [(0, 2, 0), (0, 3, 0)]


async def test_a_full_queue_drops_the_oldest_and_counts(
    hall: tuple[Broker, Publisher], tmp_path: Path
) -> None:
    running, publisher = hall
    world = bench("hall", "mqtt", tmp_path)
    config = source(running.port, [X], queue_messages_max=3)
    async with config.open(world.context) as session:
        for i in range(8):
            await say(publisher, "m/x", str(i))
        await eventually(lambda: world.meter.errors["dropped"] == 5)
        assert await samples(session, 3) == [(0, 5, 0), (0, 6, 0), (0, 7, 0)]


@pytest.fixture
def passwords(tmp_path: Path) -> Path:
    file = tmp_path / "passwords"
    file.write_text("gateway:secret\n")
    subprocess.run([require("mosquitto_passwd"), "-U", str(file)], check=True)
    return file


async def test_who_is_turned_away_learns_why(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, passwords: Path
) -> None:
    settings = f"allow_anonymous false\npassword_file {passwords}"
    running = Broker(tmp_path, settings)
    running.start()
    try:
        for version in ("3.1.1", "5"):
            monkeypatch.delenv("MQTT_PASSWORD", raising=False)
            with pytest.raises(LinkRefused, match="the variable is not set"):
                async with source(
                    running.port, [X], username="gateway", password="env:MQTT_PASSWORD"
                ).open(bench("hall", "mqtt", tmp_path).context):
                    pass
            monkeypatch.setenv("MQTT_PASSWORD", "wrong")
            config = source(
                running.port,
                [X],
                username="gateway",
                password="env:MQTT_PASSWORD",
                version=version,
            )
            world = bench("hall", "mqtt", tmp_path)
            with pytest.raises(LinkRefused, match="see username, password"):
                async with config.open(world.context):
                    pass
            monkeypatch.setenv("MQTT_PASSWORD", "secret")
            async with config.open(world.context):
                pass
    finally:
        running.stop()


@pytest.fixture
def key_pair(tmp_path: Path) -> tuple[Path, Path]:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2"
    names = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    files = ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run(
        [require("openssl"), *command.split(), *names, *files], check=True, capture_output=True
    )
    return key, certificate


# paho leaves the socket of a handshake that failed to the garbage collector.
@pytest.mark.filterwarnings("ignore:unclosed.*SSLSocket:ResourceWarning")
async def test_tls_trusts_only_whom_it_is_told_to(
    tmp_path: Path, key_pair: tuple[Path, Path]
) -> None:
    key, certificate = key_pair
    port = free_port()
    settings = f"listener {port} 127.0.0.1\nkeyfile {key}\ncertfile {certificate}"
    world = bench("hall", "mqtt", tmp_path)
    with broker(tmp_path / "broker", settings) as (_, publisher):
        trusting = source(port, [X], tls={"ca_file": str(certificate)})
        async with trusting.open(world.context) as session:
            await say(publisher, "m/x", "5")
            assert await samples(session, 1) == [(0, 5, 0)]
        with pytest.raises(LinkRefused, match=r"not trusted.*tls\.ca_file"):
            async with source(port, [X], tls={}).open(world.context):
                pass
        await asyncio.get_running_loop().shutdown_default_executor()
        gc.collect()


async def test_a_broker_that_is_not_there(tmp_path: Path) -> None:
    world = bench("hall", "mqtt", tmp_path)
    port = free_port()
    with pytest.raises(LinkError, match=rf"broker \S+:{port} cannot be reached"):
        async with source(port, [X]).open(world.context):
            pass
    # Somebody accepts, and says nothing.
    with socket.create_server(("127.0.0.1", 0)) as listener:
        silent = source(listener.getsockname()[1], [X], open_timeout_s=0.2)
        with pytest.raises(LinkTimeout, match=r"did not answer in 0\.2 s"):
            async with silent.open(world.context):
                pass
        # The half-made link is gone: its socket and its timer, too.
        await eventually(lambda: len(asyncio.all_tasks()) == 1)
        connection, _ = listener.accept()
        with connection:
            connection.settimeout(10)
            while connection.recv(1024):
                pass


async def test_a_killed_broker_is_lost(hall: tuple[Broker, Publisher], tmp_path: Path) -> None:
    running, publisher = hall
    world = bench("hall", "mqtt", tmp_path)
    async with source(running.port, [X]).open(world.context) as session:
        await say(publisher, "m/x", "1")
        assert await samples(session, 1) == [(0, 1, 0)]
        running.kill()
        with pytest.raises(LinkLost, match="is gone"):
            async with asyncio.timeout(30):
                await session.read()
