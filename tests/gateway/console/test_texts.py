"""Every word that an operator reads is in the catalogue, and another language is one file."""

import ast
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from importlib.resources import files
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from gateway.alarms.states import Event, Life, ShelfEvent
from gateway.cli import group
from gateway.cli.schema import EXAMPLE
from gateway.config import load as load_config
from gateway.console.config import ConsoleConfig
from gateway.console.render import Pages, number
from gateway.console.views import AssetState
from gateway.core.alarm import Cause, Priority, Verb, Verdict
from gateway.core.assessment import Abstained
from gateway.core.errors import ConfigError, DataError
from gateway.core.meter import LinkState
from gateway.core.texts import Phrase, as_said, english, fields, languages, load
from gateway.learning.progress import Stage
from gateway.learning.trial import unsupported
from gateway.pipeline.unseen import MISSING
from models.features.bearing import DEFECTS
from models.features.catalogue import CATALOGUE
from models.features.rotor import FAULTS
from models.follow import Held
from models.manifest import Limit
from models.sensors import MASKED, SensorFault
from models.training.limits import WORDS, limit
from tests.commands import blocks
from tests.gateway import brackets
from tests.models import bundles

TEMPLATES = Path(str(files("gateway.console") / "templates"))
ROOT = Path(str(files("gateway"))).parent


def test_every_key_that_a_template_names_exists() -> None:
    source = "\n".join(f.read_text("utf-8") for f in TEMPLATES.glob("*.html"))
    keys = re.findall(r't\("([\w.]+)"[,)]', source)
    assert len(keys) > 100
    assert [k for k in keys if not english().has(k)] == []


def phrases() -> Iterator[tuple[str, ast.Call]]:
    """Every `Phrase(…)` of the program, and where it stands."""
    for path in [*ROOT.glob("gateway/**/*.py"), *ROOT.glob("protocols/**/*.py")]:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Phrase":
                yield f"{path.relative_to(ROOT)}:{node.lineno}", node


def test_every_phrase_of_the_program_fills_a_template_of_the_catalogue() -> None:
    seen = 0
    for where, call in phrases():
        key, given = call.args[0], {word.arg for word in call.keywords}
        if given == {None}:
            continue  # What a bundle says of itself: by its own test.
        if isinstance(key, ast.Constant):
            keys = [str(key.value)]
        elif isinstance(key, ast.IfExp):
            keys = [str(ast.literal_eval(key.body)), str(ast.literal_eval(key.orelse))]
        else:
            # A part of the key is a word of ours: every text of that section must fit.
            assert isinstance(key, ast.JoinedStr), where
            start = str(ast.literal_eval(key.values[0])) if key.values else ""
            keys = [k for k in english().table if re.fullmatch(re.escape(start) + r"\w+", k)]
            keys = [k for k in keys if set(fields(english().table[k])) == given]
        assert keys, where
        for word in call.keywords:
            for node in ast.walk(word.value):
                if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Phrase":
                    break
                said = node.value if isinstance(node, ast.Constant) else ""
                assert not re.search(r"[A-Za-z]{3}", str(said)), f"{where}: {said!r}"
        for each in keys:
            assert english().has(each), f"{where}: {each}"
            assert set(fields(english().table[each])) == given, f"{where}: {each}"
            seen += 1
    assert seen > 50


