"""What several tests of this folder need, and is slow to make."""

import os
from collections.abc import Iterator
from pathlib import Path
from tempfile import mkdtemp

import pytest

from gateway import config_watch
from models.bundle import Bundle
from models.training.anomaly import train
from tests.debian import BASE, debootstrap
from tests.images import Store
from tests.models.plants import healthy
from tests.servers import require


@pytest.fixture(scope="session", autouse=True)
def changes_seen_soon() -> Iterator[None]:
    """A file that changed is seen within 100 ms: tests that change one only waited for it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(config_watch, "POLL_NS", 100_000_000)
        yield


@pytest.fixture(scope="session")
def press(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A model of a healthy press; whoever writes its file, writes another."""
    trained = train(healthy(6000), false_alarms="1/1h")
    return trained.write(tmp_path_factory.mktemp("press") / "m.fwm")


@pytest.fixture(scope="session")
def debian(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A minimal Debian with Python in a folder; nobody writes to it."""
    if os.geteuid() != 0:
        pytest.skip("needs root to make a Debian of its own")
    for program in ("debootstrap", "unshare", "nsenter"):
        require(program)
    folder = tmp_path_factory.mktemp("debian") / "base"
    debootstrap(folder, BASE)
    return folder


@pytest.fixture(scope="session")
def store(debian: Path) -> Iterator[Store]:
    """A place for images with their base in it."""
    for program in ("buildah", "podman", "runc"):
        require(program)
    # podman takes no path longer than 50 characters for what runs.
    made = Store.at(Path(mkdtemp(prefix="fw-")))
    try:
        made.fill(debian)
        yield made
    finally:
        made.clear()


@pytest.fixture(scope="session")
def image(store: Store) -> str:
    """The gateway's image."""
    return store.build("gateway")
