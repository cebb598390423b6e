"""Writes what an image holds of Python as CycloneDX JSON: `sbom.py docker/gateway.lock`.

Only the lock is read: it fixes every version and hash, so that the same lock gives the same bill.
"""

import hashlib
import json
import re
import sys
import uuid
from pathlib import Path
from typing import Any


def components(lock: str) -> list[dict[str, Any]]:
    """One component for each locked distribution; its environment marker, if any, as a property."""
    found = []
    for block in re.split(r"\n(?=\S)", lock):
        head = re.match(r"([A-Za-z0-9._-]+)==([^\s;\\]+)(?:\s*;\s*([^\\]+))?", block)
        if head is None:
            continue
        name, version, marker = head.groups()
        purl = f"pkg:pypi/{re.sub(r'[-_.]+', '-', name).lower()}@{version}"
        component: dict[str, Any] = {
            "type": "library",
            "bom-ref": purl,
            "name": name,
            "version": version,
            "purl": purl,
            "properties": [
                {"name": "forewarn:wheel-sha256", "value": digest}
                for digest in re.findall(r"--hash=sha256:([0-9a-f]{64})", block)
            ],
        }
        if marker:
            component["properties"].append({"name": "forewarn:marker", "value": marker.strip()})
        found.append(component)
    return found


def bill(lock: str, name: str) -> dict[str, Any]:
    """The whole document; its serial number is made of the lock, so that it is reproducible."""
    serial = uuid.UUID(hashlib.sha256(lock.encode()).hexdigest()[:32], version=4)
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{serial}",
        "version": 1,
        "metadata": {"component": {"type": "application", "name": name, "bom-ref": name}},
        "components": components(lock),
    }


def main() -> None:
    """Print the bill of the lock that is named."""
    if len(sys.argv) != 2:
        sys.exit("usage: sbom.py LOCK")
    path = Path(sys.argv[1])
    made = bill(path.read_text(encoding="utf-8"), f"forewarn-{path.stem}")
    sys.stdout.write(json.dumps(made, indent=1) + "\n")


if __name__ == "__main__":
    main()
