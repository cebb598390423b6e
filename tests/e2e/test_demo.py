"""The demo, as a newcomer runs it: what is broken is found, and nothing else."""

import json
import subprocess
import sys
from pathlib import Path

from tests.e2e.processes import HERE

SIGNALS_MOVED = {
    "pump-1": {"vibration", "power", "bearing_temperature"},
    "compressor-1": {"pressure", "flow", "discharge_temperature", "power"},
}


def test_the_demo_finds_what_it_breaks_and_nothing_else(tmp_path: Path) -> None:
    report = tmp_path / "r.json"
    done = subprocess.run(
        [
            *(sys.executable, "-m", "gateway", "demo", "--headless", "--duration", "75"),
            *("--fault", "pump-1:bearing_wear:8", "--fault", "compressor-1:blocked_outlet:10"),
            *("--port", "0", "--report", str(report)),
        ],
        cwd=HERE,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    seen = json.loads(report.read_text())
    assert {s["id"] for s in seen["sources"]} == {"pump-1", "compressor-1", "conveyor-1", "lathe-1"}
    assert all(s["samples"] > 100 and s["link_errors"] == 0 for s in seen["sources"])
    assert {f["asset"] for f in seen["faults_injected"]} == set(SIGNALS_MOVED)
    assert seen["false_alarms"] == 0
    assert seen["samples_lost"] == 0
    assert seen["assessments"] > 100
    for asset, moved in SIGNALS_MOVED.items():
        alarm = next(a for a in seen["alarms"] if a["asset"] == asset)
        assert set(alarm["top_signals"]) & moved, alarm
        assert alarm["severity"] > 1
        assert any(signal in alarm["text"] for signal in moved)
