"""The settings of a Modbus source as the factory of its sessions."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from gateway.core.source import Session, SourceContext
from protocols.modbus.settings import Settings


class Config(Settings):
    """`[[source]]` with `kind = "modbus"`."""

    @asynccontextmanager
    async def open(self, context: SourceContext) -> AsyncIterator[Session]:
        """Connect; see `Source.open`."""
        from protocols.modbus.session import open_session  # noqa: PLC0415 (loaded when used)

        async with open_session(self, context) as session:
            yield session
