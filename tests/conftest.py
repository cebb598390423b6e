"""Deals tests out to workers, and gives them what is slow to make or to wait for."""

import shutil
from collections.abc import Iterator
from pathlib import PurePath
from typing import TYPE_CHECKING

import pytest

from tests.servers import require

if TYPE_CHECKING:
    from playwright.sync_api import Browser
    from xdist.remote import Producer
    from xdist.scheduler import LoadFileScheduling

DEBIAN = ("test_box.py", "test_compose.py", "test_image.py")
"""They need a Debian of their own, and an image made of it."""
CHROMIUM_OPTIONS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest comes first, or one worker would end alone with it."""
    items.sort(key=lambda item: item.path.name not in DEBIAN)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: "Producer") -> "LoadFileScheduling":
    """By file. `--dist loadgroup` has no effect: pytest 9.2 forgets the groups of xdist 3.8."""
    from xdist.scheduler import LoadFileScheduling

    class Together(LoadFileScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            return "debian" if PurePath(file).name in DEBIAN else file

    return Together(config, log)


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    """Debian's Chromium, without a screen."""
    from playwright.sync_api import sync_playwright

    program = shutil.which("chromium-browser") or require("chromium")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=program, args=CHROMIUM_OPTIONS)
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def few_questions() -> Iterator[None]:
    """A net is asked what a small table needs; all 30,000 questions take a minute of CPU."""
    from models.training import taught

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(taught, "QUESTIONS", 6_000)
        yield
