"""Measures what MQTT messages cost, broker to batch: `python -m tests.bench.bench_mqtt`.

A real mosquitto, a publisher in a process of its own, and the MQTT source as the supervisor would
read it, and nothing else. Prints JSON; see `--help`.
"""

import asyncio
import json
import multiprocessing
import platform
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import click

from protocols.mqtt import Config

from ..conformance import bench
from ..protocols.mqtt_broker import Publisher, broker, sparkplug

WARM_UP_MESSAGES = 1000
IN_FLIGHT_MAX = 500
JSON_FIELDS = 10
INT32 = 3


def bare(i: int) -> tuple[str, bytes]:
    return "plant/pump/flow", b"%d.5" % i


def document(i: int) -> tuple[str, bytes]:
    values = {f"v{k}": i + k for k in range(JSON_FIELDS)}
    return "plant/pump/json", json.dumps({"ts": 1_732_387_200_123, **values}).encode()


def metrics(i: int) -> tuple[str, bytes]:
    fields = [{"name": f"v{k}", "datatype": INT32, "int_value": i} for k in range(JSON_FIELDS)]
    return "spBv1.0/G/DDATA/E/pump", sparkplug(fields, t_ms=1_732_387_200_123)


def signals(count: int, **settings: str) -> list[dict[str, str]]:
    return [
        {"asset": "pump", "signal": f"v{k}"}
        | {name: text.replace("*", f"v{k}") for name, text in settings.items()}
        for k in range(count)
    ]


KINDS: dict[str, tuple[Any, list[dict[str, str]], dict[str, Any]]] = {
    "bare value": (bare, signals(1, topic="plant/pump/flow"), {}),
    f"JSON of {JSON_FIELDS}": (
        document,
        signals(JSON_FIELDS, topic="plant/pump/json", path="*"),
        {"time_path": "ts", "time_form": "unix_ms"},
    ),
    f"Sparkplug of {JSON_FIELDS}": (metrics, signals(JSON_FIELDS, node="G/E/pump", metric="*"), {}),
}


def publish(port: int, kind: str, messages: int) -> None:
    """Publish so many messages, a bounded number of them ahead of the broker."""
    make, _, _ = KINDS[kind]
    publisher = Publisher(port)
    for i in range(messages):
        topic, payload = make(i)
        publisher.say(topic, payload, wait=i % IN_FLIGHT_MAX == 0)
    publisher.say("plant/end", "0")
    publisher.end()


async def listen(kind: str, port: int, messages: int, folder: Path) -> dict[str, float]:
    """Read so many messages and give the cost of each."""
    _, wanted, settings = KINDS[kind]
    table: dict[str, Any] = {"kind": "mqtt", "id": "hall", "host": "127.0.0.1", "port": port}
    queue = {"queue_messages_max": 100_000}
    config = Config.model_validate(table | settings | queue | {"signals": wanted})
    world = bench("hall", "mqtt", folder)
    async with config.open(world.context) as session:
        talker = multiprocessing.get_context("spawn").Process(
            target=publish, args=(port, kind, WARM_UP_MESSAGES + messages)
        )
        talker.start()
        try:
            left = WARM_UP_MESSAGES * len(wanted)
            while left > 0:
                left -= len(await session.read())
            left += messages * len(wanted)
            cpu_s, wall_s = time.process_time(), time.monotonic()
            while left > 0:
                left -= len(await session.read())
            cpu_s, wall_s = time.process_time() - cpu_s, time.monotonic() - wall_s
        finally:
            talker.join()
    assert not world.meter.errors, world.meter.errors
    return {
        "messages_per_s": round(messages / wall_s),
        "cpu_us_per_message": round(cpu_s / messages * 1e6, 1),
        "cpu_us_per_sample": round(cpu_s / messages / len(wanted) * 1e6, 2),
    }


@click.command()
@click.option("--messages", default=20_000, show_default=True, help="Messages in a pass.")
@click.option("--passes", default=3, show_default=True, help="Medians are taken over them.")
def main(*, messages: int, passes: int) -> None:
    """Read MESSAGES of each kind off a mosquitto at QoS 1, and print the cost as JSON."""
    figures: dict[str, Any] = {
        "machine": platform.machine(),
        "python": platform.python_version(),
        "messages": messages,
        "passes": passes,
    }
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        limits = "max_queued_messages 0\nmax_inflight_messages 0"
        with broker(folder, limits) as (running, _):
            for kind in KINDS:
                runs = [
                    asyncio.run(listen(kind, running.port, messages, folder)) for _ in range(passes)
                ]
                figures[kind] = {n: median(run[n] for run in runs) for n in runs[0]}
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
