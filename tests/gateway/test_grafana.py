"""Every panel, variable, annotation and alert query answers from a real InfluxDB; types fit."""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from gateway.core.alarm import Cause, Priority, Transition
from gateway.core.assessment import Abstained, Assessments, ModelKind
from gateway.core.clock import SystemClock
from gateway.core.meter import LinkState, SourceMeter
from gateway.core.signals import Signal, SignalTable
from gateway.demo.layout import ASSETS
from gateway.demo.machines import CLASSES
from gateway.demo.record import healthy
from gateway.store.config import StoreConfig
from gateway.store.line_protocol import Encoder, assessment_lines, transition_line
from gateway.store.log import Log
from gateway.store.vitals import health_record, vitals
from tests.servers import Influxd, influxd

GRAFANA = Path(__file__).resolve().parents[2] / "docker" / "grafana"
HOURS = 26
STEP_S = 30
IDLE_KW = 3.0
NS = 1_000_000_000


def generator() -> ModuleType:
    """`docker/grafana/build.py` as a module; it is no part of any package."""
    spec = importlib.util.spec_from_file_location("grafana_build", GRAFANA / "build.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    # As `python docker/grafana/build.py` has it.
    sys.path.insert(0, str(GRAFANA))
    sys.modules["grafana_build"] = module
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(GRAFANA))
    return module


def dashboards() -> dict[str, dict[str, Any]]:
    """Every dashboard as it is shipped, by its file's name."""
    return {
        path.stem: json.loads(path.read_text(encoding="utf-8"))
        for path in sorted((GRAFANA / "dashboards").glob("*.json"))
    }


def queries() -> list[tuple[str, str]]:
    """Where, and what: every query that Grafana would send."""
    found = []
    for page, board in dashboards().items():
        for panel in board["panels"]:
            for target in panel["targets"]:
                found.append((f"{page}/{panel['title']}/{target['refId']}", target["query"]))
        for variable in board["templating"]["list"]:
            if variable["type"] == "query":
                found.append((f"{page}/${variable['name']}", variable["query"]))
        for annotation in board["annotations"]["list"]:
            found.append((f"{page}/annotation {annotation['name']}", annotation["target"]["query"]))
    rules = json.loads((GRAFANA / "provisioning/alerting/forewarn.yaml").read_text())
    for rule in rules["groups"][0]["rules"]:
        found.append((f"alert/{rule['title']}", rule["data"][0]["model"]["query"]))
    return found


def interpolated(query: str) -> str:
    """The query with its variables as Grafana would fill them in, everything chosen."""
    values = {
        "$timeFilter": f"time >= now() - {HOURS}h AND time <= now()",
        "$__interval": "60s",
        "${asset:regex}": "|".join(re.escape(a).replace("\\-", "-") for a in ASSETS),
        "${signal:regex}": ".*",
        "${gateway:regex}": "box",
        "${line:raw}": ".*",
        "${site:raw}": ".*",
        "${idle_kw}": str(IDLE_KW),
        "${shift}": "5h",
    }
    for name, value in values.items():
        query = query.replace(name, value)
    assert "$" not in query.replace("$/", "").replace(")$", ""), f"not filled in: {query}"
    return query


