"""What an operator may write of how records look: text or binary, and the check of either."""

import re
from itertools import accumulate
from typing import Literal, Self, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from protocols.serial.checks import NAMES

NumberType: TypeAlias = Literal[
    "u8", "i8", "u16", "i16", "u24", "i24", "u32", "i32", "u64", "i64", "f32", "f64"
]
FieldType: TypeAlias = Literal[NumberType, "bcd8", "bcd16", "bcd32", "text"]
Order: TypeAlias = Literal["big", "little", "word_swapped", "byte_swapped"]

SEPARATED_COLUMNS_MAX = 1000


class Part(BaseModel):
    """One table within a source."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def to_bytes(digits: str) -> bytes:
    """Bytes written as hexadecimal digits, blanks between them as one likes.

    Raises:
        ValueError: With the rule, for configuration models.
    """
    try:
        return bytes.fromhex(digits)
    except ValueError:
        raise ValueError('must be bytes in hexadecimal, such as "AA 55"') from None


def check_pattern(pattern: str) -> str:
    """Refuse what is no regular expression; for configuration models."""
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"must be a regular expression ({error})") from None
    return pattern


def check_escapes(text: str) -> str:
    """Refuse a line end that TOML left as backslash and letter; for configuration models."""
    if found := re.search(r"\\[nrt0]|\\x[0-9a-fA-F]{2}", text):
        raise ValueError(
            f"must not hold a backslash and {found[0][1:]!r}, which 'single quotes' leave as they "
            f'are; write it in double quotes: "{text}"'
        )
    return text


def _hexadecimal(digits: str) -> str:
    to_bytes(digits)
    return digits


class Check(Part):
    """`check`: which bytes prove that the others arrived as they were sent."""

    name: str = Field(description="Catalogue name: CRC-16/MODBUS, XOR-8, SUM-8, LRC…")
    order: Literal["big", "little"] = Field(default="big", description="Byte order of the check.")
    form: Literal["raw", "hex"] = Field(
        default="raw", description="hex: written as hexadecimal digits, as text protocols do."
    )
    covers_from: int = Field(default=0, description="First byte that is checked.")
    covers_to: int | None = Field(
        default=None, description="First byte that is no more; up to the check itself unless set."
    )
    at: int | None = Field(
        default=None, description="Where the check stands; at the very end unless set."
    )

    after_end: bool = Field(
        default=False, description="It stands behind the end of an escaped frame: DLE ETX CRC."
    )

    @field_validator("name")
    @classmethod
    def _known(cls, name: str) -> str:
        if name.upper() not in NAMES:
            raise ValueError(f"must be one of {', '.join(NAMES)}")
        return name.upper()


class TextFormat(Part):
    """`[source.text]`: records are text between delimiters."""

    delimiter: str = Field(
        default="\n", min_length=1, max_length=16, description="What ends a record."
    )
    encoding: Literal["ascii", "latin-1", "utf-8"] = Field(
        default="utf-8", description="How bytes become text; bytes that do not fit become U+FFFD."
    )
    pattern: str = Field(
        default="",
        max_length=2000,
        description="Regular expression with a named group for each field, searched in a record.",
    )
    separator: str = Field(default="", max_length=16, description="What stands between columns.")
    widths: tuple[int, ...] = Field(
        default=(), max_length=200, description="Width of each column in characters."
    )
    columns: tuple[str, ...] = Field(
        default=(),
        max_length=SEPARATED_COLUMNS_MAX,
        description='Names of the columns, "" for one that is not read; 1, 2, 3… unless set.',
    )
    decimal_comma: bool = Field(default=False, description='"1,5" is one and a half.')
    record_bytes_max: int = Field(
        default=1024, ge=8, le=1_048_576, description="A longer record is noise: dropped, counted."
    )
    check: Check | None = Field(default=None, description="A record that fails it is dropped.")

    _pattern = field_validator("pattern")(check_pattern)
    _escapes = field_validator("delimiter", "separator")(check_escapes)

    @field_validator("widths")
    @classmethod
    def _wide(cls, widths: tuple[int, ...]) -> tuple[int, ...]:
        if any(width < 1 for width in widths):
            raise ValueError("must be widths of 1 or more")
        return widths

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        ways = [name for name in ("pattern", "separator", "widths") if getattr(self, name)]
        if len(ways) > 1:
            raise ValueError(f"{ways[1]}: must not be set beside {ways[0]}")
        if self.columns and self.pattern:
            raise ValueError("columns: must not be set beside pattern, which names its groups")
        if self.columns and self.widths and len(self.columns) != len(self.widths):
            raise ValueError("columns: must be as many as widths")
        if self.check is not None and self.check.after_end:
            raise ValueError("check.after_end: must not be set in text")
        if self.decimal_comma and self.separator == ",":
            raise ValueError("separator: must not be a comma where decimal_comma is set")
        return self

    def ends(self) -> tuple[int, ...]:
        """Where each fixed-width column ends."""
        return tuple(accumulate(self.widths))


class Count(Part):
    """`count`: where a frame says how long it is."""

    offset: int = Field(ge=0, le=65_535, description="Where the number stands.")
    type: Literal["u8", "u16", "u32"] = Field(default="u8", description="Its type.")
    order: Literal["big", "little"] = Field(default="big", description="Its byte order.")
    unit: int = Field(default=1, ge=1, le=8, description="Bytes for each counted thing.")
    adds: int = Field(
        default=0, description="Bytes of the frame, start to end, that are not counted."
    )


class BinaryField(Part):
    """`fields`: one value, or an array of values, in a frame."""

    name: str = Field(min_length=1, max_length=100, description="What signals call it.")
    offset: int = Field(
        description="First byte, from the start bytes on; negative: from the frame's end."
    )
    type: FieldType = Field(description="u8 … i64, f32, f64, bcd8 … bcd32, text.")
    order: Order | None = Field(default=None, description="Byte order, where not the frame's.")
    size: int = Field(default=0, ge=0, le=255, description="Bytes of a text field.")
    bit: int | None = Field(default=None, ge=0, le=63, description="Lowest bit, 0 is the least.")
    bits: int = Field(default=1, ge=1, le=64, description="How many bits, from `bit` on.")
    count: int = Field(
        default=1, ge=0, le=65_535, description="More than 1: an array. 0: as many as there are."
    )
    when_offset: int | None = Field(
        default=None, description="Only in frames that hold `when_bytes` here."
    )
    when_bytes: str = Field(default="", description="Hexadecimal, such as the kind of a message.")

    _hex = field_validator("when_bytes")(_hexadecimal)

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if (self.type == "text") != (self.size > 0):
            raise ValueError("size: must be set for a text field, and for no other")
        if self.count != 1 and (self.type == "text" or self.bit is not None):
            raise ValueError("count: must be 1 for text and for bits")
        if self.bit is not None and self.type[0] not in "ui":
            raise ValueError("bit: must be of an integer type")
        if (self.when_offset is None) != (not self.when_bytes):
            raise ValueError("when_offset: must be set together with when_bytes")
        return self


class BinaryFormat(Part):
    """`[source.binary]`: records are frames of bytes."""

    start: str = Field(default="", description='Bytes that begin a frame: "AA 55".')
    end: str = Field(default="", description="Bytes that end one.")
    length: int = Field(default=0, ge=0, le=65_535, description="Bytes from start to end.")
    count: Count | None = Field(default=None, description="For frames of varying length.")
    escape: str = Field(default="", description="The byte that takes the next one's meaning away.")
    escape_xor: int = Field(
        default=0, ge=0, le=255, description="The escaped byte was sent mixed with this."
    )
    escape_map: dict[str, str] = Field(
        default_factory=dict, description='Or what each escaped byte stands for: { "DC" = "C0" }.'
    )
    check: Check | None = Field(default=None, description="A frame that fails it is dropped.")
    order: Order = Field(default="big", description="Byte order of the fields.")
    fields: tuple[BinaryField, ...] = Field(
        min_length=1, max_length=1000, description="What a frame holds, and where."
    )
    frame_bytes_max: int = Field(
        default=1024, ge=2, le=65_535, description="A longer frame is noise."
    )
    gap_s: float = Field(
        default=0.5, gt=0, le=60, description="Longest pause within a frame; then it is noise."
    )

    _hex = field_validator("start", "end", "escape")(_hexadecimal)

    @field_validator("escape_map")
    @classmethod
    def _map_of_bytes(cls, table: dict[str, str]) -> dict[str, str]:
        if any(len(to_bytes(part)) != 1 for pair in table.items() for part in pair):
            raise ValueError("must be pairs of one byte each")
        return table

    @model_validator(mode="after")
    def _can_be_found(self) -> Self:
        if self.length and self.count:
            raise ValueError("count: must not be set beside length")
        if self.escape:
            if len(to_bytes(self.escape)) != 1:
                raise ValueError("escape: must be one byte")
            self._escape_is_clear(to_bytes(self.start), to_bytes(self.end), to_bytes(self.escape))
        elif not self.length and not self.count:
            raise ValueError("length: must be given, or count, or escape with start and end")
        if not to_bytes(self.start) and self.check is None:
            raise ValueError("start: must be given where there is no check to find a frame by")
        if self.length > self.frame_bytes_max:
            raise ValueError("frame_bytes_max: must not be less than length")
        behind = self.check is not None and self.check.after_end
        if behind and (not self.escape or self.start == self.end):
            raise ValueError("check.after_end: must stand with escape, and an end of its own")
        names = [field.name for field in self.fields]
        for i, name in enumerate(names):
            if name in names[:i]:
                raise ValueError(f"fields[{i}].name: must be unique, {name!r} stands twice")
        return self

    @staticmethod
    def _escape_is_clear(start: bytes, end: bytes, escape: bytes) -> None:
        """Refuse marks of which one could be taken for another, depending on how bytes are cut."""
        if not start or not end:
            raise ValueError("escape: must stand with start and end")
        for name, mark in (("start", start), ("end", end)):
            if mark.startswith(escape) and len(mark) != 2:
                raise ValueError(f"{name}: must be two bytes where it begins with the escape byte")
        if end != start and end.startswith(start):
            raise ValueError("end: must not begin with start")
