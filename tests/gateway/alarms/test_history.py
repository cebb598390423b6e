"""The history is paged by number: what happened at the same moment is told once, and told."""

import asyncio
import json
from pathlib import Path

import pytest
from pydantic import TypeAdapter

from gateway.console.api.history import HistoryRow
from gateway.core.clock import SystemClock
from gateway.core.errors import StoreError
from gateway.store.config import StoreConfig
from gateway.store.log import Log
from gateway.store.trends import Trends
from tests.eventually import eventually
from tests.gateway.alarms.test_outbox import transition

EVER = 1 << 62


async def test_pages_neither_lose_nor_repeat_what_shares_a_moment(tmp_path: Path) -> None:
    log = Log.open(tmp_path, StoreConfig(), SystemClock())
    trends = Trends(log, StoreConfig().trends, SystemClock())
    running = asyncio.create_task(trends.run())
    try:
        wanted = [transition("active", 0, f"a{i}") for i in range(7)]
        for t in wanted:
            log.append(t)
        await log.flush()

        def there() -> bool:
            try:
                return len(trends.transitions(0, EVER, None, 100)) == 7
            except StoreError:  # The file is made with the first commit.
                return False

        await eventually(there)
        seen, before = [], 0
        while page := trends.numbered_transitions(0, EVER, "pump", 2, before):
            seen += page
            before = page[-1][0]
        assert [t for _, t in reversed(seen)] == wanted
        assert [n for n, _ in reversed(seen)] == list(range(1, 8))
        assert trends.numbered_transitions(0, EVER, "press", 10) == []
        # As JSON they are what the typed ones are, and any reader of JSON takes them.
        raw = trends.transitions_json(0, EVER, "pump", 5, 7)
        rows = TypeAdapter(list[HistoryRow]).validate_json(raw)
        assert [(r.number, r.transition) for r in rows] == seen[1:6]
        assert json.loads(raw, parse_constant=pytest.fail)[0]["number"] == 6
        assert trends.transitions_json(0, EVER, "press", 10) == b"[]"
    finally:
        running.cancel()
        await asyncio.wait([running])
        trends.close()
        log.close()
