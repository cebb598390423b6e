"""What support needs to see of a gateway: its state, without secrets and raw data."""

import json
import platform
import re
import shutil
import sys
import tomllib
import zipfile
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

from gateway.backup import program_version
from gateway.core.errors import StoreError
from gateway.health import ask_health
from gateway.store.reader import LogReader
from gateway.store.schema import FILE_NAME

REDACTED = "(left out)"
_SECRET = re.compile(r"pass|secret|token|key|auth|credential|cookie|header", re.IGNORECASE)
_IN_URL = re.compile(r"(?<=://)[^/@\s]+@")
_REFERENCE = re.compile(r"(env|file):.+")


def redacted(value: object, name: str = "") -> Any:
    """A configuration without secrets, comments or passwords in addresses."""
    if _SECRET.search(name):
        # Where a secret lies is no secret; it says what the program looked for.
        refers = isinstance(value, str) and _REFERENCE.fullmatch(value)
        return value if refers else REDACTED
    if isinstance(value, dict):
        return {key: redacted(item, str(key)) for key, item in value.items()}
    if isinstance(value, list):
        return [redacted(item) for item in value]
    return _IN_URL.sub(f"{REDACTED}@", value) if isinstance(value, str) else value


def collect(config: Path, data_dir: Path, out: Path) -> list[str]:
    """Write the bundle; gives the names of what is in it.

    Raises:
        StoreError: It cannot be written.
    """
    parts: dict[str, object] = {
        "versions.json": {
            "forewarn": program_version(),
            "python": sys.version,
            "platform": platform.platform(),
            "machine": platform.machine(),
            "packages": {d.name: d.version for d in distributions()},
        },
        "configuration.json": _configuration(config),
        "health.json": _health(data_dir),
        "log.json": _log(data_dir),
        "disk.json": _disk(data_dir),
    }
    try:
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as bundle:
            for name, part in parts.items():
                bundle.writestr(name, json.dumps(part, indent=1, ensure_ascii=False, default=str))
    except OSError as error:
        raise StoreError(f"{out}: cannot be written ({error})") from error
    return list(parts)


def _configuration(config: Path) -> object:
    try:
        return redacted(tomllib.loads(config.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        return {"error": type(error).__name__}


def _health(data_dir: Path) -> object:
    try:
        return ask_health(data_dir)
    except (OSError, ValueError) as error:
        return {"ok": False, "error": str(error)}


def _log(data_dir: Path) -> object:
    """How much there is of each kind, and how far each reader is; never what."""
    try:
        reader = LogReader(data_dir / FILE_NAME)
    except StoreError as error:
        return {"error": str(error)}
    try:
        return {
            "heads": {kind.value: head for kind, head in reader.heads().items()},
            "signals": len(reader.signals()),
            "cursors": [
                {"name": name, "kind": kind.value, "undone": spans, "missed": missed}
                for name, kind, spans, missed in reader.cursors()
            ],
        }
    except StoreError as error:
        return {"error": str(error)}
    finally:
        reader.close()


def _disk(data_dir: Path) -> object:
    if not data_dir.is_dir():
        return {"error": "no data directory"}
    usage = shutil.disk_usage(data_dir)
    sizes = {
        path.relative_to(data_dir).as_posix(): path.stat().st_size
        for path in sorted(data_dir.glob("*"))
        if path.is_file()
    }
    return {"free_bytes": usage.free, "total_bytes": usage.total, "files": sizes}
