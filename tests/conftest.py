"""Deals tests out to workers: a file goes to one, files that share a slow fixture too."""

from pathlib import Path

import pytest

DEBIAN = "debian"
"""The group of the files that need a Debian of their own, and the images made of it."""
TOGETHER = dict.fromkeys(("test_box.py", "test_compose.py", "test_image.py"), DEBIAN)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Name the group of each test; the longest first, or one worker ends alone with it."""
    groups = {item: TOGETHER.get(item.path.name, _file(item)) for item in items}
    for item, group in groups.items():
        item.add_marker(pytest.mark.xdist_group(group))
    items.sort(key=lambda item: groups[item] != DEBIAN)


def _file(item: pytest.Item) -> str:
    return str(item.path.relative_to(Path(item.config.rootpath)))