def plant_lives() -> dict[str, dict[str, np.ndarray[Any, np.dtype[np.float64]]]]:
    """A day of the demo's plant, by asset and signal; the pump's meter is replaced in it."""
    n = HOURS * 3600 // STEP_S
    lives = {}
    for asset, kind in ASSETS.items():
        life = healthy(kind, hours=HOURS, seed=3, rate_hz=1 / STEP_S)
        lives[asset] = {name: life[name][:n].copy() for name in CLASSES[kind].sensors}
    meter = lives["pump-1"]["energy"]
    meter[n // 2 :] -= meter[n // 2]
    return lives


def plant_lines() -> list[str]:
    """The same as the gateway would have written it."""
    now_ns = time.time_ns()
    table, lines, lives = SignalTable(), [], plant_lives()
    encoder = Encoder(table, "box")
    n = HOURS * 3600 // STEP_S
    t_ns = now_ns - (n - np.arange(n, dtype=np.int64)) * STEP_S * NS
    for asset, kind in ASSETS.items():
        for name, sensor in CLASSES[kind].sensors.items():
            number = table.intern(Signal(asset, name, sensor.unit))
            quality = np.zeros(n, np.uint8)
            quality[::500] = 2
            value = np.where(quality == 2, np.nan, lives[asset][name])
            lines += encoder.samples((np.full(n, number, np.int32), t_ns, value, quality))
    names = tuple(CLASSES["pump"].sensors)
    for i in range(0, n, 20):
        for kind, outputs in (
            (ModelKind.ANOMALY, ()),
            (ModelKind.FAILURE, ("bearing", "seal")),
            (ModelKind.RUL, ("hours", "low", "high")),
        ):
            lines += assessment_lines(_verdict(kind, outputs, names, int(t_ns[i]), i))
    for i, state in enumerate(["active_unacked", "active_acked", "normal", "active_unacked"]):
        lines.append(transition_line(_transition(state, now_ns - (i + 1) * 600 * NS), i))
    return lines


def _verdict(
    kind: ModelKind, outputs: tuple[str, ...], names: tuple[str, ...], t_ns: int, i: int
) -> Assessments:
    abstained = Abstained.COVERAGE if i % 7 == 0 and kind is ModelKind.ANOMALY else Abstained.NO
    head = np.full((1, len(outputs)), 0.4, np.float32) if outputs else None
    return Assessments(
        kind,
        f"demo-{kind.value}",
        False,
        ("pump-1",),
        np.array([t_ns]),
        np.array([0.5], np.float32),
        np.array([2.0], np.float32),
        np.array([0.99], np.float32),
        (abstained,),
        names,
        np.full((1, len(names)), 1 / len(names), np.float32),
        np.ones((1, len(names)), np.int8),
        outputs,
        head,
    )


def _transition(state: str, t_ns: int) -> Transition:
    return Transition(
        "pump-1", "anomaly", Cause.ANOMALY, state, "active", 1, t_ns, t_ns, 2.0, Priority.HIGH,
        "vibration 7.9 mm/s, high",
    )  # fmt: skip


def gateway_lines(folder: Path) -> list[str]:
    """The gateway's own counters, by the code that makes them, over the last half hour."""
    log = Log.open(folder, StoreConfig(), SystemClock())
    log.cursor("influx")
    meter = SourceMeter("plc", "opcua", state=LinkState.UP, latency_s=0.01)
    lines = []
    encoder = Encoder(SignalTable(), "box")
    now_ns = time.time_ns()
    for i in reversed(range(30)):
        meter.samples += 100
        found = vitals(log, [meter])
        # With a writer at work there is one field more that an alert looks at.
        found[""]["influx_open"] = True
        record = health_record(now_ns - i * 60 * NS, found)
        lines += encoder.health(record.payload, record.t_ns)
    log.close()
    return lines


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Influxd]:
    """A real InfluxDB that holds a day of the plant."""
    folder = tmp_path_factory.mktemp("influx")
    with influxd(folder / "server") as server:
        server.query("CREATE DATABASE forewarn", "")
        lines = plant_lines() + gateway_lines(folder / "log")
        for start in range(0, len(lines), 20_000):
            body = "\n".join(lines[start : start + 20_000]).encode()
            urllib.request.urlopen(f"{server.url}/write?db=forewarn", data=body).close()
        yield server


@pytest.mark.parametrize(("where", "query"), queries(), ids=[where for where, _ in queries()])
def test_every_query_answers(database: Influxd, where: str, query: str) -> None:
    series = database.query(interpolated(query))
    assert series, f"{where}: no series"
    values = [
        value for one in series for row in one["values"] for value in row[1:] if value is not None
    ]
    assert values, f"{where}: no values"


def series(database: Influxd, page: str, title: str, n: int = 0) -> dict[str, list[Any]]:
    """What a panel shows of each asset."""
    (panel,) = (p for p in dashboards()[page]["panels"] if p["title"] == title)
    found = database.query(interpolated(panel["targets"][n]["query"]))
    shown = {
        one["tags"]["asset"]: [row[1] for row in one["values"] if row[1] is not None]
        for one in found
    }
    return {asset: values for asset, values in shown.items() if values}


def test_energy_is_that_of_each_asset_even_when_its_meter_is_replaced(database: Influxd) -> None:
    lives = plant_lives()
    total = series(database, "energy", "Energy in the time shown")
    shifts = series(database, "energy", "Energy per shift")
    assert set(total) == set(shifts) == set(ASSETS)
    for asset, life in lives.items():
        steps = np.diff(life["energy"])
        used_kwh = steps[steps > 0].sum()
        # A sample in 500 is BAD, so that a step or two may be missing at the ends and the change.
        assert total[asset][0] == pytest.approx(used_kwh, rel=0.02), asset
        assert sum(shifts[asset]) == pytest.approx(used_kwh, rel=0.02), asset


