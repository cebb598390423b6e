"""What a person is told who asked for what makes no sense now."""

from gateway.core.errors import GatewayError
from gateway.core.texts import Phrase


class Refused(GatewayError):
    """What a person asked for makes no sense in the present state; nothing has changed."""

    def __init__(self, why: Phrase) -> None:
        super().__init__(why)
        self.why = why
