"""Slow healthy change of the assets that share a bundle: followed, told, and kept for a restart."""

from collections.abc import Iterator, Sequence

import numpy as np
import structlog
from numpy.typing import NDArray

from gateway.core.assessment import Assessments
from gateway.core.texts import Phrase
from models.follow import SPREADS_MAX, Bounds, Follow, Held
from models.manifest import Manifest

_events = structlog.get_logger()


class Following:
    """What `models.follow` keeps, by the assets' names."""

    def __init__(self, bounds: Bounds, assets: Sequence[str], wanted: Sequence[bool]) -> None:
        self._follow = Follow(bounds, len(assets))
        self._row = {asset: row for row, asset in enumerate(assets)}
        self._assets = tuple(assets)
        self._wanted = np.array(tuple(wanted) or (True,) * len(assets), dtype=bool)

    @classmethod
    def of(
        cls, manifest: Manifest, assets: Sequence[str], wanted: Sequence[bool]
    ) -> "Following | None":
        """None where the bundle's training measured nothing to follow by, or nobody wants it."""
        bounds = Bounds.of(manifest)
        return (
            cls(bounds, assets, wanted) if bounds is not None and any(wanted or (True,)) else None
        )

    def corrected(
        self, rows: NDArray[np.int64], features: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """float32[n, d], features without what was followed; see `Follow.corrected`."""
        return self._follow.corrected(rows, features)

    def saw(
        self,
        rows: NDArray[np.int64],
        a: Assessments,
        ails: NDArray[np.bool_],
        alone: NDArray[np.float32] | None = None,
    ) -> Iterator[tuple[str, bytes]]:
        """Take one set of verdicts.

        Args:
            rows: int64[n], which of the assets each verdict is of.
            a: The verdicts.
            ails: bool[n], whether an alarm stands on the machine.
            alone: float32[n], severity of each window by itself; the verdict's where not given.

        Yields:
            Asset and state, to be kept, of each asset for which a step was due.
        """
        mine = self._wanted[rows]
        before = list(self._follow.held)
        severity = a.severity if alone is None else alone
        alarmed = ails | (a.severity > 1)
        for step in self._follow.saw(
            rows[mine], a.t_ns[mine], severity[mine], a.direction[mine], alarmed=alarmed[mine]
        ):
            asset = self._assets[step.row]
            if step.moved or step.held is not before[step.row]:
                _events.info(
                    "model.followed",
                    asset=asset,
                    bundle=a.bundle,
                    offset={name: float(f"{value:.4g}") for name, value in step.moved.items()},
                    held=str(step.held),
                )
            yield asset, self._follow.pack(step.row)

    def restore(self, asset: str, state: bytes) -> None:
        """Take up what `saw` gave before a restart; what cannot be read is begun anew, and told."""
        try:
            self._follow.unpack(self._row[asset], state)
        except (ValueError, KeyError, TypeError) as error:
            _events.error("model.follow_forgotten", asset=asset, error=str(error))

    def held(self, asset: str) -> Held:
        """Why an asset is not followed at present."""
        return self._follow.held[self._row[asset]]

    def followed(self, asset: str) -> tuple[Phrase, ...]:
        """What is followed of an asset, signal by signal."""
        return tuple(
            Phrase(
                "context.followed",
                signal=signal,
                moved=moved,
                spreads=f"{spreads:.1f}",
                most=f"{SPREADS_MAX:g}",
            )
            for signal, moved, spreads in self._follow.followed(self._row[asset])
        )
