"""What an operator may write in a `[[source]]` of kind "replay"."""

from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from gateway.core.source import SignalConfig, SourceConfig
from protocols import stamps

SIGNALS_MAX = 10_000


class ReplaySignal(SignalConfig):
    """One signal: which column it is, and how its text or number is read."""

    column: str = Field(
        default="", max_length=1000, description="Name of the column; the signal's unless set."
    )
    scale: float = Field(default=1.0, allow_inf_nan=False, description="Multiplied first.")
    add: float = Field(default=0.0, allow_inf_nan=False, description="Added after scaling.")
    states: dict[str, float] = Field(
        default_factory=dict,
        description='Text to number: { RUN = 1, STOP = 0 }. "*" is any other.',
    )

    @property
    def column_name(self) -> str:
        """The column that the signal is read from."""
        return self.column or self.signal


class Settings(SourceConfig):
    """`[[source]]` with `kind = "replay"`."""

    kind: Literal["replay"]
    signals: tuple[ReplaySignal, ...] = Field(min_length=1, max_length=SIGNALS_MAX)
    files: tuple[str, ...] = Field(
        min_length=1,
        max_length=10_000,
        description="Recordings, one after the other: .csv, .csv.gz or .parquet.",
    )
    delimiter: str = Field(
        default="", max_length=1, description="Between columns; found by itself unless set."
    )
    decimal_comma: bool = Field(default=False, description='"1,5" is one and a half.')
    time_column: str = Field(
        default="", max_length=1000, description="Column that holds the time; none unless set."
    )
    time_form: str = Field(
        default="iso",
        max_length=100,
        description="iso, unix_s, unix_ms, unix_us, unix_ns, or a pattern: %d.%m.%Y %H:%M:%S.",
    )
    time_zone: str = Field(default="UTC", max_length=100, description="Of times that name none.")
    interval_s: float = Field(
        default=1.0, gt=0, le=86_400, description="From row to row where there is no time column."
    )
    speed: float = Field(
        default=1.0,
        ge=0,
        le=1_000_000,
        allow_inf_nan=False,
        description="1: as recorded; N: so many times faster; 0: as fast as possible.",
    )
    times: Literal["now", "kept"] = Field(
        default="now", description="now: as if it happened now; kept: as recorded."
    )
    repeat: bool = Field(default=False, description="Begin again at the end.")
    rows_per_batch_max: int = Field(
        default=1000, ge=1, le=100_000, description="So many rows at most are handed on at once."
    )

    _form = field_validator("time_form")(stamps.check_form)
    _zone = field_validator("time_zone")(stamps.check_zone)

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.repeat and (self.speed != 1 or self.times != "now"):
            raise ValueError(
                "repeat: must not be set unless speed is 1 and times is now; "
                "otherwise a second pass would lie in the future, or in the past"
            )
        if self.times == "kept" and not self.time_column:
            raise ValueError("time_column: must be given where times are kept")
        if self.decimal_comma and self.delimiter == ",":
            raise ValueError("delimiter: must not be a comma where decimal_comma is set")
        return self

    def recording(self) -> tuple[object, ...]:
        """Everything that only a new beginning can change."""
        names = (
            "id files delimiter decimal_comma time_column time_form time_zone interval_s speed "
            "times repeat"
        )
        return tuple(getattr(self, name) for name in names.split())
