"""Copies what a gateway knows into one file while it runs, and puts it back whole or not at all."""

import hashlib
import io
import json
import os
import shutil
import sqlite3
import tarfile
import tempfile
import tomllib
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path, PurePosixPath
from typing import Any

from gateway.core.errors import DataError, StoreError

FORMAT = 1
MANIFEST = "manifest.json"
MANIFEST_BYTES_MAX = 10_000_000
DATA, ETC = "data", "etc"
LEFT_OUT = ("-wal", "-shm", ".lock", ".sock", ".partial")
"""What belongs to a running process; databases are copied with what their journals hold."""
SQLITE_MAGIC = b"SQLite format 3\x00"
LAST = "log.db"
"""Copied last: what others have derived from the log must never be newer than it."""


def program_version() -> str:
    """The version that is installed; "unknown" where it runs from a folder."""
    try:
        return version("forewarn")
    except PackageNotFoundError:
        return "unknown"


def back_up(config: Path, data_dir: Path, archive: Path) -> dict[str, Any]:
    """Write the log, trends, users, models, certificates and configuration into one archive.

    The gateway may run meanwhile: each database is copied as of one moment. The archive holds
    private keys and password hashes, and only its owner may read it.

    Returns:
        The manifest.

    Raises:
        StoreError: Something cannot be read, or the archive cannot be written.
    """
    if not data_dir.is_dir():
        raise StoreError(f"{data_dir}: no gateway has run here; there is nothing to back up")
    partial = archive.with_name(archive.name + ".partial")
    try:
        with tempfile.TemporaryDirectory(dir=archive.parent, prefix=".backup-") as scratch:
            files = list(_staged(config, data_dir, Path(scratch)))
            manifest = {
                "format": FORMAT,
                "forewarn": program_version(),
                "created": datetime.now(UTC).isoformat(timespec="seconds"),
                "config": config.name,
                "files": {
                    name: {"bytes": path.stat().st_size, "sha256": _sha256(path)}
                    for name, path in files
                },
            }
            handle = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with (
                os.fdopen(handle, "wb") as out,
                tarfile.open(fileobj=out, mode="w:gz", compresslevel=1) as tar,
            ):
                text = json.dumps(manifest, indent=1).encode()
                head = tarfile.TarInfo(MANIFEST)
                head.size, head.mode = len(text), 0o600
                tar.addfile(head, io.BytesIO(text))
                for name, path in files:
                    tar.add(path, name, recursive=False)
                out.flush()
        _sync(partial)
        partial.replace(archive)
    except (OSError, sqlite3.Error, tarfile.TarError) as error:
        partial.unlink(missing_ok=True)
        raise StoreError(f"{archive}: the backup was not made ({error})") from error
    return manifest


def put_back(archive: Path, data_dir: Path, etc_dir: Path | None = None) -> dict[str, Any]:
    """Restore an archive into a data directory that is missing or empty.

    Every file is checked before the first is put in place.

    Args:
        archive: What `back_up` wrote.
        data_dir: Where the log and all the rest go.
        etc_dir: Where the configuration goes; None to leave it in the archive.

    Raises:
        DataError: The archive was altered, cut off, or is of a newer program.
        StoreError: The directory is in use or cannot be written.
    """
    if data_dir.exists() and any(data_dir.iterdir()):
        raise StoreError(f"{data_dir}: must be empty or missing; move it away first")
    try:
        data_dir.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=data_dir.parent, prefix=".restore-") as scratch:
            manifest = _unpacked(archive, Path(scratch))
            data = Path(scratch) / DATA
            data.mkdir(exist_ok=True)
            data.chmod(0o700)
            if data_dir.exists():
                data_dir.rmdir()
            data.replace(data_dir)
            if etc_dir is not None:
                shutil.copytree(Path(scratch) / ETC, etc_dir, dirs_exist_ok=True)
    except (tarfile.TarError, EOFError, ValueError, KeyError) as error:
        raise DataError(f"{archive}: is no whole backup ({error})") from error
    except OSError as error:
        raise StoreError(f"{data_dir}: the backup was not restored ({error})") from error
    return manifest


def _staged(config: Path, data_dir: Path, scratch: Path) -> Iterator[tuple[str, Path]]:
    """Name in the archive and the file to take; databases are copied into `scratch` first."""
    paths = [p for p in sorted(data_dir.rglob("*")) if p.is_file() and not p.is_symlink()]
    for path in sorted(paths, key=lambda p: (p.name == LAST, p)):
        if path.name.endswith(LEFT_OUT):
            continue
        name = f"{DATA}/{path.relative_to(data_dir).as_posix()}"
        with path.open("rb") as file:
            database = file.read(len(SQLITE_MAGIC)) == SQLITE_MAGIC
        if not database:
            yield name, path
            continue
        copy = scratch / hashlib.sha256(name.encode()).hexdigest()
        with (
            closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as source,
            closing(sqlite3.connect(copy)) as target,
        ):
            # All pages at once: in steps it would begin anew at every commit of the gateway.
            source.backup(target)
        yield name, copy
    yield f"{ETC}/{config.name}", config
    for path in _named_by(config):
        yield f"{ETC}/{path.relative_to(config.parent).as_posix()}", path


def _named_by(config: Path) -> Iterator[Path]:
    """Files beside the configuration that it names: bundles, lists of signals. No secrets."""
    table = tomllib.loads(config.read_text(encoding="utf-8"))

    def texts(value: object) -> Iterator[str]:
        if isinstance(value, str):
            yield value
        for item in value.values() if isinstance(value, dict) else ():
            yield from texts(item)
        for item in value if isinstance(value, list) else ():
            yield from texts(item)

    folder = config.parent.resolve()
    for text in sorted(set(texts(table))):
        if not text.endswith((".fwm", ".csv", ".toml", ".pem", ".der")):
            continue
        path = (config.parent / text).resolve()
        if path.is_file() and path.is_relative_to(folder) and path != config.resolve():
            yield config.parent / path.relative_to(folder)


def _unpacked(archive: Path, scratch: Path) -> dict[str, Any]:
    with tarfile.open(archive, "r:gz") as tar:
        head = tar.next()
        if head is None or head.name != MANIFEST or head.size > MANIFEST_BYTES_MAX:
            raise ValueError("it does not begin with a manifest")
        first = tar.extractfile(head)
        assert first is not None
        manifest: dict[str, Any] = json.loads(first.read())
        if manifest["format"] != FORMAT:
            raise ValueError(f"format must be {FORMAT}, was {manifest['format']}")
        missing = dict(manifest["files"])
        while (member := tar.next()) is not None:
            wanted = missing.pop(member.name, None)
            name = PurePosixPath(member.name)
            # Nothing but what the manifest lists, and only plain files below our own folder.
            if wanted is None or not member.isfile() or name.is_absolute() or ".." in name.parts:
                raise ValueError(f"{member.name}: is not in the manifest, or no plain file")
            path = scratch / name
            path.parent.mkdir(parents=True, exist_ok=True)
            source = tar.extractfile(member)
            assert source is not None
            with path.open("wb") as out:
                shutil.copyfileobj(source, out, 1 << 20)
            path.chmod(0o600)
            if _sha256(path) != wanted["sha256"]:
                raise ValueError(f"{member.name}: its checksum does not fit")
            _sync(path)
    if missing:
        raise ValueError(f"cut off: {', '.join(sorted(missing)[:3])} missing")
    return manifest


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
