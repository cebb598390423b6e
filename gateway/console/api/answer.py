"""What every part of the REST interface shares: who may ask, bounded names, and how it answers."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from fastapi import Depends, Response
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from gateway.console.guard import Actor, require
from gateway.console.vault import Role

SPAN_S_MAX = 366 * 86_400

Viewer = Annotated[Actor, Depends(require(Role.VIEWER))]
Operator = Annotated[Actor, Depends(require(Role.OPERATOR))]
Engineer = Annotated[Actor, Depends(require(Role.ENGINEER))]
# No control characters; pydantic refuses lone surrogates by itself.
Name = Annotated[str, Field(max_length=300, pattern=r"^[^\x00-\x1f\x7f]*$")]
Note = Annotated[str, Field(max_length=2000, pattern=r"^[^\x00]*$")]
RoleWord = Literal["viewer", "operator", "engineer"]


class Body(BaseModel):
    """What is asked or answered; a setting that is not known is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


@dataclass(frozen=True, slots=True)
class Out:
    """Encodes one type; NaN and infinity become null, as JSON knows neither."""

    adapter: TypeAdapter[Any]

    def __call__(self, value: Any) -> Response:
        return Response(self.adapter.dump_json(value), media_type="application/json")
