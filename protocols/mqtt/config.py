"""`[[source]]` with `kind = "mqtt"`: its settings, and the factory of its sessions."""

from contextlib import AbstractAsyncContextManager

from gateway.core.source import Session, SourceContext
from protocols.mqtt.settings import Settings


class Config(Settings):
    """`[[source]]` with `kind = "mqtt"`."""

    def open(self, context: SourceContext) -> AbstractAsyncContextManager[Session]:
        """Connect and subscribe. See `Source.open`."""
        from protocols.mqtt.session import open_session  # noqa: PLC0415  # The library is heavy.

        return open_session(self, context)
