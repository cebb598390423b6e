"""Hands one message to one receiver: apprise, webhook, MQTT. Retries nothing."""

import asyncio
import hashlib
import hmac
import json
import threading
import time
from collections.abc import Callable
from typing import Protocol
from urllib.parse import quote

from gateway.alarms.mqtt import Mqtt
from gateway.alarms.notify_config import AppriseConfig, MqttConfig, NotifyConfig, WebhookConfig
from gateway.alarms.outbox import Message, Tells
from gateway.alarms.words import as_json, words
from gateway.core.errors import LinkError, LinkTimeout
from gateway.core.secret import masked
from gateway.core.texts import Texts

ANSWER_BYTES_MAX = 2_000


class Receiver(Protocol):
    """Where messages go."""

    async def deliver(self, message: Message) -> None:
        """Return when the receiver has it.

        Raises:
            LinkError: It has not, or nobody knows.
        """
        ...

    async def close(self) -> None:
        """Let go of any link."""
        ...


def receiver(config: NotifyConfig, gateway: str, link: str, texts: Texts) -> Receiver:
    """The receiver that a `[[notify]]` table describes; its library is imported when first used."""
    match config:
        case AppriseConfig():
            return _Apprise(config, gateway, link, texts)
        case WebhookConfig():
            return _Webhook(config, gateway, link)
        case MqttConfig():
            return Mqtt(config, gateway)


class _Blocking:
    """Runs a blocking library in a daemon thread, one call at a time.

    A call that hangs is given up but not repeated: its thread is asked again the next time, since
    the receiver may have had the message after all. So nothing is sent twice by impatience.
    """

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._running: tuple[str, asyncio.Future[str]] | None = None

    async def run(self, name: str, work: Callable[[], str]) -> None:
        """Raises LinkError with what `work` returned, unless that is ""."""
        if self._running is not None:
            other, future = self._running
            await self._wait(future)
            self._running = None
            if other == name and future.result() == "":
                return
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        self._running = (name, future)
        threading.Thread(target=_run, args=(loop, future, work), name="notify", daemon=True).start()
        await self._wait(future)
        self._running = None
        if fault := future.result():
            raise LinkError(masked(fault))

    async def _wait(self, future: asyncio.Future[str]) -> None:
        try:
            async with asyncio.timeout(self._timeout_s):
                await asyncio.shield(future)
        except TimeoutError:
            raise LinkTimeout(f"no answer within {self._timeout_s:g} s") from None


def _run(
    loop: asyncio.AbstractEventLoop, future: "asyncio.Future[str]", work: Callable[[], str]
) -> None:
    try:
        fault = work()
    except Exception as error:  # noqa: BLE001 - the boundary of a hundred plug-ins of others
        fault = f"{type(error).__name__}: {error}"

    def settle() -> None:
        if not future.done():
            future.set_result(fault)

    try:
        loop.call_soon_threadsafe(settle)
    except RuntimeError:  # The gateway has ended meanwhile.
        return


class _Apprise:
    def __init__(self, config: AppriseConfig, gateway: str, link: str, texts: Texts) -> None:
        self._config = config
        self._gateway = gateway
        self._link = link
        self._texts = texts
        self._blocking = _Blocking(config.timeout_s)

    async def deliver(self, message: Message) -> None:
        title, body = words(self._config, message, self._gateway, self._link, self._texts)
        url = self._config.url.reveal()

        def work() -> str:
            import apprise  # noqa: PLC0415 - 25 MB that only those pay who use it

            kinds = {Tells.CLEAR: apprise.NotifyType.SUCCESS, Tells.TEST: apprise.NotifyType.INFO}
            target = apprise.Apprise()
            if not target.add(url):
                return "apprise does not know this URL; see its list of services"
            kind = kinds.get(message.tells, apprise.NotifyType.WARNING)
            sent = target.notify(
                body=body, title=title, notify_type=kind, body_format=apprise.NotifyFormat.TEXT
            )
            return "" if sent else "the receiver did not take it; see the log of apprise"

        await self._blocking.run(message.id, work)

    async def close(self) -> None:
        return


class _Webhook:
    """POSTs JSON. `X-Forewarn-Signature` is HMAC-SHA256 over `timestamp.body`; a receiver checks
    it, refuses old times, and passes over an `X-Forewarn-Id` that it has had."""

    def __init__(self, config: WebhookConfig, gateway: str, link: str) -> None:
        self._config = config
        self._gateway = gateway
        self._link = link
        self._blocking = _Blocking(config.timeout_s + 1)

    async def deliver(self, message: Message) -> None:
        import urllib3  # noqa: PLC0415

        body = json.dumps(as_json(message, self._gateway, self._link)).encode()
        key = self._config.secret.reveal().encode()
        timeout_s = self._config.timeout_s

        def work() -> str:
            stamp = str(int(time.time()))
            headers = {
                "content-type": "application/json",
                "user-agent": "forewarn",
                "x-forewarn-id": quote(message.id),
                "x-forewarn-timestamp": stamp,
                "x-forewarn-signature": sign(key, stamp, body),
            }
            answer = urllib3.request(
                "POST",
                self._config.url,
                body=body,
                headers=headers,
                timeout=urllib3.Timeout(total=timeout_s),
                retries=False,
                redirect=False,
                preload_content=False,
            )
            text = answer.read(ANSWER_BYTES_MAX).decode("utf-8", "replace")
            answer.release_conn()
            return "" if 200 <= answer.status < 300 else f"HTTP {answer.status}: {text[:200]}"

        await self._blocking.run(message.id, work)

    async def close(self) -> None:
        return


def sign(key: bytes, stamp: str, body: bytes) -> str:
    """The signature of a webhook's body: `sha256=` and hex."""
    return "sha256=" + hmac.new(key, stamp.encode() + b"." + body, hashlib.sha256).hexdigest()
