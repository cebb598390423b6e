"""A console that cannot be served is told of, and costs the gateway nothing else."""

import asyncio
import socket
from pathlib import Path
from typing import Any, cast

import pytest

from gateway.console.config import ConsoleConfig
from gateway.console.plant import Plant
from gateway.console.vault import FILE
from gateway.core.alarm import Condition
from gateway.core.clock import SystemClock
from gateway.desk import Desk
from tests.eventually import eventually


async def test_a_damaged_file_of_users_is_an_alarm_and_no_end(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"no database" * 100)
    told: list[Condition] = []
    desk = Desk(cast("Plant", None), tmp_path, SystemClock(), told.append, lambda: 1)
    async with asyncio.TaskGroup() as tasks:
        await desk.follow(tasks, ConsoleConfig())
        await eventually(lambda: any(condition.active for condition in told), timeout_s=30)
        await desk.close()
    assert "not a database" in str(told[-1].text)
    assert str(tmp_path / FILE) in str(told[-1].text)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"port": 0}, "console.port: must be free on 127.0.0.1, {port} is in use; "),
        ({"host": "192.0.2.1", "port": 0}, "console.host: must be an address of this machine, was"),
    ],
)
async def test_where_it_cannot_listen_one_line_names_setting_and_next_step(
    settings: dict[str, Any], says: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[Condition] = []
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        desk = Desk(cast("Plant", None), tmp_path, SystemClock(), told.append, lambda: 1)
        async with asyncio.TaskGroup() as tasks:
            await desk.follow(tasks, ConsoleConfig(**settings | {"port": port}))
            await eventually(lambda: any(condition.active for condition in told))
            await desk.close()
    assert says.format(port=port) in str(told[-1].text)
    assert not caplog.records, "a library speaks for itself"