def test_what_is_passed_on_as_it_was_said_is_said_by_others() -> None:
    """Each place is known: a sentence of ours has no way round the catalogue."""
    found = [
        f"{path.relative_to(ROOT)}: {ast.unparse(node)}"
        for path in ROOT.glob("gateway/**/*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "as_said"
    ]
    assert sorted(found) == [
        "gateway/console/api/alarms.py: as_said('; '.join(refused))",
        "gateway/core/texts.py: as_said(text)",
        "gateway/learning/learning.py: as_said(error)",
        "gateway/learning/learning.py: as_said(error)",
        "gateway/learning/trial.py: as_said(manifest.limit.reason)",
        "gateway/pipeline/wording.py: as_said(feature)",
        "gateway/pipeline/wording.py: as_said(where)",
    ]


def test_every_word_of_the_vocabulary_has_its_text() -> None:
    covers = ["shelved", "suppressed", "out_of_service"]
    steps = set(Event) | set(ShelfEvent) | (set(Verb) - {Verb.FEEDBACK})
    wanted = [
        *product(["state"], AssetState),
        *product(["abstained"], (a.name.lower() for a in Abstained if a != Abstained.NO)),
        *product(["alarm_state"], [*Life, *covers]),
        *product(["event"], [*steps, *(f"feedback.{v}" for v in Verdict)]),
        *product(["cause"], Cause),
        *product(["verdict"], Verdict),
        *product(["sources"], LinkState),
        *product(["priority"], map(int, Priority)),
        *product(["limit"], ("high_high", "high", "low", "low_low")),
        *product(
            ["sensor"], (f.name.lower() for f in SensorFault if f not in (0, SensorFault.APART))
        ),
        *product(["sensor"], ("apart_higher", "apart_lower", "apart_stayed")),
        *product(["unseen"], (MISSING, *(f.name.lower() for f in MASKED))),
        *product(["held"], (h.name.lower() for h in Held if h)),
        *product(["past"], [*Verdict, "none"]),
        *product(["driver"], ("high", "low", "high_here", "low_here", "unusual_here")),
        *product(["rotor"], FAULTS.values()),
        *product(["bearing"], (part.replace(" ", "_") for part in DEFECTS)),
        *product(["feature"], (name for name in CATALOGUE if name not in ("last", "mean"))),
        *product(["lesson", "learning"], Stage),
        *product(["system"], ("influx_held", "influx_down", "influx_refused")),
        *product(["system"], ("certificate_gateway", "certificate_server")),
        *product(["system"], ("link_down", "link_refused", "link_silent")),
    ]
    assert [f"{a}.{b}" for a, b in wanted if not english().has(f"{a}.{b}")] == []


@pytest.mark.parametrize("language", languages())
def test_a_language_says_what_english_says(language: str) -> None:
    assert load(language).table.keys() == english().table.keys()


def test_training_and_the_catalogue_doubt_a_promise_in_the_same_words() -> None:
    assert {f"promise.{what}": text for what, text in WORDS.items()} == {
        key: text for key, text in english().table.items() if key.startswith("promise.")
    }


def test_what_a_bundle_doubts_is_said_in_the_language_and_what_an_old_one_said_stays(
    tmp_path: Path,
) -> None:
    texts = load(str(brackets.write(tmp_path)))
    scores = [np.random.default_rng(0).lognormal(size=900)]
    found = limit(scores, windows=30, per_window=30, window_s=60.0, promise="1/30d", seed=0)
    assert found.doubt is not None
    kept = Limit(value=found.value, false_alarms="1/30d", reason=str(found.doubt))
    doubt = json.loads(json.dumps(asdict(found.doubt)))
    said = texts.say(unsupported(bundles.manifest(limit=kept, detail={"doubt": doubt})))
    assert said == f"⟦{kept.reason}⟧"
    assert "1/30d needs 3.0 days" in said
    for other in ({}, {"doubt": {"what": "else", "values": {}}}):
        assert str(unsupported(bundles.manifest(limit=kept, detail=other))) == kept.reason


def test_another_language_is_one_file(tmp_path: Path) -> None:
    config = ConsoleConfig(language=str(brackets.write(tmp_path)))
    assert config.texts.language == "de"
    html = Pages(config.texts).part("summary")(4, 0, 0, 0, 0, 0, (), 0)
    assert "⟦All is well⟧" in html
    assert brackets.outside(html).count("machines") == 0
    phrase = Phrase("driver.changed", subject=Phrase("driver.of", signal="a", feature=as_said("b")))
    assert config.texts.say(phrase) == "⟦⟦a b⟧ changed⟧"
    assert str(phrase) == "a b changed"


def test_the_page_that_says_how_to_add_a_language_is_right(tmp_path: Path) -> None:
    page = ROOT / "gateway" / "console" / "console.md"
    (block,) = blocks(page)
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    own = str(tmp_path)
    script = block.text.replace("/etc/forewarn", own)
    subprocess.run(["sh", "-ec", script], check=True, env=os.environ | {"PATH": path})
    (table,) = re.findall(
        r"```toml\n(\[console\]\nlanguage = .*?)```", page.read_text("utf-8"), re.DOTALL
    )
    config = tmp_path / "forewarn.toml"
    config.write_text(EXAMPLE + table.replace("/etc/forewarn", own))
    assert load_config(config).settings.console.texts("plant.calm") == "Alles in Ordnung"
    assert CliRunner().invoke(group, ["check", str(config)]).exit_code == 0
    lines = (tmp_path / "de.toml").read_text("utf-8").splitlines()
    (tmp_path / "de.toml").write_text("\n".join(x for x in lines if not x.startswith("calm =")))
    refused = CliRunner().invoke(group, ["check", str(config)])
    assert refused.exit_code == 1
    assert f"{own}/de.toml: plant.calm is missing" in refused.output.replace("\n", "")


def test_what_a_language_lacks_is_named_and_said_in_english(
    tmp_path: Path,
) -> None:
    path = brackets.write(tmp_path)
    whole = path.read_text("utf-8")
    for old, new, fault in (
        (r'"plant"."calm" = .*\n', "", 'plant.calm is missing; translate "All is well"'),
        (
            r'"drift"."offer" = .*\n',
            'drift.offer = "{asset}"\n',
            "drift.offer must hold {asset}, {w",
        ),
        (r'"plant"."calm" = .*\n', 'plant.calm = "{"\n', "plant.calm is no template"),
        (r'"plant"."calm" = .*\n', "\\g<0>plant.calmer = ''\n", "plant.calmer is not known"),
    ):
        path.write_text(re.sub(old, new, whole, count=1), "utf-8")
        texts = ConsoleConfig(language=str(path)).texts
        (lack,) = texts.lacks
        assert lack.startswith(f"{path}: {fault}")
        assert texts("plant.calm") in {"All is well", "⟦All is well⟧"}
        assert texts.say(Phrase("drift.offer", asset="a", why="b"))
    path.write_text("[", "utf-8")
    with pytest.raises(ValueError, match="cannot be read: Invalid"):
        ConsoleConfig(language=str(path))


def test_a_language_that_there_is_not_is_refused() -> None:
    with pytest.raises(ConfigError, match="must be one of en, or a file of your own"):
        load("xx")


def test_a_phrase_that_was_kept_says_the_same_when_it_is_read_again() -> None:
    why = Phrase(
        "lesson.missing", missing=(Phrase("lack.samples"), Phrase("lack.drift", signal="a"))
    )
    kept = Phrase("trial.short", why=why)
    assert Phrase.load(kept.dump()) == kept
    assert str(Phrase.load("an older version's own words")) == "an older version's own words"
    assert str(Phrase.load({"key": "no.such", "values": {"key": 1, "self": "x"}})) == "no.such 1 x"
    assert str(Phrase.load({"key": "lesson.training", "values": {}})) == "training{detail}"
    assert str(Phrase("forecast.within", other=1)) == "forecast.within 1"
    wrongs: list[object] = [None, 3, {"key": 1, "values": {}}, {"key": "a", "values": []}]
    for wrong in wrongs:
        with pytest.raises(DataError, match="phrase: must be a key"):
            Phrase.load(wrong)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (float("nan"), "–"),
        (None, "–"),
        (0.08345, "0.0834"),
        (7.9, "7.9"),
        (1480.2, "1\u202f480"),
        (-12.345, "−12.3"),
        (float("inf"), "∞"),
        (1e-9, "1.00e−09"),
    ],
)
def test_numbers_as_people_read_them(value: float | None, text: str) -> None:
    assert number(value) == text
