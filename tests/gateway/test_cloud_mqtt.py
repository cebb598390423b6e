"""Summaries over MQTT: to a real mosquitto with TLS, as JSON and as Sparkplug B."""

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import jsonschema
import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from gateway.cloud.config import Mqtt
from gateway.cloud.mqtt import MqttTarget, SparkplugDelivery
from gateway.cloud.summary import Spread, Summary
from gateway.core.errors import LinkError
from protocols.mqtt.tahu import decode
from tests.eventually import eventually
from tests.gateway.test_cloud import HOUR_S, SCHEMA, plain
from tests.protocols.mqtt_broker import Broker
from tests.servers import free_port
from tests.sim.sink import make_certificates

Messages = list[tuple[str, bytes]]


@contextmanager
def tls_broker(folder: Path) -> Iterator[tuple[Broker, int, Messages]]:
    """mosquitto with a listener that wants TLS, and everything that is published there."""
    make_certificates(folder)
    port = free_port()
    broker = Broker(
        folder,
        f"listener {port} 127.0.0.1\ncafile {folder}/ca.pem\ncertfile {folder}/server.pem\n"
        f"keyfile {folder}/server.key",
    )
    broker.start()
    heard: Messages = []
    client = paho.Client(CallbackAPIVersion.VERSION2, client_id="receiver")
    client.on_message = lambda _client, _data, message: heard.append(
        (message.topic, bytes(message.payload))
    )
    subscribed: list[int] = []
    client.on_subscribe = lambda *_: subscribed.append(1)
    client.connect("127.0.0.1", broker.port)
    client.subscribe("#", qos=1)
    client.loop_start()
    try:
        yield broker, port, heard
    finally:
        client.disconnect()
        client.loop_stop()
        broker.stop()


def target(folder: Path, port: int, form: str) -> MqttTarget:
    """A way out to the broker."""
    config = Mqtt.model_validate(
        {"host": "127.0.0.1", "port": port, "format": form, "ca": folder / "ca.pem"}
    )
    return MqttTarget(config, "box")


def summaries(n: int) -> list[Summary]:
    """Consecutive minutes of one asset."""
    spread = Spread(60, 0.1, 0.2, 0.5, 0.9, 1.5, 0.55)
    return [
        replace(plain(gateway="box", asset="press"), start_s=HOUR_S + 60 * i, severity=spread)
        for i in range(n)
    ]


async def published(heard: Messages, enough: Callable[[], bool]) -> None:
    """Wait until the receiver has what was published."""
    await eventually(lambda: bool(heard) and enough())


async def test_json_goes_to_a_topic_of_the_asset(tmp_path: Path) -> None:
    with tls_broker(tmp_path) as (_, port, heard):
        async with target(tmp_path, port, "json").open() as delivery:
            sent = await delivery.deliver(summaries(3), late=False)
            await published(heard, lambda: len(heard) == 3)
        assert {topic for topic, _ in heard} == {"forewarn/box/press/summary"}
        rows = [json.loads(body) for _, body in heard]
        for row in rows:
            jsonschema.validate(row, SCHEMA)
        assert [row["start_s"] for row in rows] == [HOUR_S, HOUR_S + 60, HOUR_S + 120]
        assert sent == sum(len(topic) + len(body) for topic, body in heard)


async def test_sparkplug_has_births_and_a_death_and_marks_what_is_late(tmp_path: Path) -> None:
    with tls_broker(tmp_path) as (_, port, heard):
        out = target(tmp_path, port, "sparkplug")
        opened = out.open()
        delivery = await opened.__aenter__()
        await delivery.deliver(summaries(2), late=True)
        await delivery.deliver(summaries(3)[2:], late=False)
        await published(heard, lambda: len(heard) == 4)
        assert [topic for topic, _ in heard] == [
            "spBv1.0/forewarn/NBIRTH/box",
            "spBv1.0/forewarn/DBIRTH/box/press",
            "spBv1.0/forewarn/DDATA/box/press",
            "spBv1.0/forewarn/DDATA/box/press",
        ]
        payloads = [decode(body) for _, body in heard]
        assert [payload.seq for payload in payloads] == [0, 1, 2, 3]
        late, live = payloads[2], payloads[3]
        assert {metric.is_historical for metric in late.metrics} == {True}
        assert {metric.is_historical for metric in live.metrics} == {False}
        said = {metric.name: metric.raw for metric in live.metrics}
        assert said["severity_high"] == 1.5
        assert said["samples"] == 9
        assert said["asset"] == "press"
        # The link breaks without a word: the broker tells of the death.
        assert isinstance(delivery, SparkplugDelivery)
        delivery._client._client._sock_close()
        await published(heard, lambda: heard[-1][0] == "spBv1.0/forewarn/NDEATH/box")
        death = decode(heard[-1][1])
        assert {m.name: m.raw for m in death.metrics} == {"bdSeq": 0}
        with suppress(LinkError):
            await opened.__aexit__(None, None, None)


# The library leaves the socket of a refused handshake to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_a_broker_that_is_gone_or_a_stranger_is_a_link_error(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "other").mkdir()
    make_certificates(tmp_path / "other")
    with tls_broker(tmp_path / "own") as (broker, port, heard):
        with pytest.raises(LinkError, match="CERTIFICATE_VERIFY_FAILED"):
            async with target(tmp_path / "other", port, "json").open():
                pass
        broker.stop()
        with pytest.raises(LinkError):
            async with asyncio.timeout(30), target(tmp_path / "own", port, "json").open():
                pass
        assert heard == []
