"""What each further model costs: `python -m gateway.cli.bench.footprint FILE`, its own process.

Loads the bundle, proves it, and runs it over and over, and prints medians: MB that the process grew
by each time, and ms from file to proof.
"""

import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from gateway.heap import settle_heap
from models.bundle import read
from models.runtime import open_session

LOADS = 12
ROWS = 128


def footprint(path: Path) -> tuple[float, float]:
    """MB and ms for each further load of a bundle."""
    command = [sys.executable, "-m", "gateway.cli.bench.footprint", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603
    mb, ms = json.loads(done.stdout)
    return mb, ms


def _rss_mb() -> float:
    return int(Path("/proc/self/status").read_text().split("VmRSS:")[1].split()[0]) / 1024


def _main(path: Path) -> None:
    settle_heap()
    held, grown_mb, took_ms = [], [], []
    for _ in range(LOADS):
        before_mb, start_s = _rss_mb(), time.perf_counter()
        bundle = read(path)
        session = open_session(bundle)
        took_ms.append(1e3 * (time.perf_counter() - start_s))
        x = bundle.golden.x
        session.run(np.resize(x, (ROWS, x.shape[1])).astype(np.float32))
        # As a gateway holds it.
        held.append((bundle.without_graphs(), session))
        del bundle
        grown_mb.append(_rss_mb() - before_mb)
    # The first one also loads the runtime.
    figures = statistics.median(grown_mb[1:]), statistics.median(took_ms[1:])
    sys.stdout.write(json.dumps(figures))


if __name__ == "__main__":
    _main(Path(sys.argv[1]))
