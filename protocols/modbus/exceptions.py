"""What the exception codes of Modbus mean, and which of them speak of what.

Source: MODBUS Application Protocol V1.1b3, section 7.
"""

ILLEGAL_FUNCTION = 1
ILLEGAL_ADDRESS = 2
ILLEGAL_VALUE = 3

EXCEPTIONS = {
    ILLEGAL_FUNCTION: "illegal function",
    ILLEGAL_ADDRESS: "illegal data address",
    ILLEGAL_VALUE: "illegal data value",
    4: "device failure",
    5: "acknowledge",
    6: "device busy",
    8: "memory parity error",
    10: "gateway path unavailable",
    11: "gateway target does not respond",
}
NEVER = (ILLEGAL_FUNCTION, ILLEGAL_ADDRESS, ILLEGAL_VALUE)
"""Exceptions that say that the question is wrong, and will be tomorrow."""

TRANSIENT = (5, 6)
"""Exceptions that say "not now" rather than "never"."""

UNREACHABLE = (10, 11)
"""Exceptions by which a gateway says that the unit behind it is silent."""
