"""What every kind of training gives: a model that is ready to be written."""

from dataclasses import dataclass
from pathlib import Path

from models import bundle
from models.manifest import Manifest


@dataclass(frozen=True, slots=True, eq=False)
class Trained:
    """A model that is ready to be written.

    Attributes:
        manifest: Without the members' hashes, which writing adds.
        int8: The graph that runs.
        fp32: The graph that it was made from.
        golden: For the check at load.
        notes: What training found in the record, in words.
    """

    manifest: Manifest
    int8: bytes
    fp32: bytes
    golden: bundle.Golden
    notes: tuple[str, ...]

    def write(self, path: Path) -> bundle.Bundle:
        """Write the bundle; raises `BundleError` where that cannot be done."""
        return bundle.write(path, self.manifest, self.int8, self.fp32, self.golden)
