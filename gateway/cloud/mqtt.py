"""Summaries by MQTT over TLS, QoS 1: as JSON, or as Sparkplug B with births and deaths."""

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import aiomqtt
from aiomqtt.exceptions import MqttConnectError

from gateway.cloud import sparkplug
from gateway.cloud.config import Mqtt
from gateway.cloud.https import flat, trust
from gateway.cloud.summary import Summary, encode
from gateway.cloud.target import DELIVERY_S_MAX, Delivery
from gateway.core.errors import LinkError, LinkRefused

SEQ_MODULUS = 256


class MqttTarget:
    """One broker; a connection lasts for as long as deliveries succeed."""

    kind = "mqtt"

    def __init__(self, config: Mqtt, gateway: str) -> None:
        self._config = config
        self._gateway = gateway
        self._tls = trust(config.ca, config.certificate, config.key)
        self._births = 0

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Delivery]:
        """Connect, with the death certificate left at the broker where Sparkplug is spoken."""
        config = self._config
        birth = self._births % SEQ_MODULUS
        self._births += 1
        will = None
        if config.format == "sparkplug":
            death = sparkplug.payload({"bdSeq": birth}, 0, None)
            will = aiomqtt.Will(self._topic("NDEATH"), death, qos=1)
        client = aiomqtt.Client(
            config.host,
            config.port,
            username=config.user,
            password=config.password.reveal() if config.password else None,
            tls_context=self._tls,
            will=will,
            timeout=DELIVERY_S_MAX,
        )
        try:
            async with client:
                if config.format == "json":
                    yield JsonDelivery(client, config.topic)
                else:
                    yield SparkplugDelivery(client, self, birth)
        except MqttConnectError as error:
            raise LinkRefused(f"mqtts://{config.host}:{config.port}: {error}") from error
        except (aiomqtt.MqttError, OSError) as error:
            raise LinkError(f"mqtts://{config.host}:{config.port}: {error}") from error

    def _topic(self, message: str, device: str = "") -> str:
        parts = (sparkplug.NAMESPACE, self._config.topic, message, level(self._gateway))
        return "/".join((*parts, level(device)) if device else parts)

    def node_topic(self, message: str, device: str = "") -> str:
        """`spBv1.0/GROUP/MESSAGE/GATEWAY[/ASSET]`."""
        return self._topic(message, device)


def level(name: str) -> str:
    """A name as one level of a topic: wildcards may not stand in it."""
    return name.replace("+", "_").replace("#", "_")


class JsonDelivery:
    """A JSON object for each summary."""

    def __init__(self, client: aiomqtt.Client, topic: str) -> None:
        self._client, self._topic = client, topic

    async def deliver(self, summaries: Sequence[Summary], *, late: bool) -> int:
        """Publish each to `TOPIC/GATEWAY/ASSET/summary`. See `Delivery.deliver`."""
        del late
        sent = 0
        for summary in summaries:
            body = encode(summary)
            topic = f"{self._topic}/{level(summary.gateway)}/{level(summary.asset)}/summary"
            await self._client.publish(topic, body, qos=1)
            sent += len(body) + len(topic)
        return sent


class SparkplugDelivery:
    """Sparkplug messages over one connection: births first, sequence numbers throughout."""

    def __init__(self, client: aiomqtt.Client, target: MqttTarget, birth: int) -> None:
        self._client, self._target, self._birth = client, target, birth
        self._seq = 0
        self._born: set[str] = set()

    async def deliver(self, summaries: Sequence[Summary], *, late: bool) -> int:
        """A DDATA for each, after the births it needs. See `Delivery.deliver`."""
        sent = 0
        for summary in summaries:
            fields = flat(json.loads(encode(summary)))
            t_ms = (summary.start_s + summary.width_s) * 1000
            if not self._born:
                node = {"bdSeq": self._birth, "Node Control/Rebirth": False}
                sent += await self._publish("NBIRTH", "", sparkplug.payload(node, t_ms, self._next))
            message = "DDATA"
            if summary.asset not in self._born:
                self._born.add(summary.asset)
                message = "DBIRTH"
            body = sparkplug.payload(fields, t_ms, self._next, historical=late)
            sent += await self._publish(message, summary.asset, body)
        return sent

    @property
    def _next(self) -> int:
        seq, self._seq = self._seq, (self._seq + 1) % SEQ_MODULUS
        return seq

    async def _publish(self, message: str, device: str, body: bytes) -> int:
        topic = self._target.node_topic(message, device)
        await self._client.publish(topic, body, qos=1 if message == "DDATA" else 0)
        return len(topic) + len(body)
