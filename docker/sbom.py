"""Writes what an image holds as CycloneDX JSON: `sbom.py docker/gateway.lock [DPKG-STATUS]`.

Of Python only the lock is read: it fixes every version and hash, so that the same lock gives the
same bill. Of Debian, what /var/lib/dpkg/status says is installed, which an image's build knows.
"""

import hashlib
import json
import re
import sys
import uuid
from pathlib import Path
from typing import Any
from urllib.parse import quote


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


def debian_components(status: str) -> list[dict[str, Any]]:
    """One component for each package that dpkg has installed."""
    found = []
    for block in status.split("\n\n"):
        fields = dict(re.findall(r"^([A-Za-z-]+): (.*)$", block, re.MULTILINE))
        if not fields.get("Status", "").endswith(" installed"):
            continue
        name, version = fields["Package"], fields["Version"]
        # A colon and a plus have meanings of their own in such an address.
        purl = f"pkg:deb/debian/{name}@{quote(version, safe='')}?arch={fields['Architecture']}"
        found.append(
            {"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl}
        )
    return found


def bill(lock: str, name: str, status: str = "") -> dict[str, Any]:
    """The whole document; its serial number is made of its sources, so that it is reproducible."""
    digest = hashlib.sha256((lock + status).encode()).hexdigest()
    serial = uuid.UUID(digest[:32], version=4)
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{serial}",
        "version": 1,
        "metadata": {"component": {"type": "application", "name": name, "bom-ref": name}},
        "components": [*components(lock), *debian_components(status)],
    }


def main() -> None:
    """Print the bill of the lock that is named."""
    if len(sys.argv) not in (2, 3):
        sys.exit("usage: sbom.py LOCK [DPKG-STATUS]")
    path = Path(sys.argv[1])
    status = Path(sys.argv[2]).read_text(encoding="utf-8") if len(sys.argv) == 3 else ""
    made = bill(path.read_text(encoding="utf-8"), f"forewarn-{path.stem}", status)
    sys.stdout.write(json.dumps(made, indent=1) + "\n")


if __name__ == "__main__":
    main()
