"""Deals tests out to workers: a file goes to one, and files that share a slow fixture do."""

from pathlib import PurePath
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from xdist.remote import Producer
    from xdist.scheduler import LoadFileScheduling

DEBIAN = ("test_box.py", "test_compose.py", "test_image.py")
"""They need a Debian of their own, and an image made of it."""


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
