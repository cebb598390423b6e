"""Errors and repairs as signals in a running gateway: its probabilities are those of `score`."""

import csv
import re
import signal
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray

from gateway.cli.check import command as check
from gateway.cli.columns import Columns
from gateway.cli.event_tables import kept, with_tables
from gateway.cli.events import command as events
from gateway.cli.files import read
from gateway.cli.user import command as user
from gateway.core.errors import StoreError
from models.bundle import read as read_bundle
from models.heads import answer
from models.training import failure
from models.training.nameplate import Nameplate
from tests.e2e.processes import Gateway, gateway
from tests.eventually import eventually_blocking
from tests.servers import free_port

START = datetime(2026, 1, 1, tzinfo=UTC)
HOURS = 480
CELLS = 24
CODES = {"e1": 1, "e2": 2}
BUSY_S = 180.0


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tables of eight machines, where e1 comes 20 h before each failure; a model of seven."""
    folder = tmp_path_factory.mktemp("plant")
    random = Random(1)
    telemetry, before, errors, repairs, failures, machines = [], [], [], [], [], []
    for number in range(1, 9):
        name = f"press-{number}"
        machines.append((name, f"m{1 + number % 2}", 3 * number))
        due = sorted(random.sample(range(60, HOURS - 10), 3))
        failures += [(moment(hour), name, "bearing") for hour in due]
        other = random.sample(sorted(set(range(HOURS)) - {hour - 20 for hour in due}), 4)
        errors += [(moment(hour - 20), name, "e1") for hour in due]
        errors += [(moment(hour), name, "e2") for hour in other]
        before += [(moment(-random.randrange(1, 900)), name, "e2")]
        repairs += [(moment(random.randrange(-900, HOURS)), name, "belt") for _ in range(4)]
        telemetry += [
            (moment(h), name, f"{random.gauss(50, 5):.3f}", f"{random.gauss(2, 0.2):.3f}")
            for h in range(HOURS)
        ]
    write(folder / "before.csv", ("time", "machine", "errorID"), before)
    write(folder / "errors.csv", ("time", "machine", "errorID"), [*before, *errors])
    write(folder / "repairs.csv", ("time", "machine", "repair"), repairs)
    write(folder / "failures.csv", ("time", "machine", "failure"), failures)
    write(folder / "machines.csv", ("machine", "model", "age"), machines)
    head = ("time", "machine", "load", "vibration")
    write(folder / "train.csv", head, [row for row in telemetry if row[1] != "press-8"])
    write(folder / "test.csv", head, [row for row in telemetry if row[1] == "press-8"])
    made = failure_model(folder)
    assert made.exists()
    return folder


def failure_model(folder: Path) -> Path:
    asked = columns(folder, failures=folder / "failures.csv", within="24h")
    record = read([folder / "train.csv"], asked)
    trained = failure.train(
        record, window=f"{CELLS}rows", learn=["boosted"], nameplate=Nameplate(detail=kept(asked))
    )
    trained.write(folder / "fails.fwm")
    return folder / "fails.fwm"


def columns(folder: Path, **more: object) -> Columns:
    tables = [folder / name for name in ("errors.csv", "repairs.csv", "machines.csv")]
    return with_tables(Columns(group="machine", few_words=True), tables, **more)  # type: ignore[arg-type]


def moment(hour: float) -> str:
    return (START + timedelta(hours=hour)).isoformat()


def write(path: Path, head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([head, *rows])


def expected(folder: Path) -> NDArray[np.float32]:
    """float32[h], what `score` says of each hour of press-8."""
    bundle = read_bundle(folder / "fails.fwm")
    return answer(bundle, read([folder / "test.csv"], columns(folder))).values[:, 0]


def recording(folder: Path, into: Path, hours: slice) -> None:
    """What the gateway reads of press-8: its telemetry, and a register that says its error."""
    errors = {
        row[0]: CODES[row[2]] for row in rows_of(folder / "errors.csv") if row[1] == "press-8"
    }
    rows = rows_of(folder / "test.csv")[hours]
    head = ("time", "load", "vibration", "error_code")
    write(into, head, [(t, a, b, errors.get(t, 0)) for t, _, a, b in rows])


def rows_of(path: Path) -> list[list[str]]:
    with path.open(newline="") as file:
        return list(csv.reader(file))[1:]


CONFIG = """
[console]
port = {port}

[[source]]
kind = "replay"
id = "press-plc"
files = ["{recording}"]
time_column = "time"
times = "kept"
speed = 0
signals = [
  {{ asset = "press-8", signal = "load" }},
  {{ asset = "press-8", signal = "vibration" }},
  {{ asset = "press-8", signal = "error_code" }},
]

[[event_log]]
id = "errorID"
codes = {{ e1 = 1, e2 = 2 }}
signal = "error_code"

[[event_log]]
id = "repair"
codes = ["belt"]

[[asset]]
id = "press-8"
bundles = ["fails.fwm"]
facts = {{ model = "m1", age = 24 }}

