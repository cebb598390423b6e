"""Words what is wrong with a setting, and where it stands."""

import difflib
import re
from collections.abc import Iterable, Iterator
from typing import Any, get_args

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from gateway.toml_lines import Path as TomlPath

_SECRET_WORDS = ("password", "secret", "token", "key")


def without_tags(loc: tuple[int | str, ...], table: Any) -> Iterator[int | str]:
    """Drop what pydantic adds to a location for unions and validators: only real keys stay."""
    here = table
    for i, part in enumerate(loc):
        if isinstance(here, dict) and (part in here or i == len(loc) - 1):
            yield part
            here = here.get(part)
        elif isinstance(here, list) and isinstance(part, int):
            yield part
            here = here[part] if part < len(here) else None


def dotted(at: TomlPath) -> str:
    """`source[0].signals[3].address`."""
    text = ""
    for part in at:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def did_you_mean(was: str, known: Iterable[str], otherwise: str) -> str:
    """The mend, where what is known holds something much like what was written."""
    close = difflib.get_close_matches(was, list(known), n=1)
    return f"did you mean {close[0]!r}?" if close else otherwise


def worded(details: ErrorDetails, model: type[BaseModel]) -> str:
    """One fault in our words: the rule, what was there, and where one can guess it, the mend."""
    kind, value = details["type"], details["input"]
    name = next((part for part in reversed(details["loc"]) if isinstance(part, str)), "")
    if kind == "missing":
        return "is required"
    if kind == "extra_forbidden":
        known = _known_settings(model, details["loc"][:-1])
        hint = did_you_mean(name, known, f"known are {', '.join(sorted(known))}")
        return f"is not a known setting; {hint}"
    text = details["msg"].removeprefix("Value error, ")
    text = text.replace("Input should be", "must be").replace("String should", "must")
    text = re.sub(r"^(List|Tuple|Value) should", "must", text)
    secret = "never the secret itself" in text or any(word in name for word in _SECRET_WORDS)
    if secret or "\n" in text or isinstance(value, dict | list | BaseModel):
        return text
    # Who writes a password into an address must not find it in the log as well.
    shown = re.sub(r"://[^/\s]*@", "://…@", repr(value))
    return f"{text}, was {shown if len(shown) <= 80 else shown[:77] + '…'}"


def _known_settings(model: type[BaseModel], loc: tuple[int | str, ...]) -> set[str]:
    here = [model]
    for part in loc:
        if isinstance(part, int):
            continue
        here = [
            inner
            for outer in here
            for field_name, info in outer.model_fields.items()
            if part in (field_name, info.alias)
            for inner in _models_in(info.annotation)
        ] or here
    return {info.alias or name for outer in here for name, info in outer.model_fields.items()}


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for inner in get_args(annotation) for model in _models_in(inner)]
