"""A real mosquitto with a publisher beside it, and Sparkplug payloads by Google's own library."""

import json
import os
import signal
import socket
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from paho.mqtt.enums import CallbackAPIVersion

from ..eventually import eventually_blocking
from ..servers import free_port, require


class Broker:
    """mosquitto on a port of its own, in a folder of its own; can be stopped and started again."""

    def __init__(self, folder: Path, settings: str) -> None:
        self._program = require("mosquitto")
        self.port = free_port()
        self._log = folder / "mosquitto.log"
        self._conf = folder / "mosquitto.conf"
        user = "user root\n" if os.geteuid() == 0 else ""
        self._conf.write_text(
            f"{user}listener {self.port} 127.0.0.1\nallow_anonymous true\nlog_type all\n"
            f"log_dest file {self._log}\n{settings}\n"
        )
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen(
            [self._program, "-c", str(self._conf)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        eventually_blocking(self._listens)

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(30)
            self._process = None

    def kill(self) -> None:
        """End without a word: no DISCONNECT, the kernel closes the links."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(30)
        self._process = None

    def freeze(self) -> None:
        """Hold it: the link stays open and nothing answers."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def log(self) -> str:
        return self._log.read_text() if self._log.exists() else ""

    def _listens(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self.log()[-2000:]
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
        except OSError:
            return False
        return True


class Publisher:
    """A machine that publishes."""

    def __init__(self, port: int) -> None:
        self._client = paho.Client(CallbackAPIVersion.VERSION2)
        self._client.max_inflight_messages_set(1000)
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()

    def say(self, topic: str, payload: object, *, retain: bool = False, wait: bool = True) -> None:
        """Publish; unless told otherwise return when the broker has it."""
        data = payload if isinstance(payload, bytes | str) else json.dumps(payload)
        eventually_blocking(self._client.is_connected, timeout_s=20)
        sent = self._client.publish(topic, data, qos=1, retain=retain)
        if wait:
            sent.wait_for_publish(10)

    def end(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


@contextmanager
def broker(folder: Path, settings: str = "") -> Iterator[tuple[Broker, Publisher]]:
    """A running broker and a publisher that is connected to it."""
    folder.mkdir(parents=True, exist_ok=True)
    running = Broker(folder, settings)
    running.start()
    publisher = Publisher(running.port)
    try:
        yield running, publisher
    finally:
        publisher.end()
        running.stop()


_NUMBERS = {
    "Payload": [
        ("timestamp", 1, "UINT64"),
        ("metrics", 2, ".Metric*"),
        ("seq", 3, "UINT64"),
        ("uuid", 4, "STRING"),
        ("body", 5, "BYTES"),
    ],
    "Metric": [
        ("name", 1, "STRING"),
        ("alias", 2, "UINT64"),
        ("timestamp", 3, "UINT64"),
        ("datatype", 4, "UINT32"),
        ("is_historical", 5, "BOOL"),
        ("is_transient", 6, "BOOL"),
        ("is_null", 7, "BOOL"),
        ("properties", 9, ".PropertySet"),
        ("int_value", 10, "UINT32"),
        ("long_value", 11, "UINT64"),
        ("float_value", 12, "FLOAT"),
        ("double_value", 13, "DOUBLE"),
        ("boolean_value", 14, "BOOL"),
        ("string_value", 15, "STRING"),
        ("bytes_value", 16, "BYTES"),
    ],
    "PropertySet": [("keys", 1, "STRING*"), ("values", 2, ".PropertyValue*")],
    "PropertyValue": [("type", 1, "UINT32"), ("is_null", 2, "BOOL"), ("int_value", 3, "UINT32")],
}
"""The part of sparkplug_b.proto that metrics use, for Google's library to encode by."""


def _make_payload_type() -> Any:
    kinds = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="sparkplug_b_part.proto", syntax="proto2")
    for name, fields in _NUMBERS.items():
        message = file.message_type.add(name=name)
        for field, number, kind in fields:
            made = message.field.add(name=field, number=number)
            made.label = kinds.LABEL_REPEATED if kind.endswith("*") else kinds.LABEL_OPTIONAL
            if kind.startswith("."):
                made.type, made.type_name = kinds.TYPE_MESSAGE, kind.rstrip("*")
            else:
                made.type = getattr(kinds, f"TYPE_{kind.rstrip('*')}")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("Payload"))


PAYLOAD = _make_payload_type()


def sparkplug(
    metrics: Sequence[Mapping[str, Any]], *, seq: int | None = None, t_ms: int | None = None
) -> bytes:
    """A Sparkplug B payload, encoded by Google's library."""
    payload = PAYLOAD()
    if seq is not None:
        payload.seq = seq
    if t_ms is not None:
        payload.timestamp = t_ms
    for fields in metrics:
        metric = payload.metrics.add()
        for name, value in fields.items():
            if name == "quality":
                metric.properties.keys.append("Quality")
                metric.properties.values.add(type=3, int_value=value)
            else:
                setattr(metric, name, value)
    encoded: bytes = payload.SerializeToString()
    return encoded
