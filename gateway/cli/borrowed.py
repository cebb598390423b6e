"""Lends a command what a source of the gateway keeps (its certificates), and takes nothing back."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def borrowed(kept: Path) -> Iterator[Path]:
    """A copy of a source's folder, for as long as the block runs: what is left there is nobody's.

    A gateway may be running on the same folder, so the command must not write to it.
    """
    with tempfile.TemporaryDirectory() as folder:
        if kept.is_dir():
            shutil.copytree(kept, folder, dirs_exist_ok=True)
        yield Path(folder)
