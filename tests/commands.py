"""The commands of a page: each block of them, and what its page says of how it is tested."""

import re
from dataclasses import dataclass
from pathlib import Path

_MARK = re.compile(r"<!-- (not run|run): (.*?) -->\n```sh\n(.*?)```", re.DOTALL)
_ANY = re.compile(r"^```(?:sh|bash|console|shell)$", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """One block of shell commands.

    Attributes:
        where: What runs it, by the mark above it; "" where it is not run.
        note: What the mark says beside, or why it is not run.
    """

    line: int
    where: str
    note: str
    text: str


def blocks(page: Path) -> list[Block]:
    """Every block of shell commands of a page, in order.

    Raises:
        ValueError: One bears no mark.
    """
    text = page.read_text(encoding="utf-8")
    found = []
    for match in _MARK.finditer(text):
        line = text.count("\n", 0, match.start()) + 1
        how, said, commands = match.groups()
        where, _, note = said.partition(", ") if how == "run" else ("", "", said)
        found.append(Block(line, where, note, commands))
    if len(found) != len(_ANY.findall(text)):
        raise ValueError(f"{page.name}: a block of commands has no `<!-- run: … -->` above it")
    return found
