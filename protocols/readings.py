"""What devices print, as numbers; for every protocol that carries text."""

import re

NUMBER = re.compile(r"\s*([+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?)\s*", re.ASCII)
"""A number as instruments print it: no underscore, no "nan", no "inf", no foreign digit."""


def parse_number(text: str, *, decimal_comma: bool = False) -> float | None:
    """A number as instruments print it; None where it is none."""
    match = NUMBER.fullmatch(text.replace(",", ".") if decimal_comma else text)
    return None if match is None else float(match[1])
