"""`[[asset]]`, `[[derive]]` and `[[event_log]]`: what the pipeline does for each machine."""

from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from gateway.core.source import Identifier
from models.errors import RecordError
from models.events import CODES_MAX
from models.features.bearing import Bearing, bearing

BITS = 32
"""Of a status word, at most; a double holds each of them."""


class LearnConfig(BaseModel):
    """`[asset.learn]`: how the gateway learns this machine by itself."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    collect_s: float = Field(
        default=86_400.0, gt=0, description="Least healthy running time before training, in s."
    )
    shadow_s: float = Field(
        default=14_400.0, gt=0, description="Fresh healthy time that a new model must judge calmly."
    )
    promote: bool = Field(
        default=True,
        description="Promote by itself once the false-alarm promise is checked; else an operator.",
    )
    false_alarms: str = Field(
        default="1/30d", description="Promised false alarms: number / span, as in 1/30d."
    )


class ShaftConfig(BaseModel):
    """`[asset.shaft]`: the signal that tells its speed, or a tachometer that does."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    speed: Identifier = Field(description="Signal of its speed, in rpm; or of a tachometer.")
    pulses_per_turn: int = Field(
        default=0,
        ge=0,
        le=10_000,
        description="That signal is an array of a tachometer's pulses, so many a turn (a"
        " keyphasor: 1); 0: it is the speed.",
    )


class BearingConfig(BaseModel):
    """`[asset.bearing]`: by number, or by geometry."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    speed: Identifier | None = Field(
        default=None, description="The same as [asset.shaft] speed, where that is not there."
    )
    number: str = Field(default="", max_length=40, description="Such as 6205.")
    rollers: int = Field(default=0, ge=0, le=1000)
    roller_mm: float = Field(default=0.0, ge=0)
    pitch_mm: float = Field(default=0.0, ge=0)
    contact_deg: float = Field(default=0.0, ge=0, lt=90)

    @model_validator(mode="after")
    def _known(self) -> Self:
        self.geometry()
        return self

    def geometry(self) -> Bearing:
        """The bearing.

        Raises:
            ValueError: Neither a known number nor a whole geometry.
        """
        if self.number:
            try:
                return bearing(self.number)
            except RecordError as error:
                raise ValueError(str(error)) from error
        if not (self.rollers and self.roller_mm and self.pitch_mm > self.roller_mm):
            raise ValueError("needs a number, or rollers, roller_mm and a larger pitch_mm")
        return Bearing(self.rollers, self.roller_mm, self.pitch_mm, self.contact_deg)


class AssetConfig(BaseModel):
    """`[[asset]]`: one machine and how it is judged."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: Identifier
    asset_class: str = Field(
        default="", alias="class", max_length=100, description="Machines that may share a bundle."
    )
    line: str = Field(default="", max_length=100, description="Production line, for grouping.")
    site: str = Field(default="", max_length=100, description="Plant or hall, for grouping.")
    bundle: str | None = Field(
        default=None, description="Path of an anomaly model bundle (.fwm), relative to this file."
    )
    bundles: tuple[str, ...] = Field(
        default=(), description="Further bundles: failure or remaining-life models."
    )
    running: str = Field(
        default="",
        max_length=500,
        description="When it runs, by its signals: speed > 50. Else it stands, and is not judged.",
    )
    device: str = Field(
        default="cpu",
        max_length=500,
        description="Where its models run, as `forewarn devices` names it, or auto; the CPU goes on"
        " where that fails.",
    )
    learn: LearnConfig | None = Field(default=None, description="Learn this machine on the box.")
    hop_s: float | None = Field(
        default=None, gt=0, description="Seconds between assessments; unset: the bundle's own."
    )
    stale_s: float | None = Field(
        default=None, gt=0, description="A sample older than this is missing; unset: the bundle's."
    )
    lateness_s: float = Field(
        default=2.0,
        ge=0,
        description="How long a window waits for a source that has fallen silent.",
    )
    coverage_min: float = Field(
        default=0.6, ge=0, le=1, description="Share of usable samples below which it abstains."
    )
    failure_at: float = Field(
        default=0.5, gt=0, le=1, description="Probability at which a failure mode alarms."
    )
    life_h: float | None = Field(
        default=None,
        gt=0,
        description="Alarm when the remaining life may be less, in hours; unset: 24, or a quarter"
        " of the longest life that the model tells apart.",
    )
    follow: bool = Field(
        default=True,
        description="Follow slow change of the healthy machine, within the bounds of its bundle.",
    )
    facts: dict[Identifier, float | str] = Field(
        default={},
        max_length=64,
        description="What stays as it is of this machine: its age, its model; for bundles that were"
        " trained with it.",
    )
    shaft: ShaftConfig | None = Field(
        default=None, description="Its shaft: waveforms are told by its orders."
    )
    bearing: BearingConfig | None = Field(
        default=None, description="Its bearing: waveforms are searched for its defects' orders."
    )

    @model_validator(mode="after")
    def _one_way_to_a_model(self) -> Self:
        if self.bundle is not None and self.learn is not None:
            raise ValueError("give bundle or learn, not both; a learned bundle replaces itself")
        return self

    @model_validator(mode="after")
    def _one_speed_of_its_shaft(self) -> Self:
        if self.bearing is not None and (self.bearing.speed is None) is (self.shaft is None):
            raise ValueError(
                "give the signal of the shaft's speed once: speed in [asset.shaft], or in"
                " [asset.bearing] where there is no [asset.shaft]"
            )
        return self

    @property
    def rotor(self) -> ShaftConfig | None:
        """The shaft whose orders are told, where its speed is."""
        if self.bearing is not None and self.bearing.speed is not None:
            return ShaftConfig(speed=self.bearing.speed)
        return self.shaft


