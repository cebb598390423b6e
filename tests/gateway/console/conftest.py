"""A console on a free port of loopback, in a thread of its own, and people who may use it."""

import asyncio
import tempfile
import threading
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.console.config import ConsoleConfig
from gateway.console.server import Console
from gateway.console.vault import FILE, Role, Vault
from tests.gateway.console.fake import FakePlant

PASSWORD = "correct horse battery"


class Running:
    """A console that serves, until the test ends."""

    def __init__(self, data_dir: Path, plant: FakePlant, **config: Any) -> None:
        self.plant = plant
        self.data_dir = data_dir
        self._config = ConsoleConfig(port=0, **({"live_interval_s": 0.2} | config))
        plant.speak(self._config.texts)
        self._up = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main()), daemon=True)
        self.fault: BaseException | None = None
        self.url = self.setup_url = ""
        self._clients: list[httpx.Client] = []

    def start(self) -> "Running":
        self._thread.start()
        assert self._up.wait(20), "the console never came up"
        if self.fault is not None:
            raise self.fault
        return self

    async def _main(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        try:
            self.console = Console(self._config, self.plant, self.data_dir)
            async with asyncio.TaskGroup() as tasks:
                serving = tasks.create_task(self.console.serve())
                up = tasks.create_task(self.console.started.wait())
                await asyncio.wait({serving, up}, return_when=asyncio.FIRST_COMPLETED)
                self.url, self.setup_url = self.console.url, self.console.setup_url
                self._up.set()
                await self._stop.wait()
                serving.cancel()
        except BaseException as fault:  # noqa: BLE001 - handed to the test
            self.fault = fault
        finally:
            self._up.set()

    def call(self, work: Callable[[], Any]) -> Any:
        """Run something in the console's own loop, as the gateway would."""

        async def run() -> Any:
            return work()

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result(10)

    def stop(self) -> None:
        for client in self._clients:
            client.close()
        if self._thread.is_alive() and not self._up.is_set():
            return
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(20)
        assert not self._thread.is_alive(), "the console did not end"

    def client(self, name: str = "", **more: Any) -> httpx.Client:
        """A browser without a screen; signed in where a name is given."""
        client = httpx.Client(base_url=self.url, timeout=20, **more)
        self._clients.append(client)
        if name:
            answer = client.post("/sign-in", data={"name": name, "password": PASSWORD})
            assert answer.status_code == 303, answer.text
            page = client.get("/").text
            client.headers["X-CSRF-Token"] = page.split('name="csrf" content="')[1].split('"')[0]
        return client


@cache
def people() -> bytes:
    """A vault with one of each role: vera, otto and eva. Made once: passwords cost time."""
    with tempfile.TemporaryDirectory() as folder:
        vault = Vault(Path(folder))
        vault.add_user("vera", PASSWORD, Role.VIEWER, "test")
        vault.add_user("otto", PASSWORD, Role.OPERATOR, "test")
        vault.add_user("eva", PASSWORD, Role.ENGINEER, "test")
        vault.close()
        return (Path(folder) / FILE).read_bytes()


Start = Callable[..., Running]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts a console; `staffed=False` for one that nobody has set up."""
    running: list[Running] = []

    def make(*, plant: FakePlant | None = None, staffed: bool = True, **config: Any) -> Running:
        if staffed and not (tmp_path / FILE).exists():
            (tmp_path / FILE).write_bytes(people())
        running.append(Running(tmp_path, plant or FakePlant(), **config).start())
        return running[-1]

    yield make
    for console in running:
        console.stop()
