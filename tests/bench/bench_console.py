"""Measures what the console costs: `python -m tests.bench.bench_console [--json]`.

The console serves a seeded plant in a process of its own; this one plays the browsers. Figures are
medians; the conditions stand with them. Prints a table, or JSON.
"""

import asyncio
import json
import math
import multiprocessing
import os
import platform
import resource
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from http.client import HTTPConnection
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random
from typing import Any

import httpx

from gateway.core.clock import SystemClock
from gateway.store.config import StoreConfig
from gateway.store.log import Log
from gateway.store.trend_file import TrendFile
from gateway.store.trend_tables import FILE_NAME
from gateway.store.trends import Trends

ASSETS = 200
BROWSERS = 20
ALARMS = 10_000
LIVE_S = 20.0
ROUNDS = 30
BUDGETS = {
    "plant_page_ms": 300.0,
    "browsers_cpu_percent": 5.0,
    "memory_mb": 60.0,
    "alarms_listed_ms": 100.0,
}


def rss_mb() -> float:
    """Resident memory of this process now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


def serve(folder: str, pipe: Connection) -> None:
    """The console of 200 assets, of which a few change each second as real ones do."""
    import numpy as np  # noqa: F401 - the gateway has these anyway
    import pydantic  # noqa: F401
    import structlog

    from tests.gateway.console.fake import FakePlant

    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    plant = FakePlant([(f"asset-{i}", "pump", f"line {i % 8}") for i in range(ASSETS)])
    # What the gateway holds without the console is not the console's to answer for.
    before_mb = rss_mb()

    from gateway.console.config import ConsoleConfig
    from gateway.console.server import Console

    random = Random(1)

    async def change() -> None:
        """Each asset is judged anew every 5 s: 40 of them a second."""
        names = list(plant.views)
        now = 0
        while True:
            await asyncio.sleep(0.25)
            for _ in range(10):
                name = names[now % len(names)]
                now += 1
                view = plant.views[name]
                severity = random.uniform(0.2, 0.6)
                trend = (*view.trend[1:], severity)
                plant.views[name] = replace(
                    view, severity=severity, trend=trend, last_sample_ns=time.time_ns()
                )

    async def main() -> None:
        config = ConsoleConfig(port=0, anonymous_viewer=True)
        console = Console(config, plant, Path(folder))
        async with asyncio.TaskGroup() as tasks:
            serving = tasks.create_task(console.serve())
            changing = tasks.create_task(change())
            await console.started.wait()
            pipe.send(console.url)
            loop = asyncio.get_running_loop()
            while (question := await loop.run_in_executor(None, pipe.recv)) != "end":
                if question == "history":
                    fill(plant, folder)
                # Taken after the filling, which is no part of the console.
                pipe.send((before_mb, rss_mb(), time.process_time()))
            changing.cancel()
            serving.cancel()

    asyncio.run(main())


def fill(plant: Any, folder: str) -> None:
    """10,000 alarms in the history."""
    plant.fail("asset-0")
    first = plant.log[0]
    now_ns = time.time_ns()
    plant.log = [
        replace(first, asset=f"asset-{i % ASSETS}", occurrence=i, t_ns=now_ns - i * 1_000_000)
        for i in range(ALARMS)
    ]
    # Read as the gateway reads them: from the file of the trends.
    log = Log.open(Path(folder) / "data", StoreConfig(), SystemClock())
    file = TrendFile(log.directory / FILE_NAME, log.epoch())
    file.write(None, (), enumerate(plant.log, 1), {})
    file.close()
    trends = Trends(log, StoreConfig().trends, SystemClock())

    async def history(**asked: Any) -> Any:
        asked["asset"] = asked["asset"] or None
        return await asyncio.to_thread(partial(trends.transitions, **asked))

    async def history_json(**asked: Any) -> bytes:
        asked["asset"] = asked["asset"] or None
        return await asyncio.to_thread(partial(trends.transitions_json, **asked))

    plant.history, plant.history_json = history, history_json


def median_ms(work: Callable[[], Any], rounds: int = ROUNDS) -> float:
    """Median wall time of some rounds, after two that do not count."""
    times = []
    for i in range(rounds + 2):
        start_s = time.perf_counter()
        work()
        if i >= 2:
            times.append(1000 * (time.perf_counter() - start_s))
    return statistics.median(times)


def browse(url: str, stop: threading.Event, bytes_taken: list[int]) -> None:
    """One browser that keeps the plant page open."""
    with (
        httpx.Client(timeout=30) as client,
        client.stream("GET", f"{url}/live?topic=plant") as stream,
    ):
        for chunk in stream.iter_bytes():
            bytes_taken.append(len(chunk))
            if stop.is_set():
                return


def fetch(connection: HTTPConnection, path: str) -> int:
    """Ask, and read all of the answer."""
    connection.request("GET", path)
    answer = connection.getresponse()
    assert answer.status == 200
    return len(answer.read())


def measure() -> dict[str, Any]:
    """All figures."""
    here, there = multiprocessing.Pipe()
    with tempfile.TemporaryDirectory() as folder:
        context = multiprocessing.get_context("spawn")
        process = context.Process(target=serve, args=(folder, there))
        process.start()
        url = here.recv()

        def ask(question: str) -> tuple[float, float, float]:
            here.send(question)
            answer: tuple[float, float, float] = here.recv()
            return answer

        with httpx.Client(base_url=url, timeout=60) as client:
            assert client.get("/").status_code == 200
            _, idle_mb, _ = ask("state")
            before_mb = ask("state")[0]
            page_ms = median_ms(lambda: client.get("/"))
            page_bytes = len(client.get("/").content)
            stop = threading.Event()
            taken: list[int] = []
            threads = [
                threading.Thread(target=browse, args=(url, stop, taken)) for _ in range(BROWSERS)
            ]
            _, _, cpu_before_s = ask("state")
            time.sleep(5)
            _, _, cpu_quiet_s = ask("state")
            for thread in threads:
                thread.start()
            time.sleep(2)
            taken.clear()
            _, _, cpu_start_s = ask("state")
            start_s = time.perf_counter()
            time.sleep(LIVE_S)
            _, browsers_mb, cpu_end_s = ask("state")
            wall_s = time.perf_counter() - start_s
            quiet_share = (cpu_quiet_s - cpu_before_s) / 5
            share = (cpu_end_s - cpu_start_s) / wall_s - quiet_share
            bytes_s = sum(taken) / wall_s / BROWSERS
            stop.set()
            for thread in threads:
                thread.join(10)
            _, _, cpu_start_s = ask("history")
            # The plainest client: a larger one reads 6 MB more slowly than the console makes them.
            plain = HTTPConnection(url.removeprefix("http://"))
            listed_ms = median_ms(lambda: fetch(plain, "/api/v1/alarms/history?limit=10000"), 10)
            plain.close()
            _, _, cpu_end_s = ask("state")
            rows = len(client.get("/api/v1/alarms/history?limit=10000").json())
            history_page_ms = median_ms(
                lambda: client.get("/alarms/history").raise_for_status(), 10
            )
        here.send("end")
        process.join(20)
    assert rows == ALARMS
    return {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}",
        "python": platform.python_version(),
        "conditions": f"{ASSETS} assets, 40 of them judged anew each second",
        "plant_page_ms": round(page_ms, 1),
        "plant_page_kb": round(page_bytes / 1000, 1),
        "browsers_cpu_percent": round(100 * share, 2),
        "browsers_kb_per_s_each": round(bytes_s / 1000, 2),
        "memory_mb": round(idle_mb - before_mb, 1),
        "memory_mb_with_browsers": round(browsers_mb - before_mb, 1),
        "alarms_listed_ms": round(listed_ms, 1),
        "alarms_listed_cpu_ms": round(1000 * (cpu_end_s - cpu_start_s) / 12, 1),
        "history_page_ms": round(history_page_ms, 1),
    }


def main() -> None:
    """Print them."""
    figures = measure()
    if "--json" in sys.argv:
        print(json.dumps(figures, indent=2))
        return
    for name, value in figures.items():
        budget = BUDGETS.get(name, math.nan)
        word = "" if math.isnan(budget) else f"   (budget {budget:g})"
        print(f"{name:26} {value}{word}")


if __name__ == "__main__":
    main()
