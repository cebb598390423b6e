"""Asks a server what it offers, without a session."""

import struct

from asyncua import Client, ua
from asyncua.ua.uaerrors import UaError

from gateway.core.errors import LinkLost, LinkTimeout
from protocols.reach import unreached


async def endpoints_of(url: str, *, timeout_s: float) -> list[ua.EndpointDescription]:
    """The server's endpoints.

    Raises:
        LinkError: It cannot be reached, or is no OPC UA server.
    """
    try:
        return list(await Client(url, timeout=timeout_s).connect_and_get_server_endpoints())
    except TimeoutError:
        raise LinkTimeout(f"{url}: no answer within {timeout_s:g} s") from None
    except OSError as error:
        raise LinkLost(f"{url}: {unreached(error)}") from error
    except (UaError, ValueError, TypeError, AttributeError, struct.error) as error:
        raise LinkLost(f"{url}: no OPC UA server answers there: {error}") from error
