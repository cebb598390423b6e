"""`[[source]]` with `kind = "replay"`: its settings, and the factory of its sessions."""

from contextlib import AbstractAsyncContextManager

from gateway.core.source import Session, SourceContext
from protocols.replay.settings import Settings


class Config(Settings):
    """`[[source]]` with `kind = "replay"`."""

    def open(self, context: SourceContext) -> AbstractAsyncContextManager[Session]:
        """Open the first recording. See `Source.open`."""
        from protocols.replay.session import open_session  # noqa: PLC0415  # The library is heavy.

        return open_session(self, context)
