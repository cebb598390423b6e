"""From "that was a false alarm" to a model that has learned it, through everything in between."""

import asyncio
from pathlib import Path

from gateway.core.alarm import Command, Verb, Verdict
from gateway.learning.progress import Progress, Stage
from models import bundle
from tests.gateway.test_flow import START_NS, STEP_NS
from tests.gateway.test_swap import CANDIDATE, Learned, changed

CONFIG = """
[gateway]
data_dir = "."

[[source]]
kind = "modbus"
id = "line"
url = "tcp://192.0.2.10:502"
signals = [
{signals}
]

[[asset]]
id = "lathe-1"
learn = {{ false_alarms = "1/1min", shadow_s = 40 }}
"""
BASELINE = 700
"""Rows of the record that the present model was made of."""


def test_a_false_alarm_is_judged_trained_and_watched(tmp_path: Path) -> None:
    bench = Learned(tmp_path, changed(tmp_path, 0.01))
    signals = "\n".join(
        f'{{ asset = "lathe-1", signal = "{s.name}", unit = "{s.unit}", address = "holding:{i}" }},'
        for i, s in enumerate(bench.manifest.signals)
    )
    (tmp_path / "forewarn.toml").write_text(CONFIG.format(signals=signals), encoding="utf-8")
    pupil = bench.learning._pupils["lathe-1"]
    # A model with far too narrow a limit, so that health alarms.
    pupil.progress = Progress(
        stage=Stage.ACTIVE,
        bundle=CANDIDATE,
        generation=2,
        start_ns=START_NS,
        end_ns=START_NS + BASELINE * STEP_NS,
    )
    bench.flow.station(bench.posts())
    bench.annunciator.listeners.append(bench.learning.heard)

    async def main() -> None:
        await bench.pour(0, 1300)
        mono_ns = bench.flow._clock.mono_ns()
        later = {"mono_ns": mono_ns + 60 * 10**9, "wall_ns": START_NS + 1200 * STEP_NS}
        bench.annunciator._record(bench.annunciator.engine.tick(**later))
        command = Command(
            Verb.FEEDBACK,
            "lathe-1",
            "anomaly",
            "ana",
            note="cold coolant",
            verdict=Verdict.FALSE,
        )
        bench.annunciator.command(command)
        await bench.log.flush()
        assert bench.progress.stage is Stage.TRAINING
        assert "an alarm was called false by ana" in str(bench.progress.said())
        await bench.look()
        assert (bench.progress.stage, bench.progress.candidate) == (Stage.SHADOW, "0003.fwm")
        made = bundle.read(bench.place / "0003.fwm").manifest
        # The record that it was made of before, and what was called false, four windows around.
        assert BASELINE + 200 < made.metrics["rows"] < 1200, "and nothing in between"
        assert made.limit is not None
        narrow = bundle.read(bench.place / CANDIDATE).manifest.limit
        assert narrow is not None
        assert made.limit.value > 5 * narrow.value
        assert bench.progress.bundle == CANDIDATE, "it judges until the better one is checked"

    try:
        asyncio.run(main())
    finally:
        bench.close()