[alarms.delays]
failure = {{ on_s = 0, off_s = 0 }}
"""


class Shell:
    """`forewarn events` of an operator; gives the exit code."""

    def __init__(self, config: Path, url: str) -> None:
        made = CliRunner().invoke(user, ["token", str(config), "mes", "--role", "operator"])
        self._environment = {"FOREWARN_TOKEN": made.stdout.split()[-1], "FOREWARN_URL": url}

    def __call__(self, *args: str) -> int:
        return CliRunner().invoke(events, args, env=self._environment).exit_code


def said(one: Gateway) -> dict[int, float]:
    """Hour of the record -> the probability that the gateway gave; abstentions are left out."""
    try:
        with one.log() as log:
            return {
                round((t_ns / 1e9 - START.timestamp()) / 3600): float(output[0])
                for a in log.assessments(0, 1 << 62)
                if a.output is not None
                for t_ns, output in zip(a.t_ns.tolist(), a.output, strict=True)
                if np.isfinite(output[0])
            }
    except StoreError:
        return {}  # The file is there, its tables are not yet.


def test_told_events_foretell_as_score_does_over_a_crash(plant: Path, tmp_path: Path) -> None:
    """Errors by a register, repairs and the history by the shell; killed in the middle."""
    wanted = expected(plant)
    (tmp_path / "fails.fwm").write_bytes((plant / "fails.fwm").read_bytes())
    config = tmp_path / "forewarn.toml"
    port = free_port()
    config.write_text(CONFIG.format(recording=tmp_path / "recording.csv", port=port))
    shell = Shell(config, f"http://127.0.0.1:{port}")
    with gateway(config) as one:
        recording(plant, tmp_path / "recording.csv", slice(0, 1))
        one.start()
        eventually_blocking(lambda: shell("list") == 0, timeout_s=BUSY_S)
        for log in ("before.csv", "repairs.csv"):
            assert shell("import", str(plant / log), "--group", "machine", "--whole") == 0
        one.stop(signal.SIGKILL)
        recording(plant, tmp_path / "recording.csv", slice(1, 240))
        one.start()
        eventually_blocking(lambda: 239 in said(one), timeout_s=BUSY_S)
        one.stop(signal.SIGKILL)
        recording(plant, tmp_path / "recording.csv", slice(240, None))
        one.start()
        eventually_blocking(lambda: HOURS - 1 in said(one), timeout_s=BUSY_S)
        alarms = {row["alarm"] for row in one.told("alarm") if row["asset"] == "press-8"}
        assert one.stop() == 0
    made = said(one)
    # Before a window is full, score knows nothing of the cells before its first row.
    full = range(CELLS - 1, HOURS)
    np.testing.assert_allclose([made[h] for h in full], wanted[full], atol=1e-6)
    assert (wanted > 0.5).any()
    assert alarms == {"failure.failure"}
    with one.log() as reader:
        names = {s.name for s in reader.signals().signals()}
    assert {"errorID.e1", "errorID.e1.ago_h", "repair.belt.ago_h"} <= names


def test_what_nobody_told_is_unknown_until_it_happens(plant: Path, tmp_path: Path) -> None:
    (tmp_path / "fails.fwm").write_bytes((plant / "fails.fwm").read_bytes())
    config = tmp_path / "forewarn.toml"
    config.write_text(CONFIG.format(recording=tmp_path / "recording.csv", port=free_port()))
    recording(plant, tmp_path / "recording.csv", slice(0, HOURS))
    with gateway(config) as one:
        one.start()
        eventually_blocking(lambda: HOURS - 1 in said(one), timeout_s=BUSY_S)
        assert one.stop() == 0
    first = hours_of(rows_of(plant / "errors.csv"), "e1")[0]
    with one.log() as reader:
        (number,) = (
            n for n, s in enumerate(reader.signals().signals()) if s.name == "errorID.e1.ago_h"
        )
        _, t_ns, value, _ = reader.samples(0, 1 << 62, [number])
    hour = np.round((t_ns / 1e9 - START.timestamp()) / 3600)
    assert hour.min() == first
    np.testing.assert_allclose(value[hour == first + 5], 5)


def test_check_says_which_blocks_a_bundle_lacks(plant: Path, tmp_path: Path) -> None:
    (tmp_path / "fails.fwm").write_bytes((plant / "fails.fwm").read_bytes())
    config = tmp_path / "forewarn.toml"
    whole = CONFIG.format(recording=tmp_path / "recording.csv", port=9)
    config.write_text(whole)
    assert CliRunner().invoke(check, [str(config)]).exit_code == 0
    lean = re.sub(r"\[\[event_log\]\].*?(?=\n\[)", "", whole, flags=re.DOTALL)
    config.write_text(re.sub(r"facts = .*", "", lean))
    refused = CliRunner().invoke(check, [str(config)])
    assert refused.exit_code == 2
    assert (
        "fails.fwm: was trained with events and facts that press-8 does not have; add "
        '[[event_log]] id = "errorID", codes = ["e1", "e2"]; '
        '[[event_log]] id = "repair", codes = ["belt"]; '
        "facts = { age = …, model = … } in its [[asset]]"
    ) in refused.output
    config.write_text(whole.replace('model = "m1"', 'model = "m7"'))
    word = CliRunner().invoke(check, [str(config)])
    assert "facts.model: press-8: must be one of m1, m2, was 'm7'" in word.output


def hours_of(rows: Sequence[Sequence[str]], code: str) -> list[int]:
    """The hours of the record at which press-8 had a code, ascending."""
    hours = (
        round((datetime.fromisoformat(t) - START) / timedelta(hours=1))
        for t, machine, word in rows
        if machine == "press-8" and word == code
    )
    return sorted(hour for hour in hours if hour >= 0)