class DeriveConfig(BaseModel):
    """`[[derive]]`: a signal computed from others of the same asset."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    asset: Identifier
    signal: Identifier
    unit: str = Field(default="", max_length=40)
    expression: str = Field(
        min_length=1,
        max_length=500,
        description="Arithmetic over signal names: torque * rpm * 0.1047",
    )


class EventLogConfig(BaseModel):
    """`[[event_log]]`: what happens to machines, by codes: errors, repairs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: Identifier = Field(
        description="As the column of codes was called in training, for its signals are `id.code`."
    )
    codes: tuple[Identifier, ...] | dict[Identifier, float] = Field(
        description="The codes; with `signal`, each with the value that it has there.",
    )
    signal: Identifier | None = Field(
        default=None,
        description="Signal of these machines that says the codes by its values: an event each time"
        " that it becomes one of them.",
    )
    bits: bool = Field(
        default=False,
        description="The signal is a status word: `codes` says which bit of it each is, 0 the"
        " lowest, and an event is each time that the bit is set.",
    )
    assets: tuple[Identifier, ...] = Field(
        default=(), description="The machines that it is of; unset: every [[asset]]."
    )

    @model_validator(mode="after")
    def _codes_with_values_where_a_signal_says_them(self) -> Self:
        if not 1 <= len(self.codes) <= CODES_MAX:
            raise ValueError(f"codes: must be 1 to {CODES_MAX}, were {len(self.codes)}")
        if (self.signal is not None) is not isinstance(self.codes, dict):
            raise ValueError(
                'needs codes = { error1 = 1 } and signal, or codes = ["error1"] without signal'
            )
        if self.bits and not self.values().keys() <= set(range(BITS)):
            raise ValueError(f"codes: must be bits, 0 to {BITS - 1}, were {self.codes}")
        if self.signal is not None and len(self.values()) < len(self.codes):
            raise ValueError(f"codes: must each have a value of its own, were {self.codes}")
        if self.bits and self.signal is None:
            raise ValueError("bits: needs the signal whose bits they are")
        return self

    def values(self) -> dict[float, str]:
        """Value of the signal, or its bit -> code; empty where no signal says them."""
        codes = self.codes
        return {value: code for code, value in codes.items()} if isinstance(codes, dict) else {}
