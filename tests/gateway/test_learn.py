"""Learning's table over every pair, what survives a restart, and what collecting asks for."""

import itertools
import re
import shlex
from datetime import UTC, datetime
from pathlib import Path

import click
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.cli import group
from gateway.config import parse
from gateway.core.batch import make_batch
from gateway.core.clock import SystemClock
from gateway.core.errors import DataError
from gateway.core.signals import Signal
from gateway.learning import progress as progress_module
from gateway.learning.baseline import gathered, lacking
from gateway.learning.progress import TABLE, Event, Progress, Stage
from gateway.pipeline.config import LearnConfig
from gateway.store.config import TrendBounds
from gateway.store.trends import Trends, take_in
from models.training.readiness import readiness
from tests.gateway.storing import SECOND_NS, T0_NS, opened

ANY = {Event.REBASELINE: Stage.COLLECTING, Event.ROLL_BACK: Stage.ACTIVE}
PATH = {
    (Stage.COLLECTING, Event.ENOUGH): Stage.TRAINING,
    (Stage.TRAINING, Event.TRAINED): Stage.SHADOW,
    (Stage.TRAINING, Event.FAILED): Stage.COLLECTING,
    (Stage.SHADOW, Event.CHECKED): Stage.ACTIVE,
    (Stage.SHADOW, Event.PROMOTE): Stage.ACTIVE,
    (Stage.SHADOW, Event.BROKEN): Stage.COLLECTING,
    (Stage.ACTIVE, Event.DRIFTED): Stage.DRIFTING,
    (Stage.DRIFTING, Event.SETTLED): Stage.ACTIVE,
    (Stage.ACTIVE, Event.CORRECTED): Stage.TRAINING,
    (Stage.DRIFTING, Event.CORRECTED): Stage.TRAINING,
    (Stage.TRAINING, Event.DISCARDED): Stage.ACTIVE,
    (Stage.SHADOW, Event.DISCARDED): Stage.ACTIVE,
    (Stage.COLLECTING, Event.LOST): Stage.COLLECTING,
    (Stage.TRAINING, Event.LOST): Stage.TRAINING,
    (Stage.SHADOW, Event.LOST): Stage.SHADOW,
    (Stage.ACTIVE, Event.LOST): Stage.COLLECTING,
    (Stage.DRIFTING, Event.LOST): Stage.COLLECTING,
}


@pytest.mark.parametrize(("stage", "event"), list(itertools.product(Stage, Event)))
def test_every_pair_of_the_table(stage: Stage, event: Event) -> None:
    assert TABLE.get((stage, event)) == ANY.get(event, PATH.get((stage, event)))
    before = Progress(stage=stage, bundle="1.fwm", previous="0.fwm", candidate="2.fwm")
    after = before.step(event, 5)
    if (stage, event) not in TABLE:
        assert after is before
    else:
        assert (after.stage, after.since_ns) == (TABLE[stage, event], 5)


@given(st.lists(st.sampled_from(list(Event)), max_size=40))
def test_no_path_alarms_without_a_bundle_that_was_checked_or_promoted(events: list[Event]) -> None:
    progress, allowed = Progress(), set()
    for i, event in enumerate(events):
        before = progress
        progress = progress.step(event, i + 1)
        if event is Event.TRAINED and progress is not before:
            progress = Progress.load(
                progress.dump().replace(b'"candidate": ""', f'"candidate": "{i}.fwm"'.encode())
            )
        if event in (Event.CHECKED, Event.PROMOTE) and progress is not before:
            allowed.add(before.candidate)
        assert progress.bundle in allowed | {""}
        assert Progress.load(progress.dump()) == progress


def test_damaged_state_is_told() -> None:
    for data in (b"", b"{}", b"[1]", b'{"stage": "nowhere", "missing": []}'):
        with pytest.raises(DataError):
            Progress.load(data)


def look(mean: np.ndarray, names: list[str], needed_s: float = 600.0) -> tuple[float, str]:
    seen = readiness(mean, names, width_s=1.0, needed_s=needed_s)
    return seen.share, "; ".join(str(lacking(lack)) for lack in seen.missing)


def test_a_short_record_says_how_much_is_there() -> None:
    share, missing = look(np.random.default_rng(0).normal(size=(150, 1)), ["speed"])
    assert share == pytest.approx(0.25)
    assert "150 s of 10.0 min recorded" in missing or "2.5 min of 10.0 min recorded" in missing


