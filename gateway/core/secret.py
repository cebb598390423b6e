"""Secrets by reference: the configuration says where a secret is, never what it is."""

import os
from pathlib import Path
from typing import Annotated, Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from gateway.core.errors import ConfigError

SECRET_BYTES_MAX = 65_536
MASKED_CHARS_MIN = 4
"""A shorter secret is not looked for: it would be found in every word."""
REVEALED_MAX = 1000
MASK = "(secret)"

_revealed: dict[str, None] = {}
"""What was read in this process, the newest last: secrets that a peer may send back to us."""


def masked(text: str) -> str:
    """A peer's words without the secrets that it was told: some repeat what they were sent."""
    for secret in tuple(_revealed):
        text = text.replace(secret, MASK)
    return text


def _noted(value: str) -> str:
    if len(value) >= MASKED_CHARS_MIN:
        _revealed.pop(value, None)
        _revealed[value] = None
        if len(_revealed) > REVEALED_MAX:
            del _revealed[next(iter(_revealed))]
    return value


class SecretRef:
    """`env:NAME` or `file:/run/secrets/name`; read when used, so that a rotated secret is seen."""

    __slots__ = ("reference",)

    def __init__(self, reference: str) -> None:
        kind, _, rest = reference.partition(":")
        if kind not in ("env", "file") or not rest:
            # The value is not echoed: it may be the secret itself, pasted by mistake.
            raise ValueError(
                'must be a reference, "env:NAME" or "file:/path", never the secret itself'
            )
        self.reference = reference

    def __repr__(self) -> str:
        return f"SecretRef({self.reference!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SecretRef) and other.reference == self.reference

    def __hash__(self) -> int:
        return hash(self.reference)

    def reveal(self) -> str:
        """Read the secret.

        Raises:
            ConfigError: The variable is not set, or the file cannot be read or is empty.
        """
        kind, _, rest = self.reference.partition(":")
        if kind == "env":
            value = os.environ.get(rest, "")
            if not value:
                raise ConfigError(
                    f"secret {self.reference}: the variable is not set; export {rest}"
                )
            return _noted(value)
        try:
            value = Path(rest).read_bytes()[:SECRET_BYTES_MAX].decode().rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"secret {self.reference}: cannot be read ({error})") from error
        if not value:
            raise ConfigError(f"secret {self.reference}: the file is empty")
        return _noted(value)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(
            cls,
            core_schema.str_schema(),
            serialization=core_schema.plain_serializer_function_ser_schema(
                lambda secret: secret.reference
            ),
        )

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return {"type": "string", "pattern": "^(env|file):.+"}


Secret = Annotated[SecretRef, "A reference to a secret: env:NAME or file:/path"]
