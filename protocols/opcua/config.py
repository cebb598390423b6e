"""`[[source]]` with `kind = "opcua"`: its settings, and the factory of its sessions."""

from contextlib import AbstractAsyncContextManager

from gateway.core.source import Session, SourceContext
from protocols.opcua.settings import Settings


class Config(Settings):
    """`[[source]]` with `kind = "opcua"`."""

    def open(self, context: SourceContext) -> AbstractAsyncContextManager[Session]:
        """Connect, check the server's certificate, and subscribe."""
        from protocols.opcua.session import open_session  # noqa: PLC0415  # The library is heavy.

        return open_session(self, context)
