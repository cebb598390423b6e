"""`[[source]]` with `kind = "serial"`: its settings, and the factory of its sessions."""

from contextlib import AbstractAsyncContextManager

from gateway.core.source import Session, SourceContext
from protocols.serial.settings import Settings


class Config(Settings):
    """`[[source]]` with `kind = "serial"`."""

    def open(self, context: SourceContext) -> AbstractAsyncContextManager[Session]:
        """Open the port. See `Source.open`."""
        from protocols.serial.session import open_session  # noqa: PLC0415  # Brings pyserial.

        return open_session(self, context)
