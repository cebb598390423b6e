"""The `[alarms]` and `[[notify]]` tables and the limits of a signal, typed."""

from itertools import pairwise
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from gateway.alarms.zones import ZONES, Machine
from gateway.core.alarm import Cause, Priority
from gateway.core.source import Identifier

Seconds = Annotated[float, Field(ge=0, le=30 * 86_400, allow_inf_nan=False)]
Pattern = Annotated[
    str,
    Field(
        min_length=1,
        max_length=300,
        description="`asset/alarm` with `*` for any text; `*` alone is everything.",
    ),
]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class DelayConfig(_Model):
    """How long a condition must hold before it alarms, and be gone before it returns."""

    on_s: Seconds
    off_s: Seconds


class LimitConfig(_Model):
    """Static limits of one signal, which need no model.

    Example: `{signal = "temperature", high = 80, high_high = 90, deadband = 2}`,
    `{signal = "vibration", iso_20816 = "2 rigid"}`
    """

    signal: Identifier
    high: float | None = Field(default=None, allow_inf_nan=False)
    high_high: float | None = Field(default=None, allow_inf_nan=False)
    low: float | None = Field(default=None, allow_inf_nan=False)
    low_low: float | None = Field(default=None, allow_inf_nan=False)
    iso_20816: Machine | None = Field(
        default=None,
        description="Group and support of the machine, for a vibration in mm/s RMS: zone C of"
        " ISO 20816-3 is high, zone D is high-high, unless they are given.",
    )
    deadband: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    on_delay_s: Seconds | None = None
    off_delay_s: Seconds | None = None
    latched: bool = False
    priority: Priority | None = Field(
        default=None,
        description="1 low, 2 medium, 3 high; by default 2, and 3 for the outer limits.",
    )

    @model_validator(mode="before")
    @classmethod
    def _by_zones(cls, data: Any) -> Any:
        zones = ZONES.get(str(data.get("iso_20816"))) if isinstance(data, dict) else None
        return data if zones is None else {"high": zones[0], "high_high": zones[1]} | data

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        given = [
            (name, value)
            for name in ("low_low", "low", "high", "high_high")
            if (value := getattr(self, name)) is not None
        ]
        if not given:
            raise ValueError("needs at least one of high, high_high, low, low_low, iso_20816")
        for (lower, a), (upper, b) in pairwise(given):
            if a >= b:
                raise ValueError(f"{lower} must be below {upper}, was {a} and {b}")
            if lower.startswith("low") and upper.startswith("high") and a + self.deadband >= b:
                raise ValueError(
                    f"deadband must leave room between {lower} and {upper}, was {self.deadband}"
                )
        return self


def _no_signal_twice(limits: list[LimitConfig]) -> list[LimitConfig]:
    names = [limit.signal for limit in limits]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"{', '.join(twice)} is listed twice; put its limits in one entry")
    return limits


LimitList = Annotated[list[LimitConfig], AfterValidator(_no_signal_twice)]
"""The limits of one asset: one entry a signal."""


class SuppressConfig(_Model):
    """Alarms that mean nothing while another one is active (suppressed by design)."""

    while_active: Pattern
    suppress: list[Pattern] = Field(min_length=1, max_length=1000)


class AlarmsConfig(_Model):
    """How alarms behave. Every default suits a plant that nobody has tuned yet."""

    delays: dict[Cause, DelayConfig] = Field(
        default_factory=lambda: {
            Cause.ANOMALY: DelayConfig(on_s=10, off_s=60),
            Cause.FAILURE: DelayConfig(on_s=10, off_s=60),
            Cause.RUL: DelayConfig(on_s=30, off_s=300),
            Cause.LIMIT: DelayConfig(on_s=2, off_s=10),
            Cause.DATA_QUALITY: DelayConfig(on_s=30, off_s=30),
            Cause.SYSTEM: DelayConfig(on_s=0, off_s=10),
        },
        description="On- and off-delay by cause; a cause that is not named keeps its default.",
    )
    clear_below: float = Field(
        default=0.9,
        gt=0,
        le=1,
        description="An anomaly alarm returns when its severity falls below this (hysteresis).",
    )
    worse_factor: float = Field(
        default=2.0,
        gt=1,
        le=100,
        description="People are called again when severity is this many times what they were told.",
    )
    realarm_s: Seconds = Field(
        default=0,
        description="Call again when still active so long after acknowledgement; 0: never.",
    )
    acknowledge: bool = Field(
        default=True, description="False: alarms that return need no acknowledgement."
    )
    latched: list[Pattern] = Field(
        default_factory=list, max_length=1000, description="Alarms that stay until a person resets."
    )
    suppress: list[SuppressConfig] = Field(default_factory=list, max_length=1000)
    shelve_s_max: Seconds = Field(default=7 * 86_400, description="Longest time on the shelf.")
    alarms_max: int = Field(
        default=20_000, ge=100, le=1_000_000, description="Distinct alarms kept; more are counted."
    )
    chattering_count: int = Field(
        default=3,
        ge=2,
        le=100,
        description="This many activations within `chattering_s`: chattering.",
    )
    chattering_s: Seconds = 60
    stale_s: Seconds = Field(default=86_400, description="Active for longer than this: stale.")
    flood_count: int = Field(
        default=10,
        ge=2,
        le=1000,
        description="More new alarms than this within `flood_s`: a flood.",
    )
    flood_s: Seconds = 600
    areas: dict[str, list[Identifier]] = Field(
        default_factory=dict,
        max_length=1000,
        description="Area of the plant -> its assets, for rosters and for grouping floods.",
    )

    @model_validator(mode="after")
    def _fill_delays(self) -> Self:
        default = type(self).model_fields["delays"].get_default(call_default_factory=True)
        self.delays.update({c: d for c, d in default.items() if c not in self.delays})
        return self
