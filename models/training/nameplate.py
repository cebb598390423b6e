"""What a bundle says of itself that nobody learned: its name, machine, date and origin."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any


@dataclass(frozen=True, slots=True)
class Nameplate:
    """Given to a training by who asks for it.

    Attributes:
        name: Begins the bundle's id; the kind of model where it is "".
        asset_class: Kind of machine.
        created: Now where it is None.
        detail: Goes into the manifest as it is (derived signals, events).
    """

    name: str = ""
    asset_class: str = ""
    created: datetime | None = None
    detail: Mapping[str, Any] = field(default_factory=dict)

    def fields(self, kind: str, data_sha256: str) -> dict[str, Any]:
        """The manifest's fields that name a model of one kind, learned from these data."""
        when = self.created or datetime.now(UTC)
        return {
            "id": f"{self.name or kind}-{when:%Y%m%dT%H%M%S}-{data_sha256[:8]}",
            "kind": kind,
            "asset_class": self.asset_class,
            "created": when,
            "data_sha256": data_sha256,
        }


NAMELESS = Nameplate()
