"""Tells an MQTT broker, and Home Assistant where it is wanted, how each alarm stands."""

import asyncio
import hashlib
import json
import ssl
from contextlib import AsyncExitStack, suppress
from typing import Any
from urllib.parse import quote

from gateway.alarms.notify_config import MqttConfig
from gateway.alarms.outbox import Message, Tells
from gateway.alarms.states import Life
from gateway.core.alarm import Transition
from gateway.core.errors import LinkError, LinkRefused, LinkTimeout

STATES_MAX = 20_000


class Mqtt:
    """Keeps one link; publishes the state of each alarm, retained, for readers that come late."""

    def __init__(self, config: MqttConfig, gateway: str) -> None:
        self._config = config
        self._gateway = gateway
        self._stack: AsyncExitStack | None = None
        self._client: Any = None
        self._found: set[str] = set()
        self._told: dict[tuple[str, str], Transition] = {}

    @property
    def _base(self) -> str:
        return f"{self._config.topic}/{_part(self._gateway)}"

    async def deliver(self, message: Message) -> None:
        import aiomqtt  # noqa: PLC0415

        try:
            async with asyncio.timeout(self._config.timeout_s):
                if self._client is None:
                    await self._connect()
                if message.tells is Tells.TEST:
                    await self._publish(f"{self._base}/test", {"id": message.id}, retain=False)
                for item in message.items:
                    t = item.transition
                    await self._tell(t)
                    self._told[t.asset, t.alarm] = t
                    while len(self._told) > STATES_MAX:
                        self._told.pop(next(iter(self._told)))
        except TimeoutError:
            await self.close()
            raise LinkTimeout(f"no answer within {self._config.timeout_s:g} s") from None
        except aiomqtt.MqttError as error:
            await self.close()
            refused = "not authori" in str(error).lower()
            raise (LinkRefused if refused else LinkError)(f"MQTT: {error}") from error

    async def _connect(self) -> None:
        import aiomqtt  # noqa: PLC0415

        config = self._config
        status = f"{self._base}/status"
        client = aiomqtt.Client(
            config.host,
            config.port,
            username=config.username or None,
            password=config.password.reveal() if config.password else None,
            tls_context=ssl.create_default_context() if config.tls else None,
            timeout=config.timeout_s,
            will=aiomqtt.Will(status, b"offline", qos=1, retain=True),
        )
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(client)
            await client.publish(status, b"online", qos=1, retain=True)
            self._client = client
            # A broker that was down may have forgotten what it was to retain.
            self._found.clear()
            for transition in self._told.values():
                await self._tell(transition)
            self._stack = stack.pop_all()

    async def _tell(self, t: Transition) -> None:
        topic = f"{self._base}/alarm/{_part(t.asset or '_gateway')}/{_part(t.alarm)}"
        if self._config.home_assistant and topic not in self._found:
            await self._announce(topic, t)
            self._found.add(topic)
        active = t.state in (Life.ACTIVE_UNACKED, Life.ACTIVE_ACKED)
        state = {
            "active": "ON" if active else "OFF",
            "asset": t.asset,
            "alarm": t.alarm,
            "state": t.state,
            "event": t.event,
            "occurrence": t.occurrence,
            "priority": t.priority.name.lower(),
            "severity": round(t.severity, 4),
            "text": t.text,
            "drivers": [d.text or d.signal for d in t.drivers],
            "t_ns": t.t_ns,
            "who": t.who,
        }
        await self._publish(topic, state, retain=True)

    async def _announce(self, topic: str, t: Transition) -> None:
        """Home Assistant's discovery message: one binary sensor an alarm, one device an asset."""
        node = hashlib.sha256(topic.encode()).hexdigest()[:20]
        device = t.asset or self._gateway
        await self._publish(
            f"{self._config.discovery_prefix}/binary_sensor/forewarn_{node}/config",
            {
                "name": t.alarm,
                "unique_id": f"forewarn_{node}",
                "device_class": "problem",
                "state_topic": topic,
                "value_template": "{{ value_json.active }}",
                "json_attributes_topic": topic,
                "availability_topic": f"{self._base}/status",
                "device": {
                    "identifiers": [f"forewarn_{_part(self._gateway)}_{_part(device)}"],
                    "name": device,
                    "manufacturer": "Forewarn",
                },
            },
            retain=True,
        )

    async def _publish(self, topic: str, body: dict[str, Any], *, retain: bool) -> None:
        payload = json.dumps(body, ensure_ascii=False).encode()
        await self._client.publish(topic, payload, qos=1, retain=retain)

    async def close(self) -> None:
        client, stack, self._stack, self._client = self._client, self._stack, None, None
        if stack is not None:
            import aiomqtt  # noqa: PLC0415

            try:
                async with asyncio.timeout(2):
                    # The broker tells our will only of those who vanish; who leaves says so.
                    with suppress(aiomqtt.MqttError):
                        await client.publish(f"{self._base}/status", b"offline", 1, retain=True)
                    await stack.aclose()
            except (TimeoutError, aiomqtt.MqttError):
                return


def _part(name: str) -> str:
    """A name as one level of a topic: no wildcard, no slash, nothing that cannot be printed."""
    return quote(name, safe=" ()[]{},;=!@°µ") or "_"
