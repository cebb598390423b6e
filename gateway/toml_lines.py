"""Finds the line on which each value of a TOML document stands. tomllib gives values, not places.

The document is known to be valid (tomllib has read it), so this walks it rather than parses it: it
follows table headers, keys, arrays and inline tables, and skips strings and comments.
"""

import re
from typing import TypeAlias

Path: TypeAlias = tuple[str | int, ...]

_BARE_OR_QUOTED = re.compile(r"""\s*(?:"((?:[^"\\]|\\.)*)"|'([^']*)'|([A-Za-z0-9_-]+))\s*""")
_STRINGS = ('"""', "'''", '"', "'")


def locate(text: str) -> dict[Path, int]:
    """Give the line (from 1) of every table, key and array element of a valid TOML document."""
    return _Walker(text).walk()


class _Walker:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._lines: dict[Path, int] = {}
        self._counts: dict[Path, int] = {}
        self._line_at = 0
        self._line = 1

    def walk(self) -> dict[Path, int]:
        prefix: Path = ()
        while True:
            self._skip_blank()
            if self._at >= len(self._text):
                return self._lines
            if self._text.startswith("[[", self._at):
                prefix = self._header(2)
            elif self._text[self._at] == "[":
                prefix = self._header(1)
            else:
                self._pair(prefix)

    def _here(self) -> int:
        self._line += self._text.count("\n", self._line_at, self._at)
        self._line_at = self._at
        return self._line

    def _skip_blank(self) -> None:
        while self._at < len(self._text):
            character = self._text[self._at]
            if character == "#":
                end = self._text.find("\n", self._at)
                self._at = len(self._text) if end < 0 else end
            elif character in " \t\r\n,":
                self._at += 1
            else:
                return

    def _keys(self) -> list[str]:
        keys = []
        while match := _BARE_OR_QUOTED.match(self._text, self._at):
            keys.append(next(group for group in match.groups() if group is not None))
            self._at = match.end()
            if not self._text.startswith(".", self._at):
                break
            self._at += 1
        return keys

    def _header(self, brackets: int) -> Path:
        line = self._here()
        self._at += brackets
        keys = self._keys()
        self._at += brackets
        prefix: Path = ()
        for key in keys[:-1]:
            prefix = (*prefix, key)
            if prefix in self._counts:
                prefix = (*prefix, self._counts[prefix] - 1)
        prefix = (*prefix, keys[-1])
        if brackets == 2:
            n = self._counts.get(prefix, 0)
            self._counts[prefix] = n + 1
            self._lines.setdefault(prefix, line)
            prefix = (*prefix, n)
        self._lines.setdefault(prefix, line)
        return prefix

    def _pair(self, prefix: Path) -> None:
        line = self._here()
        path = prefix
        for key in self._keys():
            path = (*path, key)
            self._lines.setdefault(path, line)
        self._at = self._text.index("=", self._at) + 1
        self._value(path)

    def _value(self, path: Path) -> None:
        self._skip_blank()
        self._lines[path] = self._here()
        opening = self._text[self._at]
        if opening == "[":
            self._at += 1
            n = 0
            while self._peek() != "]":
                self._value((*path, n))
                n += 1
            self._at += 1
        elif opening == "{":
            self._at += 1
            while self._peek() != "}":
                self._pair(path)
            self._at += 1
        else:
            self._scalar()

    def _peek(self) -> str:
        self._skip_blank()
        return self._text[self._at]

    def _scalar(self) -> None:
        for quote in _STRINGS:
            if self._text.startswith(quote, self._at):
                self._at += len(quote)
                while not self._text.startswith(quote, self._at):
                    self._at += 2 if self._text[self._at] == "\\" and quote[0] == '"' else 1
                self._at += len(quote)
                # A multi-line string may end in up to two more quotes of its own.
                while len(quote) == 3 and self._text.startswith(quote[0], self._at):
                    self._at += 1
                return
        while self._at < len(self._text) and self._text[self._at] not in ",]}#\n":
            self._at += 1
