"""OPC UA: subscriptions first, polling where a server needs it. `opcua.md` is its page."""

from protocols.opcua.config import Config

__all__ = ["Config"]
