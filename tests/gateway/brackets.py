"""A language of brackets: what stands outside of them does not come from the catalogue."""

import json
import re
from pathlib import Path

from gateway.core.texts import english


def write(folder: Path) -> Path:
    """The catalogue in brackets, as a file of one's own; what others said stays as they said it."""
    path = folder / "de.toml"
    lines = [
        f"{'.'.join(map(json.dumps, key.split('.')))} = {json.dumps(f'⟦{text}⟧')}"
        for key, text in english().table.items()
        if key != "app.as_said"
    ]
    path.write_text("\n".join(['app.as_said = "{text}"', *lines, ""]), "utf-8")
    return path


def outside(text: str) -> str:
    """What stands outside of all brackets."""
    while (rest := re.sub(r"⟦[^⟦⟧]*⟧", " ", text)) != text:
        text = rest
    return text
