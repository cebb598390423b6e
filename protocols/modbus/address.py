"""Where things are: link URLs and register addresses, from text to numbers and back."""

import re
from dataclasses import dataclass
from enum import Enum
from urllib.parse import urlsplit

from typing_extensions import override

SERIAL_SCHEMES = ("rtu", "ascii")
NETWORK_PORTS = {
    "tcp": 502,
    "tls": 802,
    "udp": 502,
    "rtu-over-tcp": 502,
    "ascii-over-tcp": 502,
}
SCHEMES = (*NETWORK_PORTS, *SERIAL_SCHEMES)


class Table(Enum):
    """One of the four address spaces of a unit; the value is its read function code."""

    COIL = 1
    DISCRETE = 2
    HOLDING = 3
    INPUT = 4

    @property
    def bits(self) -> bool:
        """True where an address is one bit rather than one 16-bit register."""
        return self in (Table.COIL, Table.DISCRETE)

    @property
    def words(self) -> str:
        """As people call it."""
        return {1: "coil", 2: "discrete input", 3: "holding register", 4: "input register"}[
            self.value
        ]


_CLASSIC = {"0": Table.COIL, "1": Table.DISCRETE, "3": Table.INPUT, "4": Table.HOLDING}
_NAMED = re.compile(
    r"(?P<table>coil|discrete|holding|input):(?P<start>0[xX][0-9a-fA-F]+|\d+)"
    r"(?:\.(?P<low>\d+)(?:-(?P<high>\d+))?)?"
)
_NUMBERED = re.compile(
    r"(?P<table>[0134])(?P<number>\d{4,5})(?:\.(?P<low>\d+)(?:-(?P<high>\d+))?)?"
)


@dataclass(frozen=True, slots=True)
class Address:
    """A place in a unit: table, first register or bit (from 0), and a bit field inside it.

    Attributes:
        low, high: Bits of the value, 0 the least significant, both included; -1 where the whole
            value is meant.
    """

    table: Table
    start: int
    low: int = -1
    high: int = -1

    @override
    def __str__(self) -> str:
        text = f"{self.table.name.lower()}:{self.start}"
        if self.low < 0:
            return text
        return f"{text}.{self.low}" if self.low == self.high else f"{text}.{self.low}-{self.high}"


def parse_address(text: str) -> Address:
    """Read `holding:100`, `holding:0x64.3`, `input:7.4-7`, `coil:3`, or classic `40101`, `400101`.

    Named addresses count from 0, as on the wire; classic ones from 1, as in manuals.

    Raises:
        ValueError: The text is none of these; says which rule, and leaves it to the caller to say
            what was there.
    """
    text = text.strip()
    if match := _NAMED.fullmatch(text):
        table = Table[match["table"].upper()]
        start = int(match["start"], 0 if match["start"][:2].lower() == "0x" else 10)
        if start > 65535:
            raise ValueError(f"{table.words} number must be 0 to 65535")
    elif match := _NUMBERED.fullmatch(text):
        table = _CLASSIC[match["table"]]
        start = int(match["number"]) - 1
        if not 0 <= start <= 65535:
            raise ValueError(f"classic {table.words} number must be 1 to 65536")
    else:
        raise ValueError(
            "must be a table and number (holding:100, input:7, coil:3, discrete:0, with .BIT or"
            " .LOW-HIGH for bits) or a classic number (40101)"
        )
    if match["low"] is None:
        return Address(table, start)
    low, high = int(match["low"]), int(match["high"] or match["low"])
    if table.bits:
        raise ValueError(f"a {table.words} is one bit already; remove .{match['low']}")
    if not 0 <= low <= high <= 63:
        raise ValueError("bits must be LOW-HIGH within 0 to 63")
    return Address(table, start, low, high)


@dataclass(frozen=True, slots=True)
class Target:
    """One end of a link: a host and port, or the path of a serial port."""

    scheme: str
    host: str = ""
    port: int = 0
    path: str = ""

    @property
    def serial(self) -> bool:
        return self.scheme in SERIAL_SCHEMES

    @override
    def __str__(self) -> str:
        if self.serial:
            return f"{self.scheme}://{self.path}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"


def parse_url(url: str) -> Target:
    """Read `tcp://host:502`, `rtu:///dev/ttyUSB0` and the like; `modbus://` means `tcp://`.

    Raises:
        ValueError: Not a Modbus URL; says which rule.
    """
    scheme = url.partition("://")[0].lower()
    scheme = "tcp" if scheme == "modbus" else scheme.removeprefix("modbus+")
    if "://" not in url or scheme not in SCHEMES:
        raise ValueError(f"must begin with one of {', '.join(s + '://' for s in SCHEMES)}")
    parts = urlsplit(url)
    if parts.query or parts.fragment or parts.username is not None:
        raise ValueError("must hold nothing but host and port or a path")
    if scheme in SERIAL_SCHEMES:
        path = parts.netloc + parts.path
        if not path:
            raise ValueError(f"must name a serial port ({scheme}:///dev/ttyUSB0)")
        return Target(scheme, path=path)
    if parts.path not in ("", "/"):
        raise ValueError("must end after the port")
    if not parts.hostname:
        raise ValueError(f"must name a host ({scheme}://192.0.2.10:502)")
    # `.port` itself raises ValueError where it is not 0 to 65535.
    port = parts.port if parts.port is not None else NETWORK_PORTS[scheme]
    if port == 0:
        raise ValueError("port must be 1 to 65535")
    return Target(scheme, host=parts.hostname, port=port)
