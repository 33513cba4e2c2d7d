"""akidb's embedding call: POST /api/v1/embed."""

from fastapi import APIRouter, Response
from pydantic import BaseModel, Field

from ..answers import dump_rows
from ..refusals import RefusalError
from ..requests import AUTO
from ..service import Service
from .body import Body
from .dialect import Dialect
from .door import EMBEDDING, Door
from .exchange import Exchange, require_unit_length
from .fields import DIMENSIONS, MODEL, Dimensions, ListOfTexts, Name


class EmbedBody(Body):
    """A request for embeddings."""

    inputs: ListOfTexts = Field(description="The texts.")
    model: Name = Field(AUTO, description=MODEL, examples=[AUTO])
    normalize: bool = Field(True, description="Only true: released graphs give unit vectors.")
    dimensions: Dimensions | None = Field(None, description=DIMENSIONS)


class EmbedAnswer(BaseModel):
    """The vectors of a request."""

    embeddings: list[list[float]]
    dimension: int
    count: int
    model: str = Field(description="The variant that computed them.")


class ErrorBody(BaseModel):
    """A refusal."""

    error: str
    code: str


def write_error(refusal: RefusalError, _status: int) -> ErrorBody:
    """Return a refusal; akidb itself sends plain text."""
    return ErrorBody(error=refusal.message, code=refusal.reason.code)


DIALECT = Dialect("akidb", "akidb", ErrorBody, write_error)


def router(service: Service) -> APIRouter:
    """Return the door's routes."""
    door = Door(DIALECT, service)
    door.add(
        "POST", "/api/v1/embed", embed, summary="Embed texts", answer=EmbedAnswer, body=EmbedBody, reasons=EMBEDDING
    )
    return door.routes


async def embed(exchange: Exchange) -> Response:
    """Embed texts."""
    body = await exchange.read(EmbedBody)
    require_unit_length(body.normalize)
    answer = await exchange.embed(body.inputs, body.model, dimensions=body.dimensions)
    count, dimension = answer.vectors.shape
    return exchange.reply(
        {
            "embeddings": await dump_rows(answer.vectors, dimension),
            "dimension": dimension,
            "count": count,
            "model": answer.variant,
        }
    )
