"""What a bundle says of its model: the schema of its `manifest.json`."""

from datetime import datetime
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

FORMAT = 1
DEADBAND = 0.2
"""A verdict that stands is taken back only so far below the limit (a deadband, in ISA-18.2)."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")


class Signal(_Part):
    """One input quantity, by the asset's own name for it."""

    name: str = Field(min_length=1, max_length=200)
    unit: str = ""
    low: float | None = None
    high: float | None = None
    """Range seen while healthy; None where none was seen or it has no meaning."""
    categories: tuple[str, ...] = ()
    """For a text column: its words; the value is the index of the word."""


class Window(_Part):
    """The grid on which the features are computed."""

    rows: bool = False
    """True: a cell is one row whatever its time; `period_s` is then only what was seen."""
    period_s: float | None = Field(default=None, gt=0)
    cells: int = Field(ge=1, le=10_000_000)
    hop_cells: int = Field(ge=1)
    stale_s: float | None = Field(default=None, gt=0)
    recent_cells: int | None = Field(default=None, ge=1)
    """The newest part of the window, which `recent_` features see; None: an eighth."""


class Limit(_Part):
    """The score above which a window counts as anomalous, and what that promises."""

    value: float = Field(gt=0)
    false_alarms: str = ""
    """The promise, as the user wrote it: `1/30d`."""
    supported: bool = False
    confidence: float | None = Field(default=None, ge=0, le=1)
    how: str = ""
    reason: str = ""


class Manifest(_Part):
    """Everything about a model but its numbers."""

    format: Literal[1] = 1
    id: str = Field(min_length=1, max_length=200, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    kind: Literal["anomaly", "failure", "rul"]
    asset_class: str = ""
    created: datetime
    state: Literal["shadow", "active"] = "shadow"
    signals: tuple[Signal, ...] = Field(min_length=1, max_length=10_000)
    window: Window
    features: tuple[str, ...] = Field(min_length=1, max_length=100_000)
    feature_version: int = Field(default=1, ge=1)
    limit: Limit | None = None
    """None for kinds without one."""
    outputs: tuple[str, ...] = Field(min_length=1, max_length=64)
    """Names of the graph's outputs, in the graph's order."""
    labels: tuple[str, ...] = ()
    """Names of the columns of a failure head."""
    metrics: dict[str, Any] = Field(default_factory=dict)
    parity: dict[str, Any] = Field(default_factory=dict)
    """int8 against fp32, as measured when the bundle was made."""
    detail: dict[str, Any] = Field(default_factory=dict)
    """What only this kind needs: feature parameters, derived signals, regimes."""
    data_sha256: str = ""
    libraries: dict[str, str] = Field(default_factory=dict)
    golden_tolerance: float = Field(default=0.02, gt=0, le=0.5)
    """Largest difference on another device: a share of |expected| + mean |expected| per output."""
    members: dict[str, str] = Field(default_factory=dict)
    """sha256 of each other member, hex. Filled by `write`."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        names = [signal.name for signal in self.signals]
        if len(set(names)) != len(names):
            raise ValueError("signals: names must differ")
        if self.kind == "anomaly" and self.limit is None:
            raise ValueError("limit: an anomaly model must have one")
        return self