def test_energy_per_unit_and_idle_share_are_what_they_say(database: Influxd) -> None:
    lives = plant_lives()
    title = "Energy per unit of product"
    hourly = series(database, "energy", title, 0) | series(database, "energy", title, 1)
    for asset, product, factor in (
        ("pump-1", "flow", 1), ("conveyor-1", "load", 1), ("compressor-1", "flow", 60),
    ):  # fmt: skip
        expected = lives[asset]["power"].mean() / (factor * lives[asset][product].mean())
        assert np.median(hourly[asset]) == pytest.approx(expected, rel=0.15), asset
    idle = series(database, "energy", "Idle share")
    for asset, life in lives.items():
        below = float((life["power"] < IDLE_KW).mean())
        assert np.mean(idle.get(asset, [0.0])) == pytest.approx(below, abs=0.05), asset


def test_every_panel_has_title_unit_and_description() -> None:
    for page, board in dashboards().items():
        assert board["description"], page
        titles = [panel["title"] for panel in board["panels"]]
        assert len(set(titles)) == len(titles), page
        for panel in board["panels"]:
            assert panel["title"], page
            assert len(panel["description"]) > 10, panel["title"]
            assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
            place = panel["gridPos"]
            assert place["x"] + place["w"] <= 24, panel["title"]


def test_what_is_shipped_is_what_is_generated() -> None:
    build = generator()
    for name, text in build.build(build.groups_of(build.parse([]))).items():
        assert (GRAFANA / name).read_text(encoding="utf-8") == text, f"{name}: run build.py"


def test_site_and_line_stand_for_their_assets() -> None:
    build = generator()
    groups = build.groups_of(build.parse(["--line", "water=pump-1,pump-2", "--site", "north=a.b"]))
    by_name = {variable.name: dict(variable.choices) for variable in groups}
    assert re.fullmatch(by_name["line"]["water"], "pump-2")
    assert not re.fullmatch(by_name["site"]["north"], "axb")
    assert by_name["line"]["All"] == ".*"


def test_site_and_line_come_from_the_gateways_own_file(tmp_path: Path) -> None:
    config = tmp_path / "forewarn.toml"
    config.write_text(
        '[[asset]]\nid = "pump-1"\nline = "water"\nsite = "north"\n'
        '[[asset]]\nid = "pump-2"\nline = "water"\n[[asset]]\nid = "saw"\n'
    )
    build = generator()
    groups = build.groups_of(build.parse(["--config", str(config), "--line", "wood=saw"]))
    by_name = {variable.name: dict(variable.choices) for variable in groups}
    assert by_name["line"] == {"All": ".*", "water": r"pump\-1|pump\-2", "wood": "saw"}
    assert by_name["site"] == {"All": ".*", "north": r"pump\-1"}


def test_the_dashboards_fit_grafanas_own_types(tmp_path: Path) -> None:
    if not shutil.which("npm"):
        assert os.environ.get("CI") != "true", "npm is needed"
        pytest.skip("npm is not installed: dashboards are not checked against Grafana's types")
    npm = ["npm", "install", "--no-audit", "--no-fund", "--silent", "--prefix", str(tmp_path)]
    packages = ["@grafana/schema@12.2.0", "typescript@5.9"]
    subprocess.run([*npm, *packages], check=True, capture_output=True, timeout=120)
    # The last is wrong, to know that the check can fail.
    pages: dict[str, dict[str, Any]] = {**dashboards(), "wrong": {"panels": 1}}
    for name, board in pages.items():
        for annotation in board.get("annotations", {}).get("list", []):
            # What a plugin adds to a query is unknown to the general type.
            annotation["target"] = {"refId": annotation["target"]["refId"]}
        text = json.dumps(board, ensure_ascii=False)
        # These two are enumerations, which TypeScript takes by name only.
        text = text.replace('"mode": "absolute"', '"mode": ThresholdsMode.Absolute')
        text = text.replace('{"type": "value",', '{"type": MappingType.ValueToText,')
        (tmp_path / f"{name}.ts").write_text(
            'import { type Dashboard, MappingType, ThresholdsMode } from "@grafana/schema";\n'
            f"export const page: Dashboard = {text};\n",
            encoding="utf-8",
        )
    options = {
        "noEmit": True,
        "strict": True,
        "skipLibCheck": True,
        "module": "esnext",
        "moduleResolution": "bundler",
        "types": [],
    }
    project = {"compilerOptions": options, "files": [f"{name}.ts" for name in pages]}
    (tmp_path / "tsconfig.json").write_text(json.dumps(project), encoding="utf-8")
    checked = subprocess.run(
        ["node", "node_modules/typescript/bin/tsc", "--project", "."],
        cwd=tmp_path,
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )
    faults = [line for line in checked.stdout.splitlines() if "error TS" in line]
    assert any(line.startswith("wrong.ts") for line in faults), checked.stdout
    assert [line for line in faults if not line.startswith("wrong.ts")] == []
