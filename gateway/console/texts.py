"""Every word on the pages, from one file a language."""

import tomllib
from collections.abc import Mapping
from functools import lru_cache
from importlib.resources import files
from typing import Any

from gateway.core.errors import ConfigError

FALLBACK = "en"


class Texts:
    """`texts("alarms.title")`; `texts("plant.machines", n=3)` fills `{n}`.

    A key that the language lacks is taken from English; one that English lacks is a bug, and is
    shown as it is.
    """

    def __init__(
        self, language: str, table: Mapping[str, str], fallback: Mapping[str, str]
    ) -> None:
        self.language = language
        self._table = table
        self._fallback = fallback

    def __call__(self, key: str, **values: object) -> str:
        text = self._table.get(key) or self._fallback.get(key)
        if text is None:
            return key
        return text.format_map(values) if values else text

    def has(self, key: str) -> bool:
        """Whether there is a text of that name."""
        return key in self._table or key in self._fallback

    def section(self, name: str) -> dict[str, str]:
        """All texts that begin with `name.`, without it; for the scripts of a page."""
        start = f"{name}."
        both = {**self._fallback, **self._table}
        return {k.removeprefix(start): v for k, v in both.items() if k.startswith(start)}

    def names(self) -> set[str]:
        """Every key of this language alone."""
        return set(self._table)


def languages() -> list[str]:
    """The languages there are."""
    folder = files("gateway.console") / "texts"
    names = (f.name for f in folder.iterdir())
    return sorted(n.removesuffix(".toml") for n in names if n.endswith(".toml"))


@lru_cache(maxsize=8)
def load(language: str) -> Texts:
    """The texts of a language.

    Raises:
        ConfigError: There is no file of that language.
    """
    if language not in languages():
        raise ConfigError(
            f'console.language: must be one of {", ".join(languages())}, was "{language}"'
        )
    return Texts(language, _read(language), _read(FALLBACK))


def _read(language: str) -> dict[str, str]:
    text = (files("gateway.console") / "texts" / f"{language}.toml").read_text("utf-8")
    return dict(_flat("", tomllib.loads(text)))


def _flat(prefix: str, table: Mapping[str, Any]) -> list[tuple[str, str]]:
    out: list[tuple[str, str]] = []
    for key, value in table.items():
        if isinstance(value, dict):
            out += _flat(f"{prefix}{key}.", value)
        else:
            out.append((f"{prefix}{key}", str(value)))
    return out
