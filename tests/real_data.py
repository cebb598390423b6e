"""Where the real data lie, if they are here: `FOREWARN_DATA`, or `../shared/data`."""

import os
from pathlib import Path

import pytest


def folder(name: str) -> Path:
    """The data set's folder; skips the test, visibly, where it is not here."""
    root = Path(os.environ.get("FOREWARN_DATA", "../shared/data"))
    found = root / name
    if not found.is_dir():
        pytest.skip(f"real data not here: {found} (set FOREWARN_DATA)")
    return found