def test_a_steady_record_is_enough() -> None:
    assert look(np.random.default_rng(0).normal(size=(700, 3)), ["a", "b", "c"]) == (1.0, "")


def test_new_operating_conditions_at_the_end_are_asked_for() -> None:
    random = np.random.default_rng(0)
    speed = np.r_[random.normal(800, 5, 500), random.normal(1500, 5, 200)]
    assert "speed: only" in look(speed[:, None], ["speed"])[1]


def test_a_warm_up_is_asked_to_end() -> None:
    t = np.arange(700.0)
    heat = 20 + 0.05 * t + np.random.default_rng(0).normal(0, 0.2, 700)
    assert "heat" in look(heat[:, None], ["heat"])[1]


def test_a_counter_and_a_constant_hold_nothing_up() -> None:
    t = np.arange(700.0)
    mean = np.stack([t * 0.1, np.full(700, 3.0), np.random.default_rng(0).normal(size=700)], axis=1)
    assert look(mean, ["energy", "mode", "load"]) == (1.0, "")


def test_nothing_recorded_is_not_ready() -> None:
    share, missing = look(np.full((700, 1), np.nan), ["a"])
    assert share == 0.0
    assert missing


async def test_what_is_stored_tells_which_signals_do_not_come_and_codes_count_for_nothing(
    tmp_path: Path,
) -> None:
    """Of a speed, a heat that ended, a pressure that never came, and a load with codes in it."""
    seconds, random = 3600, np.random.default_rng(0)
    speed, load = random.normal(800, 5, seconds), random.normal(40, 1, seconds)
    load[3000::60] = -9999.0
    async with opened(tmp_path) as log:
        keys = [Signal("pump", name) for name in ("speed", "heat", "pressure", "load")]
        signals = [(log.signals.intern(key), key) for key in keys]
        for at, column, until in ((0, speed, seconds), (1, speed / 10, 1200), (3, load, seconds)):
            t_ns = T0_NS + np.arange(until, dtype=np.int64) * SECOND_NS
            number = np.full(until, signals[at][0], np.int32)
            log.append(make_batch("s", number, t_ns, column[:until], np.zeros(until, np.uint8), 0))
        await log.flush()
        trends = Trends(log, TrendBounds(), SystemClock())
        file = trends._open()
        take_in(log.cursor("trends"), file)
        file.close()
        end_ns = T0_NS + seconds * SECOND_NS
        seen, silent = gathered(trends, signals, None, T0_NS, end_ns, 600.0)
        assert seen.ready, seen.missing
        ended = f"{datetime.fromtimestamp(T0_NS / 1e9 + 1190, UTC):%Y-%m-%d %H:%M} UTC"
        heat, pressure = map(str, silent)
        assert heat == f"heat: not seen since {ended}; a model made now knows it only until then"
        assert pressure == "pressure: not seen yet; a model made now will not know it"
        trends.close()


PAGE = Path(progress_module.__file__).with_name("learning.md").read_text(encoding="utf-8")


def test_the_page_names_every_stage_and_event_of_the_table() -> None:
    rows = [line.split("|")[1].strip() for line in PAGE.splitlines() if line.startswith("| ")]
    assert set(Stage) <= set(rows)
    told = set(re.findall(r"`(\w+)`", PAGE))
    assert set(Event) <= told
    for name in ("collect_s", "shadow_s", "false_alarms"):
        assert f"{name} = " in PAGE


def test_the_example_of_the_page_is_valid(tmp_path: Path) -> None:
    (example,) = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    source = (
        '[[source]]\nkind = "modbus"\nid = "plc"\nurl = "tcp://192.0.2.10:502"\n'
        'signals = [{ asset = "press-1", signal = "speed", address = "holding:1" }]\n'
    )
    config = parse(source + example, tmp_path / "forewarn.toml")
    asset = config.settings.asset[0]
    assert asset.learn == LearnConfig()
    assert asset.running == "speed > 50"


@pytest.mark.parametrize("line", re.findall(r"^    (forewarn .+?)(?:  +#.*)?$", PAGE, re.MULTILINE))
def test_every_command_of_the_page_exists(line: str) -> None:
    _, *words = shlex.split(line)
    command: click.Command = group
    while isinstance(command, click.Group):
        found = command.get_command(click.Context(command), words.pop(0))
        assert found is not None
        command = found
    command.make_parser(click.Context(command)).parse_args(args=words)
