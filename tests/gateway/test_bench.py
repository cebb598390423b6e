"""`forewarn bench`: that it measures what it names, and says it in the form that scripts read."""

import json
import subprocess
import sys

import pytest


def bench(*options: str) -> str:
    """In a process of its own: it sets the heap of the whole process to rights."""
    command = [sys.executable, "-m", "gateway", "bench", "--quick", "--runs", "1", *options]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_figures_are_told_with_unit_and_budget() -> None:
    figures = json.loads(bench("--json", "--only", "pipeline", "--only", "features"))
    assert all(set(figure) == {"what", "value", "unit", "budget"} for figure in figures)
    assert all(figure["value"] > 0 for figure in figures)
    *stages, whole, features, vectors = figures
    assert [stage["what"].split(",")[0] for stage in stages] == [
        "channel",
        "log",
        "windows",
        "judge",
    ]
    assert whole["value"] == pytest.approx(sum(stage["value"] for stage in stages))
    assert (whole["unit"], whole["budget"]) == ("µs", 1.0)
    assert (features["unit"], features["budget"]) == ("µs", 30.0)
    assert (vectors["unit"], vectors["budget"]) == ("/s", None)


def test_a_person_reads_a_table_that_says_what_is_within_its_budget() -> None:
    rows = [row.split("│")[1:-1] for row in bench("--only", "features").splitlines()]
    ((_, _, _, verdict),) = [row for row in rows if row[2:3] == [" 30 µs  "]]
    assert verdict.strip() in ("within", "over")
