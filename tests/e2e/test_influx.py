"""The whole gateway, killed, and a real InfluxDB that hangs: each number, source to database."""

import signal
from pathlib import Path

import numpy as np

from gateway.store.record import Kind, Record
from gateway.store.spans import Spans
from tests.e2e.processes import Gateway, gateway, plant
from tests.eventually import eventually_blocking
from tests.servers import Influxd, influxd


def confirmed(one: Gateway) -> int:
    """Samples that the server has confirmed, by the log."""
    with one.log() as log:
        spans = [text for *key, text, _ in log.cursors() if key == ["influx", Kind.SAMPLES]]
    return Spans.from_json(spans[0]).first - 1 if spans else 0


def in_database(server: Influxd) -> dict[tuple[str, str], dict[int, float | None]]:
    """Every point by its signal and time."""
    found = server.query("SELECT value, quality FROM signal GROUP BY asset, signal")
    return {
        (s["tags"]["asset"], s["tags"]["signal"]): {row[0]: row[1] for row in s["values"]}
        for s in found
    }


def test_every_sample_is_in_the_database_once_and_none_is_invented(tmp_path: Path) -> None:
    with influxd(tmp_path / "influxd") as server, plant(tmp_path):
        server.query("CREATE DATABASE forewarn")
        with gateway(tmp_path / "forewarn.toml") as one:
            text = one.config.read_text()
            one.config.write_text(
                f'{text}\n[influx]\nurl = "{server.url}"\napi = "v1"\ntimeout_s = 1\n'
            )
            one.start()
            eventually_blocking(
                lambda: one.data_dir.exists() and server.count() > 100, timeout_s=30
            )
            one.stop(signal.SIGKILL)
            one.start()
            before = server.count()
            eventually_blocking(lambda: server.count() > before + 100, timeout_s=30)
            server.freeze()
            eventually_blocking(lambda: bool(one.told("influx.shut")), timeout_s=30)
            server.thaw()
            before = confirmed(one)
            eventually_blocking(lambda: confirmed(one) > before + 100, timeout_s=30)
            assert one.stop() == 0
            done = confirmed(one)
            with one.log() as log:
                records: list[Record] = []
                while found := log.read(Kind.SAMPLES, records[-1].end if records else 1, 1 << 62):
                    records += found
                names = [(s.asset, s.name) for s in log.signals().signals()]
        stored = in_database(server)
    number = 0
    logged: dict[tuple[str, str], dict[int, float | None]] = {}
    for record in records:
        for s, t, v in zip(*(c.tolist() for c in record.columns()[:3]), strict=True):
            value = None if np.isnan(v) else v
            number += 1
            logged.setdefault(names[s], {})[t] = value
            if number <= done:
                assert stored[names[s]][t] == logged[names[s]][t]
    assert done > 200
    for name, points in stored.items():
        assert points.items() <= logged[name].items()
