"""Where learned bundles lie: one folder an asset; and whether one can still be read."""

from pathlib import Path

from gateway.core.texts import Phrase
from models.bundle import read
from models.errors import ModelError


class Shelf:
    """The learned bundles of a gateway."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._sound: dict[Path, tuple[int, int]] = {}

    def folder_of(self, asset: str) -> Path:
        """Where an asset's bundles lie."""
        return self._folder / "".join(c if c.isalnum() or c in "._-" else "_" for c in asset)

    def fault(self, asset: str, name: str) -> Phrase | None:
        """Why a bundle cannot be read; None where it can. Each file is read once."""
        path = self.folder_of(asset) / name
        try:
            stat = path.stat()
            known = (stat.st_mtime_ns, stat.st_size)
            if self._sound.get(path) != known:
                read(path)
                self._sound[path] = known
        except (OSError, ModelError) as error:
            return Phrase("learn.damaged", file=path.name, fault=str(error))
        return None
