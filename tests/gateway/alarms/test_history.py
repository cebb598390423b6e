"""The history is paged by number: what happened at the same moment is told once, and told."""

import asyncio
import json
from pathlib import Path

import pytest
from pydantic import TypeAdapter

from gateway.console.api.history import HistoryRow
from gateway.core.clock import SystemClock
from gateway.store.config import StoreConfig
from gateway.store.log import Log
from gateway.store.record import Kind
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
        await eventually(lambda: log.cursors()["trends"].position(Kind.TRANSITION) == 8)
        seen, before = [], 0
        while page := trends.transitions(0, EVER, "pump", 2, before):
            seen += page
            before = page[-1][0]
        assert [t for _, t in reversed(seen)] == wanted
        assert [n for n, _ in reversed(seen)] == list(range(1, 8))
        assert trends.transitions(0, EVER, "press", 10) == []
        # As JSON they are what the typed ones are, and any reader of JSON takes them.
        raw = trends.transitions_json(0, EVER, "pump", 5, 7)
        rows = TypeAdapter(list[HistoryRow]).validate_json(raw)
        assert [(r.number, r.transition) for r in rows] == seen[1:6]
        assert json.loads(raw, parse_constant=pytest.fail)[0]["number"] == 6
        assert trends.transitions_json(0, EVER, "press", 10) == b"[]"
        # What is in the log is there at once, and once, whether or not the trends have come to it.
        last = transition("ack", 0, "a6")
        log.append(last)
        await log.flush()
        for _ in range(3):
            told = trends.transitions(0, EVER, "pump", 100)
            assert [n for n, _ in told] == list(range(8, 0, -1))
            assert told[0][1] == last
            await eventually(lambda: log.cursors()["trends"].position(Kind.TRANSITION) == 9)
        assert [n for n, _ in trends.transitions(0, EVER, "pump", 2, 8)] == [7, 6]
    finally:
        running.cancel()
        await asyncio.wait([running])
        trends.close()
        log.close()
