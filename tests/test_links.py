"""What a page names is there: other pages and their headings, files, decisions."""

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("docker", "gateway", "models", "protocols", "tests")
KEPT = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*")]
PAGES = [ROOT / "README.md", *(path for path in KEPT if path.suffix == ".md")]
MADE = {"openapi.json", "resume.json", "sbom.cdx.json"}
"""What a gateway or an image holds, and this tree does not."""


def headings(page: Path) -> set[str]:
    """As anchors."""
    found = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", each.lower()).replace(" ", "-") for each in found}


def leads_nowhere(page: Path) -> Iterator[str]:
    """Every link, file and decision of a page that is not there."""
    text = page.read_text(encoding="utf-8")
    for target, anchor in re.findall(r"\]\((?!https?:|mailto:)([^)#\s]*)#?([^)\s]*)\)", text):
        there = page.parent / target if target else page
        if not there.exists() or (anchor and anchor not in headings(there)):
            yield f"({target}#{anchor})"
    for name in re.findall(r"`([\w./-]+\.(?:csv|fwm|json|md|py|sh|toml))`", text):
        named = [path for path in KEPT if str(path).endswith(f"/{name}")]
        if not named and Path(name).name not in MADE:
            yield name
    for number in re.findall(r"\bdecisions? (\d{3})\b", text):
        if not list((ROOT / "gateway" / "decisions").glob(f"{number}-*.md")):
            yield f"decision {number}"


def test_nothing_that_a_page_names_is_missing() -> None:
    assert len(PAGES) > 50
    lost = {str(page.relative_to(ROOT)): [*leads_nowhere(page)] for page in PAGES}
    assert {page: found for page, found in lost.items() if found} == {}
