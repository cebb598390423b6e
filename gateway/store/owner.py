"""Lets one process own a data directory, and says who does."""

import fcntl
import os
from pathlib import Path
from types import TracebackType
from typing import Self

from gateway.core.errors import StoreError


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError:
        # On a disk that has become read-only the lock can still be taken, only not signed.
        if not path.exists():
            raise
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)


class Owner:
    """An advisory lock on `DIR/owner.lock`; the kernel lets go of it however the process ends."""

    def __init__(self, directory: Path) -> None:
        """Take the lock, making the directory where it is missing.

        Raises:
            StoreError: Another process owns it (named), or the directory cannot be used.
        """
        self._path = directory / "owner.lock"
        try:
            directory.mkdir(parents=True, exist_ok=True)
            self._file = _open(self._path)
        except OSError as error:
            raise StoreError(
                f"gateway.data_dir: must be a directory that can be written, was {directory} "
                f"({error.strerror}); correct the path or its permissions"
            ) from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            pid = os.pread(self._file, 20, 0).decode(errors="replace").strip() or "unknown"
            os.close(self._file)
            raise StoreError(
                f"gateway.data_dir: {directory} is in use by process {pid}; stop it, or give this "
                "gateway a data_dir of its own"
            ) from None
        try:
            os.ftruncate(self._file, 0)
            os.pwrite(self._file, f"{os.getpid()}\n".encode(), 0)
        except OSError:
            # The lock is held all the same; on a full disk only the name of its holder is missing.
            pass

    def release(self) -> None:
        """Let go."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()
