"""The serial source behind ser2net, the serial server of most Linux boxes: raw TCP and RFC 2217."""

import asyncio
import socket
import subprocess
import termios
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.core.batch import Batch
from gateway.core.errors import LinkError
from protocols.serial import Config

from ..conformance import bench
from ..eventually import eventually_blocking
from ..servers import free_port, require
from .serial_line import PtyMachine

pytestmark = pytest.mark.filterwarnings("ignore:set(Daemon|Name):DeprecationWarning")


class Ser2net:
    """ser2net in front of a machine's terminal, by one of its protocols."""

    def __init__(self, folder: Path, accepter: str) -> None:
        self.machine = PtyMachine(folder)
        self.port = free_port()
        conf = folder / "ser2net.yaml"
        conf.write_text(
            "%YAML 1.1\n---\nconnection: &machine\n"
            f"  accepter: {accepter},127.0.0.1,{self.port}\n"
            f"  connector: serialdev,{self.machine.port},9600n81,local\n"
            "  options:\n    kickolduser: true\n"
        )
        self.process = subprocess.Popen(
            [require("ser2net"), "-n", "-c", str(conf)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        eventually_blocking(self._listens)

    def _listens(self) -> bool:
        # Asked of the kernel, since ser2net takes one client at a time and a probe would be it.
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def baud_rate(self) -> int:
        """The speed to which the terminal is set."""
        return int(termios.tcgetattr(self.machine.fd)[4])

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        self.machine.unplug()


@pytest.fixture(params=["socket", "rfc2217"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Ser2net, str]]:
    scheme = request.param
    running = Ser2net(tmp_path, "tcp" if scheme == "socket" else "telnet(rfc2217),tcp")
    try:
        yield running, f"{scheme}://127.0.0.1:{running.port}"
    finally:
        running.end()


async def test_reads_asks_and_learns_the_end(server: tuple[Ser2net, str], tmp_path: Path) -> None:
    running, url = server
    table: dict[str, Any] = {"kind": "serial", "id": "m", "port": url, "baud_rate": 19_200}
    text = {"text": {"pattern": r"v=(?P<v>\d+)"}, "signals": [{"asset": "m", "signal": "v"}]}
    world = bench("m", "serial", tmp_path)
    async with asyncio.timeout(30):
        async with Config.model_validate(table | text).open(world.context) as session:
            # ser2net opens the terminal when its client comes, and that takes it a moment.
            asked: list[float] = []
            while not asked:
                running.machine.say(b"v=7\n")
                try:
                    async with asyncio.timeout(0.2):
                        batch = await session.read()
                        assert isinstance(batch, Batch)
                        asked = batch.value.tolist()
                except TimeoutError:
                    continue
            assert set(asked) == {7}
            if url.startswith("rfc2217"):
                assert running.baud_rate() == termios.B19200
        asking = text | {"read_request": [{"text": "?\xff\n"}], "answer_timeout_s": 2.0}
        asking["text"] = {"pattern": r"v=(?P<v>\d+)", "encoding": "latin-1"}
        async with Config.model_validate(table | asking).open(world.context) as session:
            reading = asyncio.create_task(session.read())
            heard = b""
            while b"\n" not in heard:
                heard += await asyncio.to_thread(running.machine.hear)
            # A byte that telnet would take for its own arrives as it was sent.
            assert heard == b"?\xff\n"
            running.machine.say(b"v=8\n")
            batch = await reading
            assert isinstance(batch, Batch)
            assert batch.value.tolist() == [8]
            running.process.kill()
            with pytest.raises(LinkError):
                while True:
                    await session.read()
