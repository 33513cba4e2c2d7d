"""OpenAI's embeddings API: POST /v1/embeddings, GET /v1/models, GET /v1/models/{model}."""

from typing import Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel, Field

from ..answers import dump_rows
from ..precision import ENCODINGS
from ..refusals import INPUT_TOO_LONG, INTERNAL, OVERLOADED, UNAUTHORIZED, UNKNOWN_MODEL, RefusalError
from ..requests import AUTO
from ..service import Service
from .body import Body
from .catalog import Model
from .dialect import Dialect
from .door import EMBEDDING, NAMING, Door
from .exchange import Exchange
from .fields import DIMENSIONS, MODEL, Dimensions, Name, NonEmptyTextOrTexts

OWNER = "embed-foundry"
# What OpenAI's own API calls these reasons; programs compare with it. X-Reason has ours.
CODES = {
    UNKNOWN_MODEL: "model_not_found",
    UNAUTHORIZED: "invalid_api_key",
    INPUT_TOO_LONG: "context_length_exceeded",
    OVERLOADED: "rate_limit_exceeded",
}


class EmbeddingsBody(Body):
    """A request for embeddings, as OpenAI's API documents it."""

    input: NonEmptyTextOrTexts = Field(
        description="One text or several, none empty. Lists of token ids are refused: ids of another tokenizer would "
        "give wrong vectors."
    )
    model: Name = Field(AUTO, description=MODEL, examples=[AUTO])
    dimensions: Dimensions | None = Field(None, description=DIMENSIONS)
    encoding_format: Literal["float", "base64", "float16", "int8", "uint8", "binary", "ubinary"] | None = Field(
        None,
        description="float (default): numbers. base64: little-endian float32. Beyond OpenAI's: float16: base64 of "
        "little-endian half precision; int8: round(127 x); uint8: int8 + 128; ubinary: one bit a value, 1 where "
        "x > 0, the first value in the highest bit of the first byte; binary: ubinary - 128.",
    )
    user: str | None = Field(None, description="Ignored, and in no log.")


class Embedding(BaseModel):
    """One text's vector."""

    object: Literal["embedding"]
    index: int = Field(description="Position of the text.")
    embedding: list[float] | str = Field(description="Numbers, or base64.")


class Usage(BaseModel):
    """Tokens as computed: prompt and special tokens included, after truncation."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingsAnswer(BaseModel):
    """The vectors of a request."""

    object: Literal["list"]
    data: list[Embedding]
    model: str = Field(description="The variant that computed them.")
    usage: Usage


class ModelEntry(BaseModel):
    """A name that a request may use."""

    id: str
    object: Literal["model"] = "model"
    created: int = Field(description="When the release was written here, in seconds since 1970.")
    owned_by: str = OWNER


class ModelList(BaseModel):
    """All names that a request may use."""

    object: Literal["list"] = "list"
    data: list[ModelEntry]


class ErrorObject(BaseModel):
    """Why a request is refused."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(BaseModel):
    """A refusal."""

    error: ErrorObject


def write_error(refusal: RefusalError, status: int) -> ErrorBody:
    """Return a refusal as OpenAI's clients read it."""
    kind = "invalid_request_error"
    if status == 429:
        kind = "rate_limit_error"
    elif status >= 500 or refusal.reason is INTERNAL:
        kind = "server_error"
    code = CODES.get(refusal.reason, refusal.reason.code)
    return ErrorBody(error=ErrorObject(message=refusal.message, type=kind, param=refusal.param or None, code=code))


DIALECT = Dialect("openai", "OpenAI", ErrorBody, write_error)


def router(service: Service) -> APIRouter:
    """Return the door's routes."""
    door = Door(DIALECT, service)
    door.add(
        "POST",
        "/v1/embeddings",
        create_embeddings,
        summary="Embed texts",
        answer=EmbeddingsAnswer,
        body=EmbeddingsBody,
        reasons=EMBEDDING,
    )
    door.add("GET", "/v1/models", list_models, summary="List the names that a request may use", answer=ModelList)
    door.add(
        "GET",
        "/v1/models/{model}",
        get_model,
        summary="Look up one name",
        answer=ModelEntry,
        reasons=NAMING,
        parameters=[{"name": "model", "in": "path", "required": True, "schema": {"type": "string"}}],
    )
    return door.routes


async def create_embeddings(exchange: Exchange) -> Response:
    """Embed texts."""
    body = await exchange.read(EmbeddingsBody)
    answer = await exchange.embed(body.input, body.model, dimensions=body.dimensions)
    encoded = ENCODINGS[body.encoding_format or "float"](answer.vectors)
    data = [{"object": "embedding", "index": index, "embedding": row} for index, row in enumerate(encoded)]
    total = sum(answer.tokens)
    return exchange.reply(
        {
            "object": "list",
            "data": await dump_rows(data, answer.vectors.shape[1]),
            "model": answer.variant,
            "usage": {"prompt_tokens": total, "total_tokens": total},
        }
    )


async def list_models(exchange: Exchange) -> Response:
    """List the names that a request may use."""
    catalog = exchange.catalog
    entries = [_describe(model, catalog.created) for model in catalog.list_models()]
    return exchange.reply(ModelList(data=entries).model_dump())


async def get_model(exchange: Exchange) -> Response:
    """Look up one name."""
    catalog = exchange.catalog
    model = catalog.find(exchange.request.path_params["model"])
    return exchange.reply(_describe(model, catalog.created).model_dump())


def _describe(model: Model, created: float) -> ModelEntry:
    return ModelEntry(id=model.name, created=int(created))
