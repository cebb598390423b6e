"""What is said to people: phrases by key and values, worded by one file a language."""

import string
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Union

from gateway.core.errors import ConfigError, DataError

ENGLISH = "en"
SUFFIX = ".toml"

Value = Union[str, int, float, "Phrase", tuple["Phrase", ...]]


class Phrase:
    """A key of the catalogue and what fills its template; put into words where somebody reads it.

    By itself it reads as English, which is what logs and the command line speak.

    >>> str(Phrase("limit.high", signal="level", value="3.2 m", limit="3 m"))
    'level 3.2 m is above its high limit of 3 m'
    """

    __slots__ = ("key", "values")

    def __init__(self, key: str, /, **values: Value) -> None:
        self.key = key
        self.values = values

    def __str__(self) -> str:
        return english().say(self)

    def __repr__(self) -> str:
        return f"Phrase({self.key!r}, {self.values!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Phrase) and (self.key, self.values) == (other.key, other.values)

    def __hash__(self) -> int:
        return hash((self.key, tuple(self.values.items())))

    def dump(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "key": self.key,
            "values": {
                name: value.dump()
                if isinstance(value, Phrase)
                else [each.dump() for each in value]
                if isinstance(value, tuple)
                else value
                for name, value in self.values.items()
            },
        }

    @classmethod
    def load(cls, data: object) -> "Phrase":
        """What `dump` gave; a string is what a version before this one wrote, and stays as it is.

        Raises:
            DataError: It is neither.
        """
        match data:
            case str(text):
                return as_said(text)
            case {"key": str(key), "values": dict(values)}:
                return cls(key, **{str(name): _value(value) for name, value in values.items()})
        raise DataError(f"phrase: must be a key with its values, was {data!r}")


def _value(data: object) -> Value:
    if isinstance(data, str | int | float):
        return data
    return tuple(map(Phrase.load, data)) if isinstance(data, list) else Phrase.load(data)


def as_said(text: object) -> Phrase:
    """What a person, a device, a receiver or the system said: shown as it was said."""
    return Phrase("app.as_said", text=str(text))


@dataclass(frozen=True, slots=True)
class Texts:
    """One language: `texts("alarms.title")`; `texts("plant.attention", n=3)` fills `{n}`.

    Attributes:
        language: Its tag, as HTML wants it: `en`, `pt-BR`.
        table: Key -> template.
        lacks: What its file lacks or has wrong, each with file and key; English stands there.
    """

    language: str
    table: Mapping[str, str]
    lacks: tuple[str, ...] = ()

    def __call__(self, key: str, /, **values: object) -> str:
        text = self.table.get(key)
        if text is not None and not values:
            return text
        try:
            return self.table[key].format_map(values)
        except (LookupError, ValueError):
            # Kept by another version; a key and its values tell more than nothing.
            return " ".join([key, *map(str, values.values())])

    def say(self, phrase: Phrase) -> str:
        """The phrase in this language."""
        return self(phrase.key, **{k: self._worded(v) for k, v in phrase.values.items()})

    def _worded(self, value: Value) -> str | int | float:
        if isinstance(value, Phrase):
            return self.say(value)
        return "; ".join(map(self.say, value)) if isinstance(value, tuple) else value

    def has(self, key: str) -> bool:
        """Whether there is a text of that name."""
        return key in self.table

    def section(self, name: str) -> dict[str, str]:
        """All texts that begin with `name.`, without it; for the scripts of a page."""
        start = f"{name}."
        return {k.removeprefix(start): v for k, v in self.table.items() if k.startswith(start)}


def languages() -> list[str]:
    """The languages that come with the program."""
    names = (f.name for f in (files("gateway.core") / "texts").iterdir())
    return sorted(n.removesuffix(SUFFIX) for n in names if n.endswith(SUFFIX))


@cache
def english() -> Texts:
    """The language that all others are made from."""
    return Texts(ENGLISH, _read(ENGLISH))


def load(language: str) -> Texts:
    """A language that comes with the program, or a file of one's own: `/etc/forewarn/de.toml`.

    What it lacks, as after an update that says more than the one before, is said in English.

    Raises:
        ConfigError: There is none, or it cannot be read.
    """
    if language == ENGLISH:
        return english()
    if not language.endswith(SUFFIX) and language not in languages():
        known = ", ".join(languages())
        raise ConfigError(f"must be one of {known}, or a file of your own such as de{SUFFIX}")
    given = _read(language)
    whole = dict(english().table)
    lacks = []
    for key, text in english().table.items():
        fault = _fault(key, text, given.get(key))
        if fault:
            lacks.append(f"{language}: {fault}")
        else:
            whole[key] = given[key]
    lacks += [f"{language}: {key} is not known; take it out" for key in given.keys() - whole.keys()]
    return Texts(Path(language).name.removesuffix(SUFFIX), whole, tuple(lacks))


def _fault(key: str, text: str, given: str | None) -> str:
    """Why what a language has for an English text cannot be said; "" where it can."""
    if given is None:
        return f'{key} is missing; translate "{text}"'
    try:
        holes = fields(given)
    except ValueError as error:
        return f"{key} is no template ({error}); write a brace of its own as {{{{"
    if holes != fields(text):
        return f"{key} must hold {_list(fields(text))}, holds {_list(holes)}"
    return ""


def fields(text: str) -> dict[str, str]:
    """The holes of a template and how each is written: `{share:.0%}` is `share` by `.0%`."""
    parts = string.Formatter().parse(text)
    return {name: spec or "" for _, name, spec, _ in parts if name is not None}


def _list(holes: Mapping[str, str]) -> str:
    named = (f"{{{name}:{spec}}}" if spec else f"{{{name}}}" for name, spec in holes.items())
    return ", ".join(sorted(named)) or "no field"


def source(language: str) -> str:
    """The file of a language, with its comments."""
    own = language.endswith(SUFFIX)
    path = Path(language) if own else files("gateway.core") / "texts" / f"{language}{SUFFIX}"
    return path.read_text("utf-8")


def _read(language: str) -> dict[str, str]:
    try:
        return dict(_flat("", tomllib.loads(source(language))))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"cannot be read: {getattr(error, 'strerror', '') or error}") from None


def _flat(prefix: str, table: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _flat(f"{prefix}{key}.", value)
        else:
            yield f"{prefix}{key}", str(value)
