"""Cuts the lock of each image out of requirements.lock: the same versions, the same hashes, less.

Run from a checkout in which everything is installed (`make install`): `python docker/locks.py`.
What an image holds follows from `pyproject.toml` and from what the installed packages say that they
need, for Linux on x86-64 and on ARM64.
"""

import re
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
TARGETS: dict[str, tuple[str, ...]] = {
    "gateway": (),
    "gateway-openvino": ("openvino",),
    "gateway-train": ("train",),
}
BUILD = ("hatchling",)
MACHINES = ("x86_64", "aarch64")


def lock_entries(text: str) -> dict[str, str]:
    """Canonical name -> its lines of the lock, hashes included."""
    entries: dict[str, str] = {}
    for block in re.split(r"\n(?=\S)", text):
        name = re.match(r"([A-Za-z0-9._-]+)==", block)
        if name:
            # A package may be locked twice, once for each range of Python versions.
            key = canonicalize_name(name[1])
            entries[key] = entries.get(key, "") + block.rstrip("\n") + "\n"
    return entries


def applies(want: Requirement, extras: frozenset[str]) -> bool:
    """Whether a package with these extras needs it on any machine that we build for."""
    return want.marker is None or any(
        want.marker.evaluate({"extra": extra, "sys_platform": "linux", "platform_machine": machine})
        for extra in extras | {""}
        for machine in MACHINES
    )


def needed(roots: list[Requirement], locked: set[str]) -> set[str]:
    """Names in the lock that the roots need, directly or not, on any machine we build for."""
    found: set[str] = set()
    todo = [(canonicalize_name(r.name), frozenset(r.extras)) for r in roots]
    seen: set[tuple[str, frozenset[str]]] = set()
    while todo:
        name, extras = todo.pop()
        if (name, extras) in seen or name not in locked:
            continue
        seen.add((name, extras))
        found.add(name)
        try:
            wants = requires(name) or []
        except PackageNotFoundError:
            continue
        todo += [
            (canonicalize_name(want.name), frozenset(want.extras))
            for want in map(Requirement, wants)
            if applies(want, extras)
        ]
    return found


def cut() -> dict[str, str]:
    """File name -> content, for every target and for what builds the wheel."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    entries = lock_entries((ROOT / "requirements.lock").read_text(encoding="utf-8"))
    files = {}
    for target, extras in TARGETS.items():
        texts = list(project["dependencies"])
        for extra in extras:
            texts += project["optional-dependencies"][extra]
        files[f"{target}.lock"] = needed([Requirement(text) for text in texts], set(entries))
    files["build.lock"] = needed([Requirement(text) for text in BUILD], set(entries))
    head = "# Cut from requirements.lock by docker/locks.py. Do not edit.\n"
    return {
        file: head + "".join(entries[name] for name in sorted(names))
        for file, names in files.items()
    }


def main() -> None:
    """Write the locks; with `--check` only say whether they are up to date."""
    stale = []
    for file, text in cut().items():
        path = ROOT / "docker" / file
        if "--check" in sys.argv:
            if not path.exists() or path.read_text(encoding="utf-8") != text:
                stale.append(file)
        else:
            path.write_text(text, encoding="utf-8")
    if stale:
        sys.exit(f"docker/locks.py: out of date: {', '.join(stale)}; run python docker/locks.py")


if __name__ == "__main__":
    main()
