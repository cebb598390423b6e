"""A console that cannot be served is told of, and costs the gateway nothing else."""

import asyncio
from pathlib import Path
from typing import cast

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
