"""Every word of the pages is in the catalogue, and another language is one file."""

import re
from importlib.resources import files
from itertools import product
from pathlib import Path

import pytest

from gateway.alarms.states import Event, Life, ShelfEvent
from gateway.console import texts
from gateway.console.plant import AssetState
from gateway.console.render import Pages, number
from gateway.core.alarm import Cause, Priority, Verb, Verdict
from gateway.core.assessment import Abstained
from gateway.core.errors import ConfigError
from gateway.core.meter import LinkState

TEMPLATES = Path(str(files("gateway.console") / "templates"))


def test_every_key_that_a_template_names_exists() -> None:
    english = texts.load("en")
    source = "\n".join(f.read_text("utf-8") for f in TEMPLATES.glob("*.html"))
    keys = re.findall(r't\("([\w.]+)"[,)]', source)
    assert len(keys) > 100
    assert [k for k in keys if not english.has(k)] == []


def test_every_word_of_the_vocabulary_has_its_text() -> None:
    english = texts.load("en")
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
    ]
    assert [f"{a}.{b}" for a, b in wanted if not english.has(f"{a}.{b}")] == []


@pytest.mark.parametrize("language", texts.languages())
def test_a_language_says_what_english_says(language: str) -> None:
    english, other = texts.load("en"), texts.load(language)
    assert other.names() <= english.names(), "a text that nobody asks for"
    for key in other.names():
        holes = [set(re.findall(r"{(\w+)}", t(key))) for t in (english, other)]
        assert holes[0] == holes[1], key


def test_another_language_is_one_file(monkeypatch: pytest.MonkeyPatch) -> None:
    german = {
        "plant.calm": "Alles in Ordnung",
        "plant.calm_detail": "{n} Maschinen, keine fällt auf.",
    }
    english = texts.load("en")
    table = {k: english(k) for k in english.names()}
    pages = Pages(texts.Texts("de", german, table))
    html = pages.part("summary")(4, 0, 0, 0, 0, (), 0)
    assert "Alles in Ordnung" in html
    assert "4 Maschinen" in html
    assert "All is well" not in html
    assert english("no.such.key") == "no.such.key"


def test_a_language_that_there_is_not_is_refused() -> None:
    with pytest.raises(ConfigError, match='must be one of en, was "xx"'):
        texts.load("xx")


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
